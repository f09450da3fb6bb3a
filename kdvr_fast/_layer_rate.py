"""An automatic learning rate for layers: that of the linear model over what its curvature is multiplied by.

To first order a move dW_l of the layers moves z_i by sum_l A_l dW_l h_{l-1,i}, with A_l = W_L ... W_{l+1} and
h_{l-1} = B_{l-1} a, B_{l-1} = W_{l-1} ... W_1, so that the curvature of a row's loss is at most the linear model's times

    kappa = sum_l |A_l|^2 |B_{l-1}|^2        (spectral norms; 1 for one layer)

as long as residuals are small. They add |r_i| |a_i| times the norms of L - 2 layers, and layers that are small grow. So a norm
counts as at least s a layer, s^L = max(1, |r| / |a|), root mean squares over the rows at the initial layers: then residuals add
to a layer's term no more than the term itself. The rate is the linear model's over kappa, at the layers of each epoch's start.
It is a local figure, no bound: layers that grow many times within an epoch may outgrow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._layer_weight import sample_rows
from ._layers import Network, product
from ._threads import one_blas_thread
from .backends.base import FloatArray, Problem

_DENSE = 32  # up to so many rows or columns the norm of a product is that of the matrix itself
_TOL = 1e-3  # of a norm, relative: far below what a rate can notice


@dataclass(frozen=True)
class LayerRate:
    """linear: the rate of the linear model. least: s, the norm that a layer has at least."""

    linear: float
    least: float

    def at(self, layers: Sequence[FloatArray]) -> float:
        """The rate for layers W_1 .. W_L."""
        return self.linear / amplification(layers, self.least)


def amplification(layers: Sequence[FloatArray], least: float) -> float:
    """kappa of layers W_1 .. W_L, each of a norm of at least `least`."""
    total, L = 0.0, len(layers)
    with one_blas_thread():  # the bits of a run must not depend on its threads
        for at in range(L):
            above, below = _norm(layers[at + 1 :]), _norm(layers[:at])
            total += (max(above, least ** (L - 1 - at)) * max(below, least**at)) ** 2
    return total


def least_norm(problem: Problem, network: Network, flat: FloatArray, intercept: FloatArray) -> float:
    """s, from a sample of the rows."""
    rows = sample_rows(problem.n)
    A = problem.X[rows]
    r = np.asarray(problem.loss.residual(problem.y[rows], np.asarray(A @ network.product(flat).T + intercept)), np.float64)
    norms = float((A * A).sum(dtype=np.float64))
    if not norms > 0:
        return 1.0
    return float(max(1.0, (r * r).sum() / norms) ** (0.5 / len(network.shapes)))


def _norm(layers: Sequence[FloatArray]) -> float:
    """The spectral norm of a product of layers, 1 for none."""
    if not layers:
        return 1.0
    exact = [W.astype(np.float64) for W in layers]
    shape = len(exact[-1]), exact[0].shape[1]
    if min(shape) <= _DENSE or not all(W.any() for W in exact):
        return float(np.linalg.norm(product(exact), 2))
    from scipy.sparse.linalg import LinearOperator, svds

    def forwards(v: NDArray[np.float64]) -> Any:
        for W in exact:
            v = W @ v
        return v

    def backwards(v: NDArray[np.float64]) -> Any:
        for W in exact[::-1]:
            v = W.T @ v
        return v

    operator = LinearOperator(shape, matvec=forwards, rmatvec=backwards, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=min(shape))  # fixed: the same layers must give the same rate
    return float(svds(operator, k=1, tol=_TOL, v0=start, return_singular_vectors=False)[0])
