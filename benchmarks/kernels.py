"""One read of the data: the pass that evaluates loss, mean gradients and statistics."""

from __future__ import annotations

import os
from typing import Any

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
        self.session = get_backend("auto").open(Problem(self.data.X, self.data.targets, kd.LOSSES[self.data.loss], self.k), 1)
        self.coef, self.intercept = np.full((self.k, self.d), 0.01, dtype), np.zeros(self.k, dtype)
        self.session.anchor_at(self.coef / 2, self.intercept, cached=False, mean=False)
        self.variate = ControlVariate(source=anchor)

    def rate(self) -> float:
        return best_rate(self.n, lambda: self.session.evaluate(self.coef, self.intercept, self.variate))

    def track_rows_per_second(self, shape: str, anchor: str, dtype: str) -> float:
        return self.rate()

    track_rows_per_second.unit = "rows/s"  # type: ignore[attr-defined]


class Floor:
    """The passes of `kdvr bench` as bytes a second and as a fraction of the floor; skipped in versions without them."""

    PASSES: dict[str, tuple[int, int, int, str]] = {  # noqa: RUF012
        "60000x784x1": (60_000, 784, 1, "float32"),
        "240000x784x1 uint8": (240_000, 784, 1, "uint8"),
        "60000x784x10": (60_000, 784, 10, "float32"),
        "15000x384x150": (15_000, 384, 150, "float32"),
    }
    params = (list(PASSES), ["none", "weights"], [1, 2])
    param_names = ("n x d x k", "anchor", "threads")

    def setup_cache(self) -> dict[tuple[str, str, int], tuple[float, float]] | None:
        """Bytes a second and fraction of the floor by parameters, all measured once; None in versions without the passes."""
        try:
            from kdvr_fast.bench import pass_speeds
        except ImportError:
            return None
        return {
            (shape, "weights" if p.teacher else "none", threads): (p.bytes_per_second, p.floor_fraction)
            for threads in range(1, min(2, len(os.sched_getaffinity(0))) + 1)
            for shape, case in self.PASSES.items()
            for p in pass_speeds(*case, n_threads=threads, rounds=3, seen=[])
        }

    def setup(self, speeds: dict[tuple[str, str, int], tuple[float, float]] | None, *case: Any) -> None:
        if speeds is None or case not in speeds:
            raise NotImplementedError("no such pass in this version, or fewer cores than threads")
        self.bytes_per_second, self.fraction = speeds[case]

    def track_gigabytes_per_second(self, *_: Any) -> float:
        return self.bytes_per_second / 1e9

    def track_fraction_of_floor(self, *_: Any) -> float:
        return self.fraction

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
