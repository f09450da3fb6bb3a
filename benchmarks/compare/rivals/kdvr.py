"""The engine this project is about, through `kdvr_fast.solve`, input checks included."""

from __future__ import annotations

import warnings
from typing import Any

from numpy.typing import NDArray
from tasks import Task, Weights

import kdvr_fast as kd

from .base import EpochRival, Solver


def _refusal(task: Task) -> str | None:
    """What `solve` says to a few rows of the task, None if it takes them."""
    X = task.data.X[:16]
    try:
        kd.solve(X, task.data.y[:16], loss=task.data.loss, epochs=1, coef_init=_zeros(task, X))
    except (TypeError, ValueError) as error:
        return f"not supported: {error}"
    return None


def _zeros(task: Task, X: Any) -> Any:
    import numpy as np

    return np.zeros((task.data.k, X.shape[1]), np.float32)


class KdvrEpochs(EpochRival):
    """Distillation. cached: the teacher's residuals are stored by one pass a call (the default beyond two epochs)."""

    ours = True

    def __init__(self, cached: bool, statistics: bool = True) -> None:
        self.cached, self.statistics = cached, statistics
        self.name = "kdvr, teacher " + ("cached" if cached else "on the fly") + ("" if statistics else ", no statistics")

    def setup(self, task: Task) -> None:
        if task.teacher is None:
            raise ValueError("distillation needs a teacher")
        self.task, self.teacher = task, kd.Teacher.weights(*task.teacher)

    def run(self, orders: NDArray[Any]) -> Weights:
        task = self.task
        result = kd.solve(
            task.data.X,
            task.data.y,
            loss=task.data.loss,
            method=kd.KD(lam=task.lam),
            teacher=self.teacher,
            cache_anchor=self.cached,
            learning_rate=task.learning_rate,
            batch_size=task.batch_size,
            epochs=len(orders),
            order=orders,
            statistics=self.statistics,
            model=None if task.layers is None else kd.DeepLinear(weights=task.layers),
            n_threads=task.threads,
        )
        return result.coef, result.intercept


class KdvrSGD(EpochRival):
    """Plain SGD on sparse rows, one row a step; it draws its own order, as SGDClassifier does.

    statistics: the second moments of the gradients in the history, which are on by default; SGDClassifier has no such thing.
    """

    ours = True
    replays = False

    def __init__(self, dtype: str, statistics: bool = True) -> None:
        self.dtype, self.statistics = dtype, statistics
        self.name = f"kdvr SGD {dtype}" + ("" if statistics else ", no statistics")

    def unavailable(self, task: Task) -> str | None:
        return _refusal(task)

    def setup(self, task: Task) -> None:
        self.task, self.X = task, task.data.rows(self.dtype)

    def run(self, orders: NDArray[Any]) -> Weights:
        result = kd.solve(
            self.X,
            self.task.data.y,
            loss=self.task.data.loss,
            alpha=self.task.alpha,
            fit_intercept=False,
            learning_rate=self.task.learning_rate,
            batch_size=1,
            epochs=len(orders),
            statistics=self.statistics,
            random_state=0,
            n_threads=self.task.threads,
        )
        return result.coef, result.intercept


class KdvrLBFGS(Solver):
    ours = True

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.name = f"kdvr LBFGS {dtype}"

    def unavailable(self, task: Task) -> str | None:
        return _refusal(task) if hasattr(kd, "LBFGS") else "this version has no LBFGS"

    def setup(self, task: Task) -> None:
        self.task, self.X = task, task.data.rows(self.dtype)

    def fit(self, effort: int) -> NDArray[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kd.solve(
                self.X,
                self.task.data.y,
                loss=self.task.data.loss,
                alpha=self.task.alpha,
                fit_intercept=False,
                method=kd.LBFGS(max_iter=effort),
                n_threads=self.task.threads,
            ).coef
