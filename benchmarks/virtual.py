"""Virtual rows, 100 features, float32: a pass and an epoch, beside the same over stored rows: what making them costs."""

from __future__ import annotations

import numpy as np

import kdvr_fast as kd
from kdvr_fast.synthetic import VirtualRows, VirtualTargets

N, D = 200_000, 100


def rows_and_targets(kind: str, loss: str) -> tuple[object, object, np.ndarray]:
    """X, y and the model's weights (k, d); kind: a distribution, or "stored"."""
    rows = VirtualRows(N, D, seed=0, condition=10, distribution="normal" if kind == "stored" else kind)
    W = np.random.default_rng(0).normal(size=(10 if loss == "softmax" else 1, D)) / 10
    y = VirtualTargets(rows, W, loss=loss, noise=0.1)
    return (rows[:], y[:], W) if kind == "stored" else (rows, y, W)


class Pass:
    """`gradient_stats` with a linear teacher."""

    params = (["stored", "normal", "uniform"], ["squared", "softmax"], [1, 2])
    param_names = ("rows", "loss", "threads")

    def setup(self, kind: str, loss: str, threads: int) -> None:
        self.X, self.y, self.W = rows_and_targets(kind, loss)

    def time_gradient_stats(self, kind: str, loss: str, threads: int) -> None:
        teacher = kd.Teacher.weights(0.5 * self.W)
        kd.gradient_stats(self.X, self.y, self.W, loss=loss, teacher=teacher, n_threads=threads)


class Epoch:
    """One epoch of KD, the teacher's outputs computed on the fly; one thread, stored rows shuffled."""

    params = (["stored", "normal", "uniform"], [10, 256])
    param_names = ("rows", "batch size")

    def setup(self, kind: str, batch_size: int) -> None:
        self.X, self.y, self.W = rows_and_targets(kind, "squared")

    def time_epoch(self, kind: str, batch_size: int) -> None:
        kd.solve(
            self.X, self.y, loss="squared", method=kd.KD(lam=0.5), teacher=kd.Teacher.weights(self.W), learning_rate=1e-3,
            batch_size=batch_size, epochs=1, random_state=0, n_threads=1,
        )  # fmt: skip


class Memory:
    """Peak memory of a pass and an epoch must not grow with the rows, which would take 0.4 and 40 MB."""

    params = ([1_000, 100_000],)
    param_names = ("n",)

    def peakmem_fit(self, n: int) -> None:
        rows = VirtualRows(n, D, seed=0)
        y = VirtualTargets(rows, np.ones(D))
        kd.solve(rows, y, loss="squared", learning_rate=1e-3, batch_size=10, epochs=1, track="objective", random_state=0)
