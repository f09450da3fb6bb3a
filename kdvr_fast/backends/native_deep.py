"""The compiled engine on deep linear models: full passes by its linear session, steps by csrc/kdvr/deep.hpp. See `deep.py`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._layers import Network, collapses
from .base import ControlVariate, FloatArray, Problem, Step, Sums, Walk
from .deep import DeepSession
from .native import NativeSession, _core


class NativeDeepSession(DeepSession):
    """The linear session holds rows and table, the core layers, anchor, m and momentum buffers."""

    linear: NativeSession

    def __init__(self, problem: Problem, network: Network, n_threads: int | None = None) -> None:
        super().__init__(problem, network, NativeSession(problem, n_threads), n_threads)
        core, shape = self.linear.core, (list(network.widths), network.own_jacobian)
        self._core = (
            _core.DeepFloat32(core, *shape) if isinstance(core, _core.SessionFloat32) else _core.DeepFloat64(core, *shape)
        )

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        self._core.set_weights(self.linear.plain(coef), self.linear.plain(intercept))

    def weights(self) -> tuple[FloatArray, FloatArray]:
        return self._core.weights()

    def velocity(self) -> tuple[FloatArray, FloatArray] | None:
        return self._core.velocity()

    def set_velocity(self, coef: FloatArray, intercept: FloatArray) -> None:
        self._core.set_velocity(self.linear.plain(coef), self.linear.plain(intercept))

    def _take_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        self._core.set_mean(self.linear.plain(mean), self.linear.plain(mean_intercept))

    def _place(self, coef: FloatArray, intercept: FloatArray, layers: FloatArray | None) -> None:
        plain = self.linear.plain
        self._core.set_anchor(plain(coef), plain(intercept), None if layers is None else plain(layers))

    def _walk(
        self,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        step: Step,
        variate: ControlVariate,
        collapse: bool | None,
        loss_limit: float,
    ) -> Walk:
        if collapse is None:
            collapse = collapses(self.network.widths, step.batch_size)
        # the mean of what is subtracted goes through the student's layers, all rows of it: then the product is there anyway
        collapse |= variate.use_mean and not self.network.own_jacobian
        sums, steps, exploded = self._core.epoch(
            np.ascontiguousarray(order, np.int64),
            np.ascontiguousarray(learning_rates, np.float64),
            collapse=collapse,
            loss_limit=loss_limit,
            batch_size=step.batch_size,
            l2=step.l2,
            momentum=step.momentum,
            nesterov=step.nesterov,
            lam=variate.lam,
            source=variate.source,
            use_mean=variate.use_mean,
            temperature=variate.temperature,
        )
        return Walk(Sums(*sums), steps, exploded=exploded)
