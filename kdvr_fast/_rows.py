"""Sparse, compact and device rows beside dense ones: what NumPy code asks of rows X (n, d), written once for all.

Dense rows are an array. Compact rows give arrays, block by block. Sparse rows are `CsrRows`, the arrays of a compressed-row
matrix as the user gave them; SciPy's own constructor would copy int64 indices. Blocks of either, `X[rows]`, are an array or a
`scipy.sparse.csr_array` and have in common `@`, `.T`, `*` (entry by entry), `.sum(axis)` and `.astype`; the functions here
are for what they have not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    def take(self, rows: slice | NDArray[np.integer[Any]]) -> CsrRows:
        """A copy of some rows."""
        which = np.arange(self.shape[0])[rows]
        starts = self.indptr[which].astype(np.int64)
        counts = self.indptr[which + 1] - starts
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        at = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)
        return CsrRows(self.data[at], self.indices[at], indptr, (len(which), self.shape[1]))

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> Any:
        """A copy of some rows as a `scipy.sparse.csr_array`."""
        from scipy.sparse import csr_array

        some = self.take(rows)
        return csr_array((some.data, some.indices, some.indptr), shape=some.shape)


@dataclass(frozen=True, eq=False)
class Compact:
    """Rows stored in one or two bytes a number and read as ``scale * values + offset`` in `dtype`: never copied as a whole.

    values: (n, d) uint8, int8, float16 or bfloat16 (the type of the package ml_dtypes), unit stride along d; memory maps too.
    scale, offset: a number, or (d,) numbers, one a feature; 1 and 0 by default. dtype: float32 or float64, the type of the
    weights and of all arithmetic. `solve` and `gradient_stats` take it for X and check it; a bare array of those types is read
    as ``Compact(array)``. The result is that of the decoded rows, up to one rounding where there is a scale or an offset.

    >>> import numpy as np
    >>> from kdvr_fast import Compact
    >>> Compact(np.array([[0, 255]], np.uint8), scale=1 / 255)[:].tolist()
    [[0.0, 1.0]]
    """

    values: NDArray[Any]
    scale: ArrayLike = 1.0
    offset: ArrayLike = 0.0
    dtype: Any = np.float32

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, d)."""
        n, d = self.values.shape
        return n, d

    @property
    def plain(self) -> bool:
        """Whether the stored numbers are the rows, without scale or offset."""
        return bool(np.all(np.asarray(self.scale) == 1) and np.all(np.asarray(self.offset) == 0))

    def factors(self) -> tuple[FloatArray, FloatArray]:
        """scale and offset as (d,) arrays of `dtype`."""
        d, dtype = self.shape[1], np.dtype(self.dtype)
        scale, offset = (np.array(np.broadcast_to(np.asarray(v, dtype), (d,))) for v in (self.scale, self.offset))
        return scale, offset

    def __getitem__(self, rows: Any) -> FloatArray:
        """A decoded copy of some rows, of `dtype`."""
        A: FloatArray = np.asarray(self.values[rows]).astype(self.dtype)
        if not self.plain:
            scale, offset = self.factors()
            A = A * scale + offset
        return A


@dataclass(frozen=True, eq=False)
class OnDevice:
    """An array on a GPU, validated: rows (n, d) or targets, read there in place. Blocks of it are copies on the host.

    values: a CuPy array over the memory of whoever made it.
    """

    values: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.values.shape)

    @property
    def ndim(self) -> int:
        """Its number of dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its numbers."""
        dtype: np.dtype[Any] = np.dtype(self.values.dtype)
        return dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """A copy of some rows on the host."""
        copy: NDArray[Any] = self.values[rows].get()
        return copy


@dataclass(frozen=True, eq=False)
class CsrOnDevice:
    """Compressed sparse rows on a GPU, validated, read there in place. Blocks of them are copies on the host.

    data, indices, indptr: CuPy arrays over the memory of whoever made them, otherwise as in `CsrRows`.
    """

    data: Any
    indices: Any
    indptr: Any
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    def on_host(self) -> CsrRows:
        """A copy of all rows on the host."""
        return CsrRows(self.data.get(), self.indices.get(), self._starts, self.shape)

    @cached_property
    def _starts(self) -> NDArray[Any]:
        starts: NDArray[Any] = self.indptr.get()
        return starts

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> Any:
        """A copy of some rows as a `scipy.sparse.csr_array` on the host; of a range of them, what lies between its ends."""
        which = np.arange(self.shape[0])[rows]
        if len(which) == 0 or (np.diff(which) != 1).any():
            return self.on_host()[which]
        starts = self._starts[which[0] : which[-1] + 2]
        part = slice(int(starts[0]), int(starts[-1]))
        some = CsrRows(self.data[part].get(), self.indices[part].get(), starts - starts[0], (len(which), self.shape[1]))
        return some[:]


def is_on_device(X: Any) -> TypeGuard[OnDevice]:
    """Whether dense rows or targets lie on a GPU."""
    return isinstance(X, OnDevice)


def lies_on_device(X: Any) -> TypeGuard[OnDevice | CsrOnDevice]:
    """Whether rows of any kind lie on a GPU."""
    return isinstance(X, OnDevice | CsrOnDevice)


def beside(values: Any) -> Any:
    """Values on the current device, copied if they are not there."""
    import cupy

    return cupy.asarray(values)


def is_compact(X: Any) -> TypeGuard[Compact]:
    """Whether rows are stored in fewer bytes than they are read in."""
    return isinstance(X, Compact)


def is_sparse(X: Any) -> TypeGuard[CsrRows]:
    """Whether rows, or a block of them, are sparse."""
    return hasattr(X, "indptr")


def stack(blocks: list[Any], axis: int) -> Any:
    """Blocks below (axis 0) or beside (axis 1) each other."""
    if any(is_sparse(block) for block in blocks):
        from scipy.sparse import csr_array, hstack, vstack

        return csr_array((vstack if axis == 0 else hstack)(blocks, format="csr"))
    return np.concatenate(blocks, axis=axis)


def product(X: Any, rows: slice, W: FloatArray) -> NDArray[Any]:
    """A W^T of some rows, (rows, k), formed where they lie, given on the host."""
    if is_on_device(X):
        on_device: NDArray[Any] = (X.values[rows] @ beside(W).T).get()
        return on_device
    return np.asarray(X[rows] @ W.T)


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


def gram(
    X: Any, rows: NDArray[np.int64], weights: NDArray[np.float64], fit_intercept: bool, most_numbers: int = 1 << 21
) -> NDArray[np.float64]:
    """Sum of weights_i a_i a_i^T over some rows, (p, p): products of dense blocks in X's dtype, summed in float64."""
    p = X.shape[1] + fit_intercept
    G, size = np.zeros((p, p)), max(1, most_numbers // p)
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        A: FloatArray = dense(X[rows[part]])
        A = np.column_stack([A, np.ones(len(A), A.dtype)]) if fit_intercept else A
        A = A * np.sqrt(weights[part, None]).astype(A.dtype)
        G += A.T @ A
    return G
