"""Arrays of real numbers: weights to start from, sample weights, orders of rows."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backends.base import FloatArray
from .device import on_device

SCAN_BYTES = 1 << 22  # block of one scan: stays in a core's cache


def finite(values: NDArray[Any], name: str, first_row: int = 0) -> None:
    """Raise for the first NaN or infinity, by row and column; a sum per block finds it, a non-finite sum looks closer."""
    rows = max(1, SCAN_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        with np.errstate(over="ignore", invalid="ignore"):
            total = block.sum()
        if np.isfinite(total):
            continue
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            where = bad[0].copy()
            where[0] += start + first_row
            place = f"row {where[0]}" + (f", column {where[1]}" if len(where) > 1 else "")
            raise ValueError(f"{name} holds {block[tuple(bad[0])]} in {place}; drop or fill such values")


def real_array(values: ArrayLike, name: str) -> NDArray[Any]:
    """An array of real numbers (bool, integer or floating), not copied."""
    unmasked(values, name)
    if on_device(values):
        raise TypeError(f"{name} lies on a GPU, where X and y alone are read, and y only with X: pass a NumPy array")
    A = np.asarray(values) if isinstance(values, np.ndarray) else from_list(values, name)
    if A.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {A.dtype}; real numbers are needed")
    return A


def matrix(values: ArrayLike, name: str) -> NDArray[Any]:
    """A real array of weights, (k, d); (d,) is one output."""
    return np.atleast_2d(real_array(values, name))


def layers(values: Any, name: str) -> tuple[NDArray[Any], ...]:
    """Copies of the layers W_1 .. W_L of a deep linear model: finite matrices of which each fits the one before."""
    if isinstance(values, np.ndarray) or not isinstance(values, list | tuple) or not values:
        raise TypeError(f"{name} must be a list of matrices [W_1, .., W_L], got {type(values).__name__}")
    out = tuple(np.array(real_array(W, f"{name}[{i}]")) for i, W in enumerate(values))
    for i, W in enumerate(out):
        if W.ndim != 2 or 0 in W.shape:
            raise ValueError(f"{name}[{i}] has shape {W.shape}; expected (outputs, inputs) of layer {i + 1}")
        if i and W.shape[1] != len(out[i - 1]):
            raise ValueError(f"{name}[{i}] takes {W.shape[1]} numbers, the layer before it gives {len(out[i - 1])}")
        finite(W, f"{name}[{i}]")
    return out


def shape(values: NDArray[Any], expected: tuple[int, ...], name: str, meaning: str) -> None:
    """Raise unless the array has the shape; `meaning` explains it, as in "(outputs, features)"."""
    if values.shape != expected:
        raise ValueError(f"{name} has shape {values.shape}; expected {expected}, {meaning}")


def cast_finite(values: NDArray[Any], dtype: np.dtype[Any], name: str) -> FloatArray:
    """A copy in `dtype`; raises where a finite number is too large for it."""
    with np.errstate(over="ignore"):
        out = np.array(values, dtype, order="C")
    if out.dtype.itemsize < values.dtype.itemsize and not np.isfinite(out).all():
        place = np.argwhere(~np.isfinite(out))[0]
        raise ValueError(
            f"{name} holds {values[tuple(place)]:g} at {place.tolist()}, too large for {dtype}; scale it or use float64"
        )
    return out


def sample_weight(values: ArrayLike | None, n: int, dtype: np.dtype[Any]) -> FloatArray | None:
    """Weights (n,) scaled to mean one, in `dtype`; None when all are equal."""
    if values is None:
        return None
    s = real_array(values, "sample_weight").astype(np.float64)
    shape(s, (n,), "sample_weight", "one weight a row of X")
    finite(s, "sample_weight")
    if s.min() < 0:
        raise ValueError(f"sample_weight holds {s.min():g} in row {s.argmin()}; weights are repetitions and cannot be negative")
    if s.max() == 0:
        raise ValueError("sample_weight is zero in every row; at least one row must count")
    if s.min() == s.max():
        return None
    s /= s.max()  # so that the mean cannot overflow
    return cast(FloatArray, (s / s.mean()).astype(dtype))


def initial(values: ArrayLike | None, expected: tuple[int, ...], dtype: np.dtype[Any], name: str, meaning: str) -> FloatArray:
    """Initial weights of the shape, zero if None; always a copy."""
    if values is None:
        return np.zeros(expected, dtype)
    W = real_array(values, name)
    shape(W, expected, name, meaning)
    finite(W, name)
    return cast_finite(W, dtype, name)


def walk(state: Any, initial: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """The weights of a walk's state, of the shapes and dtype of these."""
    names = ("coef", "intercept")
    if not isinstance(state, dict) or not state.keys() >= {*names}:
        raise TypeError(f"walk must be the `walk` of a Result with momentum or an average, got {type(state).__name__}")
    for name, like in zip(names, initial, strict=True):
        found = state[name]
        if found.shape != like.shape or found.dtype != like.dtype:
            raise ValueError(
                f"walk holds {name} of shape {found.shape}, {found.dtype}; this run has {like.shape}, {like.dtype}: go on with "
                "rows and a model like those before"
            )
    return state["coef"], state["intercept"]


def unmasked(values: object, name: str) -> None:
    """Raise for an array with masked entries."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError(f"{name} is a masked array, and its masked entries would be read as data; fill or drop them first")


def from_list(values: ArrayLike, name: str) -> NDArray[Any]:
    """An array of a nested list."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array: {error}") from None


def order(values: ArrayLike, n: int, epochs: int) -> NDArray[np.int64]:
    """A row sequence as (epochs, m) int64; one dimension is cut into `epochs` equal parts."""
    rows = np.asarray(values)
    if rows.dtype != np.int64:
        raise TypeError(f"order has dtype {rows.dtype}; row numbers are int64: pass order.astype(np.int64)")
    if rows.size == 0:
        raise ValueError("order is empty; it must name at least one row an epoch")
    if rows.ndim == 1 and len(rows) % epochs == 0:
        rows = rows.reshape(epochs, -1)
    elif rows.ndim == 1:
        raise ValueError(f"order has {len(rows)} rows, which epochs={epochs} does not divide; one epoch follows the other")
    if rows.ndim != 2 or len(rows) != epochs:
        raise ValueError(f"order has shape {rows.shape}; expected (epochs, rows an epoch) with epochs={epochs}, or 1-D")
    bad = np.flatnonzero((rows < 0) | (rows >= n))
    if len(bad):
        raise ValueError(f"order holds {rows.flat[bad[0]]} at position {bad[0]}; X has rows 0 .. {n - 1}")
    return np.ascontiguousarray(rows)
