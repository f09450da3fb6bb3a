"""Options that are single values."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._blocks import Blocks
from ..losses import LOSSES, Loss
from .arrays import finite, real_array, shape

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def choice(value: object, options: Sequence[str], name: str) -> str:
    """One of the names in `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, options))}")
    return value


def number(
    value: object,
    name: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    above: float = -np.inf,
    below: float = np.inf,
    also: str = "",
) -> float:
    """A finite real number with low <= value <= high and above < value < below; `also` names what else is accepted."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number{also}, got {type(value).__name__} {value!r}")
    x = float(value)
    if not (np.isfinite(x) and low <= x <= high and above < x < below):
        left = f"[{low:g}" if np.isfinite(low) else f"({above:g}"
        right = f"{high:g}]" if np.isfinite(high) else f"{below:g})"
        raise ValueError(f"{name}={value!r} is outside its range {left}, {right}")
    return x


def positive(value: object, name: str) -> float:
    """A number above 0."""
    return number(value, name, above=0.0)


def non_negative(value: object, name: str) -> float:
    """A number of at least 0."""
    return number(value, name, low=0.0)


def momentum(value: object) -> float:
    """A momentum coefficient in [0, 1)."""
    return number(value, "momentum", low=0.0, below=1.0)


def count(value: object, name: str, *, low: int = 0, high: int | None = None, also: str = "") -> int:
    """An integer with low <= value <= high; `also` names what else is accepted."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer{also}, got {value!r}")
    try:
        whole = operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise TypeError(f"{name} must be an integer{also}, got {type(value).__name__} {value!r}") from None
    if whole < low or (high is not None and whole > high):
        limits = f"at least {low}" if high is None else f"in {low} .. {high}"
        raise ValueError(f"{name}={whole} must be {limits}")
    return whole


def flag(value: object, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def loss(given: object) -> Loss:
    """The loss of that name, or a loss itself."""
    if isinstance(given, Loss):
        return given
    if not isinstance(given, str) or given not in LOSSES:
        raise ValueError(f"loss={given!r} is unknown; choose one of {', '.join(map(repr, LOSSES))}, or make a Loss.custom(...)")
    return LOSSES[given]


def batch_size(value: object, n: int) -> int:
    """A batch size in 1 .. n."""
    size = count(value, "batch_size", low=1)
    if size > n:
        raise ValueError(f"batch_size={size} is more than the {n} rows of X; choose one in 1 .. {n}")
    return size


def sampling(value: object, *more: str) -> str:
    """How rows are drawn: a name, or one of `more`."""
    return choice(value, ("shuffle", "replacement", *more), "sampling")


def walking(value: object) -> str | Blocks:
    """How a run draws rows: a name, or by blocks."""
    return value if isinstance(value, Blocks) else sampling(value)


def spectrum(values: ArrayLike | None, condition: object, d: int) -> NDArray[np.float64]:
    """Variances of d features: as given, or from 1 down to 1 / condition, each the same factor below the one before."""
    top = number(condition, "condition", low=1.0)
    if values is None:
        return np.asarray(top ** (-np.arange(d) / max(d - 1, 1)), np.float64)
    if top != 1:
        raise ValueError("spectrum and condition are both given; leave one of them out")
    s = real_array(values, "spectrum").astype(np.float64)
    shape(s, (d,), "spectrum", "one variance a feature")
    finite(s, "spectrum")
    if s.min() < 0 or s.max() == 0:
        raise ValueError(f"spectrum lies between {s.min():g} and {s.max():g}; variances are not negative, and not all 0")
    return s


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64."""
    if np.dtype(dtype) not in FLOATS:
        raise TypeError(f"dtype={np.dtype(dtype)}; choose np.float32 or np.float64")
    return np.dtype(dtype)
