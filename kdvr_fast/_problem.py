"""From the user's arrays to a validated `Problem`: the one way in for `solve` and `gradient_stats`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from . import _validation as check
from ._rows import lies_on_device
from ._virtual import is_virtual
from .backends.base import Problem
from .files import DataSet
from .files._rows import FileRows
from .files._stored import Table
from .files._targets import FileOutputs, FileTargets, outputs_of
from .losses import Loss
from .teachers import Teacher


def make_problem(
    X: ArrayLike | DataSet,
    y: ArrayLike | None,
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
    stored = None
    if isinstance(X, DataSet):
        rows, stored = _parts(X, y)
        if scan:
            X.check()
    elif y is None:
        raise TypeError("y is missing: pass the targets of the rows X")
    else:
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
        drawn = check.virtual_targets(y, rows, rule, outputs)
        return Problem(rows, drawn, rule, drawn.n_outputs, fit_intercept=check.flag(fit_intercept, "fit_intercept"))
    made: Any
    if stored is not None:
        k = outputs_of(stored, rule, outputs)
        made = FileTargets(stored, rule, k, rows.dtype)
    else:
        targets = check.targets(y, rule, n, X_on_device=lies_on_device(rows))
        k = check.n_outputs(targets, rule, outputs)
        made = check.problem_targets(targets, k, rows.dtype)
    return Problem(
        X=rows,
        y=made,
        loss=rule,
        n_outputs=k,
        weights=check.sample_weight(sample_weight, n, rows.dtype),
        fit_intercept=check.flag(fit_intercept, "fit_intercept"),
    )


def _parts(data: DataSet, y: object) -> tuple[FileRows, Table]:
    """Rows and targets of a data set."""
    if y is not None:
        raise TypeError("X is a data set that has its targets: leave y out, or give them to open_data")
    if data.y is None:
        raise ValueError("the data set has no targets: name them in open_data, such as y='column' or y='labels.npy'")
    return data.rows, data.y


def teacher_outputs(teacher: Teacher, problem: Problem, *, temperature: float = 1.0, scan: bool = True) -> Any:
    """What a session takes of a teacher that is not linear: its table (n, k), or what reads it beside rows in files."""
    p = problem
    if not isinstance(p.y, FileTargets):
        if temperature == 1.0 and teacher.in_float16:
            return teacher.stored(p.y, p.loss, p.n_outputs, p.X.dtype, scan=scan)
        return teacher.table(p.X, p.y, p.loss, p.n_outputs, temperature=temperature, scan=scan)
    if teacher.kind == "estimator":
        raise ValueError(
            "a fitted estimator would be asked about all rows again in every epoch: store its outputs once, "
            "and name them in open_data (teacher_proba=, teacher_logits=)"
        )
    return FileOutputs(teacher, p.y, p.loss, p.n_outputs, temperature, scan)


def head(problem: Problem) -> Problem:
    """The first row of a problem whose rows stay in files, for a backend to look at; other problems as they are."""
    if not isinstance(problem.y, FileTargets):
        return problem
    return replace(problem, X=problem.X.load(0, 1), y=problem.y[:1], weights=None)
