"""One read of rows through every layer: loss, the product's gradient and the second moments of each layer's, for any backend.

The gradient of row i in layer l is the outer product of A_l^T r_i and h_{l-1,i}, so that its moments are products of two short
ones, as a linear model's are:

    E|dW_l|^2 = mean |A_l^T r_i|^2 |h_{l-1,i}|^2
    E<dW_l, dW_l(theta)> = mean <A_l^T r_i, T_l^T c_i> <h_{l-1,i}, g_{l-1,i}>

with A_l = W_L ... W_{l+1} and h_l = W_l ... W_1 a; T_l and g_l are those of the anchor's layers, or of the student's where what
is subtracted goes through these. The last layer is a linear model of h_{L-1} and has the intercept. Shapes as in `deep.py`.

Products of a block of rows are NumPy's, in X's dtype; sums over blocks are in float64. Threads take parts of the rows, cut and
added by shapes alone, each with BLAS on one thread: the bits are the same at any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layers import Network
from .._rows import is_sparse, row_numbers
from .._threads import one_blas_thread, usable_threads
from .base import ControlVariate, FloatArray, Pass, Sums
from .reference import ReferenceSession

_BLOCK_NUMBERS = 1 << 18  # of the widest layer's numbers held at once: a cache holds them from one product to the next
_PARTS = 16  # that threads share
_PART_NUMBERS = 1 << 22  # that the sums of all parts hold, about


@dataclass(frozen=True)
class LayerPass:
    """layers: the pass of each layer, (h_l, h_{l-1}) and (h_l,), intercepts being 0 but in the last.

    product: what a linear model at P = W_L ... W_1 shows; of its sums only rows and loss.
    """

    layers: list[Pass]
    product: Pass

    @property
    def whole(self) -> Pass:
        """That of all layers together: gradients (p,), W_1 first, row by row, and moments that are the layers' sums."""
        last = self.layers[-1]
        sums = Sums(rows=last.sums.rows, loss=last.sums.loss)
        for layer in self.layers:
            sums.xx, sums.xt, sums.tt = sums.xx + layer.sums.xx, sums.xt + layer.sums.xt, sums.tt + layer.sums.tt
        grad = np.concatenate([layer.grad.ravel() for layer in self.layers])
        anchor = [layer.anchor_grad.ravel() for layer in self.layers if layer.anchor_grad is not None]
        if not anchor:
            return Pass(sums, grad, last.grad_intercept)
        return Pass(sums, grad, last.grad_intercept, np.concatenate(anchor), last.anchor_grad_intercept)


@dataclass(frozen=True)
class Reading:
    """What is read: rows at layers `flat` (p,) and an intercept (k,).

    rows: data, and the anchor whose residuals are c_i. anchor: the layers (p,) that c_i goes through, None for the student's.
    which: row numbers, None for all.
    """

    rows: ReferenceSession
    network: Network
    flat: FloatArray
    intercept: FloatArray
    variate: ControlVariate
    anchor: FloatArray | None = None
    which: NDArray[np.int64] | None = None

    @property
    def n(self) -> int:
        """Rows that are read."""
        return self.rows.n if self.which is None else len(self.which)

    def block(self, start: int, end: int) -> tuple[NDArray[np.int64], Any]:
        """Numbers and values of some of these rows."""
        if self.which is not None:
            return self.which[start:end], self.rows.p.X[self.which[start:end]]
        return np.arange(start, end), self.rows.p.X[start:end]


def read_layers(reading: Reading, n_threads: int | None = None) -> LayerPass:
    """Read the rows, on at most so many threads; None as in `solve`."""
    reader, parts = _Reader(reading), _parts(reading)
    with one_blas_thread(), ThreadPoolExecutor(min(len(parts), usable_threads(n_threads)), "kdvr-layers") as pool:
        try:
            total, *rest = pool.map(reader.part, parts)
        except BaseException:
            reader.stop.set()  # an interrupt does not wait for all rows
            raise
        for part in rest:
            total.add(part)
    return total.passes(reading)


class _Factors:
    """Layers, and the products A_l (k, h_l) above each of them, formed in float64."""

    def __init__(self, network: Network, flat: FloatArray) -> None:
        self.layers = network.split(flat)
        above = [np.eye(network.widths[-1])]
        for W in self.layers[:0:-1]:
            above.append(above[-1] @ W.astype(np.float64))
        self.above = [A.astype(flat.dtype) for A in reversed(above)]

    def forward(self, A: Any) -> list[Any]:
        """h_0 .. h_L of the rows A."""
        found = [A]
        for W in self.layers:
            found.append(np.asarray(found[-1] @ W.T))
        return found


class _Totals:
    """Sums over rows, in float64. moments: (3, L), of |x|^2, <x, t> and |t|^2; q: r and c, the latter only with an anchor."""

    def __init__(self, reading: Reading) -> None:
        p, self.sides = reading.rows.p, 1 if reading.variate.source == "none" else 2
        self.loss = 0.0
        self.moments = np.zeros((3, len(reading.network.shapes)))
        self.q = np.zeros((self.sides, p.n_outputs))
        self.qa = np.zeros((self.sides * p.n_outputs, p.X.shape[1]))

    def add(self, other: _Totals) -> None:
        self.loss += other.loss
        for mine, theirs in ((self.moments, other.moments), (self.q, other.q), (self.qa, other.qa)):
            mine += theirs

    def passes(self, reading: Reading) -> LayerPass:
        network, p, n = reading.network, reading.rows.p, reading.n
        k, d, last = p.n_outputs, p.X.shape[1], len(network.shapes) - 1
        G, g = self.qa.reshape(self.sides, k, d) / n, self.q / n * p.fit_intercept
        through = (reading.flat, reading.flat if reading.anchor is None else reading.anchor)
        split = [network.split(network.pull(at, mean)) for at, mean in zip(through, G, strict=False)]
        layers = []
        for at, (xx, xt, tt) in enumerate(self.moments.T.tolist()):
            free = g if at == last else np.zeros((self.sides, network.widths[at + 1]))
            means = [mean for side in range(self.sides) for mean in (split[side][at], free[side])]
            layers.append(Pass(Sums(rows=float(n), loss=self.loss, xx=xx, xt=xt, tt=tt), *means))
        both = [mean for side in range(self.sides) for mean in (G[side], g[side])]
        return LayerPass(layers, Pass(Sums(rows=float(n), loss=self.loss), *both))


def _parts(reading: Reading) -> list[list[tuple[int, int]]]:
    """Blocks of rows, first and last + 1, in parts; they follow from shapes alone."""
    X, widths, k = reading.rows.p.X, reading.network.widths, reading.rows.p.n_outputs
    size = max(1, _BLOCK_NUMBERS // max(row_numbers(X), *widths[1:]))
    if is_sparse(X):  # what a block adds to d features should be few beside its own numbers
        size = max(size, X.shape[1] // row_numbers(X))
    blocks = [(start, min(start + size, reading.n)) for start in range(0, reading.n, size)]
    most = min(max(_PART_NUMBERS // (2 * k * X.shape[1]), 1), _PARTS, len(blocks))
    cuts = [len(blocks) * i // most for i in range(most + 1)]
    return [blocks[first:last] for first, last in pairwise(cuts)]


class _Reader:
    """What the parts have in common. stop: set where they are to end early."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.stop = reading, Event()
        self.factors = _Factors(reading.network, reading.flat)
        self.others = self.factors if reading.anchor is None else _Factors(reading.network, reading.anchor)

    def part(self, blocks: list[tuple[int, int]]) -> _Totals:
        """Read some blocks."""
        reading, session = self.reading, self.reading.rows
        total = _Totals(reading)
        for start, end in blocks:
            if self.stop.is_set():
                break
            rows, A = reading.block(start, end)
            below = self.factors.forward(A)
            values, r, c = session.residuals_at(rows, A, np.asarray(below.pop() + reading.intercept), reading.variate)
            s = session.sample_weights(rows)
            total.loss += float(s.astype(np.float64) @ values)
            q: list[FloatArray] = [s[:, None] * side for side in (r, c)[: total.sides]]
            total.q += np.array([side.sum(axis=0, dtype=np.float64) for side in q])
            total.qa += (A.T @ np.hstack(q)).T
            for at, products in enumerate(self._moments(below, q)):
                total.moments[: len(products), at] += products
        return total

    def _moments(self, below: list[Any], q: list[FloatArray]) -> Iterator[list[float]]:
        """For each layer the sums over a block's rows, h_0 .. h_{L-1}, of |x|^2, and with an anchor of <x, t> and |t|^2."""
        own, last = self.reading.anchor is not None and len(q) == 2, len(below) - 1
        anchored = self.others.forward(below[0])[:-1] if own else below
        for at, (A_l, T_l) in enumerate(zip(self.factors.above, self.others.above, strict=True)):
            free, h, g = float(self.reading.rows.p.fit_intercept and at == last), below[at], anchored[at]
            x, hh = q[0] @ A_l, _dots(h, h) + free
            if len(q) == 1:
                yield [float(_dots(x, x) @ hh)]
                continue
            t = q[1] @ T_l
            hg, gg = (_dots(h, g) + free, _dots(g, g) + free) if own else (hh, hh)
            yield [float(_dots(u, v) @ w) for u, v, w in ((x, x, hh), (x, t, hg), (t, t, gg))]


def _dots(A: Any, B: Any) -> NDArray[np.float64]:
    """<a_i, b_i> of rows, dense or sparse, given in float64."""
    products = (A * B).sum(axis=1) if is_sparse(A) else np.einsum("ij,ij->i", A, B)
    return np.asarray(products, np.float64)
