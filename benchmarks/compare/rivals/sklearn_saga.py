"""scikit-learn's SAGA: an effort is one pass over the data."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from tasks import Task

from .base import Solver
from .sklearn_lbfgs import logistic_regression


class SklearnSaga(Solver):
    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.name = f"scikit-learn saga {dtype}"

    def setup(self, task: Task) -> None:
        self.task, self.X = task, task.data.rows(self.dtype)

    def fit(self, effort: int) -> NDArray[Any]:
        return logistic_regression(self.task, self.X, "saga", effort, random_state=0)
