"""What a second thread gives: epochs of distillation by batch size, and one pass. Skipped on one core."""

from __future__ import annotations

import os

import numpy as np

import kdvr_fast as kd
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Problem
from kdvr_fast.losses import LOSSES

from .problems import synthetic

N, D, K = 20_000, 784, 10


class _Threads:
    params: tuple[list[int], ...] = ([1, 2],)
    param_names: tuple[str, ...] = ("threads",)

    def setup(self, threads: int, *_: object) -> None:
        if threads > len(os.sched_getaffinity(0)):
            raise NotImplementedError(f"fewer than {threads} cores")
        self.data = synthetic(N, D, K)


class Epoch(_Threads):
    """Two epochs of KD, the teacher on the fly."""

    params = ([1, 2], [10, 32, 256])
    param_names = ("threads", "batch size")

    def time_two_epochs(self, threads: int, batch_size: int) -> None:
        kd.solve(
            self.data.X, self.data.y, loss="softmax", method=kd.KD(lam=0.7), teacher=self.data.teacher, cache_anchor=False,
            learning_rate=0.01, batch_size=batch_size, epochs=2, random_state=0, n_threads=threads,
        )  # fmt: skip


class Evaluate(_Threads):
    def setup(self, threads: int, *_: object) -> None:
        super().setup(threads)
        self.session = get_backend("auto").open(Problem(self.data.X, self.data.y, LOSSES["softmax"], K), threads)
        self.coef, self.intercept = np.full((K, D), 0.01, np.float32), np.zeros(K, np.float32)

    def time_pass(self, threads: int) -> None:
        self.session.evaluate(self.coef, self.intercept, ControlVariate())
