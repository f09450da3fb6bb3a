"""One read of the data: the pass that evaluates loss, mean gradients and statistics."""

from __future__ import annotations

import numpy as np

import kdvr_fast as kd
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Problem

from .problems import best_rate, synthetic


class Evaluate:
    """`Session.evaluate` at fixed weights, without an anchor and with one whose residuals come from weights."""

    params = (["none", "weights"], ["float32", "float64"])
    param_names = ("anchor", "dtype")

    def setup(self, anchor: str, dtype: str) -> None:
        data = synthetic(20_000, 256, 10, dtype)
        self.n = len(data.X)
        self.session = get_backend("auto").open(Problem(data.X, data.y, "softmax", 10))
        self.coef, self.intercept = np.full((10, 256), 0.01, dtype), np.zeros(10, dtype)
        self.session.anchor_at(self.coef / 2, self.intercept, cached=False, mean=False)
        self.variate = ControlVariate(source=anchor)

    def time_pass(self, anchor: str, dtype: str) -> None:
        self.session.evaluate(self.coef, self.intercept, self.variate)

    def track_rows_per_second(self, anchor: str, dtype: str) -> float:
        return best_rate(self.n, lambda: self.session.evaluate(self.coef, self.intercept, self.variate))

    track_rows_per_second.unit = "rows/s"  # type: ignore[attr-defined]


class GradientStatistics:
    """`gradient_stats` with a linear teacher, input checks included."""

    def setup(self) -> None:
        self.data = synthetic(20_000, 256, 10)
        self.coef, self.intercept = np.full((10, 256), 0.01, np.float32), np.zeros(10, np.float32)

    def time_gradient_stats(self) -> None:
        kd.gradient_stats(
            self.data.X, self.data.y, self.coef, intercept=self.intercept, loss="softmax", teacher=self.data.teacher
        )
