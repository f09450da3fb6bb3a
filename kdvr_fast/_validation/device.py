"""Checks of arrays on a GPU, called by `_validation`: they stay there, and what is looked at are a few reductions.

CuPy, torch, Numba and JAX arrays come in through `__cuda_array_interface__` or DLPack, without a copy. Where a reduction finds
something wrong, that array comes to the host and the checks there say what it is, and where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._rows import CsrOnDevice, OnDevice
from ..losses import Loss
from .csr import check_rows

_CUDA = (2, 13)  # kDLCUDA and kDLCUDAManaged of DLPack
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def on_device(values: Any) -> bool:
    """Whether an array says that it lies on an NVIDIA GPU."""
    if isinstance(values, np.ndarray | OnDevice | CsrOnDevice):
        return False
    if hasattr(values, "__cuda_array_interface__") or (hasattr(values, "indptr") and on_device(values.data)):
        return True
    return hasattr(values, "__dlpack_device__") and int(values.__dlpack_device__()[0]) in _CUDA


def device_array(values: Any, name: str) -> Any:
    """The same memory as a CuPy array. RuntimeError where CuPy is missing, ValueError for another GPU than the current one."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"{name} lies on a GPU and is read with CuPy, which cannot be imported ({error})") from None
    A = cupy.asarray(values) if hasattr(values, "__cuda_array_interface__") else cupy.from_dlpack(values)
    here, there = cupy.cuda.Device().id, A.device.id
    if here != there:
        raise ValueError(f"{name} lies on GPU {there} and the current one is {here}: use `with cupy.cuda.Device({there})`")
    return A


def device_rows(X: Any, scan: bool) -> OnDevice | CsrOnDevice:
    """Rows (n, d) on the device, float32 or float64, of unit stride along d or CSR. scan: look for NaN and infinities."""
    if hasattr(X, "toarray") or "sparse" in str(getattr(X, "layout", "")):
        return _device_csr(X, scan)
    A = device_array(X, "X")
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"X must be 2-D (rows, features) and not empty, got shape {tuple(A.shape)}")
    if A.dtype not in _FLOATS:
        raise TypeError(f"X has dtype {A.dtype}; rows are read in place as float32 or float64: pass X.astype(np.float32)")
    if (A.shape[1] > 1 and A.strides[1] != A.itemsize) or A.strides[0] % A.itemsize:
        raise ValueError("X is not stored row by row; rows are read in place: pass a contiguous copy")
    if scan:
        finite_on_device(A, "X")
    return OnDevice(A)


def _device_csr(X: Any, scan: bool) -> CsrOnDevice:
    """A CSR matrix of CuPy (data, indices, indptr) or torch (values(), col_indices(), crow_indices()) on the device."""
    if hasattr(X, "indptr") and getattr(X, "format", "csr") == "csr":
        parts = X.data, X.indices, X.indptr
    elif str(getattr(X, "layout", "")) == "torch.sparse_csr":
        parts = X.values(), X.col_indices(), X.crow_indices()
    else:
        kind = getattr(X, "format", getattr(X, "layout", type(X).__name__))
        raise TypeError(
            f"X is a sparse matrix of format {kind} on a GPU; rows are read from CSR: pass X.tocsr() or X.to_sparse_csr()"
        )
    data, indices, indptr = (device_array(a, f"X.{name}") for a, name in zip(parts, ("data", "indices", "indptr"), strict=True))
    shape = tuple(map(int, X.shape))
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"X must be 2-D (rows, features) and not empty, got shape {shape}")
    if data.dtype not in _FLOATS:
        raise TypeError(f"X has dtype {data.dtype}; rows are read in place as float32 or float64: pass X.astype(np.float32)")
    for name, A in (("indices", indices), ("indptr", indptr)):
        if A.dtype not in (np.int32, np.int64):
            raise TypeError(f"X.{name} has dtype {A.dtype}; it is read in place as int32 or int64")
    n, stored = shape[0], int(indptr[-1]) if len(indptr) else -1
    if len(indptr) != n + 1 or int(indptr[0]) != 0 or bool((indptr[1:] < indptr[:-1]).any()):
        raise ValueError(f"X.indptr does not rise from 0 in {n + 1} steps; build the matrix anew, such as from X.tocoo()")
    if min(len(data), len(indices)) < stored:
        raise ValueError(f"X.indptr ends at {stored}, but X has {len(data)} values and {len(indices)} indices; build it anew")
    rows = CsrOnDevice(data[:stored], indices[:stored], indptr, (n, shape[1]))
    if not _sound_csr(rows, scan):
        check_rows(rows.on_host(), scan)  # says what is wrong, and where; a sum that overflows is nothing wrong
    return rows


def _sound_csr(rows: CsrOnDevice, scan: bool) -> bool:
    """Whether a few reductions find features in range that rise within each row, and, with scan, only finite numbers."""
    features, stored = rows.indices, len(rows.indices)
    if stored == 0:
        return True
    rises = features[1:] > features[:-1]
    rises[rows.indptr[(rows.indptr > 0) & (rows.indptr < stored)] - 1] = True  # the first of a row may be any
    if int(features.min()) < 0 or int(features.max()) >= rows.shape[1] or not bool(rises.all()):
        return False
    return not scan or finite_sum(rows.data)


def finite_sum(A: Any) -> bool:
    """Whether the sum is finite: then all numbers are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(float(A.sum())))


def finite_on_device(A: Any, name: str) -> None:
    """Raise for the first NaN or infinity in rows (n, d)."""
    import cupy

    with np.errstate(over="ignore", invalid="ignore"):
        sums = A.sum(axis=1)
    rows = np.flatnonzero(~cupy.isfinite(sums).get())  # also rows whose sum overflows
    for row in rows:
        values = A[int(row)].get()
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(f"{name} holds {values[bad[0]]} in row {row}, column {bad[0]}; drop or fill such values")


def device_targets(y: Any, loss: Loss, n: int, check: Callable[[NDArray[Any]], NDArray[Any]]) -> OnDevice:
    """Targets on the device, labels as int64. check: the checks of targets on the host, where something is wrong."""
    import cupy

    Y = device_array(y, "y")
    labels = loss.targets == "classes" and Y.ndim == 1
    if not _sound(Y, loss, n, labels):
        Y = cupy.asarray(check(Y.get()))  # raises, but for such as labels that are floats
    return OnDevice(Y.astype(np.int64) if labels else Y)


def _sound(Y: Any, loss: Loss, n: int, labels: bool) -> bool:
    """Whether targets pass for good without a look at each."""
    kind = np.dtype(Y.dtype).kind
    if loss.functions is not None or Y.ndim not in (1, 2) or len(Y) != n or 0 in Y.shape or kind not in "iuf":
        return False
    if labels:
        return kind in "iu" and int(Y.min()) >= 0
    if kind == "f" and not np.isfinite(float(Y.sum())):
        return False
    if loss.targets == "real":
        return True
    if float(Y.min()) < 0 or float(Y.max()) > 1:
        return False
    if loss.targets == "unit":
        return bool(Y.ndim == 1 or Y.shape[1] == 1)
    error = float(abs(Y.sum(axis=1, dtype=np.float64) - 1).max())
    return bool(Y.shape[1] > 1 and error <= np.finfo(np.float32).eps)


def device_problem_targets(y: OnDevice, k: int, dtype: np.dtype[Any]) -> OnDevice | None:
    """`_validation.problem_targets` on the device; None for targets in which it would find something wrong."""
    if y.ndim == 1 and y.dtype == np.int64 and k > 1:
        return y if int(y.values.max()) < k else None
    Y = y.values.reshape(len(y), k).astype(dtype, copy=False)
    if dtype.itemsize < y.dtype.itemsize and not np.isfinite(float(Y.sum())):
        return None
    return OnDevice(Y if Y.flags.c_contiguous else Y.copy())
