"""cyanure 1.2.2: incremental methods, accelerated (Catalyst) or with quasi-Newton steps (QNing). An effort is one pass.

Its duality gap costs a pass, and is asked for once, at the end.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tasks import Task

from .base import Solver


class Cyanure(Solver):
    needs = "cyanure"

    def __init__(self, scheme: str, dtype: str) -> None:
        self.scheme, self.dtype = scheme, dtype
        self.name = f"cyanure {scheme} {dtype}"

    def unavailable(self, task: Task) -> str | None:
        if task.data.sparse and task.data.k > 1 and self.scheme.endswith("svrg"):
            return "cyanure 1.2.2 ends in a segmentation fault"
        return super().unavailable(task)

    def setup(self, task: Task) -> None:
        self.task, self.X = task, task.data.rows(self.dtype)

    def fit(self, effort: int) -> NDArray[Any]:
        from cyanure.estimators import Classifier

        task = self.task
        model = Classifier(
            loss="logistic" if task.data.loss == "logistic" else "multiclass-logistic",
            penalty="l2",
            lambda_1=task.alpha,
            fit_intercept=False,
            solver=self.scheme,
            max_iter=effort,
            tol=1e-15,
            duality_gap_interval=effort,
            n_threads=task.threads,
            random_state=0,
            verbose=False,
        )
        with _silence(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(self.X, task.data.y)
        W = np.asarray(model.get_weights())
        return W[None] if W.ndim == 1 else W.T


@contextmanager
def _silence() -> Iterator[None]:
    """Its C++ code writes remarks to standard error."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
