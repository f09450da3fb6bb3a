"""scikit-learn's Newton solvers: conjugate gradients, or a Cholesky factor of the (k d) x (k d) Hessian."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from tasks import Task

from .base import Solver
from .sklearn_lbfgs import logistic_regression

HESSIAN_SIDE = 4096  # its Hessian is dense: beyond, one iteration takes minutes or the memory


class SklearnNewton(Solver):
    def __init__(self, solver: str) -> None:
        self.solver = solver
        self.name = f"scikit-learn {solver} float64"

    def unavailable(self, task: Task) -> str | None:
        side = task.data.k * task.data.X.shape[1]
        if self.solver == "newton-cholesky" and side > HESSIAN_SIDE:
            return f"its Hessian would be {side} x {side}"
        return super().unavailable(task)

    def setup(self, task: Task) -> None:
        self.task, self.X = task, task.data.rows("float64")

    def fit(self, effort: int) -> NDArray[Any]:
        return logistic_regression(self.task, self.X, self.solver, effort)
