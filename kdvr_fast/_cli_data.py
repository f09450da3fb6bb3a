"""What the command line reads, by the names of files: rows by `open_data`, targets, teachers.

Rows are in memory, or with a memory limit stay in files. Text and tables are converted to binary files on the way: in a folder
that goes when the rows are in memory, or where these stay.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._cli_reading import Kept, Reading
from .data import read_idx
from .files import Columns, DataSet, open_data
from .files import _idx as idx
from .files._arrow import TableFiles, require_arrow
from .files._rows import CsrFileRows, DenseFileRows, FileRows
from .files._sniff import TABLES, kind_of, shards
from .files._stored import FileArray, MemoryArray, Table
from .losses import LOSSES
from .model import Model, load
from .teachers import Teacher

_CHUNK_ROWS = 1 << 16  # rows whose outputs are held at once
_DEFAULT_LIMIT = 1 << 30  # what open_data is told where rows are read into memory


@dataclass(frozen=True, eq=False)
class Data:
    """Rows, and targets as `solve` takes them: in memory, or read by slices from files.

    files: the data set where rows stay in files, else None. y: None without targets. classes: values of the labels 0 .. k-1,
    None for values. feature_names, kept: of a table.
    """

    X: Any
    y: Any
    files: DataSet | None = None
    classes: NDArray[Any] | None = None
    feature_names: tuple[str, ...] | None = None
    kept: Kept | None = None

    def for_solve(self) -> tuple[Any, Any]:
        """X and y, or the data set and None."""
        return (self.X, self.y) if self.files is None else (self.files, None)

    def chunks(self) -> Iterator[tuple[Any, Any]]:
        """Some rows at a time, with their targets or None."""
        for start in range(0, self.X.shape[0], _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            yield self.X[part], None if self.y is None else self.y[part]


@dataclass(frozen=True, eq=False)
class Like:
    """What rows have to agree with: those of a model, or of a training run that other rows are to test."""

    width: int
    classes: NDArray[Any] | None
    feature_names: tuple[str, ...] | None
    kept: Kept | None

    @classmethod
    def model(cls, model: Model) -> Like:
        """Rows for a model."""
        table = model.info.get("table")
        try:
            kept = None if table is None else Kept(**table)
        except TypeError as error:
            raise ValueError(f"the model does not say soundly how its table is read: {error}") from None
        return cls(model.coef.shape[1], model.labels, model.feature_names, kept)

    @classmethod
    def data(cls, data: Data) -> Like:
        """Rows beside those of a training run."""
        return cls(data.X.shape[1], data.classes, data.feature_names, data.kept)


def read(
    path: Path, labels: Path | None = None, how: Reading | None = None, *, loss: str | None = None, like: Like | None = None
) -> Data:
    """Rows of a file or a folder of shards, of any kind that `open_data` knows; bytes of IDX files are pixels in [0, 1].

    Targets are those of the file `labels`, or a column of a table, or those that LIBSVM text has. loss: what they are for;
    None: none are needed, and those of a column or of text stay as they are. Raises what `open_data` does.
    """
    how, kind = how or Reading(), kind_of(shards(path))
    if how.memory_limit is not None or how.cache is not None or kind == "npy":
        return _read(path, labels, how, kind, loss, like)
    with tempfile.TemporaryDirectory(prefix="kdvr-") as folder:
        return _read(path, labels, replace(how, cache=folder), kind, loss, like)


def _read(path: Path, labels: Path | None, how: Reading, kind: str, loss: str | None, like: Like | None) -> Data:
    columns, kept = None, None
    if labels is not None and not labels.is_file():
        raise FileNotFoundError(f"{labels}: there is no such file of targets{'; a column is --target' * (kind in TABLES)}")
    if kind in TABLES:
        columns, kept = _columns(path, labels, how, kind, loss, like)
    elif how.names_columns:
        raise ValueError(
            f"{path} is {kind} and has no named columns: leave out what speaks of them (target, features, missing, ..)"
        )
    target = None if kept is None else kept.target
    if loss is not None and labels is None and target is None and kind != "libsvm":
        raise ValueError(f"{path} has no targets: name a file of them (--labels), or a column of a table (--target)")
    known = None if like is None else like.classes
    own = labels is None and loss is not None and LOSSES[loss].targets != "real"  # labels that open_data numbers
    opened = open_data(
        path,
        y=target,
        columns=columns,
        classes=_classes(known, kind, path) if own else None,
        dtype=how.dtype,
        scale=1 / 255 if kind == "idx" and _is_bytes(path) else 1.0,
        cache=how.cache,
        memory_limit=how.bytes() or _DEFAULT_LIMIT,
    )
    if kept is not None:
        kept = replace(kept, categories=opened.categories)
    opened = replace(opened, rows=_as_wide(opened.rows, kind, like))
    classes = None
    if labels is not None:
        opened, classes = _beside(opened, path, labels, loss, known)
    elif own:
        classes = _valued(np.asarray(opened.classes), loss) if known is None else known
    names = None if opened.feature_names is None else tuple(opened.feature_names)
    if like is not None and None not in (names, like.feature_names) and names != like.feature_names:
        raise ValueError(f"{path} gives the features {_some(names)}, expected {_some(like.feature_names)}")
    if how.memory_limit is not None:
        return Data(opened.rows, opened.y, opened, classes, names, kept)
    y = None if opened.y is None else opened.y[:].astype(np.int64 if own else opened.y.dtype)
    return Data(_in_memory(opened.rows, kind), y, None, classes, names, kept)


def _columns(
    path: Path, labels: Path | None, how: Reading, kind: str, loss: str | None, like: Like | None
) -> tuple[Columns, Kept]:
    """Which columns of a table are read, and how: as asked, or as those of the model were."""
    files = shards(path)
    require_arrow(files[0])
    names = TableFiles(files, kind).names()
    of_model = None if like is None else like.kept
    target = how.target
    if target is None and loss is not None and of_model is not None:
        target = of_model.target
    if labels is not None:
        if how.target is not None:
            raise ValueError(f"targets are both in the column {how.target!r} and in {labels}: leave one of them out")
        target = None
    elif target is None and loss is not None:
        raise ValueError(f"{path} has no targets: name a column (--target), or a file (--labels); it has {_some(names)}")
    if of_model is not None:
        columns = of_model.columns(target, all_rows=loss is None)
        kept = replace(of_model, target=target)
    else:
        columns = how.columns()
        if columns.features is None:
            own = None if like is None else like.feature_names
            columns = replace(columns, features=own or [name for name in names if name != target])
        features = [] if columns.features is None else list(columns.features)
        kept = Kept(features, list(columns.categorical), {}, dict(columns.scale), columns.missing, target)
    return columns, kept


def _some(names: Any) -> str:
    return ", ".join(names[:10]) + (", .." if len(names) > 10 else "")


def _classes(known: NDArray[Any] | None, kind: str, path: Path) -> Any:
    """The classes that `open_data` is told."""
    if known is None:
        return "fit"
    if kind == "libsvm" and known.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} has numbers for targets, the classes are {known[:10].tolist()}: name a file of them (--labels)"
        )
    return known.tolist()


def _is_bytes(path: Path) -> bool:
    first = shards(path)[0]
    with idx.opened(first) as file:
        return idx.read_header(file, first).dtype == np.uint8


def _as_wide(rows: FileRows, kind: str, like: Like | None) -> FileRows:
    """Rows with as many features as expected: LIBSVM text does not say that its last ones are 0 everywhere."""
    d = None if like is None else like.width
    if d is not None and kind == "libsvm" and isinstance(rows, CsrFileRows) and rows.shape[1] < d:
        return CsrFileRows(rows.data, rows.indices, rows.indptr, d, rows.memory_limit)
    if d is not None and rows.shape[1] != d:
        raise ValueError(f"X has {rows.shape[1]} features, the model has {d}")
    return rows


def _in_memory(rows: FileRows, kind: str) -> Any:
    """All rows; a `.npy` file is mapped and read in place."""
    at = rows.values if isinstance(rows, DenseFileRows) else None
    if kind == "npy" and isinstance(at, FileArray) and at.dtype == rows.dtype:
        return np.memmap(at.path, at.dtype, "r", at.offset, at.shape)
    return rows[:]


def _beside(
    opened: DataSet, path: Path, labels: Path, loss: str | None, known: NDArray[Any] | None
) -> tuple[DataSet, NDArray[Any] | None]:
    """The data set with the targets of a file, and their classes."""
    y, classes = read_targets(labels), None
    if len(y) != opened.shape[0]:
        raise ValueError(f"{path} has {opened.shape[0]} rows and {labels} has {len(y)} targets")
    if loss is not None:
        y, classes = encode(y, loss, known)
    return replace(opened, y=Table(MemoryArray(y))), classes


# -- targets -----------------------------------------------------------------------------------------------------------


def read_targets(path: Path) -> NDArray[Any]:
    """Targets of a file: .npy, IDX (gz too), or text with one a line."""
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if path.suffix in (".txt", ".csv"):
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        try:
            return np.array([float(line) for line in lines])
        except ValueError:
            return np.array(lines)
    try:
        return read_idx(path)
    except ValueError as error:
        raise ValueError(f"{error}; targets are read from .npy, IDX, and text with one a line named .txt or .csv") from None


def encode(y: Any, loss: str, classes: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Targets as `solve` takes them, and the values of classes: those given, or all there are. (n, k) stays as it is."""
    if LOSSES[loss].targets == "real" or y.ndim == 2:
        if y.dtype.kind not in "biuf":
            raise ValueError(f"loss={loss!r} needs numbers for targets, the first is {y.ravel()[0]!r}")
        return (y if y.dtype.kind == "f" else y.astype(np.float64)), None
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ValueError(f"target {y[row]} in row {row} is no class; leave rows without a target out")
    found, numbers = np.unique(y, return_inverse=True)
    if classes is None:
        return numbers.reshape(-1).astype(np.int64), _valued(found, loss)
    place = {value: number for number, value in enumerate(classes.tolist())}
    unknown = [value for value in found.tolist() if value not in place]
    if unknown:
        row = int(np.flatnonzero(y == unknown[0])[0])
        raise ValueError(f"target {unknown[0]!r} in row {row} is no class of the model; it has {classes[:10].tolist()}")
    return np.array([place[value] for value in found.tolist()], np.int64)[numbers.reshape(-1)], classes


def _valued(found: NDArray[Any], loss: str | None) -> NDArray[Any]:
    """The distinct targets as classes; whole numbers are integers."""
    if len(found) < 2 or (loss == "logistic" and len(found) != 2):
        wanted = "exactly two" if loss == "logistic" else "at least two"
        raise ValueError(f"loss={loss!r} needs {wanted} classes, the targets have {len(found)}: {found[:5].tolist()}")
    if found.dtype.kind != "f":
        return found
    broken = found[found != np.round(found)]
    if len(broken):
        raise ValueError(
            f"the targets are numbers such as {broken[0]:g}, and loss={loss!r} takes classes: choose the loss squared"
        )
    return found.astype(np.int64)


# -- models -----------------------------------------------------------------------------------------------------------


def open_model(path: Path) -> Model:
    """The model of a file, or of a run's folder."""
    file = path / "model.safetensors" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        unfinished = (path / "config.toml").exists()
        remedy = f"finish the run with `kdvr train --resume {path}`" if unfinished else "name a model file or a run's folder"
        raise FileNotFoundError(f"{path} has no {file.name}: {remedy}")
    return load(file)


def teacher(model: Path | None, logits: Path | None, proba: Path | None, *, loss: str, data: Data) -> Teacher | None:
    """The teacher of at most one file: a model's (or of a run's folder), or stored outputs (.npy, memory-mapped).

    A model of other classes or columns than the data, or of values where there are classes, is an error.
    """
    if sum(given is not None for given in (model, logits, proba)) > 1:
        raise ValueError("teacher, teacher_logits and teacher_proba: pass one of them")
    if model is not None:
        known, classes, names = open_model(model), data.classes, data.feature_names
        if (known.labels is None) != (LOSSES[loss].targets == "real"):
            raise ValueError(f"the teacher {model} has loss={known.loss!r}, which does not go with loss={loss!r}")
        if classes is not None and known.labels is not None and not np.array_equal(known.labels, classes):
            raise ValueError(
                f"the teacher {model} knows the classes {known.labels[:10].tolist()}, the targets are {classes[:10].tolist()}; "
                "its outputs must be of the same classes in the same order"
            )
        if None not in (known.feature_names, names) and known.feature_names != names:
            raise ValueError(
                f"the teacher {model} knows the features {_some(known.feature_names)}, the rows have {_some(names)}; "
                "they must be the same in the same order"
            )
        return known.teacher()
    for path, make in ((logits, Teacher.logits), (proba, Teacher.probabilities)):
        if path is not None:
            return make(np.load(path, mmap_mode="r", allow_pickle=False))
    return None
