"""scikit-learn's SGDClassifier: one row a step. It draws its own order of rows, and takes 20 classes as 20 binary problems."""

from __future__ import annotations

import warnings
from typing import Any

from numpy.typing import NDArray
from tasks import Task, Weights

from .base import EpochRival


class SklearnSGD(EpochRival):
    """log_loss, L2, constant rate, no test of convergence, no intercept."""

    replays = False

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.name = f"scikit-learn SGDClassifier {dtype}"

    def setup(self, task: Task) -> None:
        self.task, self.X = task, task.data.rows(self.dtype)

    def run(self, orders: NDArray[Any]) -> Weights:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import SGDClassifier

        model = SGDClassifier(
            loss="log_loss",
            alpha=self.task.alpha,
            fit_intercept=False,
            max_iter=len(orders),
            tol=None,
            learning_rate="constant",
            eta0=self.task.learning_rate,
            n_jobs=self.task.threads,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(self.X, self.task.data.y)
        return model.coef_, model.intercept_
