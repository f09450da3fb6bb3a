"""A sample of the rows, at whose optimum Newton's steps over all rows begin.

Far from the optimum a step over some of the rows leads as far as one over all. The optimum of a sample of m rows is off by
about p / (2 m) in the objective, p the number of weights: once a step has gained less than p / m, what the next would gain is
not worth making it there. a9a: two steps over all rows instead of four to a relative suboptimality of 1e-6; w8a two instead of
five to 1e-3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ._job import Job
from ._precondition import columns, is_newton
from ._rows import CsrRows

_SHARE = 4  # of all rows, one in so many at most
_MOST, _LEAST = 64, 16  # rows a weight: more say little more, and fewer too little
_FEW = 1024  # rows that cost too little to care
_STEPS = 8


def sample_of(job: Job, kind: str) -> Job | None:
    """The same fit to a sample of the rows, which its own method need not finish; None where none pays."""
    problem, full = job.problem, job.plan.full_batch
    p = columns(problem)
    m = min(problem.n // _SHARE, max(_MOST * p, _FEW))
    if full is None or kind != "gram" or not is_newton(problem) or m < max(_LEAST * p, _FEW):
        return None
    if problem.loss.quadratic or any(w.any() for w in job.initial):  # one step is enough; a start that may be good
        return None
    # one row from each of m parts, since rows are often sorted; a fixed seed, so that the method stays deterministic
    rows = ((np.arange(m) + np.random.default_rng(0).random(m)) * (problem.n / m)).astype(np.int64)
    weights = None if problem.weights is None else problem.weights[rows]
    if weights is not None and not weights.any():
        return None
    X: Any = problem.X.take(rows) if isinstance(problem.X, CsrRows) else problem.X[rows]
    return replace(
        job,
        problem=replace(
            problem, X=X, y=problem.y[rows], weights=None if weights is None else weights / weights.mean(dtype=weights.dtype)
        ),
        plan=replace(job.plan, full_batch=replace(full, precondition="gram", max_iter=_STEPS)),
        teacher_table=None if job.teacher_table is None else job.teacher_table[rows],
        track=frozenset(),
        callbacks=(),
        tol=None,
    )


def worth_making(job: Job) -> float:
    """The gain in the objective of a step over a sample below which it is the last."""
    return columns(job.problem) / job.n
