"""The specification of deep linear models in NumPy, layer by layer: forwards, backwards, step. See `deep.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._layers import Network
from .base import ControlVariate, FloatArray, Problem, Step, Sums, Walk
from .deep import DeepSession
from .reference import ReferenceSession, add_momentum


class ReferenceDeepSession(DeepSession):
    """State is the layers, b, the anchor's layers, m and the momentum buffers."""

    linear: ReferenceSession

    def __init__(self, problem: Problem, network: Network, n_threads: int | None = None) -> None:
        super().__init__(problem, network, ReferenceSession(problem), n_threads)
        k, dtype = problem.n_outputs, problem.X.dtype
        self.set_weights(np.zeros(network.size, dtype), np.zeros(k, dtype))
        self.set_mean(np.zeros(network.size if network.own_jacobian else (k, network.widths[0])), np.zeros(k))

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        dtype = self.problem.X.dtype
        self.flat, self.b = np.array(coef, dtype), np.array(intercept, dtype)
        self._velocity: tuple[FloatArray, FloatArray] | None = None

    def weights(self) -> tuple[FloatArray, FloatArray]:
        return self.flat.copy(), self.b.copy()

    def velocity(self) -> tuple[FloatArray, FloatArray] | None:
        return None if self._velocity is None else (self._velocity[0].copy(), self._velocity[1].copy())

    def set_velocity(self, coef: FloatArray, intercept: FloatArray) -> None:
        self._velocity = coef.copy(), intercept.copy()

    def _take_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        dtype = self.problem.X.dtype
        self.m, self.m_b = np.array(mean, dtype), np.array(mean_intercept, dtype)

    def _place(self, coef: FloatArray, intercept: FloatArray, layers: FloatArray | None) -> None:
        pass  # the linear session has its residuals, the base class its layers

    @np.errstate(over="ignore", invalid="ignore")  # a run that explodes is told by its loss
    def _walk(
        self,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        step: Step,
        variate: ControlVariate,
        collapse: bool | None,
        loss_limit: float,
    ) -> Walk:
        sums = Sums()
        starts = range(0, len(order), step.batch_size)
        rates = np.broadcast_to(learning_rates, (len(starts),))
        for t, start in enumerate(starts):
            rows = order[start : start + step.batch_size]
            A, s = self.problem.X[rows], self.linear.sample_weights(rows)
            H = self._forward(self.flat, A)
            loss, r, c = self.linear.residuals_at(rows, A, H[-1] + self.b, variate)
            batch = Sums(rows=len(rows), loss=float((s * loss).sum(dtype=np.float64)))
            sums.add(batch)
            if not (np.isfinite(batch.loss) and batch.loss / len(rows) <= loss_limit):
                return Walk(sums, t, exploded=True)
            g, g_b = self._gradient(A, H, s[:, None] * r, s[:, None] * c, variate)
            self._apply(g, g_b, A.dtype.type(rates[t]), step)
        return Walk(sums, len(starts))

    def _forward(self, flat: FloatArray, A: Any) -> list[Any]:
        """h_0 .. h_L of the rows A, (|B|, h_l) each."""
        H = [A]
        for W in self.network.split(flat):
            H.append(np.asarray(H[-1] @ W.T))
        return H

    def _backward(self, flat: FloatArray, H: list[Any], q: FloatArray) -> FloatArray:
        """Means over the batch of the layers' gradients, for dloss/dz = q (|B|, k), as one array."""
        grads, delta = list[FloatArray](), q / q.dtype.type(len(q))
        layers = self.network.split(flat)
        for W, h in zip(layers[::-1], H[-2::-1], strict=True):
            grads.append(np.asarray((h.T @ delta).T).ravel())
            delta = delta @ W
        return np.concatenate(grads[::-1])

    def _gradient(
        self, A: Any, H: list[Any], r: FloatArray, c: FloatArray, variate: ControlVariate
    ) -> tuple[FloatArray, FloatArray]:
        lam = r.dtype.type(variate.lam)
        own = self._anchor is not None and variate.source != "none"
        g = self._backward(self.flat, H, r if own else r - lam * c)
        if self._anchor is not None and own:
            g = g - lam * self._backward(self._anchor, self._forward(self._anchor, A), c)
        g_b = (r - lam * c).mean(axis=0, dtype=r.dtype)
        if variate.use_mean:
            m = self.m
            if not self.network.own_jacobian:
                m = self.network.pull(self.flat, m).astype(r.dtype)
            g, g_b = g + lam * m, g_b + lam * self.m_b
        return g, g_b

    def _apply(self, g: FloatArray, g_b: FloatArray, eta: np.floating, step: Step) -> None:
        """Decay, momentum, step."""
        dtype = self.flat.dtype.type
        g = g + dtype(step.l2) * self.flat
        if not self.problem.fit_intercept:
            g_b = np.zeros_like(g_b)
        g, g_b, self._velocity = add_momentum(g, g_b, self._velocity, step)
        self.flat, self.b = self.flat - eta * g, self.b - eta * g_b
