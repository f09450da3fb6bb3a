"""NumPy's own files: `.npy`, read in place, and CSR matrices in `.npz`, as `scipy.sparse.save_npz` writes them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ._store import MOST_FEATURES, Writer
from ._stored import FileArray

_COPY_NUMBERS = 1 << 20


def npy(path: Path) -> FileArray:
    """The array in a `.npy` file. Raises ValueError for one that cannot be read by rows."""
    with open(path, "rb") as file:
        shape, fortran, dtype = _header(file, path)
        if fortran and len(shape) > 1:
            raise ValueError(f"{path} is Fortran-ordered; rows are read in place: save np.ascontiguousarray(X)")
        if not shape:
            raise ValueError(f"{path} holds a single number, not rows")
        return FileArray(path, dtype, shape, file.tell())


def _header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    read = np.lib.format
    try:
        version = read.read_magic(file)
        known = read.read_array_header_1_0 if version == (1, 0) else read.read_array_header_2_0
        shape, fortran, dtype = known(file)
    except ValueError as error:
        raise ValueError(f"{path}: not a .npy file: {error}") from error
    if dtype.hasobject or not dtype.isnative:
        raise TypeError(f"{path} holds {dtype}; numbers of this machine's byte order are read: save X.astype(np.float32)")
    return shape, fortran, dtype


def fill(paths: Sequence[Path], writer: Writer) -> None:
    """Add CSR matrices, some numbers at a time."""
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                _add(archive, path, writer)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(
                f"{path}: not a CSR matrix in a .npz file ({error}): write it by scipy.sparse.save_npz(path, X.tocsr())"
            ) from error


def _add(archive: zipfile.ZipFile, path: Path, writer: Writer) -> None:
    kind = _whole(archive, "format", path)
    if kind.tobytes() != b"csr":
        raise ValueError(f"{path}: a sparse matrix of format {kind.item()!r}: save X.tocsr()")
    n, d = (int(size) for size in _whole(archive, "shape", path))
    if d > MOST_FEATURES:
        raise ValueError(f"{path} has {d} features; at most {MOST_FEATURES} are stored")
    before = writer.arrays["data"][1][0] if writer.n else 0
    for name, dtype in (("data", writer.dtype), ("indices", np.dtype(np.int32))):
        for values in _Chunks(archive, name, path):
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise ValueError(f"{path}: {name} holds {values[bad[0]]}; drop or fill such values")
            writer.append(name, values.astype(dtype))
    indptr = _Chunks(archive, "indptr", path)
    if indptr.count != n + 1:
        raise ValueError(f"{path}: {n} rows take {n + 1} numbers in indptr, there are {indptr.count}")
    first = True
    for values in indptr:
        ends = values.astype(np.int64) + before
        writer.append("indptr", ends[1:] if first and writer.n else ends)
        first = False
    writer.n, writer.d = writer.n + n, max(writer.d, d)


class _Chunks:
    """A 1-D array of an archive, some numbers at a time."""

    def __init__(self, archive: zipfile.ZipFile, name: str, path: Path) -> None:
        self._file = archive.open(f"{name}.npy")
        shape, _, self._dtype = _header(self._file, path)
        self.count = int(np.prod(shape, dtype=np.int64))
        self._path, self._name = path, name

    def __iter__(self) -> Any:
        with self._file:
            for start in range(0, max(self.count, 1), _COPY_NUMBERS):
                size = min(_COPY_NUMBERS, self.count - start)
                raw = self._file.read(size * self._dtype.itemsize)
                if len(raw) < size * self._dtype.itemsize:
                    raise ValueError(f"{self._path}: {self._name} is truncated; write it again")
                yield np.frombuffer(raw, self._dtype)


def _whole(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    parts = list(_Chunks(archive, name, path))
    return np.concatenate(parts)
