"""The plain training loop in torch: Linear layers, softmax teacher, cross-entropy + kl_div, backward, SGD.step."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tasks import Task, Weights

from .base import EpochRival


class TorchAutograd(EpochRival):
    """As a competent user writes it: tensors prepared, batches gathered by index_select, teacher under no_grad, no logging.

    cached: the teacher's probabilities are computed once a call, in place of once a batch.
    """

    needs = "torch"
    epochs = 1  # nothing to spread: a call costs what its epochs cost

    def __init__(self, cached: bool) -> None:
        self.cached = cached
        self.name = "torch autograd loop, teacher " + ("cached" if cached else "on the fly")

    def setup(self, task: Task) -> None:
        import torch

        if task.teacher is None:
            raise ValueError("distillation needs a teacher")
        self.task = task
        self.X, self.y = torch.from_numpy(task.data.X), torch.from_numpy(task.data.y)
        self.teacher = self._linear(*task.teacher)

    def _linear(self, W: NDArray[Any], b: NDArray[Any]) -> Any:
        import torch

        layer = torch.nn.Linear(W.shape[1], W.shape[0])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W))
            layer.bias.copy_(torch.from_numpy(b))
        return layer

    def _student(self) -> Any:
        """Layers to start from, biased at the end alone; a linear model of zeros where the task has none."""
        import torch

        k, d = self.task.data.k, self.X.shape[1]
        layers = self.task.layers or (np.zeros((k, d), np.float32),)
        student = torch.nn.Sequential(*(self._linear(W, np.zeros(len(W), np.float32)) for W in layers))
        for hidden in student[:-1]:
            hidden.bias = None
        return student

    def run(self, orders: NDArray[Any]) -> Weights:
        import torch
        from torch.nn import functional as F

        task, X, y = self.task, self.X, self.y
        student = self._student()
        optimizer = torch.optim.SGD(student.parameters(), lr=task.learning_rate)
        with torch.no_grad():
            stored = F.softmax(self.teacher(X), dim=1) if self.cached else None
        for rows in torch.from_numpy(orders):
            for batch in rows.split(task.batch_size):
                a = X.index_select(0, batch)
                with torch.no_grad():
                    soft = F.softmax(self.teacher(a), dim=1) if stored is None else stored.index_select(0, batch)
                z = student(a)
                hard = F.cross_entropy(z, y.index_select(0, batch))
                loss = (1 - task.lam) * hard + task.lam * F.kl_div(F.log_softmax(z, dim=1), soft, reduction="batchmean")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        weights = [layer.weight.detach().numpy() for layer in student]
        return reduce(lambda below, W: W @ below, weights), student[-1].bias.detach().numpy()
