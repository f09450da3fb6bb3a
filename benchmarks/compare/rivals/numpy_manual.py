"""A hand-written NumPy loop: every product and function writes into a buffer allocated once.

The residual is that of `torch_manual.py`. Rows are gathered batch by batch into one buffer (`np.take`, with mode="clip" because
it alone writes straight into `out`): measured faster than once an epoch, since the batch then comes from cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tasks import Task, Weights

from .base import EpochRival


def softmax(z: NDArray[Any], column: NDArray[Any]) -> None:
    """In place; column (rows, 1) is scratch."""
    np.max(z, axis=1, keepdims=True, out=column)
    z -= column
    np.exp(z, out=z)
    np.sum(z, axis=1, keepdims=True, out=column)
    z /= column


class NumpyManual(EpochRival):
    """cached: blended targets computed once a call; otherwise the teacher's outputs batch by batch."""

    def __init__(self, cached: bool) -> None:
        self.cached = cached
        self.name = "hand-written NumPy loop, teacher " + ("cached" if cached else "on the fly")

    def setup(self, task: Task) -> None:
        if task.teacher is None:
            raise ValueError("distillation needs a teacher")
        self.task, self.X = task, task.data.X
        self.hard = (1 - task.lam) * np.eye(task.data.k, dtype=np.float32)[task.data.y]

    def run(self, orders: NDArray[Any]) -> Weights:
        task, X = self.task, self.X
        (n, d), k, b = X.shape, task.data.k, task.batch_size
        theta, theta_b = task.teacher  # type: ignore[misc]
        W, bias, G, g = np.zeros((k, d), X.dtype), np.zeros(k, X.dtype), np.empty((k, d), X.dtype), np.empty(k, X.dtype)
        targets = self.hard
        if self.cached:
            P = X @ theta.T + theta_b
            softmax(P, np.empty((n, 1), X.dtype))
            targets = targets + task.lam * P
        A, T, Z = np.empty((b, d), X.dtype), np.empty((b, k), X.dtype), np.empty((b, k), X.dtype)
        column = np.empty((b, 1), X.dtype)
        for rows in orders:
            for start in range(0, n, b):
                batch = rows[start : start + b]
                m = len(batch)
                a, t, z, c = (A, T, Z, column) if m == b else (A[:m], T[:m], Z[:m], column[:m])
                np.take(X, batch, axis=0, out=a, mode="clip")
                np.take(targets, batch, axis=0, out=t, mode="clip")
                if not self.cached:
                    np.dot(a, theta.T, out=z)
                    z += theta_b
                    softmax(z, c)
                    z *= task.lam
                    t += z
                np.dot(a, W.T, out=z)
                z += bias
                softmax(z, c)
                z -= t
                z *= -task.learning_rate / m
                np.dot(z.T, a, out=G)
                W += G
                np.sum(z, axis=0, out=g)
                bias += g
        return W, bias
