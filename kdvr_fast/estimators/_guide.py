"""A teacher's outputs for the rows of one fit, whatever the teacher is: arrays, a fitted estimator, or an earlier student.

Outputs have the columns of the student: k for k > 2 classes, one for two (the probability or the logit of the second), one a
target for values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from .. import _validation as check
from ..backends.base import FloatArray
from ..losses import LOSSES
from ..teachers import Teacher


@dataclass(frozen=True, eq=False)
class Guide:
    """outputs: (n, k), of each row; logits: whether they are that (or values), not probabilities.

    weights: (k, d) and (k,), if the outputs are those of a linear model.
    """

    outputs: NDArray[Any]
    logits: bool
    weights: tuple[FloatArray, FloatArray] | None = None

    def rows(self, which: NDArray[Any]) -> Guide:
        """The outputs of some rows."""
        return replace(self, outputs=self.outputs[which])

    def teacher(self) -> Teacher:
        """The teacher that `solve` takes."""
        if self.weights is not None:
            return Teacher.weights(*self.weights)
        return Teacher.logits(self.outputs) if self.logits else Teacher.probabilities(self.outputs)

    def predictions(self, loss: str) -> NDArray[Any]:
        """What the teacher predicts in place of targets, (n, k): probabilities, or values for the squared loss."""
        return LOSSES[loss].link(np.asarray(self.outputs, np.float64)) if self.logits else self.outputs


def ask_classifier(teacher: Any, X: Any) -> NDArray[Any]:
    """Probabilities (n, classes) of a fitted estimator; one without predict_proba is taken to be certain of its labels."""
    check_is_fitted(teacher)
    if hasattr(teacher, "predict_proba"):
        return check.real_array(teacher.predict_proba(X), "the teacher's predict_proba")
    if not hasattr(teacher, "classes_"):
        raise TypeError(f"the teacher {type(teacher).__name__} is no classifier: it has neither predict_proba nor classes_")
    return np.asarray(np.asarray(teacher.predict(X))[:, None] == np.asarray(teacher.classes_), np.float64)


def ask_regressor(teacher: Any, X: Any) -> NDArray[Any]:
    """Values (n, targets) that a fitted estimator predicts."""
    check_is_fitted(teacher)
    values = check.real_array(teacher.predict(X), "the teacher's predict")
    return values[:, None] if values.ndim == 1 else values


def class_guide(proba: ArrayLike | None, logits: ArrayLike | None, n: int, classes: NDArray[Any]) -> Guide | None:
    """The guide from what `fit` was given, at most one of both: (n, classes), or (n,) of the second of two classes."""
    if proba is None and logits is None:
        return None
    if proba is not None and logits is not None:
        raise ValueError("teacher_proba and teacher_logits are both given; leave one of them out")
    name = "teacher_proba" if logits is None else "teacher_logits"
    values = check.real_array(_plain(proba if logits is None else logits), name)
    k = len(classes)
    if k == 2 and values.ndim == 1:
        values = values[:, None]
    elif values.ndim != 2 or values.shape[1] != k:
        also = " (y = -1 marks rows without a label)" if -1 in classes.tolist() else ""
        raise ValueError(f"{name} has shape {values.shape}; expected {k} columns, for the classes {classes.tolist()}{also}")
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} rows, X has {n}; one row of X each")
    check.finite(values, name)
    if logits is None:
        check.probabilities(values, name, remedy="pass logits as teacher_logits")
    if k == 2 and values.shape[1] == 2:
        values = values[:, 1:] if logits is None else values[:, 1:] - values[:, :1]
    return Guide(values, logits is not None)


def value_guide(predicted: ArrayLike | None, n: int, k: int) -> Guide | None:
    """The guide from a teacher's predicted values, (n,) or (n, k)."""
    if predicted is None:
        return None
    values = check.real_array(_plain(predicted), "teacher_logits")
    values = values[:, None] if values.ndim == 1 else values
    check.shape(values, (n, k), "teacher_logits", "(rows, targets)")
    check.finite(values, "teacher_logits")
    return Guide(values, True)


def _plain(values: Any) -> Any:
    """A frame of any library as an array."""
    return values if isinstance(values, np.ndarray | list | tuple) else np.asarray(values)
