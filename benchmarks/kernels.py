"""One read of the data: the pass that evaluates loss, mean gradients and statistics."""

from __future__ import annotations

import numpy as np

import kdvr_fast as kd
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Problem

from .problems import best_rate, synthetic

SHAPES = {"100000x256x1": (100_000, 256, 1), "20000x784x10": (20_000, 784, 10), "4000x384x150": (4_000, 384, 150)}


class Evaluate:
    """`Session.evaluate` at fixed weights, without an anchor and with one whose residuals come from weights."""

    params: tuple[list[str], ...] = (list(SHAPES), ["none", "weights"], ["float32", "float64"])
    param_names: tuple[str, ...] = ("n x d x k", "anchor", "dtype")

    def setup(self, shape: str, anchor: str, dtype: str = "float32") -> None:
        self.n, self.d, self.k = SHAPES[shape]
        self.data = synthetic(self.n, self.d, self.k, dtype)
        self.session = get_backend("auto").open(Problem(self.data.X, self.data.targets, self.data.loss, self.k), 1)
        self.coef, self.intercept = np.full((self.k, self.d), 0.01, dtype), np.zeros(self.k, dtype)
        self.session.anchor_at(self.coef / 2, self.intercept, cached=False, mean=False)
        self.variate = ControlVariate(source=anchor)

    def rate(self) -> float:
        return best_rate(self.n, lambda: self.session.evaluate(self.coef, self.intercept, self.variate))

    def track_rows_per_second(self, shape: str, anchor: str, dtype: str) -> float:
        return self.rate()

    track_rows_per_second.unit = "rows/s"  # type: ignore[attr-defined]


class Floor:
    """The same in float32, as bytes a second and as a fraction of the floor; skipped in versions that do not know it."""

    params = (list(SHAPES), ["none", "weights"])
    param_names = ("n x d x k", "anchor")

    def setup(self, shape: str, anchor: str) -> None:
        try:
            import kdvr_fast.bench
        except ImportError as error:
            raise NotImplementedError(str(error)) from error
        self.speed = kdvr_fast.bench
        self.evaluate = Evaluate()
        self.evaluate.setup(shape, anchor)

    def track_gigabytes_per_second(self, shape: str, anchor: str) -> float:
        return self.evaluate.rate() * self.evaluate.data.X.nbytes / self.evaluate.n / 1e9

    def track_fraction_of_floor(self, shape: str, anchor: str) -> float:
        least, _ = self.speed.floor(*SHAPES[shape], anchor == "weights", self.speed.machine_speed())
        return least * self.evaluate.rate() / self.evaluate.n

    track_gigabytes_per_second.unit = "GB/s"  # type: ignore[attr-defined]
    track_fraction_of_floor.unit = "of the floor"  # type: ignore[attr-defined]


class GradientStatistics:
    """`gradient_stats` with a linear teacher, input checks included."""

    def setup(self) -> None:
        self.data = synthetic(20_000, 256, 10)
        self.coef, self.intercept = np.full((10, 256), 0.01, np.float32), np.zeros(10, np.float32)

    def time_gradient_stats(self) -> None:
        kd.gradient_stats(
            self.data.X, self.data.y, self.coef, intercept=self.intercept, loss="softmax", teacher=self.data.teacher
        )
