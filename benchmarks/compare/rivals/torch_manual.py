"""A hand-written torch loop: no autograd, the gradient of softmax written out, buffers allocated once, W updated in place.

softmax(z) - (1 - lam) onehot - lam p is the residual of distillation, p the teacher's probabilities: with the teacher cached it
is plain softmax regression on blended targets. Rows are gathered batch by batch into one buffer: measured faster than once an
epoch, since the batch then comes from cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tasks import Task, Weights

from .base import EpochRival


class TorchManual(EpochRival):
    """cached: blended targets computed once a call; otherwise the teacher's outputs batch by batch."""

    needs = "torch"

    def __init__(self, cached: bool) -> None:
        self.cached = cached
        self.name = "hand-written torch loop, teacher " + ("cached" if cached else "on the fly")

    def setup(self, task: Task) -> None:
        import torch

        if task.teacher is None:
            raise ValueError("distillation needs a teacher")
        self.task, self.X = task, torch.from_numpy(task.data.X)
        self.hard = torch.from_numpy((1 - task.lam) * np.eye(task.data.k, dtype=np.float32)[task.data.y])
        self.theta, self.theta_b = (torch.from_numpy(w) for w in task.teacher)

    def run(self, orders: NDArray[Any]) -> Weights:
        import torch

        task, X, lr = self.task, self.X, self.task.learning_rate
        k, b = task.data.k, task.batch_size
        with torch.inference_mode():
            W, bias = torch.zeros(k, X.shape[1]), torch.zeros(k)
            WT, thetaT = W.t(), self.theta.t()
            targets = self.hard
            if self.cached:
                targets = targets + task.lam * torch.softmax(torch.addmm(self.theta_b, X, thetaT), 1)
            A, T, Z, P = torch.empty(b, X.shape[1]), torch.empty(b, k), torch.empty(b, k), torch.empty(b, k)
            for rows in torch.from_numpy(orders):
                for batch in rows.split(b):
                    m = len(batch)
                    a, t, z, p = (A, T, Z, P) if m == b else (A[:m], T[:m], Z[:m], P[:m])
                    torch.index_select(X, 0, batch, out=a)
                    torch.index_select(targets, 0, batch, out=t)
                    if not self.cached:
                        torch.addmm(self.theta_b, a, thetaT, out=z)
                        torch.softmax(z, 1, out=p)
                        t.add_(p, alpha=task.lam)
                    torch.addmm(bias, a, WT, out=z)
                    torch.softmax(z, 1, out=p)
                    p.sub_(t)
                    W.addmm_(p.t(), a, alpha=-lr / m)
                    bias.sub_(p.sum(0), alpha=lr / m)
            return W.numpy(), bias.numpy()
