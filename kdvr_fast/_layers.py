"""The algebra of deep linear models: layers W_1 .. W_L as one array, their product, gradients from that of the product.

Layer l is (h_l, h_{l-1}), h_0 = d, h_L = k, and P = W_L ... W_1 is (k, d). All layers together are one array `flat`, row by
row and W_1 first. With G = dF/dP (k, d) the chain rule is

    dF/dW_l = A_l^T R_{l-1},    A_l = W_L ... W_{l+1}  (k, h_l),    R_l = G W_1^T ... W_l^T  (k, h_l)

so that no product is wider than k. Sums are in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._threads import one_blas_thread
from .backends.base import FloatArray


@dataclass(frozen=True)
class Network:
    """What a session must know of a deep model beside the data.

    widths: d, h_1, .., h_{L-1}, k. own_jacobian: whether gradients of the anchor's residuals are taken through the anchor's own
    layers, grad f_i(x) - lam grad f_i(theta), or through the student's, as a distillation loss does.
    """

    widths: tuple[int, ...]
    own_jacobian: bool = False

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of W_1 .. W_L."""
        return [(out, into) for into, out in pairwise(self.widths)]

    @property
    def size(self) -> int:
        """Numbers in all layers."""
        return sum(out * into for out, into in self.shapes)

    def split(self, flat: NDArray[Any]) -> list[NDArray[Any]]:
        """The layers, as views of `flat`."""
        ends = accumulate(out * into for out, into in self.shapes)
        return [flat[end - out * into : end].reshape(out, into) for (out, into), end in zip(self.shapes, ends, strict=True)]

    def product(self, flat: FloatArray) -> FloatArray:
        """P (k, d), of flat's dtype."""
        with one_blas_thread():  # thin products, between the engine's walks: more threads wait longer than they work
            return product(self.split(flat)).astype(flat.dtype)

    def pull(self, flat: FloatArray, G: FloatArray) -> NDArray[np.float64]:
        """The gradients of all layers at `flat`, as one array, from the gradient G (k, d) of the product."""
        layers = [W.astype(np.float64) for W in self.split(flat)]
        above = [np.eye(self.widths[-1])]  # A_L, A_{L-1}, ..
        R, grads = np.asarray(G, np.float64), np.empty(self.size)
        with one_blas_thread():
            for W in layers[:0:-1]:
                above.append(above[-1] @ W)
            for W, A, grad in zip(layers, reversed(above), self.split(grads), strict=True):
                np.matmul(A.T, R, out=grad)
                R = R @ W.T
        return grads


def join(layers: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> FloatArray:
    """Layers as one array."""
    return np.concatenate([np.asarray(W, dtype).ravel() for W in layers])


def product(layers: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """W_L ... W_1, from the left, where the rows are fewest."""
    P = layers[-1].astype(np.float64)
    for W in layers[-2::-1]:
        P = P @ W.astype(np.float64)
    return P


def operations(widths: Sequence[int], batch_size: int) -> tuple[int, int]:
    """Multiply-adds of a step: layer by layer on its rows, and by the collapsed product.

    Layer by layer each row passes through all layers forwards, through all but the first backwards, and joins the gradient of
    each. Collapsed, k rows in place of the batch's make three products with each layer but the last, one of which is the step
    itself, and a row costs 2 k d.
    """
    d, k = widths[0], widths[-1]
    sizes = [out * into for into, out in pairwise(widths)]
    layered = batch_size * (3 * sum(sizes) - sizes[0])
    return layered, 3 * k * sum(sizes[:-1]) + 2 * batch_size * k * d


def collapses(widths: Sequence[int], batch_size: int) -> bool:
    """Whether steps on that many rows are cheaper through the product.

    >>> from kdvr_fast._layers import collapses
    >>> collapses((784, 512, 512, 10), 64), collapses((784, 512, 512, 10), 1)
    (True, False)
    """
    layered, collapsed = operations(widths, batch_size)
    return collapsed < layered
