"""The best distillation weight, the noise it leaves, and the bounds on a run.

    lambda* = C / (V + B / (gamma kappa))          N(lam) = lam^2 B / kappa + gamma E|grad f_xi(x) - lam grad f_xi(theta)|^2

C = E<grad f_xi(x), grad f_xi(theta)>, V = E|grad f_xi(theta)|^2, B = |grad f(theta)|^2, gamma the learning rate.
Source: arXiv:2305.17581, Theorem 1; the bounds with these constants are derived from the same assumptions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import _validation as check

if TYPE_CHECKING:
    from ..statistics import GradientStats


def optimal_lambda(
    stats: GradientStats,
    learning_rate: float,
    kappa: float = 1.0,
    unbiased: bool = False,
    clip: bool = True,
) -> float:
    """The distillation weight that minimises the noise floor, from statistics near the optimum.

    Formula: ``lambda* = C / (V + B / (learning_rate * kappa))`` with C = ``stats.cross``, V = ``stats.teacher_mean_sq_norm``,
    B = ``stats.bias_sq``; for unbiased distillation ``covariance / teacher_variance`` (no bias, so no learning rate enters).

    Args:
        stats: of ``gradient_stats(..., teacher=...)``; means over the draw of a batch of ``stats.batch_size`` rows.
        learning_rate: gamma > 0, per step.
        kappa: 1 in the paper's statement; mu (strong quasi-convexity) or 2 L_f (PL) in the derived bounds.
        unbiased: for `UnbiasedKD` and the coefficient of `SVRG`.
        clip: to [0, 1].

    Returns:
        lambda*; 0.0 if the teacher's gradients are all zero (then the weight has no effect).

    Raises:
        ValueError: the statistics have no teacher, or learning_rate or kappa is not positive.

    Example:
        >>> import numpy as np, kdvr_fast as kd
        >>> X, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2
        >>> teacher = kd.Teacher.weights(np.zeros((1, 3)))
        >>> s = kd.gradient_stats(X, y, np.zeros((1, 3)), loss="logistic", teacher=teacher, backend="reference")
        >>> round(kd.optimal_lambda(s, learning_rate=0.1, unbiased=True), 12)
        1.0

    Source: arXiv:2305.17581, Theorem 1; the unbiased form is the classical control-variate coefficient.
    """
    _require_teacher(stats)
    check.positive(learning_rate, "learning_rate")
    check.positive(kappa, "kappa")
    if unbiased:
        top, bottom = stats.covariance, stats.teacher_variance
    else:
        top, bottom = stats.cross, stats.teacher_mean_sq_norm + stats.bias_sq / (learning_rate * kappa)
    lam = top / bottom if bottom > 0 else 0.0
    return float(np.clip(lam, 0.0, 1.0)) if clip else float(lam)


def noise(stats: GradientStats, lam: float, learning_rate: float, kappa: float = 1.0, unbiased: bool = False) -> float:
    """The noise term that the distillation weight minimises.

    Formula: ``lam^2 B / kappa + learning_rate * E|grad f_xi(x) - lam grad f_xi(theta)|^2``. For unbiased distillation B drops
    out and ``grad f_xi(theta)`` is centred. At lam = 0 it is SGD's; the ratio to it says how far the teacher lowers the noise
    floor. Statistics, units and errors as for `optimal_lambda`, whose unclipped value is where this quadratic is smallest.

    Example:
        >>> import numpy as np, kdvr_fast as kd
        >>> X, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2
        >>> teacher = kd.Teacher.weights(np.zeros((1, 3)))
        >>> s = kd.gradient_stats(X, y, np.zeros((1, 3)), loss="logistic", teacher=teacher, backend="reference")
        >>> bool(noise(s, 0.5, learning_rate=0.1, unbiased=True) < noise(s, 0.0, learning_rate=0.1, unbiased=True))
        True

    Source: arXiv:2305.17581, Theorem 1.
    """
    _require_teacher(stats)
    check.positive(learning_rate, "learning_rate")
    check.positive(kappa, "kappa")
    if unbiased:
        return learning_rate * (stats.mean_sq_norm - 2 * lam * stats.covariance + lam**2 * stats.teacher_variance)
    moment = stats.mean_sq_norm - 2 * lam * stats.cross + lam**2 * stats.teacher_mean_sq_norm
    return lam**2 * stats.bias_sq / kappa + learning_rate * moment


def _require_teacher(stats: GradientStats) -> None:
    if stats.teacher_grad is None:
        raise ValueError("these statistics have no teacher: pass teacher= to gradient_stats")


def noise_ratio(stats: GradientStats, learning_rate: float, kappa: float = 1.0, unbiased: bool = False) -> float:
    """The best weight's noise over SGD's, N(lambda*) / N(0).

    Formula: ``1 - rho^2 / (1 + B / (gamma kappa V))``; for unbiased distillation ``1 - rho_centered^2`` (of N without its part
    |grad f(x)|^2, zero at the optimum). lambda* is not clipped. Statistics, units and errors as for `optimal_lambda`; NaN where
    a moment under rho's root is zero.

    Example:
        >>> import numpy as np, kdvr_fast as kd
        >>> X, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2
        >>> teacher = kd.Teacher.weights(np.zeros((1, 3)))
        >>> s = kd.gradient_stats(X, y, np.zeros((1, 3)), loss="logistic", teacher=teacher, backend="reference")
        >>> round(noise_ratio(s, learning_rate=0.1, unbiased=True), 12) + 0.0
        0.0

    Source: arXiv:2305.17581, Theorem 1 and its corollaries.
    """
    _require_teacher(stats)
    check.positive(learning_rate, "learning_rate")
    check.positive(kappa, "kappa")
    if unbiased:
        return 1 - stats.rho_centered**2
    if stats.teacher_mean_sq_norm == 0:
        return math.nan
    return 1 - stats.rho**2 / (1 + stats.bias_sq / (learning_rate * kappa * stats.teacher_mean_sq_norm))


def sqc_bound(
    stats: GradientStats,
    lam: float,
    learning_rate: float,
    *,
    mu: float,
    L: float,
    steps: float,
    start_sq: float,
    unbiased: bool = False,
) -> float:
    """A bound on E|x_t - x*|^2 of KD-SGD under strong quasi-convexity.

    Formula: ``(1 - gamma mu / 2)^t |x_0 - x*|^2 + (4 / mu) N(lam)``, with kappa = mu in N.

    Args:
        stats: of ``gradient_stats(..., teacher=...)`` at the optimum x*, for the batch size and sampling of the run.
        lam, learning_rate: of the run; gamma <= 1 / (2 L).
        mu: strong quasi-convexity, see `strong_convexity`. L: expected smoothness of the batches, see `batch_smoothness`.
        steps: t, not negative; math.inf gives the noise floor. start_sq: |x_0 - x*|^2, all weights and the intercept.
        unbiased: of `UnbiasedKD`.

    Raises:
        ValueError: a number outside its range; a learning rate above 1 / (2 L), where the bound does not hold.

    Example:
        >>> import math, numpy as np, kdvr_fast as kd
        >>> X, y = np.eye(2), np.array([1.0, 2.0])
        >>> teacher = kd.Teacher.weights([[1.0, 2.0]])
        >>> options = dict(loss="squared", fit_intercept=False, teacher=teacher, backend="reference")
        >>> s = kd.gradient_stats(X, y, [[1.0, 2.0]], **options)
        >>> sqc_bound(s, 0.5, 0.1, mu=0.5, L=1.0, steps=math.inf, start_sq=5.0)
        0.0

    Source: derived from the assumptions of arXiv:2305.17581, Theorem 1.
    """
    check.positive(mu, "mu")
    _check_rate(learning_rate, 1 / (2 * check.positive(L, "L")), "1 / (2 L)")
    start = _transient(learning_rate, mu, steps) * check.non_negative(start_sq, "start_sq")
    return start + 4 / mu * noise(stats, lam, learning_rate, mu, unbiased)


def pl_bound(
    stats: GradientStats,
    lam: float,
    learning_rate: float,
    *,
    mu: float,
    L: float,
    L_full: float,
    steps: float,
    start_gap: float,
    unbiased: bool = False,
) -> float:
    """A bound on E f(x_t) - f* of KD-SGD under the Polyak-Lojasiewicz condition.

    Formula: ``(1 - gamma mu / 2)^t (f(x_0) - f*) + (2 L_full / mu) N(lam)``, with kappa = 2 L_full in N.

    Args:
        stats, lam, mu (here of |grad f|^2 >= 2 mu (f - f*)), L, steps, unbiased: as for `sqc_bound`.
        learning_rate: gamma <= mu / (4 L L_full). L_full: smoothness of f. start_gap: f(x_0) - f*.

    Raises:
        ValueError: a number outside its range; a learning rate for which the bound does not hold.

    Example:
        >>> import math, numpy as np, kdvr_fast as kd
        >>> teacher = kd.Teacher.weights([[1.0, 2.0]])
        >>> options = dict(loss="squared", fit_intercept=False, teacher=teacher, backend="reference")
        >>> s = kd.gradient_stats(np.eye(2), np.array([1.0, 2.0]), [[1.0, 2.0]], **options)
        >>> pl_bound(s, 0.5, 0.1, mu=0.5, L=1.0, L_full=0.5, steps=0, start_gap=1.25)
        1.25

    Source: derived from the assumptions of arXiv:2305.17581, Theorem 2.
    """
    check.positive(mu, "mu")
    most = mu / (4 * check.positive(L, "L") * check.positive(L_full, "L_full"))
    _check_rate(learning_rate, most, "mu / (4 L L_full)")
    start = _transient(learning_rate, mu, steps) * check.non_negative(start_gap, "start_gap")
    return start + 2 * L_full / mu * noise(stats, lam, learning_rate, 2 * L_full, unbiased)


def _transient(learning_rate: float, mu: float, steps: float) -> float:
    if not steps >= 0:
        raise ValueError(f"steps={steps!r} is outside its range: 0 or more, math.inf for the noise floor")
    return float(max(0.0, 1 - learning_rate * mu / 2) ** steps)


def _check_rate(learning_rate: float, most: float, formula: str) -> None:
    check.positive(learning_rate, "learning_rate")
    if learning_rate > most * (1 + 1e-12):
        raise ValueError(f"learning_rate={learning_rate:g} is above {formula} = {most:g}, up to which the bound holds")
