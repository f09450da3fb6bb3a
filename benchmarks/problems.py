"""Synthetic problems of a given shape, the same for every benchmark: X normal, labels from a random linear model with noise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kdvr_fast as kd


@dataclass(frozen=True)
class Data:
    """X (n, d), y (n,) labels 0 .. k-1 (0 and 1 for k = 1), and a linear teacher: the model that drew the labels."""

    X: NDArray[Any]
    y: NDArray[np.int64]
    teacher: kd.Teacher
    loss: str

    @property
    def targets(self) -> NDArray[Any]:
        """y as a backend takes it."""
        return self.y if self.loss == "softmax" else self.y[:, None].astype(self.X.dtype)


def synthetic(n: int, d: int, k: int, dtype: str = "float32", seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d), dtype=np.dtype(dtype).type)
    W = (2 * rng.standard_normal((k, d)) / np.sqrt(d)).astype(dtype)
    Z = X @ W.T
    y = (Z + rng.gumbel(size=(n, k))).argmax(axis=1) if k > 1 else (Z + rng.logistic(size=(n, 1)) > 0)[:, 0]
    return Data(X, y.astype(np.int64), kd.Teacher.weights(W, np.zeros(k, dtype)), "softmax" if k > 1 else "logistic")


def best_rate(rows: int, run: Callable[[], object], repeats: int = 3) -> float:
    """Rows per second of the fastest of some runs: the others measure what else the machine did."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return rows / min(seconds)
