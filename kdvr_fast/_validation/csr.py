"""Checks of sparse rows, called by `_validation`: a CSR matrix of SciPy becomes `CsrRows` of the same memory.

Errors say what was wrong, where (row, column, value) and what to do. n rows, d features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._rows import CsrRows

_SCAN_NUMBERS = 1 << 20  # of non-zeros looked at at once
_INTEGERS = (np.dtype(np.int32), np.dtype(np.int64))


def csr_rows(X: Any, scan: bool) -> CsrRows:
    """The rows of a SciPy CSR matrix, whose shape and dtype are known to be good. scan: look for NaN and infinities."""
    n, d = X.shape
    indptr, indices = _integers(X.indptr, "indptr"), _integers(X.indices, "indices")
    if len(indptr) != n + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        raise ValueError(f"X.indptr does not rise from 0 in {n + 1} steps; build the matrix anew, such as from X.tocoo()")
    stored = int(indptr[-1])
    if min(len(X.data), len(indices)) < stored:
        raise ValueError(f"X.indptr ends at {stored}, but X has {len(X.data)} values and {len(indices)} indices; build it anew")
    rows = CsrRows(_one_piece(X.data, "data")[:stored], _one_piece(indices, "indices")[:stored], indptr, (n, d))
    check_rows(rows, scan)
    return rows


def check_rows(rows: CsrRows, scan: bool, first_row: int = 0) -> None:
    """Raise for features that are out of range or do not rise, and, with scan, for NaN and infinities."""
    if not _sound(rows, scan):
        _check_features(rows, first_row)
        if scan:
            finite(rows, first_row)


def _sound(rows: CsrRows, scan: bool) -> bool:
    """Whether one native pass finds nothing wrong; if not, or without the extension, the checks below look for what it is."""
    from ..backends.native import _core

    if _core is None:
        return False
    try:
        return _core.csr_sound((rows.data, rows.indices, rows.indptr, rows.shape[1]), scan)
    except ValueError:
        return False


def _integers(values: Any, name: str) -> NDArray[Any]:
    A: NDArray[Any] = np.asarray(values)
    if A.ndim != 1 or A.dtype not in _INTEGERS or not A.dtype.isnative:
        raise TypeError(f"X.{name} has dtype {A.dtype}; it is read in place as int32 or int64: pass X.{name}.astype(np.int64)")
    return _one_piece(A, name)


def _one_piece(values: NDArray[Any], name: str) -> NDArray[Any]:
    if not (values.flags.c_contiguous and values.flags.aligned):
        raise ValueError(f"X.{name} is strided; sparse rows are read in place: pass X.copy()")
    return values


def _row_of(rows: CsrRows, position: int, first_row: int) -> int:
    return int(np.searchsorted(rows.indptr, position, side="right")) - 1 + first_row


def _check_features(rows: CsrRows, first_row: int) -> None:
    """Features lie in 0 .. d - 1 and rise within a row, so that each is there once."""
    d, indices = rows.shape[1], rows.indices
    for start in range(0, len(indices), _SCAN_NUMBERS):
        block = indices[max(start - 1, 0) : start + _SCAN_NUMBERS]
        first = max(start - 1, 0)
        if block.min() < 0 or block.max() >= d:
            at = first + int(np.argmax((block < 0) | (block >= d)))
            row = _row_of(rows, at, first_row)
            raise ValueError(f"X has feature {indices[at]} in row {row}; with {d} features they are 0 .. {d - 1}")
        falls = np.flatnonzero(block[1:] <= block[:-1]) + first + 1
        if not len(falls):
            continue
        owners = np.searchsorted(rows.indptr, falls, side="right") - 1
        inside = falls[rows.indptr[owners] != falls]  # the first of a row may be anything
        if len(inside):
            at = int(inside[0])
            row, feature = _row_of(rows, at, first_row), indices[at]
            if feature == indices[at - 1]:
                raise ValueError(f"X holds feature {feature} twice in row {row}; call X.sum_duplicates() first")
            before = indices[at - 1]
            raise ValueError(
                f"X has feature {feature} after {before} in row {row}, and they must rise; call X.sort_indices() first"
            )


def finite(rows: CsrRows, first_row: int = 0) -> None:
    """Raise for the first NaN or infinity, by row and column."""
    for start in range(0, len(rows.data), _SCAN_NUMBERS):
        bad = np.flatnonzero(~np.isfinite(rows.data[start : start + _SCAN_NUMBERS]))
        if len(bad):
            at = start + int(bad[0])
            row, column = _row_of(rows, at, first_row), rows.indices[at]
            raise ValueError(f"X holds {rows.data[at]} in row {row}, column {column}; drop or fill such values")
