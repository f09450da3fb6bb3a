"""`open_data`: tells what a file is by its content, and makes a `DataSet` of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import _validation as check
from ..teachers import Teacher
from ._columns import Columns
from ._dataset import DataSet
from ._formats import Opened, Request, array_file, open_chunks, open_numbers, open_table
from ._sniff import TABLES, kind_of, shards
from ._stored import Joined, MemoryArray, Stored, Table

Location = str | PathLike[str]
Beside = Location | ArrayLike | Sequence[str] | None
Chunks = Iterable[tuple[Any, ArrayLike]] | Callable[[], Iterable[tuple[Any, ArrayLike]]]


def open_data(
    source: Location | Chunks,
    *,
    y: Beside = None,
    teacher_logits: Beside = None,
    teacher_proba: Beside = None,
    columns: Columns | None = None,
    classes: Sequence[Any] | str | None = None,
    zero_based: bool | None = None,
    dtype: DTypeLike = np.float32,
    scale: float = 1.0,
    cache: Location | None = None,
    memory_limit: int = 1 << 30,
) -> DataSet:
    """Open rows that stay in files, for `solve(data, loss=...)`. What a file is, is told by its content.

    | source | rows | targets |
    |---|---|---|
    | `.npy` | dense, of the file's dtype, those of `Compact` included | beside: y |
    | IDX, gzip too | dense, bytes of `Compact` | beside: y |
    | `.npz` of `scipy.sparse.save_npz` | CSR | beside: y |
    | LIBSVM text, gzip too | CSR | the first number of a line |
    | Parquet, Arrow (Feather), CSV; needs `kdvr_fast[arrow]` | dense; CSR with categorical columns | columns: y |
    | an iterable of (X, y), or a function that gives one | dense or CSR | y of each |

    `.npy` and plain IDX files are read in place. The others are turned into binary files once, in a folder ``NAME.*.kdvr``
    beside them or in `cache`, and again when a source has another size or time of change; chunks of an iterable into a folder
    that goes with the data set, so that one reading of the iterable serves any number of epochs.

    Args:
        source: a file, a folder whose files of one format are shards, in the order of their names, or chunks.
        y: a column's name or several (Parquet, Arrow, CSV); else a `.npy` or IDX file, a folder of them, or an array (n,) or
            (n, k).
        teacher_logits, teacher_proba: a teacher's outputs likewise, (n, k); they become `data.teacher`.
        columns: which columns are features or categories, and what becomes of missing values.
        classes: values of y in the order of the labels 0 .. k-1, or "fit" for the distinct ones, sorted. None: y as it is.
        zero_based: whether LIBSVM's features are counted from 0; None: if one is 0.
        dtype: float32 or float64, of rows that are converted or `Compact`. scale: factor of `Compact` rows.
        cache: folder for converted rows.
        memory_limit: bytes for what `solve` holds of the data at a time: two windows of rows, targets and teacher outputs (see
            `Blocks`), and two chunks of at most 8192 rows for passes; more is an error. Not counted: weights, the interpreter,
            and some tens of MB while files are converted.

    Raises:
        FileNotFoundError, OSError; ImportError without pyarrow; ValueError, TypeError: what is wrong, by file, row and column.

    >>> import tempfile, pathlib, numpy as np, kdvr_fast as kd
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "X.npy", np.arange(6.0).reshape(3, 2))
    >>> data = kd.open_data(folder / "X.npy", y=np.array([1.0, 2.0, 3.0]))
    >>> data.shape, data.rows[1:3].tolist()
    ((3, 2), [[2.0, 3.0], [4.0, 5.0]])
    """
    if teacher_logits is not None and teacher_proba is not None:
        raise ValueError("teacher_logits and teacher_proba are both given; a data set has one teacher")
    outputs = teacher_logits if teacher_proba is None else teacher_proba
    if isinstance(classes, str) and classes != "fit":
        raise ValueError(f"classes={classes!r}: pass 'fit', or the values of the classes")
    request = Request(
        kind="chunks",
        files=(),
        cache=None if cache is None else Path(cache),
        columns=columns or Columns(),
        classes=classes,
        zero_based=zero_based,
        dtype=check.float_type(dtype),
        scale=check.number(scale, "scale", above=0.0),
        memory_limit=check.count(memory_limit, "memory_limit", low=1),
    )
    if isinstance(source, str | PathLike):
        files = shards(Path(source))
        request = replace(request, kind=kind_of(files), files=files, path=Path(source))
    if columns is not None and request.kind not in TABLES:
        raise ValueError(f"{source} is {request.kind} and has no named columns: leave columns out")
    if zero_based is not None and request.kind != "libsvm":
        raise ValueError(f"zero_based is for LIBSVM text, {source} is {request.kind}: leave it out")
    if request.kind in TABLES:
        opened = open_table(request, _names(y, "y"), _names(outputs, "the teacher's outputs"))
    else:
        opened = open_chunks(source, request) if request.kind == "chunks" else open_numbers(request)
        _add_beside(opened, y, outputs)
    made = opened.outputs
    teacher = None if made is None else Teacher("probabilities" if teacher_logits is None else "logits", made)
    return DataSet(
        opened.rows,
        opened.y,
        teacher,
        opened.feature_names,
        opened.classes,
        opened.categories,
        opened.checked,
        opened.owned,
    )


def _names(given: Beside, what: str) -> tuple[str, ...]:
    """Names of columns."""
    names = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{what} of a table: pass the name of a column, or several, got {type(given).__name__}")
    return tuple(str(name) for name in names)


def _add_beside(opened: Opened, y: Beside, outputs: Beside) -> None:
    """Complete the data with targets and teacher outputs from files of their own, or arrays."""
    n = opened.rows.shape[0]
    if y is not None:
        if opened.y is not None:
            raise ValueError("y is given, but the rows bring their targets: leave it out")
        opened.y = _beside(y, "y", n)
    if outputs is not None:
        table = _beside(outputs, "the teacher's outputs", n)
        opened.outputs = table if len(table.shape) == 2 else Table(_Column(table.stored))


class _Column:
    """A 1-D array as one column."""

    def __init__(self, stored: Stored) -> None:
        self._stored, self.dtype, self.shape = stored, stored.dtype, (stored.shape[0], 1)

    def read(self, start: int, out: Any) -> None:
        self._stored.read(start, out.reshape(-1))


def _beside(given: Any, name: str, n: int) -> Table:
    """Numbers that belong to the rows, (n,) or (n, k)."""
    if isinstance(given, str | PathLike):
        paths = shards(Path(given))
        parts = [array_file(path) for path in paths]
        stored: Stored = parts[0] if len(parts) == 1 else Joined(parts)
    else:
        stored = MemoryArray(check.real_array(given, name))
    if len(stored.shape) not in (1, 2) or stored.shape[0] != n:
        raise ValueError(f"{name} has shape {stored.shape}; expected {n} rows as in X: ({n},) or ({n}, outputs)")
    if stored.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {stored.dtype}; real numbers are needed")
    return Table(stored)
