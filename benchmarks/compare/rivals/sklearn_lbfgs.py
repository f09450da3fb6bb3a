"""scikit-learn's LogisticRegression, and its default solver, L-BFGS."""

from __future__ import annotations

import warnings
from typing import Any

from numpy.typing import NDArray
from tasks import Task

from .base import Solver


def logistic_regression(task: Task, X: Any, solver: str, max_iter: int, **options: Any) -> NDArray[Any]:
    """W (k, d) after `max_iter` iterations: C = 1 / (n alpha), no intercept, a tolerance that is never met."""
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=1 / (X.shape[0] * task.alpha), fit_intercept=False, solver=solver, max_iter=max_iter, tol=1e-15, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        model.fit(X, task.data.y)
    W: NDArray[Any] = model.coef_
    return W


class SklearnLBFGS(Solver):
    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.name = f"scikit-learn lbfgs {dtype}"

    def setup(self, task: Task) -> None:
        self.task, self.X = task, task.data.rows(self.dtype)

    def fit(self, effort: int) -> NDArray[Any]:
        return logistic_regression(self.task, self.X, "lbfgs", effort)
