"""Rows per second of an SGD and a KD epoch over shapes: few and many features, few and many outputs, both precisions."""

from __future__ import annotations

import kdvr_fast as kd

from .problems import best_rate, synthetic

SHAPES = {"20000x16x2": (20_000, 16, 2), "10000x784x10": (10_000, 784, 10), "4000x512x100": (4_000, 512, 100)}


class RowsPerSecond:
    params = (list(SHAPES), ["float32", "float64"], ["SGD", "KD"])
    param_names = ("n x d x k", "dtype", "method")
    unit = "rows/s"

    def setup(self, shape: str, dtype: str, method: str) -> None:
        self.data = synthetic(*SHAPES[shape], dtype)

    def track_rows_per_second(self, shape: str, dtype: str, method: str) -> float:
        return best_rate(2 * len(self.data.X), lambda: self._two_epochs(method == "KD"))

    def _two_epochs(self, distils: bool) -> None:
        kd.solve(
            self.data.X,
            self.data.y,
            loss="softmax",
            method=kd.KD(lam=0.7) if distils else kd.SGD(),
            teacher=self.data.teacher if distils else None,
            cache_anchor=False if distils else None,
            learning_rate=0.01,
            batch_size=10,
            epochs=2,
            random_state=0,
        )
