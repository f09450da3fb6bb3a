"""Targets y, and the number of outputs that they and others fix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._custom import Custom, allowed
from .._rows import is_on_device
from .._virtual import VirtualRows, VirtualTargets
from ..losses import Loss
from .arrays import cast_finite, finite, real_array
from .device import device_problem_targets, device_targets, on_device


def n_outputs(y: Any, loss: Loss, others: Iterable[tuple[str, int]]) -> int:
    """The number k of outputs from y and from (name, k) of whatever else fixes it, which must all agree."""
    known = list(others)
    if loss.targets == "unit":
        known.insert(0, (f"loss={loss.name!r}", 1))
    elif y.ndim == 2:
        known.insert(0, ("y", y.shape[1]))
    elif loss.targets == "real":
        known.insert(0, ("y", 1))
    for name, k in known[1:]:
        if k != known[0][1]:
            raise ValueError(f"{name} has {k} output(s) but {known[0][0]} has {known[0][1]}; they must agree")
    values = y.values if is_on_device(y) else y
    k = known[0][1] if known else _classes(int(values.max()), int(values.argmax()), len(y))
    if loss.targets == "classes" and k < 2:
        raise ValueError(f"loss={loss.name!r} needs at least two classes, y has {k}; use loss='logistic' for 0/1 targets")
    return k


def _classes(largest: int, row: int, n: int) -> int:
    """The number of classes of n labels, of which row holds the largest."""
    k = largest + 1
    if k > max(1000, 10 * n):
        raise ValueError(
            f"y holds label {largest} in row {row}, which would make {k} classes of {n} rows; labels are 0 .. k-1 "
            "(see sklearn's LabelEncoder), and coef_init or a teacher fixes k if so many are meant"
        )
    return k


def label_outputs(largest: int, row: int, n: int, loss: Loss, others: Iterable[tuple[str, int]]) -> int:
    """As `n_outputs`, for n labels that are not in memory; row holds the largest of them."""
    known = list(others)
    k = n_outputs(np.array([largest]), loss, known or [("y", _classes(largest, row, n))])
    _below(largest, row, k)
    return k


def targets(y: Any, loss: Loss, n: int, *, X_on_device: bool = False, first_row: int = 0) -> Any:
    """Targets checked on their own, before k is known: labels as int64 (n,), everything else (n,) or (n, k).

    X_on_device: whether they may lie on a GPU, and then stay there. first_row: the number of the first, for messages.
    """
    if isinstance(y, VirtualTargets):
        raise TypeError("y is VirtualTargets but X are stored rows: pass y.rows for X, or y[:] for y")
    if X_on_device and on_device(y):
        return device_targets(y, loss, n, lambda Y: targets(Y, loss, n))
    Y = real_array(y, "y")
    if Y.ndim not in (1, 2) or len(Y) != n or 0 in Y.shape:
        raise ValueError(f"y has shape {Y.shape}; expected {n} rows as in X: ({n},) or ({n}, outputs)")
    finite(Y, "y", first_row)
    if loss.targets == "classes" and Y.ndim == 1:
        Y = _labels(Y, loss.name, first_row)
    elif loss.targets == "unit":
        if Y.ndim == 2 and Y.shape[1] != 1:
            raise ValueError(f"y has shape {Y.shape}; loss={loss.name!r} has one output: pass y of shape ({n},)")
        _unit_interval(Y.reshape(n, 1), "y", first_row, f"loss={loss.name!r} takes 0 and 1, or probabilities")
    elif loss.targets == "classes":
        if Y.shape[1] == 1:
            raise ValueError(f"y has shape {Y.shape}; labels are 1-D: pass y.ravel()")
        if loss.functions is not None:
            raise ValueError(f"y has shape {Y.shape}; loss={loss.name!r} is custom and takes labels: pass y of shape ({n},)")
        probabilities(Y, "y", first_row, remedy="rows of y are probabilities, (n, k), or y is 1-D labels")
    if loss.functions is not None:
        _in_domain(Y, loss.name, loss.functions, first_row)
    return Y


def _in_domain(Y: NDArray[Any], name: str, functions: Custom, first_row: int) -> None:
    """Raise for the first target that a custom loss does not allow."""
    if functions.domain is None:
        return
    table = Y.reshape(len(Y), -1) if Y.dtype == np.int64 else Y.reshape(len(Y), -1).astype(np.float64)
    for i, row in enumerate(table):
        for y in [row] if functions.joint and Y.dtype != np.int64 else row:
            if not allowed(functions, y):
                raise ValueError(f"y holds {y} in row {first_row + i}, outside the domain of loss {name!r}")


def virtual_targets(y: Any, X: VirtualRows, loss: Loss, outputs: Iterable[tuple[str, int]]) -> VirtualTargets:
    """Targets of virtual rows, checked against these, the loss and (name, k) of whatever else fixes k."""
    if not isinstance(y, VirtualTargets):
        raise TypeError(
            f"X is VirtualRows, whose targets are made with them: pass VirtualTargets for y, not {type(y).__name__}"
        )
    if y.rows is not X:
        raise ValueError("y are VirtualTargets of other rows: make them from the X that is passed")
    if y.loss != loss.name:
        raise ValueError(f"y are VirtualTargets for loss={y.loss!r}, not for loss={loss.name!r}")
    for name, k in outputs:
        if k != y.n_outputs:
            raise ValueError(f"{name} has {k} output(s) but y has {y.n_outputs}; they must agree")
    return y


def _labels(y: NDArray[Any], loss: str, first_row: int) -> NDArray[np.int64]:
    labels = y.astype(np.int64)
    wrong = np.flatnonzero(labels != y)
    if len(wrong):
        raise ValueError(f"y holds {y[wrong[0]]} in row {first_row + wrong[0]}; loss={loss!r} takes integer labels 0 .. k-1")
    if labels.min() < 0:
        row = int(labels.argmin())
        raise ValueError(
            f"y holds label {labels[row]} in row {first_row + row}; labels are 0 .. k-1: see sklearn's LabelEncoder"
        )
    return labels


def problem_targets(y: Any, k: int, dtype: np.dtype[Any]) -> Any:
    """Checked targets as a backend takes them: labels below k as they are, others as (n, k) of `dtype`, C-ordered."""
    if is_on_device(y):
        sound = device_problem_targets(y, k, dtype)
        return problem_targets(y[:], k, dtype) if sound is None else sound
    if y.ndim == 1 and y.dtype == np.int64 and k > 1:
        row = int(np.argmax(y >= k))
        _below(int(y[row]), row, k)
        return y
    return cast_finite(y.reshape(len(y), k), dtype, "y")


def _below(label: int, row: int, k: int) -> None:
    if label >= k:
        raise ValueError(
            f"y holds label {label} in row {row}; the teacher or initial weights have {k} outputs, for labels 0 .. {k - 1}"
        )


def _unit_interval(values: NDArray[Any], name: str, first_row: int, remedy: str) -> None:
    if values.min() < 0 or values.max() > 1:
        row, column = np.argwhere((values < 0) | (values > 1))[0]
        value, row = values[row, column], first_row + row
        raise ValueError(f"{name} holds {value} in row {row}, column {column}, outside [0, 1]; {remedy}")


def probabilities(P: NDArray[Any], name: str, first_row: int = 0, remedy: str = "logits are given by Teacher.logits") -> None:
    """Rows (n, k) in [0, 1] that sum to one; with k = 1 only the range is checked."""
    _unit_interval(P, name, first_row, remedy)
    if P.shape[1] == 1:
        return
    sums = P.sum(axis=1, dtype=np.float64)
    # a softmax rounds to a few eps; float64 arrays often hold what a float32 network gave, so eps is at least float32's
    eps = np.finfo(P.dtype).eps if P.dtype.kind == "f" else 0.0
    tolerance = 64 * max(float(eps), float(np.finfo(np.float32).eps))
    row = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[row] - 1) > tolerance:
        raise ValueError(
            f"{name}: row {first_row + row} sums to {sums[row]:.6g}; probabilities sum to 1: divide each row by its sum"
        )
