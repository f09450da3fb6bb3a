"""Rows X (n, d) that stay in files: dense ones, dense ones in fewer bytes, and sparse ones. Blocks of them are read on demand.

`load(start, stop)` gives rows as a backend reads them (array, `Compact` or `CsrRows`), in memory of their own; a `Window` is
memory that rows from several places are read into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from .._rows import Compact, CsrRows
from ..backends.base import FloatArray
from ._stored import Stored

_CHECK_BYTES = 1 << 22  # of rows looked at at once


class Window(Protocol):
    """Memory for a window of rows, which is used again and again."""

    def read(self, ranges: Sequence[tuple[int, int]]) -> Any:
        """Rows of the data, (start, stop) one behind the other, as rows of a problem; valid until the next call."""


class DenseFileRows:
    """Rows of numbers; those of one or two bytes are read as ``scale * values``, see `Compact`."""

    def __init__(self, values: Stored, dtype: np.dtype[Any], memory_limit: int, scale: float = 1.0) -> None:
        n, d = values.shape
        self.values, self.shape, self.dtype, self.scale = values, (n, d), dtype, scale
        self.memory_limit = memory_limit

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return self.shape[1] * self.values.dtype.itemsize

    def window_bytes(self, rows: int, block: int) -> int:
        """Bytes of a window of so many rows made of blocks, at most."""
        return rows * self.row_bytes

    def load(self, start: int, stop: int) -> Any:
        out = np.empty((stop - start, self.shape[1]), self.values.dtype)
        self.values.read(start, out)
        return self.as_rows(out)

    def as_rows(self, values: NDArray[Any]) -> Any:
        """Stored numbers as a backend reads them."""
        return values if values.dtype == self.dtype else Compact(values, self.scale, dtype=self.dtype)

    def window(self, rows: int, block: int) -> Window:
        """Memory for a window of so many rows made of blocks."""
        return _DenseWindow(self, rows)

    def __getitem__(self, rows: slice) -> FloatArray:
        start, stop, _ = rows.indices(self.shape[0])
        return np.asarray(self.load(start, max(start, stop))[:])

    def check(self, finite: Callable[[Any, int], None]) -> None:
        """Read all rows and call `finite` with some of them and the number of their first."""
        size = max(1, _CHECK_BYTES // self.row_bytes)
        for start in range(0, self.shape[0], size):
            finite(self.load(start, min(start + size, self.shape[0])), start)


class _DenseWindow:
    def __init__(self, source: DenseFileRows, rows: int) -> None:
        self._source = source
        self._memory = np.empty((rows, source.shape[1]), source.values.dtype)

    def read(self, ranges: Sequence[tuple[int, int]]) -> Any:
        at = 0
        for start, stop in ranges:
            self._source.values.read(start, self._memory[at : at + stop - start])
            at += stop - start
        return self._source.as_rows(self._memory[:at])


class CsrFileRows:
    """Sparse rows in three files, as in a CSR matrix; `indptr` (n + 1,) is int64."""

    def __init__(self, data: Stored, indices: Stored, indptr: Stored, d: int, memory_limit: int) -> None:
        self.data, self.indices, self.indptr = data, indices, indptr
        self.shape, self.dtype = (indptr.shape[0] - 1, d), data.dtype
        self.memory_limit = memory_limit

    @property
    def entry_bytes(self) -> int:
        """Bytes of a non-zero."""
        return self.data.dtype.itemsize + self.indices.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory, on average."""
        return 8 + self.entry_bytes * self.row_entries

    @property
    def row_entries(self) -> int:
        """Non-zeros of a row on average, rounded down."""
        return self.data.shape[0] // self.shape[0]

    def starts(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where rows begin, and where the last of them ends: (stop - start + 1,)."""
        out = np.empty(stop - start + 1, np.int64)
        self.indptr.read(start, out)
        return out

    def most_entries(self, rows: int, block: int) -> int:
        """No window of so many rows, made of blocks, the short last one and parts of two more, has more non-zeros than this."""
        n, size = self.shape[0], 1 << 20
        ends = [self.starts(at, min(at + size, n))[:-1] for at in range(0, n, size)]
        at_blocks = [part[-start % block :: block] for part, start in zip(ends, range(0, n, size), strict=True)]
        counts = np.diff(np.concatenate([*at_blocks, np.array([self.data.shape[0]])]))
        return int(np.sort(counts)[::-1][: -(-rows // block) + 2].sum())

    def window_bytes(self, rows: int, block: int) -> int:
        return self.most_entries(rows, block) * self.entry_bytes + 8 * rows

    def load(self, start: int, stop: int) -> CsrRows:
        indptr = self.starts(start, stop)
        first, count = int(indptr[0]), int(indptr[-1] - indptr[0])
        data, indices = np.empty(count, self.data.dtype), np.empty(count, self.indices.dtype)
        self.data.read(first, data)
        self.indices.read(first, indices)
        return CsrRows(data, indices, indptr - first, (stop - start, self.shape[1]))

    def window(self, rows: int, block: int) -> Window:
        return _CsrWindow(self, rows, block)

    def __getitem__(self, rows: slice) -> Any:
        from scipy.sparse import csr_array

        start, stop, _ = rows.indices(self.shape[0])
        some = self.load(start, max(start, stop))
        return csr_array((some.data, some.indices, some.indptr.astype(some.indices.dtype)), shape=some.shape)

    def check(self, finite: Callable[[Any, int], None]) -> None:
        """Read all rows and call `finite` with some of them and the number of their first."""
        size = max(1, _CHECK_BYTES // self.row_bytes)
        for start in range(0, self.shape[0], size):
            finite(self.load(start, min(start + size, self.shape[0])), start)


class _CsrWindow:
    """Rows that are never walked follow those of the window, as many as it takes for a row to hold on average what one of the
    whole data holds: an engine may cut its blocks by that.
    """

    def __init__(self, source: CsrFileRows, rows: int, block: int) -> None:
        self._source, most, average = source, source.most_entries(rows, block), source.row_entries
        size = max(most, average * rows) + average
        self._data, self._indices = np.zeros(size, source.data.dtype), np.zeros(size, source.indices.dtype)
        self._indptr = np.zeros(2 + max(rows, -(-most // average) if average else most), np.int64)

    def read(self, ranges: Sequence[tuple[int, int]]) -> CsrRows:
        row, at, average = 0, 0, self._source.row_entries
        for start, stop in ranges:
            starts = self._source.starts(start, stop)
            first, count = int(starts[0]), int(starts[-1] - starts[0])
            self._source.data.read(first, self._data[at : at + count])
            self._source.indices.read(first, self._indices[at : at + count])
            self._indptr[row : row + stop - start] = starts[:-1] + (at - first)
            row, at = row + stop - start, at + count
        n = max(row + 1, -(-at // average)) if average else max(row, at + 1)
        end = average * n if average else at
        self._indptr[row:n], self._indptr[n] = at, end
        return CsrRows(self._data[:end], self._indices[:end], self._indptr[: n + 1], (n, self._source.shape[1]))


FileRows = DenseFileRows | CsrFileRows


def in_files(X: Any) -> TypeGuard[FileRows]:
    """Whether rows stay in files."""
    return isinstance(X, DenseFileRows | CsrFileRows)
