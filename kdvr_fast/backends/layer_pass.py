"""One read of all rows through every layer: the second moments of each layer's gradient, in NumPy and float64, for any backend.

The gradient of row i in layer l is the outer product of A_l^T r_i and h_{l-1,i}, so that its moments are products of two short
ones, as a linear model's are:

    E|dW_l|^2 = mean |A_l^T r_i|^2 |h_{l-1,i}|^2
    E<dW_l, dW_l(theta)> = mean <A_l^T r_i, T_l^T c_i> <h_{l-1,i}, g_{l-1,i}>

with A_l = W_L ... W_{l+1} and h_l = W_l ... W_1 a; T_l and g_l are those of the anchor's layers, or of the student's where what
is subtracted goes through these. The last layer is a linear model of h_{L-1} and has the intercept. Shapes as in `deep.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layers import Network
from .base import ControlVariate, FloatArray, Pass, Sums
from .reference import ReferenceSession

_BLOCK_NUMBERS = 1 << 20  # of the widest layer's numbers held at once


@dataclass(frozen=True)
class LayerPass:
    """layers: the pass of each layer, (h_l, h_{l-1}) and (h_l,), intercepts being 0 but in the last.

    product: what a linear model at P = W_L ... W_1 shows; of its sums only rows and loss.
    """

    layers: list[Pass]
    product: Pass


def read_layers(
    rows: ReferenceSession,
    network: Network,
    flat: FloatArray,
    intercept: FloatArray,
    variate: ControlVariate,
    anchor: FloatArray | None,
) -> LayerPass:
    """Read all rows at the layers `flat` (p,). rows: data, and the anchor whose residuals are c_i.

    anchor: the layers (p,) that c_i goes through, None for the student's.
    """
    p, n = rows.p, rows.n
    student = _Factors(network, flat)
    teacher = student if anchor is None else _Factors(network, anchor)
    sums, means = [Sums() for _ in student.above], np.zeros((2, p.n_outputs, p.X.shape[1]))
    means_b, loss = np.zeros((2, p.n_outputs)), 0.0
    for which in _blocks(n, max(network.widths)):
        A, s = p.X[which].astype(np.float64), rows.sample_weights(which).astype(np.float64)
        below = student.forward(A)
        values, r, c = rows.residuals_at(which, A, np.asarray(below.pop() + intercept), variate)
        other = below if anchor is None else teacher.forward(A)[:-1]
        r, c = s[:, None] * r, s[:, None] * c
        loss += float(s @ values)
        for q, mean, mean_b in zip((r, c), means, means_b, strict=True):
            mean += (A.T @ q).T / n
            mean_b += q.sum(axis=0) / n
        for at, total in enumerate(sums):
            x, t, h, g = r @ student.above[at], c @ teacher.above[at], below[at], other[at]
            free = float(p.fit_intercept and at == len(sums) - 1)
            total.xx += float(_dots(x, x) @ (_dots(h, h) + free))
            total.xt += float(_dots(x, t) @ (_dots(h, g) + free))
            total.tt += float(_dots(t, t) @ (_dots(g, g) + free))
    means_b *= p.fit_intercept
    anchored = variate.source != "none"
    gradients = (network.pull(flat, means[0]), network.pull(flat if anchor is None else anchor, means[1]))
    split = [network.split(g) for g in gradients]
    layers = []
    for at, total in enumerate(sums):
        total.rows, total.loss = float(n), loss
        b = means_b if at == len(sums) - 1 else np.zeros((2, len(split[0][at])))
        layers.append(Pass(total, split[0][at], b[0], *((split[1][at], b[1]) if anchored else ())))
    product = Pass(Sums(rows=float(n), loss=loss), means[0], means_b[0], *((means[1], means_b[1]) if anchored else ()))
    return LayerPass(layers, product)


class _Factors:
    """Layers, and the products A_l (k, h_l) above each of them, in float64."""

    def __init__(self, network: Network, flat: FloatArray) -> None:
        self.layers = [W.astype(np.float64) for W in network.split(flat)]
        above = [np.eye(network.widths[-1])]
        for W in self.layers[:0:-1]:
            above.append(above[-1] @ W)
        self.above = above[::-1]

    def forward(self, A: Any) -> list[Any]:
        """h_0 .. h_L of the rows A."""
        found = [A]
        for W in self.layers:
            found.append(np.asarray(found[-1] @ W.T))
        return found


def _blocks(n: int, widest: int) -> Iterator[NDArray[np.int64]]:
    size = max(1, _BLOCK_NUMBERS // widest)
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))


def _dots(A: Any, B: Any) -> NDArray[np.float64]:
    """<a_i, b_i> of rows, dense or sparse."""
    return np.asarray((A * B).sum(axis=1), np.float64)
