"""Losses as compiled functions of a batch: `residuals` and `link`, one signature for all of a dtype.

    residuals(targets, labels, index, z, loss, r): of the rows in `index` the losses (rows,) and r (rows, k), from z (rows, k)
    link(z, p):                                    p = link(z), which may be tempered logits

A kernel is given them as pointers: it is compiled once and cached, and one call a batch costs next to nothing. A custom loss is
compiled in each process, within half a second, its functions for float64, as the reference takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import float32, float64, int64, types

from .._custom import Custom
from ..losses import Loss

Pair = tuple[Any, Any]
_njit: Any = numba.njit


def _squared(targets: Any, labels: Any, index: Any, z: Any, loss: Any, r: Any) -> None:
    for p in range(index.size):
        total = z.dtype.type(0)
        for c in range(z.shape[1]):
            r[p, c] = z[p, c] - targets[index[p], c]
            total += r[p, c] * r[p, c]
        loss[p] = total / 2


def _identity(z: Any, p: Any) -> None:
    p[:] = z


def _logistic(targets: Any, labels: Any, index: Any, z: Any, loss: Any, r: Any) -> None:
    one = z.dtype.type(1)
    for p in range(index.size):
        x, y = z[p, 0], targets[index[p], 0]
        e = np.exp(-abs(x))
        r[p, 0] = (one if x >= 0 else e) / (one + e) - y
        loss[p] = max(x, z.dtype.type(0)) + np.log1p(e) - y * x


def _sigmoid(z: Any, p: Any) -> None:
    one = z.dtype.type(1)
    for i in range(z.shape[0]):
        e = np.exp(-abs(z[i, 0]))
        p[i, 0] = (one if z[i, 0] >= 0 else e) / (one + e)


def _softmax(targets: Any, labels: Any, index: Any, z: Any, loss: Any, r: Any) -> None:
    for p in range(index.size):
        top = z[p].max()
        total = z.dtype.type(0)
        for c in range(z.shape[1]):
            r[p, c] = np.exp(z[p, c] - top)
            total += r[p, c]
        at = z.dtype.type(0)
        by = z.dtype.type(1) / total
        if labels.size:
            y = labels[index[p]]
            at = z[p, y]
            for c in range(z.shape[1]):
                r[p, c] *= by
            r[p, y] -= z.dtype.type(1)
        else:
            for c in range(z.shape[1]):
                at += targets[index[p], c] * z[p, c]
                r[p, c] = r[p, c] * by - targets[index[p], c]
        loss[p] = top + np.log(total) - at


def _softmax_link(z: Any, p: Any) -> None:
    for i in range(z.shape[0]):
        top = z[i].max()
        total = z.dtype.type(0)
        for c in range(z.shape[1]):
            p[i, c] = np.exp(z[i, c] - top)
            total += p[i, c]
        for c in range(z.shape[1]):
            p[i, c] /= total


_BUILT_IN: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    "squared": (_squared, _identity),
    "logistic": (_logistic, _sigmoid),
    "softmax": (_softmax, _softmax_link),
}


@lru_cache(maxsize=64)
def compiled(loss: Loss, dtype: np.dtype[Any]) -> Pair:
    """`residuals` and `link` of a loss, compiled. Raises numba's error for a custom loss that it cannot compile."""
    if loss.functions is not None:
        return _compile(_custom(loss.functions, loss.targets), dtype, cache=False, link=False), _compile(
            _identity, dtype, link=True
        )
    residuals, link = _BUILT_IN[loss.name]
    return _compile(residuals, dtype), _compile(link, dtype, link=True)


def _compile(function: Callable[..., None], dtype: np.dtype[Any], *, cache: bool = True, link: bool = False) -> Any:
    T = float32 if dtype == np.float32 else float64
    table, column = types.Array(T, 2, "C"), types.Array(T, 1, "C")
    given = types.Array(T, 2, "C", readonly=True), types.Array(int64, 1, "C", readonly=True)
    index = types.Array(int64, 1, "C")
    signature = types.void(table, table) if link else types.void(*given, index, table, column, table)
    return _njit(signature, cache=cache, nogil=True, error_model="numpy")(function)


def _custom(functions: Custom, kind: str) -> Callable[..., None]:
    """The functions of a custom loss over a batch."""
    value, residual = (
        f if hasattr(f, "py_func") else _njit(error_model="numpy")(f) for f in (functions.value, functions.residual)
    )

    def each(targets: Any, labels: Any, index: Any, z: Any, loss: Any, r: Any) -> None:
        for p in range(index.size):
            total = 0.0
            for c in range(z.shape[1]):
                y, x = np.float64(targets[index[p], c]), np.float64(z[p, c])
                total += value(y, x)
                r[p, c] = residual(y, x)
            loss[p] = total

    def rows(targets: Any, labels: Any, index: Any, z: Any, loss: Any, r: Any) -> None:
        for p in range(index.size):
            y, x = targets[index[p]].astype(np.float64), z[p].astype(np.float64)
            loss[p] = value(y, x)
            r[p] = residual(y, x)

    def classes(targets: Any, labels: Any, index: Any, z: Any, loss: Any, r: Any) -> None:
        for p in range(index.size):
            y, x = labels[index[p]], z[p].astype(np.float64)
            loss[p] = value(y, x)
            r[p] = residual(y, x)

    return (classes if kind == "classes" else rows) if functions.joint else each
