"""Losses as data: name, formula, link, smoothness; NumPy implementations are the specification of the compiled ones.

Arguments are always (y, z). z: (n, k) logits. y: (n, k) targets, or (n,) integer labels for softmax.
`value` gives (n,) losses, `residual` the (n, k) derivatives dloss/dz, `link` maps logits to predictions.
All three losses have residual = link(z) - y, linear in the target; that is what makes distillation a subtraction
(arXiv:2305.17581, Proposition 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Loss:
    """One loss.

    smoothness: the largest eigenvalue of d2loss/dz2 over all z: L_i = smoothness * |a_i|^2 + alpha.
    linear_in_target: residual = link(z) - y, so that soft targets equal a difference of residuals.
    curvature: (u, v), (n, k) each, with d2loss/dz2 = diag(u_i) - v_i v_i^T, from the predictions link(z).
    """

    name: str
    formula: str
    domain: str
    smoothness: float
    value: Callable[[Array, Array], Array]
    residual: Callable[[Array, Array], Array]
    link: Callable[[Array], Array]
    curvature: Callable[[Array], tuple[Array, Array]]
    linear_in_target: bool = True


def _sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)) without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e)).astype(z.dtype, copy=False)


def _softmax(z: Array) -> Array:
    e: Array = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def _log_sum_exp(z: Array) -> Array:
    top: Array = z.max(axis=1)
    top = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return top


def _softmax_value(y: Array, z: Array) -> Array:
    y_dot_z: Array = z[np.arange(len(z)), y] if y.ndim == 1 else (y * z).sum(axis=1)
    return _log_sum_exp(z) - y_dot_z


def _softmax_residual(y: Array, z: Array) -> Array:
    r = _softmax(z)
    if y.ndim == 1:
        r[np.arange(len(z)), y] -= 1
        return r
    return r - y


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            name="squared",
            formula="|z - y|^2 / 2",
            domain="y real, (n,) or (n, k)",
            smoothness=1.0,
            value=lambda y, z: 0.5 * ((z - y) ** 2).sum(axis=1),
            residual=lambda y, z: z - y,
            link=lambda z: z,
            curvature=lambda p: (np.ones_like(p), np.zeros_like(p)),
        ),
        Loss(
            name="logistic",
            formula="log(1 + exp(z)) - y z",
            domain="y in [0, 1], (n,); k = 1",
            smoothness=0.25,
            value=lambda y, z: (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z).sum(axis=1),
            residual=lambda y, z: _sigmoid(z) - y,
            link=_sigmoid,
            curvature=lambda p: (p, p),
        ),
        Loss(
            name="softmax",
            formula="log(sum_c exp(z_c)) - z_y",
            domain="y labels 0 .. k-1, (n,), or rows of probabilities, (n, k); k >= 2",
            smoothness=0.5,
            value=_softmax_value,
            residual=_softmax_residual,
            link=_softmax,
            curvature=lambda p: (p, p),
        ),
    )
}
