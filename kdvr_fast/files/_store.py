"""Rows in a folder of plain binary files, which text and column formats are turned into once and then read from by position.

`meta.json` says what lies beside it: dense rows are `values` (n, d); sparse ones `data`, `indices` and `indptr` (n + 1,), as in
a CSR matrix; `y` and `outputs` (a teacher's) are there if they were asked for. A store is written aside and renamed, so that it
is there as a whole or not at all, and it is made anew when a source file has another size or time of change.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import _validation as check
from .._validation.csr import check_rows
from ._rows import CsrFileRows, DenseFileRows, FileRows
from ._stored import FileArray, Table

_VERSION = 1
_COPY_NUMBERS = 1 << 20
MOST_FEATURES = 2**31 - 1  # of sparse rows: their numbers take four bytes


class Writer:
    """Appends rows to a new store."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self.folder, self.dtype = folder, dtype
        self.n, self.d = 0, 0
        self.arrays: dict[str, tuple[str, list[int]]] = {}
        self._files: dict[str, BinaryIO] = {}

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Write rows of one array; its columns and dtype are those of the first time."""
        columns = list(values.shape[1:])
        if name not in self.arrays:
            self.arrays[name] = values.dtype.name, [0, *columns]
            self._files[name] = (self.folder / f"{name}.bin").open("wb")
        dtype, shape = self.arrays[name]
        if shape[1:] != columns:
            raise ValueError(f"rows {self.n} and following have {columns} columns in {name!r}, those before {shape[1:]}")
        self._files[name].write(np.ascontiguousarray(values, dtype).data)
        shape[0] += len(values)

    def add(self, X: Any, y: NDArray[Any] | None = None, outputs: NDArray[Any] | None = None) -> None:
        """Append rows, checked: an array (m, d), or a CSR matrix of at most as many features as the widest has."""
        sparse = hasattr(X, "indptr")
        if self.n and sparse != ("indptr" in self.arrays):
            raise TypeError(f"rows {self.n} and following are {'sparse' if sparse else 'dense'}, those before are not")
        if sparse:
            self._add_sparse(X)
        else:
            A = X if X.dtype.name in check.COMPACT else np.ascontiguousarray(X, self.dtype)
            check.finite_rows(check.features(A, scan=False), self.n)
            self.append("values", A)
        self.d = max(self.d, X.shape[1])
        for name, values in (("y", y), ("outputs", outputs)):
            if values is not None:
                self.append(name, values.astype(_WIDE.get(values.dtype.kind, values.dtype)))
        self.n += X.shape[0]

    def _add_sparse(self, X: Any) -> None:
        if X.shape[1] > MOST_FEATURES:
            raise ValueError(f"rows {self.n} and following have {X.shape[1]} features; at most {MOST_FEATURES} are stored")
        rows = check.features(X.astype(self.dtype), scan=False)
        check_rows(rows, True, self.n)
        before = self.arrays["data"][1][0] if "data" in self.arrays else 0
        ends = rows.indptr.astype(np.int64) + before
        self.append("indptr", ends if self.n == 0 else ends[1:])
        self.append("data", rows.data)
        self.append("indices", rows.indices.astype(np.int32))

    def shift_features(self, by: int) -> None:
        """Add a number to all features."""
        self._change("indices", lambda values, _: values + by)
        self.d += by

    def fit_classes(self) -> list[float]:
        """The distinct numbers in y, in order; y becomes their positions."""
        found: set[float] = set()

        def collect(y: NDArray[Any], first: int) -> NDArray[Any]:
            found.update(np.unique(y).tolist())
            return y

        self._change("y", collect)
        classes = sorted(found)
        self.encode(classes)
        return classes

    def encode(self, classes: Sequence[float]) -> None:
        """y becomes positions in `classes`."""
        known, places = np.unique(np.asarray(classes, np.float64), return_index=True)

        def position(y: NDArray[Any], first: int) -> NDArray[Any]:
            at = np.minimum(np.searchsorted(known, y), len(known) - 1)
            wrong = np.flatnonzero(known[at] != y)
            if len(wrong):
                raise ValueError(
                    f"y holds {y[wrong[0]]} in row {first + wrong[0]}, which is none of the classes {list(classes)}"
                )
            return places[at]

        self._change("y", position)

    def _change(self, name: str, change: Callable[[NDArray[Any], int], NDArray[Any]]) -> None:
        """Rewrite a 1-D array in place, part by part."""
        dtype, (count, *_) = self.arrays[name]
        self._files[name].flush()
        with open(self.folder / f"{name}.bin", "r+b") as file:
            for start in range(0, count, _COPY_NUMBERS):
                size = min(_COPY_NUMBERS, count - start)
                file.seek(start * np.dtype(dtype).itemsize)
                values = np.frombuffer(file.read(size * np.dtype(dtype).itemsize), dtype)
                file.seek(start * np.dtype(dtype).itemsize)
                file.write(np.ascontiguousarray(change(values, start), dtype).data)

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()


_WIDE = {"b": np.dtype(np.int64), "i": np.dtype(np.int64), "u": np.dtype(np.int64)}


class Store:
    """An open store."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder, self.meta = folder, meta

    def array(self, name: str) -> FileArray:
        """One array of it. Raises ValueError where the file is not as long as it says."""
        dtype, shape = self.meta["arrays"][name]
        return FileArray(self.folder / f"{name}.bin", np.dtype(dtype), tuple(shape))

    def table(self, name: str) -> Table | None:
        """One array by slices, None if it is not there."""
        return Table(self.array(name)) if name in self.meta["arrays"] else None

    def rows(self, memory_limit: int, scale: float, dtype: np.dtype[Any]) -> FileRows:
        """The rows; indices of sparse ones are checked, since engines trust them."""
        if "values" in self.meta["arrays"]:
            values = self.array("values")
            return DenseFileRows(values, values.dtype if values.dtype.name not in check.COMPACT else dtype, memory_limit, scale)
        rows = CsrFileRows(self.array("data"), self.array("indices"), self.array("indptr"), self.meta["d"], memory_limit)
        rows.check(lambda part, first: check_rows(part, False, first))
        return rows


def fingerprint(sources: Sequence[Path]) -> list[list[Any]]:
    """What tells that files are the ones that a store was made of: name, size and time of change of each."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sources]


def stored(folder: Path, sources: Sequence[Path], dtype: np.dtype[Any], fill: Callable[[Writer], dict[str, Any]]) -> Store:
    """The store in `folder`, made by `fill` where there is none of these sources.

    fill: adds the rows to a writer and returns what else `meta.json` is to hold.
    """
    files = fingerprint(sources)
    found = _read_meta(folder)
    if found is not None and found["sources"] == files:
        return Store(folder, found)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".tmp", dir=folder.parent))
    except OSError as error:
        raise OSError(
            f"{folder.parent}: rows cannot be stored there ({error.strerror}): pass cache=folder to open_data"
        ) from error
    made = aside / "rows"  # in it, since what mkdtemp makes is closed to others
    made.mkdir()
    writer = Writer(made, dtype)
    try:
        more = fill(writer)
        writer.close()
        if writer.n == 0:
            raise ValueError(f"{sources[0] if sources else 'the chunks'}: there are no rows")
        meta = {"version": _VERSION, "sources": files, "n": writer.n, "d": writer.d, "arrays": writer.arrays, **more}
        (made / "meta.json").write_text(json.dumps(meta))
        _put(made, folder, files)
    finally:
        writer.close()
        shutil.rmtree(aside, ignore_errors=True)
    return Store(folder, json.loads(json.dumps(meta)))


def _put(made: Path, folder: Path, files: list[list[Any]]) -> None:
    """Give a new store its name, unless another process has put one of the same sources there meanwhile."""
    lock = os.open(folder.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: then one of two who come at once is told that the name is taken
            fcntl.flock(lock, fcntl.LOCK_EX)
        found = _read_meta(folder)
        if found is not None and found["sources"] == files:
            return
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(made, folder)
    finally:
        os.close(lock)


def _read_meta(folder: Path) -> dict[str, Any] | None:
    try:
        meta = json.loads((folder / "meta.json").read_text())
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get("version") == _VERSION else None
