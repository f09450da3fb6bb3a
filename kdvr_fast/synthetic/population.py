"""The statistics that `gradient_stats` of virtual rows tends to as their number grows, in closed form, for least squares.

Rows have independent symmetric features of variances v_j and kurtosis m4; targets are z_i + noise e_i. With D (k, d) and e (k,)
the weights and intercept less the model's, and likewise D', e' at another point, f = 1 with an intercept, else 0,

    E r_c r'_c |a~|^2 = sum_j D_cj D'_cj v_j (t + (m4 - 1) v_j) + (e_c e'_c + noise^2) t,     t = sum v + f,

a~ being a row with the 1 of the intercept, and grad f = (D v, f e). For normal rows m4 = 3, and this is Isserlis' theorem.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validation as check
from .._virtual import DISTRIBUTIONS, VirtualTargets
from ..backends.base import Pass, Sums
from ..statistics import GradientStats, stats_from_pass
from ..teachers import Teacher

Offset = tuple[NDArray[np.float64], NDArray[np.float64]]


def population_stats(
    y: VirtualTargets,
    coef: ArrayLike,
    *,
    intercept: ArrayLike | None = None,
    teacher: Teacher | None = None,
    alpha: float = 0.0,
    batch_size: int = 1,
    fit_intercept: bool | None = None,
) -> GradientStats:
    """Exact statistics of independent batches of virtual rows, without a row being made.

    Args:
        y: targets for loss="squared", which know their rows. teacher: linear. The rest as in `gradient_stats`.

    Raises:
        ValueError: another loss, or shapes that do not fit. TypeError: not VirtualTargets.

    Example:
        >>> import numpy as np
        >>> from kdvr_fast import Teacher, synthetic
        >>> rows = synthetic.VirtualRows(10**9, 2, seed=1)
        >>> y = synthetic.VirtualTargets(rows, np.ones(2), noise=0.5)
        >>> s = synthetic.population_stats(y, np.ones(2), teacher=Teacher.weights(np.zeros(2)))
        >>> s.loss, s.mean_sq_norm, s.teacher_mean_sq_norm  # noise^2 / 2, noise^2 d, (|w|^2 (d + 2) + noise^2 d)
        (0.125, 0.5, 8.5)
    """
    if not isinstance(y, VirtualTargets):
        raise TypeError(f"population statistics are of VirtualTargets, got {type(y).__name__}")
    if y.loss != "squared":
        raise ValueError(f"loss={y.loss!r} has no closed form; measure with gradient_stats, or use loss='squared'")
    if teacher is not None and not teacher.linear:
        raise ValueError(f"a teacher of {teacher.kind} has no closed form; use Teacher.weights")
    free = intercept is not None if fit_intercept is None else check.flag(fit_intercept, "fit_intercept")
    student = _offset(y, coef, intercept)
    guide = None if teacher is None else _offset(y, *teacher.theta(np.dtype(np.float64)))
    v, n = y.rows.variances, y.rows.n
    # a student's or teacher's intercept acts on the residuals even where it is not trained
    weight, total = v * (v.sum() + free + (DISTRIBUTIONS[y.rows.distribution] - 1) * v), float(v.sum()) + free
    noise_sq = y.n_outputs * y.noise**2

    def moment(a: Offset, b: Offset) -> float:
        return float(n * ((a[0] * b[0] * weight).sum() + ((a[1] * b[1]).sum() + noise_sq) * total))

    loss = n * float((student[0] ** 2 * v).sum() + (student[1] ** 2).sum() + noise_sq) / 2
    sums = Sums(rows=n, loss=loss, xx=moment(student, student))
    means = (student[0] * v, free * student[1])
    if guide is None:
        read = Pass(sums, *means)
    else:
        sums.xt, sums.tt = moment(student, guide), moment(guide, guide)
        read = Pass(sums, *means, guide[0] * v, free * guide[1])
    W = np.atleast_2d(np.asarray(coef, np.float64))
    return stats_from_pass(read, W, alpha=alpha, batch_size=batch_size, sampling="replacement")


def _offset(y: VirtualTargets, coef: ArrayLike, intercept: ArrayLike | None) -> Offset:
    """Weights (k, d) and intercept (k,) less the model's."""
    W, b = (a.astype(np.float64) for a in y.model)
    given = check.initial(check.matrix(coef, "coef"), W.shape, W.dtype, "coef", "(outputs, features)")
    free = check.initial(intercept, b.shape, b.dtype, "intercept", "one number an output")
    return np.asarray(given - W), np.asarray(free - b)
