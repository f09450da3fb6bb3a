"""Labels of a classifier: which classes there are, and which rows have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from .. import _validation as check

UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Labels:
    """classes: (k,), sorted. values: (n,) int64 codes, places in classes, -1 without a label; or (n, k) probabilities."""

    classes: NDArray[Any]
    values: NDArray[Any]

    @property
    def soft(self) -> bool:
        """Whether the values are probabilities."""
        return self.values.ndim == 2

    @property
    def best(self) -> NDArray[Any]:
        """The code of each row's most probable class, (n,)."""
        return self.values.argmax(axis=1) if self.soft else self.values


def whole(y: Any) -> Any:
    """y as it is. Raises ValueError for the first label that is missing: None, NaN or pandas' NA."""
    Y = np.asarray(y)
    if Y.dtype.kind == "f" and Y.ndim == 1:
        absent = np.flatnonzero(np.isnan(Y))
    elif Y.dtype.kind == "O" and Y.ndim == 1:
        absent = np.flatnonzero([_is_missing(label) for label in Y.tolist()])
    else:
        return y
    if len(absent):
        row = int(absent[0])
        raise ValueError(
            f"Input y contains NaN or None: {Y.tolist()[row]!r} in row {row}; with a teacher -1 marks rows without a label, "
            "beside text in an array of dtype object, without a teacher drop them"
        )
    return y


def _is_missing(label: Any) -> bool:
    same = label == label  # which pandas' NA does not answer
    return label is None or not isinstance(same, bool | np.bool_) or not same


def named_labels(y: NDArray[Any]) -> NDArray[Any]:
    """The distinct labels in y besides -1, sorted; 0 .. k-1 for probabilities (n, k)."""
    if y.ndim == 2 and y.shape[1] > 1:
        return np.arange(y.shape[1])
    labels = y.reshape(-1)
    marked = _marked(labels)
    _refuse_a_mixture(labels, marked)
    return np.unique(labels[~marked])


def read_labels(y: ArrayLike, classes: NDArray[Any] | None, *, taught: bool) -> Labels:
    """Labels (n,), or rows of probabilities (n, k).

    classes: those there are, None: those that y names. taught: there is a teacher, so that y = -1 marks rows without a label,
    unless -1 is among `classes`, or the labels are -1 and 1, which are two classes.
    """
    Y = np.asarray(y)
    if Y.ndim == 2 and Y.shape[1] > 1:
        return _read_soft(Y, classes)
    Y = column_or_1d(Y, warn=True)
    missing = _missing(Y, classes) if taught else np.zeros(len(Y), bool)
    there = Y[~missing]
    if taught:
        _refuse_marks_of_text(Y, classes)
    if len(there):
        _refuse_a_mixture(Y, missing)
        check_classification_targets(there)
    named = np.unique(there)
    known = named if classes is None else np.unique(classes)
    if len(known) < 2:
        what = "no class" if len(known) == 0 else f"one class, {known.tolist()[0]!r}"
        beside = _BESIDE if missing.any() else ""
        raise ValueError(f"y names {what}; a classifier needs at least two, and 1 class alone says nothing{beside}")
    if classes is not None:
        _refuse_strangers(Y, named, known)
    codes = np.full(len(Y), UNLABELLED, np.int64)
    codes[~missing] = np.searchsorted(known, there)
    return Labels(known, codes)


_BESIDE = (
    "; -1 marks rows without a label. What y does not name, tell by a fitted estimator as the teacher, by a frame of outputs "
    "whose columns are named by the classes, or by classes= of partial_fit"
)


def _marked(Y: NDArray[Any]) -> NDArray[np.bool_]:
    """Where y is the number -1."""
    if Y.dtype.kind == "O":
        return np.array([not isinstance(label, str) and label == UNLABELLED for label in Y.tolist()], bool)
    return Y == UNLABELLED if Y.dtype.kind in "if" else np.zeros(len(Y), bool)


def _missing(Y: NDArray[Any], classes: NDArray[Any] | None) -> NDArray[np.bool_]:
    marked = _marked(Y)
    signs = classes is None and set(Y[~marked].tolist()) == {1}
    return np.zeros(len(Y), bool) if signs or (classes is not None and UNLABELLED in classes.tolist()) else marked


def _refuse_a_mixture(Y: NDArray[Any], missing: NDArray[np.bool_]) -> None:
    """Labels of an object array are all text, or none of them."""
    if Y.dtype.kind != "O":
        return
    text = np.array([isinstance(label, str) for label in Y.tolist()], bool)
    rows = np.flatnonzero(~text & ~missing)
    if text.any() and len(rows):
        row = int(rows[0])
        raise ValueError(
            f"y holds {Y[row]!r} in row {row} and text elsewhere: labels are of one kind; rows without one (-1) need a teacher"
        )


def _refuse_marks_of_text(Y: NDArray[Any], classes: NDArray[Any] | None) -> None:
    """An array of text and -1 is all text; "" and "-1" in it are no classes, unless they are named."""
    if Y.dtype.kind not in "OU":
        return
    for mark in ("", str(UNLABELLED)):
        rows = np.flatnonzero(mark == Y)
        if len(rows) and (classes is None or mark not in classes.tolist()):
            raise ValueError(
                f"y holds the text {mark!r} in row {int(rows[0])}: rows without a label are marked by the number -1, "
                "beside text in an array of dtype object, np.array([...], dtype=object)"
            )


def _refuse_strangers(Y: NDArray[Any], named: NDArray[Any], known: NDArray[Any]) -> None:
    there = known.tolist()
    for label in named.tolist():
        if label not in there:
            row = int(np.flatnonzero(label == Y)[0])
            raise ValueError(f"y holds {label!r} in row {row}, which is none of the classes {there}")


def _read_soft(Y: NDArray[Any], classes: NDArray[Any] | None) -> Labels:
    if Y.dtype.kind not in "biuf":
        raise ValueError(
            f"y has shape {Y.shape} and dtype {Y.dtype}; y should be a 1d array of labels, or (n, k) probabilities"
        )
    check.finite(Y, "y")
    check.probabilities(Y, "y", remedy="rows of y are probabilities, (n, k), or y is 1-D labels")
    known = np.arange(Y.shape[1]) if classes is None else np.unique(classes)
    if len(known) != Y.shape[1]:
        raise ValueError(f"y has {Y.shape[1]} columns; expected {len(known)}, for the classes {known.tolist()}")
    return Labels(known, Y)
