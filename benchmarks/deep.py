"""Deep linear students by depth, width and batch, KD of a linear teacher, and statistics: 6,400 x 256, 10 classes, float32."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import kdvr_fast as kd

from .problems import synthetic


class Epoch:
    """Time of an epoch from given layers; batches below about k rows go layer by layer, larger ones through the product."""

    params = ((2, 3, 5), (64, 512), (1, 8, 64, 640))
    param_names = ("depth", "width", "batch")

    def setup(self, depth: int, width: int, batch: int) -> None:
        self.data = synthetic(6400, 256, 10)
        self.rows = min(6400, 400 * batch)  # small batches: 400 steps are enough to see

    def time_epoch(self, depth: int, width: int, batch: int) -> None:
        self._solve(kd.KD(lam=0.7), depth, width, batch)

    def _solve(self, method: kd.Method, depth: int, width: int, batch: int) -> None:
        model = kd.DeepLinear(widths=(width,) * (depth - 1), init="gaussian")
        teacher = self.data.teacher if method.plan().teacher == "required" else None
        rows = slice(0, self.rows)
        kd.solve(
            self.data.X[rows], self.data.y[rows], loss="softmax", method=method, model=model, teacher=teacher,
            learning_rate=0.01, batch_size=batch, epochs=1, random_state=0,
        )  # fmt: skip


class Methods(Epoch):
    """The same for what is subtracted: nothing, through the student's layers, through the anchor's own."""

    METHODS = {"SGD": kd.SGD(), "KD": kd.KD(lam=0.7), "SVRG": kd.SVRG()}  # noqa: RUF012
    params = (list(METHODS), (8, 64))
    param_names = ("method", "batch")

    def setup(self, method: str, batch: int) -> None:
        super().setup(3, 512, batch)

    def time_epoch(self, method: str, batch: int) -> None:
        self._solve(self.METHODS[method], 3, 512, batch)


class Statistics:
    """One read of 6,400 rows through all layers: moments of each layer's gradient and of the teacher's in either form."""

    params = ((2, 3, 5), ("logit", "parameter"))
    param_names = ("depth", "form")

    def setup(self, depth: int, form: str) -> None:
        self.data = synthetic(6400, 256, 10)
        widths = (256, *(512,) * (depth - 1), 10)
        rng = np.random.default_rng(0)
        self.layers, theta = (
            [rng.normal(size=(out, into)).astype(np.float32) / np.sqrt(into) for into, out in pairwise(widths)]
            for _ in range(2)
        )
        self.teacher = kd.Teacher.layers(theta)

    def time_layer_stats(self, depth: int, form: str) -> None:
        kd.layer_stats(self.data.X, self.data.y, self.layers, loss="softmax", teacher=self.teacher, form=form)
