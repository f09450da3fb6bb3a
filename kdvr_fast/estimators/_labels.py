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


def read_labels(y: ArrayLike, classes: NDArray[Any] | None, *, taught: bool) -> Labels:
    """Labels (n,), or rows of probabilities (n, k).

    classes: those there are, None: those that y names. taught: there is a teacher, so that y = -1 marks rows without a label,
    unless -1 is among `classes`, or y names fewer than two others (-1 and 1 are two classes).
    """
    Y = np.asarray(y)
    if Y.ndim == 2 and Y.shape[1] > 1:
        return _read_soft(Y, classes)
    Y = column_or_1d(Y, warn=True)
    check_classification_targets(Y)
    missing = _missing(Y, classes) if taught else np.zeros(len(Y), bool)
    named = np.unique(Y[~missing])
    known = named if classes is None else np.unique(classes)
    if len(known) < 2:
        what = "no class" if len(known) == 0 else f"one class, {known.tolist()[0]!r}"
        raise ValueError(f"y names {what}; a classifier needs at least two, and 1 class alone says nothing")
    if classes is not None:
        _refuse_strangers(Y, named, known)
    codes = np.full(len(Y), UNLABELLED, np.int64)
    codes[~missing] = np.searchsorted(known, Y[~missing])
    return Labels(known, codes)


def _missing(Y: NDArray[Any], classes: NDArray[Any] | None) -> NDArray[np.bool_]:
    none = np.zeros(len(Y), bool)
    if Y.dtype.kind not in "if":
        return none
    marked = Y == UNLABELLED
    if classes is not None:
        return none if UNLABELLED in classes.tolist() else marked
    return none if marked.all() or len(np.unique(Y[~marked])) < 2 else marked


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
