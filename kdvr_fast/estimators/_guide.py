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
    """The guide from what `fit` was given, at most one of both: (n, classes), or (n,) of the second of two classes.

    A frame's columns are taken by name, see `column_classes`.
    """
    if proba is None and logits is None:
        return None
    if proba is not None and logits is not None:
        raise ValueError("teacher_proba and teacher_logits are both given; leave one of them out")
    name = "teacher_proba" if logits is None else "teacher_logits"
    given = proba if logits is None else logits
    values = check.real_array(_plain(given), name)
    k, named = len(classes), column_classes(given, classes)
    if named is not None:
        values = values[:, _places(named, classes, name)]
    if k == 2 and values.ndim == 1:
        values = values[:, None]
    elif values.ndim != 2 or values.shape[1] not in (k, k - (k == 2)):
        also = "of which -1 marks rows without a label only beside two others; " if -1 in classes.tolist() else ""
        raise ValueError(
            f"{name} has shape {values.shape}; expected {k} columns, for the classes {classes.tolist()}; {also}"
            "if there are more classes than y names, pass a frame whose columns have their names"
        )
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} rows, X has {n}; one row of X each")
    check.finite(values, name)
    if logits is None:
        check.probabilities(values, name, remedy="pass logits as teacher_logits")
    if k == 2 and values.shape[1] == 2:
        values = values[:, 1:] if logits is None else values[:, 1:] - values[:, :1]
    return Guide(values, logits is not None)


def column_classes(outputs: Any, labels: NDArray[Any]) -> list[Any] | None:
    """The class that each column of a frame is named by, as a value of the kind of `labels`, some of the classes.

    None for arrays, for a single column, and for columns that are merely numbered where labels are others. Raises ValueError
    where a label has no column.
    """
    names, known = [str(name) for name in getattr(outputs, "columns", ())], labels.tolist()
    numbers = [str(place) for place in range(len(names))]
    numbered = names in (numbers, [f"column_{place}" for place in numbers])
    if len(names) < 2:
        if names and not numbered and len(known) == 2 and names[0] == str(known[0]):
            raise ValueError(
                f"the teacher's only column is named {names[0]!r}; one column is of the second class, {known[1]!r}"
            )
        return None
    by_text = {str(label): label for label in known}
    absent = [label for text, label in by_text.items() if text not in names]
    if numbered and (absent or len(known) < 2):
        return None
    if absent or len(set(names)) < len(names):
        wrong = f"none for the class {absent[0]!r}" if absent else "one of them twice"
        raise ValueError(
            f"the teacher's columns are {names}, {wrong}: name each by its class, or pass an array in the order of the classes"
        )
    return [by_text[name] if name in by_text else _of_kind(name, known) for name in names]


def _of_kind(name: str, labels: list[Any]) -> Any:
    """The label that a column's name stands for."""
    if not labels or isinstance(labels[0], str):
        return name
    try:
        return type(labels[0])(float(name))
    except ValueError:
        raise ValueError(f"the teacher has a column {name!r}, and the labels are numbers: {labels[:5]}") from None


def _places(named: list[Any], classes: NDArray[Any], what: str) -> list[int]:
    """Where each class stands among the columns."""
    strangers = [name for name in named if name not in classes.tolist()]
    if strangers:
        raise ValueError(f"{what} has a column {strangers[0]!r}, which is none of the classes {classes.tolist()}")
    return [named.index(label) for label in classes.tolist()]


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
