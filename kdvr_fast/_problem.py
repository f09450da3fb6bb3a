"""From the user's arrays to a validated `Problem`: the one way in for `solve` and `gradient_stats`."""

from __future__ import annotations

from numpy.typing import ArrayLike

from . import _validation as check
from ._rows import is_on_device
from ._virtual import is_virtual
from .backends.base import Problem
from .losses import Loss
from .teachers import Teacher


def make_problem(
    X: ArrayLike,
    y: ArrayLike,
    loss: str | Loss,
    *,
    coef: tuple[str, ArrayLike | None],
    teacher: Teacher | None,
    sample_weight: ArrayLike | None,
    fit_intercept: bool,
    scan: bool,
) -> Problem:
    """Data and targets, checked together. k comes from y, the weights and the teacher, which must agree.

    coef: name and value of the argument that holds weights (k, d), for the messages. scan: search X for NaN and infinities.
    """
    rule = check.loss(loss)
    if teacher is not None and not isinstance(teacher, Teacher):
        raise TypeError(f"teacher must be a Teacher, such as Teacher.weights(W, b), got {type(teacher).__name__}")
    rows = check.features(X, scan=scan)
    n, d = rows.shape
    name, W = coef
    outputs = [] if W is None else [(name, len(check.matrix(W, name)))]
    if teacher is not None:
        if is_virtual(rows) and not teacher.linear:
            raise ValueError(
                f"virtual rows take Teacher.weights, computed where they are made; not a teacher of {teacher.kind}"
            )
        teacher.check(n, d)
        k = teacher.n_outputs(rule)
        outputs += [] if k is None else [("teacher", k)]
    if is_virtual(rows):
        if sample_weight is not None:
            raise ValueError("sample_weight: virtual rows have no weights of their own; leave it out")
        made = check.virtual_targets(y, rows, rule, outputs)
        return Problem(rows, made, rule, made.n_outputs, fit_intercept=check.flag(fit_intercept, "fit_intercept"))
    targets = check.targets(y, rule, n, X_on_device=is_on_device(rows))
    k = check.n_outputs(targets, rule, outputs)
    return Problem(
        X=rows,
        y=check.problem_targets(targets, k, rows.dtype),
        loss=rule,
        n_outputs=k,
        weights=check.sample_weight(sample_weight, n, rows.dtype),
        fit_intercept=check.flag(fit_intercept, "fit_intercept"),
    )
