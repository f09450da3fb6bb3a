"""Gradient statistics of one read of the data: means, second moments, variance, correlation with a teacher.

Per-sample gradients are rank one, so their second moments need only the residuals and |a_i|^2 (+ 1 with an intercept):

    E|grad f_i(x)|^2 = mean |r_i|^2 |a_i|^2        E<grad f_i(x), grad f_i(theta)> = mean <r_i, c_i> |a_i|^2

r, c (n, k) are the residuals at the weights and at the teacher, times the sample weight; nothing n x k x d is formed.
A batch of b rows multiplies every (co)variance by 1/b (i.i.d. rows) or (n-b)/(b(n-1)) (rows without replacement).
Source: arXiv:2305.17581, section 4 (variance, rho, signal-to-noise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation as check
from ._problem import head, make_problem, teacher_outputs
from ._stream import for_reading
from .backends import backend_for
from .backends.base import ControlVariate, FloatArray, Pass, Problem, Session, Work
from .files import DataSet
from .losses import Loss
from .teachers import Teacher


@dataclass(frozen=True)
class GradientStats:
    """Statistics of the gradient estimator on a random batch xi of `batch_size` rows.

    Notation: x the weights and intercept, theta the teacher's; f_i(x) = s_i loss_i + alpha/2 |W|^2 with the sample weight s_i
    (mean one), f their mean over the n rows; f_xi the mean over the batch. Norms and products run over all k(d + 1) entries.
    Moments are those of the estimator that runs: rows are drawn uniformly and multiplied by their weight.
    Without a teacher `teacher_grad` and `teacher_grad_intercept` are None and every other teacher figure is NaN.

    loss: mean of s_i loss_i (no penalty). objective: loss + alpha/2 |W|^2.
    grad (k, d), grad_intercept (k,): grad f(x), the latter zero without an intercept.
    teacher_grad, teacher_grad_intercept: grad f(theta), or the mean of whatever the method subtracts.
    mean_sq_norm: E|grad f_xi(x)|^2. teacher_mean_sq_norm: E|grad f_xi(theta)|^2. cross: E<grad f_xi(x), grad f_xi(theta)>.
    variance: E|grad f_xi(x) - grad f(x)|^2. teacher_variance: the same at theta.
    covariance: cross - <grad f(x), grad f(theta)>.
    rho: cross / sqrt(mean_sq_norm teacher_mean_sq_norm). rho_centered: covariance / sqrt(variance teacher_variance), taken at
        one row since the batch factor cancels. Both are NaN where a moment under the root is zero.
    bias_sq: |grad f(theta)|^2. snr: bias_sq / teacher_mean_sq_norm, the teacher's signal-to-noise ratio (NaN for 0/0).
    n: rows. batch_size, sampling: the estimator the moments belong to.
    """

    loss: float
    objective: float
    grad: NDArray[np.float64]
    grad_intercept: NDArray[np.float64]
    teacher_grad: NDArray[np.float64] | None
    teacher_grad_intercept: NDArray[np.float64] | None
    mean_sq_norm: float
    teacher_mean_sq_norm: float
    cross: float
    variance: float
    teacher_variance: float
    covariance: float
    rho: float
    rho_centered: float
    snr: float
    bias_sq: float
    n: int
    batch_size: int
    sampling: str

    def variance_at(self, lam: float) -> float:
        """Var of ``grad f_xi(x) - lam grad f_xi(theta)``; at lam = 0 this is `variance`, with or without a teacher."""
        if lam == 0:
            return self.variance
        return max(0.0, self.variance - 2 * lam * self.covariance + lam**2 * self.teacher_variance)


def batch_factor(n: int, batch_size: int, sampling: str) -> float:
    """Variance of a batch mean over variance of one row: ``1/b`` ("replacement") or ``(n-b) / (b(n-1))`` ("shuffle")."""
    if sampling == "replacement":
        return 1 / batch_size
    return (n - batch_size) / (batch_size * (n - 1)) if n > 1 else 0.0


def stats_from_pass(
    read: Pass,
    coef: FloatArray,
    *,
    alpha: float = 0.0,
    theta: FloatArray | None = None,
    teacher_alpha: float = 0.0,
    batch_size: int = 1,
    sampling: str = "replacement",
) -> GradientStats:
    """Statistics from one full pass of a backend at `coef` (k, d); theta (k, d) is needed only for teacher_alpha > 0.

    The penalties are deterministic: they shift both means and leave every (co)variance alone, so these are formed first and
    the second moments put together from them.
    """
    n = round(read.sums.rows)
    f = batch_factor(n, batch_size, sampling)
    W = np.asarray(coef, np.float64)
    loss = read.sums.loss / n
    variance = max(0.0, read.sums.xx / n - _dot(read.grad, read.grad) - _dot(read.grad_intercept, read.grad_intercept))
    x, x_b = read.grad + alpha * W, read.grad_intercept
    moment = _dot(x, x) + _dot(x_b, x_b) + f * variance
    t = t_b = None
    teacher_variance = covariance = cross = teacher_moment = bias_sq = float("nan")
    if read.anchor_grad is not None and read.anchor_grad_intercept is not None:
        t, t_b = read.anchor_grad, read.anchor_grad_intercept
        teacher_variance = max(0.0, read.sums.tt / n - _dot(t, t) - _dot(t_b, t_b))
        covariance = read.sums.xt / n - _dot(read.grad, t) - _dot(x_b, t_b)
        if theta is not None:
            t = t + teacher_alpha * np.asarray(theta, np.float64)
        bias_sq = _dot(t, t) + _dot(t_b, t_b)
        teacher_moment = bias_sq + f * teacher_variance
        cross = _dot(x, t) + _dot(x_b, t_b) + f * covariance
    return GradientStats(
        loss=loss,
        objective=loss + alpha / 2 * _dot(W, W),
        grad=x,
        grad_intercept=x_b,
        teacher_grad=t,
        teacher_grad_intercept=t_b,
        mean_sq_norm=moment,
        teacher_mean_sq_norm=teacher_moment,
        cross=cross,
        variance=f * variance,
        teacher_variance=f * teacher_variance,
        covariance=f * covariance,
        rho=_ratio(cross, np.sqrt(moment * teacher_moment)),
        rho_centered=_ratio(covariance, np.sqrt(variance * teacher_variance)),
        snr=_ratio(bias_sq, teacher_moment),
        bias_sq=bias_sq,
        n=n,
        batch_size=batch_size,
        sampling=sampling,
    )


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.vdot(a, b))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b > 0 else float("nan")


def gradient_stats(
    X: ArrayLike | DataSet,
    y: ArrayLike | None,
    coef: ArrayLike,
    *,
    intercept: ArrayLike | None = None,
    loss: str | Loss,
    teacher: Teacher | None = None,
    sample_weight: ArrayLike | None = None,
    alpha: float = 0.0,
    teacher_alpha: float = 0.0,
    batch_size: int = 1,
    sampling: str = "replacement",
    fit_intercept: bool | None = None,
    backend: str = "auto",
    n_threads: int | None = None,
) -> GradientStats:
    """Statistics of the stochastic gradient at fixed weights, in one read of the data and O(k d + n k) memory.

    Args:
        X: (n, d) float32 or float64, rows contiguous or a SciPy CSR matrix; read in place. y: targets as in `solve`.
            Or a `DataSet` of `open_data` and None: chunks of its rows are read one after the other.
        coef: (k, d), or (d,) for one output. intercept: (k,), zero if None.
        loss: "squared", "logistic" or "softmax", or a `Loss.custom`.
        teacher: a `Teacher`; its gradient on row i is residual(teacher's output_i) (x) a_i.
        sample_weight: (n,) non-negative, scaled to mean one; f_i is multiplied by it.
        alpha: adds ``alpha W`` to every grad f_i (not to the intercept). teacher_alpha: ``teacher_alpha theta`` likewise, for
            linear teachers only.
        batch_size: b in 1..n. sampling: "replacement" (i.i.d. rows) or "shuffle" (a batch holds distinct rows).
        fit_intercept: whether gradients have an intercept part; None: if an intercept is given.
        backend, n_threads: as in `solve`.

    Returns:
        `GradientStats`; means over the draw of a batch, sums over rows in float64.

    Raises:
        ValueError, TypeError: input that does not fit, with row, column and value. RuntimeError: a backend that cannot run.

    Example:
        >>> import numpy as np, kdvr_fast as kd
        >>> X, y = np.array([[1.0], [2.0]]), np.array([1.0, 0.0])
        >>> s = kd.gradient_stats(X, y, np.zeros((1, 1)), loss="squared", backend="reference")
        >>> s.loss, s.grad.item(), s.mean_sq_norm, s.variance  # gradients -1 and 0
        (0.25, -0.5, 0.5, 0.25)

    Source: arXiv:2305.17581, section 4.
    """
    check.non_negative(alpha, "alpha")
    check.non_negative(teacher_alpha, "teacher_alpha")
    check.sampling(sampling)
    free = intercept is not None if fit_intercept is None else check.flag(fit_intercept, "fit_intercept")
    problem = make_problem(
        X, y, loss, coef=("coef", coef), teacher=teacher, sample_weight=sample_weight, fit_intercept=free, scan=False
    )
    if teacher_alpha and (teacher is None or not teacher.linear):
        raise ValueError("teacher_alpha needs a linear teacher: Teacher.weights(W, b)")
    b = check.batch_size(batch_size, problem.n)
    point = _point(problem, coef, intercept)
    session = _open(problem, teacher, backend, n_threads)
    read = session.evaluate(*point, _place_teacher(session, problem, teacher))
    if not np.isfinite(read.sums.xx):  # only then is it worth a second read to say where
        check.finite_rows(problem.X)
    theta = teacher.theta(problem.X.dtype)[0] if teacher is not None and teacher.linear else None
    return stats_from_pass(
        read, point[0], alpha=alpha, theta=theta, teacher_alpha=teacher_alpha, batch_size=b, sampling=sampling
    )


def gradient_similarity(
    X: ArrayLike | DataSet,
    y: ArrayLike | None,
    coef: ArrayLike,
    *,
    intercept: ArrayLike | None = None,
    loss: str | Loss,
    teacher: Teacher,
    lam: float,
    temperature: float,
    sample_weight: ArrayLike | None = None,
    fit_intercept: bool | None = None,
    backend: str = "auto",
    n_threads: int | None = None,
) -> float:
    """Cosine between the two mean distillation gradients, the standard form at a temperature T and the shift form.

    Formula: standard ``mean (1-lam) r_i + lam T (link(z_i/T) - link(z_i(theta)/T))``, shift ``mean r_i - lam r_i(theta)``, each
    an outer product with a_i; one at T = 1, where both agree. Neither holds a penalty term.

    Args:
        X, y, coef, intercept, loss, teacher, sample_weight, fit_intercept, backend, n_threads: as in `gradient_stats`.
        lam: the distillation weight in [0, 1]. temperature: T > 0; only 1 for the squared loss.

    Returns:
        The cosine over all k(d + 1) entries, in [-1, 1]; NaN if a gradient is zero. Two reads of the data.

    Raises:
        As `gradient_stats`.

    Example:
        >>> import numpy as np, kdvr_fast as kd
        >>> X, y = np.array([[1.0], [2.0]]), np.array([1, 0])
        >>> teacher = kd.Teacher.logits(np.array([2.0, -1.0]))
        >>> options = dict(loss="logistic", teacher=teacher, lam=0.5, backend="reference")
        >>> round(kd.gradient_similarity(X, y, np.zeros((1, 1)), temperature=1.0, **options), 12)
        1.0

    Source: arXiv:2305.17581, appendix on the two forms; the factor T^2 on the loss as in arXiv:1503.02531.
    """
    check.number(lam, "lam", low=0.0, high=1.0)
    check.positive(temperature, "temperature")
    rule = check.loss(loss)
    if not rule.probabilities and temperature != 1:
        raise ValueError(f"loss={rule.name!r} has no temperature: pass temperature=1")
    free = intercept is not None if fit_intercept is None else check.flag(fit_intercept, "fit_intercept")
    problem = make_problem(
        X, y, loss, coef=("coef", coef), teacher=teacher, sample_weight=sample_weight, fit_intercept=free, scan=False
    )
    point = _point(problem, coef, intercept)
    session = _open(problem, teacher, backend, n_threads)
    standard, shift = (
        _corrected(session.evaluate(*point, _place_teacher(session, problem, teacher, T)), lam) for T in (temperature, 1.0)
    )
    if not np.isfinite(standard).all():
        check.finite_rows(problem.X)
    return _ratio(_dot(standard, shift), float(np.linalg.norm(standard) * np.linalg.norm(shift)))


def _point(problem: Problem, coef: ArrayLike, intercept: ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    k, d, dtype = problem.n_outputs, problem.X.shape[1], problem.X.dtype
    W = check.initial(check.matrix(coef, "coef"), (k, d), dtype, "coef", "(outputs, features)")
    return W, check.initial(intercept, (k,), dtype, "intercept", "one number an output")


def _open(problem: Problem, teacher: Teacher | None, backend: str, n_threads: int | None) -> Session:
    if n_threads is not None:
        check.count(n_threads, "n_threads", low=1)
    source = "none" if teacher is None else "weights" if teacher.linear else "table"
    engine = backend_for(backend, head(problem), Work(variate=ControlVariate(source=source)))
    return for_reading(engine, problem).open(problem, n_threads)


def _place_teacher(session: Session, problem: Problem, teacher: Teacher | None, temperature: float = 1.0) -> ControlVariate:
    """Put the session's anchor at the teacher without a pass over the data."""
    if teacher is None:
        return ControlVariate()
    T = None if temperature == 1 else temperature
    if teacher.linear:
        session.anchor_at(*teacher.theta(problem.X.dtype), cached=False, mean=False)
        return ControlVariate(source="weights", temperature=T)
    session.anchor_table(teacher_outputs(teacher, problem, temperature=temperature), mean=False)
    return ControlVariate(source="table", temperature=T)


def _corrected(read: Pass, lam: float) -> NDArray[np.float64]:
    assert read.anchor_grad is not None and read.anchor_grad_intercept is not None  # a teacher was placed
    return np.column_stack([read.grad - lam * read.anchor_grad, read.grad_intercept - lam * read.anchor_grad_intercept])
