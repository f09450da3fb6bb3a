"""What PTX instructions compute, on NumPy arrays. `approx` ones are exact here, so a device may differ in the last bits.

Source: NVIDIA, Parallel Thread Execution ISA, chapter 9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .parser import DTYPES

Array = NDArray[Any]


def fma(a: Any, b: Any, c: Any) -> Any:
    """a b + c with one rounding: a float32 product is exact in float64, a float64 product keeps 64 bits in long double."""
    wide = np.float64 if np.asarray(a).dtype == np.float32 else np.longdouble
    return np.asarray(np.asarray(a, wide) * b + c, np.asarray(a).dtype)


def fma_down(a: Any, b: Any, c: Any) -> Any:
    """The same of float32, rounded down."""
    exact = np.asarray(a, np.float64) * b + c
    near = exact.astype(np.float32)
    return np.where(near.astype(np.float64) > exact, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


def divide(a: Array, b: Array) -> Array:
    """Of integers: towards 0, as in C; by 0 it is -1, all bits set."""
    if np.asarray(a).dtype.kind == "f":
        return a / b
    safe = np.where(b == 0, np.ones_like(b), b)
    return np.where(b == 0, ~np.zeros_like(a), (a - np.fmod(a, safe)) // safe)


def remainder(a: Array, b: Array) -> Array:
    safe = np.where(b == 0, np.ones_like(b), b)
    return np.where(b == 0, a, np.fmod(a, safe))


def shift_left(a: Array, by: Array) -> Array:
    bits = 8 * np.asarray(a).dtype.itemsize
    return np.where(by >= bits, np.zeros_like(a), a << np.minimum(by, bits - 1).astype(np.asarray(a).dtype))


def shift_right(a: Array, by: Array) -> Array:
    """Arithmetic for signed integers: those shifted by all bits keep their sign alone."""
    dtype = np.asarray(a).dtype
    bits = 8 * dtype.itemsize
    moved = a >> np.minimum(by, bits - 1).astype(dtype)
    return moved if dtype.kind == "i" else np.where(by >= bits, np.zeros_like(a), moved)


def high_product(a: Array, b: Array) -> Array:
    """The upper half of an integer product."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.itemsize == 4:
        wide = np.dtype(f"{a.dtype.kind}8")
        return (a.astype(wide) * b.astype(wide) >> wide.type(32)).astype(a.dtype)
    ua, ub, half, low = a.view(np.uint64), b.view(np.uint64), np.uint64(32), np.uint64(0xFFFFFFFF)
    middle = (ua >> half) * (ub & low) + ((ua & low) * (ub & low) >> half)
    other = (ua & low) * (ub >> half) + (middle & low)
    high = (ua >> half) * (ub >> half) + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, ub, np.uint64(0)) - np.where(b < 0, ua, np.uint64(0))
    return high.view(a.dtype)


def count_bits(a: Array) -> Array:
    a = np.asarray(a)
    return sum((((a >> a.dtype.type(k)) & a.dtype.type(1)) for k in range(8 * a.dtype.itemsize)), a.dtype.type(0)).astype(
        np.uint32
    )


def leading_zeros(a: Array) -> Array:
    """Zeros before the first set bit."""
    a = np.asarray(a)
    bits, count = 8 * a.dtype.itemsize, np.zeros(a.shape, np.uint32)
    for k in range(bits):
        count += (a >> a.dtype.type(k)) == 0
    return count


def reverse_bits(a: Array) -> Array:
    a = np.asarray(a)
    out = np.zeros_like(a)
    for k in range(8 * a.dtype.itemsize):
        out |= ((a >> a.dtype.type(k)) & a.dtype.type(1)) << a.dtype.type(8 * a.dtype.itemsize - 1 - k)
    return out


def flush(x: Any) -> Any:
    """Subnormal numbers to 0 of the same sign (.ftz)."""
    x = np.asarray(x)
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


ROUNDING = {"rni": np.rint, "rmi": np.floor, "rpi": np.ceil, "rzi": np.trunc}


def convert(values: Array, modifiers: tuple[str, ...], to: str, source: str) -> Array:
    """cvt: floats to integers round as the modifier says and keep to the range, NaN is 0."""
    values, target = np.asarray(values), DTYPES[to]
    rounding = next((ROUNDING[m] for m in modifiers if m in ROUNDING), None)
    if "sat" in modifiers and target.kind == "f":
        return np.nan_to_num(np.clip(values, 0, 1), nan=0.0).astype(target)
    if values.dtype.kind == "f" and target.kind == "f":
        return (values if rounding is None else rounding(values)).astype(target)
    if values.dtype.kind == "f":
        info, rounded = np.iinfo(target), (rounding or np.trunc)(values.astype(np.longdouble))
        low, high = np.longdouble(info.min), np.longdouble(info.max)
        return np.where(np.isnan(rounded), np.longdouble(0), np.clip(rounded, low, high)).astype(target)
    return values.astype(target)


def _unordered(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: compare(a, b) | np.isnan(a) | np.isnan(b)


COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal,
    "ne": lambda a, b: (a != b) & ~(_is_nan(a) | _is_nan(b)),
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "equ": _unordered(np.equal),
    "neu": _unordered(np.not_equal),
    "ltu": _unordered(np.less),
    "leu": _unordered(np.less_equal),
    "gtu": _unordered(np.greater),
    "geu": _unordered(np.greater_equal),
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}


def _is_nan(x: Any) -> Any:
    return np.isnan(x) if np.asarray(x).dtype.kind == "f" else np.bool_(False)


def lookup3(a: Array, b: Array, c: Array, table: int) -> Array:
    """lop3: bit by bit the entry a b c of an 8-bit table."""
    out = np.zeros(np.broadcast(a, b, c).shape, np.uint32)
    for k in range(8):
        if table >> k & 1:
            out |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return out


def permute_bytes(a: Array, b: Array, selector: Array) -> Array:
    """prmt: each of 4 bytes is one of the 8 of a, b, or (bit 3 of its selector) its sign."""
    both = np.asarray(a, np.uint64) | np.asarray(b, np.uint64) << np.uint64(32)
    out = np.zeros(np.broadcast(a, b, selector).shape, np.uint32)
    for k in range(4):
        choice = np.asarray(selector) >> np.uint32(4 * k)
        byte = both >> ((choice & np.uint32(7)).astype(np.uint64) * np.uint64(8)) & np.uint64(0xFF)
        byte = np.where(choice & np.uint32(8), np.where(byte & np.uint64(0x80), np.uint64(0xFF), np.uint64(0)), byte)
        out |= byte.astype(np.uint32) << np.uint32(8 * k)
    return out


def funnel(low: Array, high: Array, by: Array, *, left: bool, wrap: bool) -> Array:
    """shf: the upper (left) or lower (right) half of high:low, shifted."""
    by = by & np.uint32(31) if wrap else np.minimum(by, np.uint32(32))
    both = np.asarray(high, np.uint64) << np.uint64(32) | np.asarray(low, np.uint64)
    wide = np.asarray(by, np.uint64)
    return ((both << wide >> np.uint64(32)) if left else (both >> wide)).astype(np.uint32)
