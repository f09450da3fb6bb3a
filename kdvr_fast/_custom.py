"""What a user's loss is made of: its functions, their array form in NumPy, and the check of one against the other.

A function takes the target and the logit of one output, or with `joint` those of a row: y (k,) or an integer label, z (k,).
NumPy code calls it once an output or row (`Rows`), which is slow and serves as the specification; the numba backend compiles
the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[..., Any]

_TARGETS = (-3.0, -1.0, -0.6, 0.0, 0.3, 1.0, 2.0, 7.0)  # tried in a check, where they are in the domain
_LOGITS = (-3.71, -1.93, -0.83, -0.17, 0.29, 1.13, 2.47, 4.19)  # no round numbers: kinks stand at those
_OUTPUTS = 3  # of a row in a check
_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)  # balances truncation, step^2, against rounding, eps / step
_TOLERANCE = 1e-4  # relative; a slope that bends within a step is off by about a step
_SLACK = 1e-6  # of a smoothness constant that is attained


@dataclass(frozen=True)
class Custom:
    """The functions as given. joint: they take rows. link: None for predictions that are the logits."""

    value: Function
    residual: Function
    link: Function | None
    domain: Function | None
    joint: bool


@dataclass(frozen=True)
class Rows:
    """`function` over the arrays of a batch, of z's dtype: (n,) sums or (n, k) numbers. Computed in float64.

    A result too large for a float is infinite, as in compiled code, and a logit that is not finite has no result.
    """

    function: Function
    joint: bool
    sums: bool

    def __call__(self, y: Array, z: Array) -> Array:
        Z = z.astype(np.float64)
        Y = y if y.dtype.kind == "i" else y.astype(np.float64)
        if self.joint:
            made = [self._one(a, b) for a, b in zip(Y, Z, strict=True)]
            shape = (len(Z),) if self.sums else Z.shape
            return np.asarray(made, np.float64).reshape(shape).astype(z.dtype)
        flat = np.asarray([self._one(a, b) for a, b in zip(Y.ravel(), Z.ravel(), strict=True)], np.float64).reshape(Z.shape)
        return (flat.sum(axis=1) if self.sums else flat).astype(z.dtype)

    def _one(self, y: Any, z: Any) -> Any:
        try:
            return self.function(y, z)
        except OverflowError:
            return np.inf if self.sums or not self.joint else np.full(z.shape, np.inf)
        except ValueError:
            if np.isfinite(z).all():
                raise
            return np.nan if self.sums or not self.joint else np.full(z.shape, np.nan)


@dataclass(frozen=True)
class Link:
    """`function` of logits alone, over (n, k)."""

    function: Function
    joint: bool

    def __call__(self, z: Array) -> Array:
        return Rows(lambda _, x: self.function(x), self.joint, False)(z, z)


def identity(z: Array) -> Array:
    """Predictions that are the logits."""
    return z


def allowed(custom: Custom, y: Any) -> bool:
    """Whether one target, as the functions take it, is in the domain."""
    return custom.domain is None or bool(custom.domain(y))


def verify(custom: Custom, name: str, targets: str, *, linear_in_target: bool, smoothness: float | None) -> None:
    """Raise ValueError where residual is no derivative of value, or where one of the other promises fails, naming y and z."""
    points = list(_points(custom, targets))
    if not points:
        raise ValueError(f"loss {name!r}: domain(y) allows none of the targets {_TARGETS}, so that it cannot be checked")
    for y, z in points:
        where = f"y={_show(y)}, z={_show(z)}"
        r = np.atleast_1d(_number(custom.residual, f"residual of loss {name!r}", y, z, np.shape(z)))
        _number(custom.value, f"value of loss {name!r}", y, z, ())
        for c in range(np.size(z)):
            slope = _slope(custom, name, y, z, c)
            if not abs(slope - r[c]) <= _TOLERANCE * (1 + abs(r[c])):
                output = f" for output {c}" if np.ndim(z) else ""
                raise ValueError(
                    f"loss {name!r}: residual at {where} is {r[c]:.6g}{output}, but value has the slope {slope:.6g} there; "
                    "residual(y, z) must be the derivative of value(y, z) in z"
                )
        if linear_in_target:
            p = z if custom.link is None else _number(custom.link, f"link of loss {name!r}", None, z, np.shape(z))
            if not np.allclose(r, np.atleast_1d(p - y), rtol=_SLACK, atol=_SLACK):
                raise ValueError(
                    f"loss {name!r}: linear_in_target=True, but residual at {where} is {_show(r)} and link(z) - y is "
                    f"{_show(np.atleast_1d(p - y))}; give the link, or leave linear_in_target out"
                )
    if smoothness is not None:
        _verify_smoothness(custom, name, points, smoothness)


def probe(custom: Custom, targets: str) -> Array:
    """Values and residuals at the points of the check, one after the other: they tell one loss from another."""
    points = list(_points(custom, targets))
    return np.concatenate([np.ravel(function(y, z)) for y, z in points for function in (custom.value, custom.residual)])


def _points(custom: Custom, targets: str) -> Iterator[tuple[Any, Any]]:
    """Pairs (y, z) as the functions take them."""
    rng = np.random.default_rng(0)
    if targets == "classes":
        candidates: list[Any] = list(range(_OUTPUTS))
    else:
        values = [y for y in _TARGETS if targets == "real" or 0 <= y <= 1]
        candidates = (
            [np.array(rng.permutation(values)[:_OUTPUTS]) for _ in range(8)] if custom.joint else list(map(np.float64, values))
        )
        candidates += [np.abs(y) for y in candidates] if custom.joint else []
    for y in candidates:
        if allowed(custom, y):
            for z in _LOGITS:
                yield y, (z * rng.uniform(-1, 1, _OUTPUTS) if custom.joint else np.float64(z))


def _number(function: Function, what: str, y: Any, z: Any, shape: tuple[int, ...]) -> Any:
    """What a function gives, float64 of the shape and finite."""
    where = f"z={_show(z)}" if y is None else f"y={_show(y)}, z={_show(z)}"
    try:
        got = np.asarray(function(z) if y is None else function(y, z))
    except Exception as error:
        raise ValueError(f"{what} raised {type(error).__name__} at {where}: {error}") from error
    if got.dtype.kind not in "biuf" or got.shape != shape:
        form = f"numbers of shape {shape}" if shape else "a number"
        raise ValueError(f"{what} gave {got.dtype} of shape {got.shape} at {where}; expected {form}")
    if not np.isfinite(got).all():
        raise ValueError(f"{what} is {_show(got)} at {where}; a target that is outside the domain belongs in domain(y)")
    return got.astype(np.float64)


def _slope(custom: Custom, name: str, y: Any, z: Any, c: int) -> float:
    """The derivative of value in output c, by central differences."""
    step = _STEP * np.eye(_OUTPUTS)[c] if np.ndim(z) else _STEP
    above, below = (_number(custom.value, f"value of loss {name!r}", y, x, ()) for x in (z + step, z - step))
    return float((above - below) / (2 * _STEP))


def _verify_smoothness(custom: Custom, name: str, points: list[tuple[Any, Any]], smoothness: float) -> None:
    for (y, z), (other, x) in pairwise(points):
        if other is not y and not np.array_equal(other, y):
            continue
        change = float(np.linalg.norm(np.subtract(custom.residual(y, z), custom.residual(y, x))))
        if change > smoothness * float(np.linalg.norm(np.subtract(z, x))) * (1 + _SLACK):
            raise ValueError(
                f"loss {name!r}: smoothness={smoothness:g} is too small: from z={_show(z)} to z={_show(x)} at y={_show(y)} the "
                f"residual changes by {change:.6g}"
            )


def _show(values: Any) -> str:
    return f"{float(values):g}" if np.ndim(values) == 0 else "[" + ", ".join(f"{v:g}" for v in np.ravel(values)) + "]"
