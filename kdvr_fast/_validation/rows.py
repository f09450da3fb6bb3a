"""Rows X of every kind: dense, CSR, compact, virtual, in files, on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._rows import Compact, CsrOnDevice, CsrRows, OnDevice
from .._virtual import is_virtual
from .arrays import SCAN_BYTES, finite, from_list, real_array, shape, unmasked
from .csr import csr_rows
from .csr import finite as finite_csr
from .device import device_rows, finite_on_device, finite_sum, on_device
from .values import FLOATS

COMPACT = ("uint8", "int8", "float16", "bfloat16")  # dtypes that rows may be stored in


def features(X: Any, *, scan: bool = True) -> Any:
    """X as (n, d) float32 or float64 rows, read in place: an array of unit stride, `OnDevice` where it lies on a GPU, `CsrRows`
    of a CSR matrix, or virtual rows.

    A nested list becomes float64. scan: look for NaN and infinities, one read of X.
    """
    if isinstance(X, CsrRows | OnDevice | CsrOnDevice) or is_virtual(X):
        return X
    if on_device(X):
        return device_rows(X, scan)
    if isinstance(X, Compact) or (isinstance(X, np.ndarray) and X.dtype.name in COMPACT):
        return _compact(X if isinstance(X, Compact) else Compact(X), scan)
    A = X if hasattr(X, "toarray") else _features_array(X)
    if A is X and not isinstance(A, np.ndarray):
        _require_csr(A)
    if A.ndim != 2:
        raise ValueError(f"X must be 2-D (rows, features), got shape {A.shape}; a single feature is X.reshape(-1, 1)")
    if A.dtype not in FLOATS:
        raise TypeError(f"X has dtype {A.dtype}; rows are read in place as float32 or float64: {_dtype_remedy(A.dtype)}")
    if 0 in A.shape:
        raise ValueError(f"X is empty: shape {A.shape} has no {'rows' if A.shape[0] == 0 else 'features'}")
    if not isinstance(A, np.ndarray):
        return csr_rows(A, scan)
    if A.shape[1] == 1:  # the stride of a single feature says nothing, yet a backend may rely on it
        A = np.lib.stride_tricks.as_strided(A, strides=(A.strides[0], A.itemsize), writeable=False)
    if A.strides[1] != A.itemsize or not A.flags.aligned:
        layout = "Fortran-ordered" if A.flags.f_contiguous else f"strided ({A.strides[1]} bytes from feature to feature)"
        raise ValueError(f"X is {layout}; rows are read in place: pass np.ascontiguousarray(X)")
    if scan:
        finite(A, "X")
    return A


def _compact(X: Compact, scan: bool) -> Compact:
    """Compact rows, checked; their dtype is that of the arithmetic."""
    values = X.values
    name = getattr(getattr(values, "dtype", None), "name", type(values).__name__)
    if name not in COMPACT or hasattr(values, "toarray"):
        raise TypeError(f"Compact holds {name}; rows are stored as one of {', '.join(COMPACT)}")
    dtype = np.dtype(X.dtype)
    if dtype not in FLOATS:
        raise TypeError(f"Compact rows are read as {dtype}; choose dtype=np.float32 or np.float64")
    unmasked(values, "X")
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"X must be 2-D (rows, features) and not empty, got shape {values.shape}")
    if values.shape[1] > 1 and values.strides[1] != values.itemsize:
        raise ValueError("X is not stored row by row; rows are read in place: pass np.ascontiguousarray(X)")
    d = values.shape[1]
    for what, given in (("scale", X.scale), ("offset", X.offset)):
        factor = real_array(np.asarray(given), what)
        if factor.ndim > 0:
            shape(factor, (d,), what, "a number, or one a feature")
        finite(np.atleast_1d(factor), what)
    checked = Compact(values, X.scale, X.offset, dtype)
    if scan:
        finite_rows(checked)
    return checked


def _features_array(X: ArrayLike) -> NDArray[Any]:
    if X is None or isinstance(X, str | bytes | dict):
        raise TypeError(f"X is {type(X).__name__}; expected an array of rows (n, d), float32 or float64")
    unmasked(X, "X")
    if isinstance(X, np.ndarray):
        return np.asarray(X)
    if not isinstance(X, list | tuple):
        return np.asarray(X)
    A = from_list(X, "X")
    return A.astype(np.float64) if A.dtype.kind in "bif" else A


def _require_csr(X: Any) -> None:
    if getattr(X, "format", None) != "csr":
        remedy = "X.tocsr()" if hasattr(X, "tocsr") else "X.toarray()"
        raise TypeError(f"X is a sparse {type(X).__name__}; sparse rows are read in place from CSR: pass {remedy}")


def _dtype_remedy(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "c":
        return "pass real numbers, such as X.real"
    if dtype.kind in "OUSV":
        return "convert text and mixed columns to numbers first"
    return "pass X.astype(np.float32) or X.astype(np.float64)"


def finite_rows(X: Any, first_row: int = 0) -> None:
    """Raise for the first NaN or infinity in rows of any kind; X begins with row number `first_row`."""
    if isinstance(X, CsrRows):
        finite_csr(X, first_row)
    elif isinstance(X, Compact):
        if X.values.dtype.itemsize == 2:  # the others are integers
            rows = max(1, SCAN_BYTES // (8 * X.shape[1]))
            for start in range(0, len(X.values), rows):
                finite(X.values[start : start + rows].astype(np.float32), "X", first_row + start)
    elif isinstance(X, OnDevice):
        finite_on_device(X.values, "X")
    elif isinstance(X, CsrOnDevice):
        if not finite_sum(X.data):
            finite_csr(X.on_host(), first_row)
    elif hasattr(X, "load"):  # rows in files
        X.check(finite_rows)
    elif not is_virtual(X):
        finite(X, "X", first_row)
