"""Numbers that lie in files, read by position into memory that is given: nothing is mapped, so what is read is what is held.

An array here is (n,) or (n, d); a reader gives rows start .. start + len(out) - 1 of it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Stored(Protocol):
    """An array that is read by rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Fill `out`, C-ordered and of this dtype, with the rows from `start` on."""


class FileArray:
    """C-ordered numbers of native byte order from an offset of a file on. Raises ValueError where the file ends too early."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int = 0) -> None:
        self.path, self.dtype, self.shape, self.offset = path, dtype, shape, offset
        self._row_bytes = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        need, there = offset + shape[0] * self._row_bytes, os.fstat(self._file).st_size
        if there < need:
            raise ValueError(f"{path}: truncated: {shape} of {dtype} take {need} bytes, the file has {there}; write it again")

    def read(self, start: int, out: NDArray[Any]) -> None:
        left = memoryview(out.reshape(-1).view(np.uint8).data)
        at = self.offset + start * self._row_bytes
        while len(left):
            count = os.preadv(self._file, [left], at)
            if count == 0:
                raise ValueError(f"{self.path}: ended at byte {at} while it was read; was it changed? Open it again")
            left, at = left[count:], at + count


class MemoryArray:
    """An array in memory, read as one in a file is."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def read(self, start: int, out: NDArray[Any]) -> None:
        out[...] = self.values[start : start + len(out)]


class Joined:
    """Several arrays below each other, which agree in columns and dtype."""

    def __init__(self, parts: Sequence[Stored]) -> None:
        self.parts = parts
        self.dtype = parts[0].dtype
        self._ends = np.cumsum([part.shape[0] for part in parts])
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *parts[0].shape[1:])

    def read(self, start: int, out: NDArray[Any]) -> None:
        at, p = 0, int(np.searchsorted(self._ends, start, side="right"))
        while at < len(out):
            part, first = self.parts[p], start + at - (int(self._ends[p]) - self.parts[p].shape[0])
            count = min(len(out) - at, part.shape[0] - first)
            part.read(first, out[at : at + count])
            at, p = at + count, p + 1


class Table:
    """A stored array by slices, `table[1000:2000]`: what is asked for is read, (rows,) or (rows, columns)."""

    def __init__(self, stored: Stored) -> None:
        self.stored, self.shape, self.dtype = stored, stored.shape, stored.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        out = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        self.stored.read(start, out)
        return out
