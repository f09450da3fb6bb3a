"""Teachers of a chosen quality for a synthetic problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .. import _validation as check
from .._virtual import is_virtual
from ..statistics import GradientStats, gradient_stats
from ..teachers import Teacher
from .population import population_stats
from .problems import SyntheticProblem

_HEAD_ROWS = 100_000  # of virtual rows
_FARTHEST = 1e6  # relative distance that is looked at
_QUALITY_TOL = 1e-6  # of a correlation or SNR


def teacher(
    problem: SyntheticProblem,
    *,
    distance: float | None = None,
    snr: float | None = None,
    correlation: float | None = None,
    random_state: int | np.random.Generator | None = None,
) -> Teacher:
    """A linear teacher ``theta = x* + t |x*| u`` in a random direction u, ``|u| = 1``, of one chosen quality.

        distance      |theta - x*| / |x*| = t, intercept included
        snr           |grad f(theta)|^2 / E|grad f_i(theta)|^2, by bisection in t
        correlation   the centred correlation of grad f_i(theta) with grad f_i(x*), by bisection in t

    x* is `problem.best`. Both statistics are those of `gradient_stats` on the problem's rows at x*, met to 1e-6; for virtual
    rows those of `population_stats`, or, for the losses that have none, of the first 100,000 rows.

    Raises:
        ValueError: none or several of the three are given, or no teacher in this direction has that quality.

    Example:
        >>> from kdvr_fast import gradient_stats, synthetic
        >>> p = synthetic.least_squares(200, 3, random_state=0)
        >>> t = synthetic.teacher(p, correlation=0.9, random_state=1)
        >>> s = gradient_stats(p.X, p.y, p.optimum[0], loss=p.loss, teacher=t, backend="reference")
        >>> round(s.rho_centered, 4)
        0.9
    """
    given = {
        name: value for name, value in (("distance", distance), ("snr", snr), ("correlation", correlation)) if value is not None
    }
    if len(given) != 1:
        raise ValueError(
            f"a teacher has one quality: pass one of distance, snr and correlation, got {', '.join(given) or 'none'}"
        )
    W, b = problem.best
    size = float(np.sqrt((W * W).sum() + (b * b).sum()))
    if size == 0:
        raise ValueError("the optimum is zero, so that no distance is relative to it")
    if is_virtual(problem.X) and problem.loss != "squared":
        problem = replace(problem, X=problem.X[:_HEAD_ROWS], y=problem.y[:_HEAD_ROWS])
    rng = np.random.default_rng(random_state)
    U, u = rng.standard_normal(W.shape), rng.standard_normal(b.shape) * problem.fit_intercept
    size /= float(np.sqrt((U * U).sum() + (u * u).sum()))

    def at(t: float) -> Teacher:
        return Teacher.weights(W + t * size * U, b + t * size * u)

    if distance is not None:
        return at(check.non_negative(distance, "distance"))
    name, goal = next(iter(given.items()))
    return at(_search(problem, at, name, check.number(goal, name, above=0.0, below=1.0)))


def _search(problem: SyntheticProblem, at: Callable[[float], Teacher], name: str, goal: float) -> float:
    """The t between which and 0 the quality passes its goal, to its tolerance."""
    falls = name == "correlation"

    def quality(t: float) -> float:
        s = _stats(problem, at(t))
        return s.rho_centered if falls else s.snr

    low, high = 1 / _FARTHEST, _FARTHEST
    ends = quality(low), quality(high)
    if not min(ends) <= goal <= max(ends):
        raise ValueError(
            f"{name}={goal:g} is out of reach: teachers in this direction have {min(ends):.4g} .. {max(ends):.4g}; "
            "choose a value between, or another random_state"
        )
    while True:
        t = float(np.sqrt(low * high))
        value = quality(t)
        if abs(value - goal) <= _QUALITY_TOL or high / low < 1 + 1e-12:
            return t
        low, high = (t, high) if (value > goal) == falls else (low, t)


def _stats(problem: SyntheticProblem, guide: Teacher) -> GradientStats:
    W, b = problem.best
    if is_virtual(problem.X) and problem.loss == "squared":
        return population_stats(problem.y, W, intercept=b, teacher=guide, fit_intercept=problem.fit_intercept)
    return gradient_stats(
        problem.X, problem.y, W, intercept=b, loss=problem.loss, teacher=guide, fit_intercept=problem.fit_intercept
    )
