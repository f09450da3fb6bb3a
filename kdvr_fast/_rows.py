"""Sparse rows beside dense ones: what NumPy code asks of rows X (n, d), written once for both.

Dense rows are an array. Sparse rows are `CsrRows`, the arrays of a compressed-row matrix as the user gave them; SciPy's own
constructor would copy int64 indices. Blocks of either, `X[rows]`, are an array or a `scipy.sparse.csr_array` and have in common
`@`, `.T`, `*` (entry by entry), `.sum(axis)` and `.astype`; the functions here are for what they have not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from .backends.base import FloatArray


@dataclass(frozen=True, eq=False)
class CsrRows:
    """Compressed sparse rows, validated: row i holds data[indptr[i]:indptr[i + 1]] at features indices[...], rising.

    data: float32 or float64. indices, indptr: int32 or int64. shape: (n, d). Nothing is copied.
    """

    data: FloatArray
    indices: NDArray[np.signedinteger[Any]]
    indptr: NDArray[np.signedinteger[Any]]
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.data.dtype

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> Any:
        """A copy of some rows as a `scipy.sparse.csr_array`."""
        from scipy.sparse import csr_array

        which = np.arange(self.shape[0])[rows]
        starts = self.indptr[which].astype(np.int64)
        counts = self.indptr[which + 1] - starts
        indptr = np.concatenate([[0], np.cumsum(counts)])
        at = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
        return csr_array((self.data[at], self.indices[at], indptr), shape=(len(which), self.shape[1]))


def is_sparse(X: Any) -> TypeGuard[CsrRows]:
    """Whether rows, or a block of them, are sparse."""
    return hasattr(X, "indptr")


def stack(blocks: list[Any], axis: int) -> Any:
    """Blocks below (axis 0) or beside (axis 1) each other."""
    if any(is_sparse(block) for block in blocks):
        from scipy.sparse import csr_array, hstack, vstack

        return csr_array((vstack if axis == 0 else hstack)(blocks, format="csr"))
    return np.concatenate(blocks, axis=axis)


def dense(block: Any) -> Any:
    """A block of rows as an array."""
    return block if isinstance(block, np.ndarray) else block.toarray()


def row_numbers(X: Any) -> int:
    """Numbers that a row holds, on average; at least 1."""
    n, d = X.shape
    return max(1, len(X.data) // n) if is_sparse(X) else int(d)


def blocks(X: Any, most_numbers: int) -> Iterator[tuple[slice, Any]]:
    """Consecutive blocks of rows in float64, each of about that many numbers."""
    n, size = X.shape[0], max(1, most_numbers // row_numbers(X))
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        yield rows, X[rows].astype(np.float64)
