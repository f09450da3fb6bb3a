"""What the theory says, as numbers: the best distillation weight, smoothness constants, step sizes, the exact oracle.

    lambda* = C / (V + B / (gamma kappa))      L_i = s_i * smoothness * |a_i|^2 + alpha     (|a_i|^2 + 1 with an intercept)

C = E<grad f_xi(x), grad f_xi(theta)>, V = E|grad f_xi(theta)|^2, B = |grad f(theta)|^2, gamma the learning rate, s_i the sample
weight. Shapes: X (n, d); everything else is a scalar, except in the oracle: A (n, d), b (n,), theta (d,), S (d, d).
Source: arXiv:2305.17581 (lambda*); Gower et al., arXiv:1901.09401 (expected smoothness of mini-batches).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation as check
from ._rows import blocks, dense, stack

if TYPE_CHECKING:
    from .statistics import GradientStats

_BLOCK_NUMBERS = 1 << 20  # of a block of rows turned into float64: small beside any X worth chunking
_GRAM_LIMIT = 512  # up to this many features the d x d Gram matrix is formed exactly (2 MiB of float64)
_ORACLE_LIMIT = 48  # the oracle solves a dense system of d^2 unknowns: 42 MB at d = 48
_EIGSH_TOL = 1e-6  # relative: far below what a step size can notice


# -- the distillation weight -------------------------------------------------------------------------------------------


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


# -- smoothness and step sizes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smoothness:
    """Smoothness constants of f = mean f_i: the largest and the mean L_i, and L_full of f itself.

    All are upper bounds over all weights (attained for the squared loss) and include alpha and the sample weights.
    """

    L_max: float
    L_mean: float
    L_full: float


def smoothness(
    X: ArrayLike,
    loss: str,
    *,
    alpha: float = 0.0,
    fit_intercept: bool = True,
    sample_weight: ArrayLike | None = None,
) -> Smoothness:
    """Smoothness constants of the rows' losses and of their mean.

    Formula: ``L_i = s_i * smoothness * |a_i|^2 + alpha`` (|a_i|^2 + 1 with an intercept; s_i the sample weight, mean one),
    smoothness = 1 (squared), 1/4 (logistic), 1/2 (softmax);
    ``L_full = smoothness * lambda_max(1/n sum s_i a_i a_i^T) + alpha``.

    Args:
        X: (n, d) float32 or float64, rows contiguous or CSR; read in blocks, twice; sums in float64.
        loss: "squared", "logistic" or "softmax".
        alpha: the L2 coefficient (a term ``alpha/2 |W|^2`` of the objective).
        fit_intercept: whether a constant feature 1 is appended (alpha then bounds its curvature from above).
        sample_weight: (n,) non-negative; scaled to mean one.

    Returns:
        `Smoothness`. For d > 512 L_full is found by Lanczos iteration to a relative 1e-6, one read of X an iteration.

    Raises:
        ValueError: bad shapes, an unknown loss, a negative alpha. TypeError: dtypes that are not read in place.

    Example:
        >>> import numpy as np
        >>> smoothness(np.eye(2), "squared", fit_intercept=False)
        Smoothness(L_max=1.0, L_mean=1.0, L_full=0.5)

    Source: theory of SGD, e.g. arXiv:1901.09401.
    """
    rows = check.features(X, scan=False)
    scale = check.loss(loss).smoothness
    check.non_negative(alpha, "alpha")
    n = rows.shape[0]
    weights = check.sample_weight(sample_weight, n, np.dtype(np.float64))
    s = np.ones(n) if weights is None else weights.astype(np.float64)
    norms = np.concatenate([(A * A).sum(axis=1) for _, A in _blocks(rows, fit_intercept)])
    if not np.isfinite(norms).all():  # only then is it worth another read to say where
        check.finite_rows(rows)
    L = scale * s * norms + alpha
    top = _largest_eigenvalue(rows, s, fit_intercept)
    return Smoothness(L_max=float(L.max()), L_mean=float(L.mean()), L_full=float(scale * top + alpha))


def batch_smoothness(constants: Smoothness, n: int, batch_size: int, sampling: str = "shuffle") -> float:
    """Expected smoothness L(b) of the mean over a batch of b of n rows.

    Formula: ``n(b-1)/(b(n-1)) L_full + (n-b)/(b(n-1)) L_max`` without replacement ("shuffle"),
    ``(b-1)/b L_full + L_max/b`` for i.i.d. rows ("replacement").

    Raises:
        ValueError: batch_size outside 1..n, or an unknown sampling.

    Example:
        >>> batch_smoothness(Smoothness(L_max=4.0, L_mean=2.0, L_full=1.0), n=10, batch_size=10)
        1.0

    Source: Gower et al., arXiv:1901.09401, Proposition 3.8.
    """
    b = check.batch_size(batch_size, n)
    check.choice(sampling, ("shuffle", "replacement"), "sampling")
    if sampling == "replacement":
        return (b - 1) / b * constants.L_full + constants.L_max / b
    if n == 1:
        return constants.L_max
    return (n * (b - 1) * constants.L_full + (n - b) * constants.L_max) / (b * (n - 1))


def auto_learning_rate(
    X: ArrayLike,
    loss: str,
    *,
    batch_size: int = 1,
    alpha: float = 0.0,
    fit_intercept: bool = True,
    sample_weight: ArrayLike | None = None,
    sampling: str = "shuffle",
    recursive: bool = False,
    momentum: float = 0.0,
) -> float:
    """A constant rate: ``(1 - momentum) / (2 L(b))``, for recursive anchors ``(1 - momentum) / (L(b) + 2 f(b) L_max)``.

    f(b) L_max, with f(b) = (n-b)/(b(n-1)) ("shuffle") or 1/b ("replacement"), is the part of L(b) that comes from single rows.
    A recursive anchor triples that part alone: the rate is SAGA's 1/(3 L_max) for single rows and gradient descent's 1/L_full
    for all, and between them follows the batch. The other estimators double all of L(b).

    Args:
        X, loss, alpha, fit_intercept, sample_weight: as in `smoothness`.
        batch_size, sampling: as in `batch_smoothness`.
        recursive: the anchor follows the iterates (SVRG, L-SVRG, SAGA).
        momentum: heavy ball or Nesterov with coefficient mu multiplies the effective rate by ``1 / (1 - mu)``.

    Returns:
        The learning rate per step.

    Raises:
        ValueError: as in `smoothness`; momentum outside [0, 1); X all zero without alpha, where any rate would do.

    Example:
        >>> import numpy as np
        >>> auto_learning_rate(np.eye(2), "squared", fit_intercept=False)
        0.5

    Source: SGD: gamma <= 1/(2 L) (arXiv:1901.09401, Theorem 3.1); SAGA: 1/(3 L_max) for single rows (arXiv:1407.0202); for
    batches as in Gazagnadou, Gower and Salmon, arXiv:1902.00071, with their constant 4 made 3 and 1.
    """
    check.momentum(momentum)
    constants = smoothness(X, loss, alpha=alpha, fit_intercept=fit_intercept, sample_weight=sample_weight)
    n = check.features(X, scan=False).shape[0]
    L = batch_smoothness(constants, n, batch_size, sampling)
    if L <= 0:
        raise ValueError("X is all zero and alpha is 0, so no learning rate follows from the data: pass a number")
    from .statistics import batch_factor  # here, since both modules are roots of the package's imports

    total = L + 2 * batch_factor(n, batch_size, sampling) * constants.L_max if recursive else 2 * L
    return (1 - momentum) / total


def _blocks(X: Any, fit_intercept: bool) -> Iterator[tuple[slice, Any]]:
    """Blocks of rows in float64, with a 1 appended if there is an intercept."""
    for rows, A in blocks(X, _BLOCK_NUMBERS):
        yield rows, stack([A, np.ones((A.shape[0], 1))], axis=1) if fit_intercept else A


def _largest_eigenvalue(X: Any, s: NDArray[np.float64], fit_intercept: bool) -> float:
    """lambda_max of 1/n sum s_i a_i a_i^T: of the matrix itself if it is small, else by Lanczos iteration."""
    n, size = X.shape[0], X.shape[1] + int(fit_intercept)
    if size <= _GRAM_LIMIT:
        gram = np.zeros((size, size))
        for rows, A in _blocks(X, fit_intercept):
            gram += dense(A.T @ (A * s[rows, None]))
        return float(np.linalg.eigvalsh(gram / n)[-1])

    from scipy.sparse.linalg import LinearOperator, eigsh

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.zeros(size)
        for rows, A in _blocks(X, fit_intercept):
            out += A.T @ (s[rows] * (A @ v.ravel()))
        out /= n
        return out

    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=size)  # fixed: the same data must give the same step size
    return float(eigsh(operator, k=1, which="LA", v0=start, tol=_EIGSH_TOL, return_eigenvectors=False)[0])


# -- the exact oracle --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeastSquaresOracle:
    """The exact stationary error of KD-SGD on least squares, ``f_i(x) = (a_i.x - b_i)^2 / 2``, rows drawn i.i.d. one at a time.

    With h_i = grad f_i(x*) - lam (grad f_i(theta) - u mean_j grad f_j(theta)), u = 1 if unbiased else 0, H = mean a_i a_i^T and
    P_i = I - gamma a_i a_i^T, the stationary mean offset is ``m = -H^-1 mean(h)`` and the stationary second moment solves
    ``S = mean_i [P_i S P_i - gamma (P_i m h_i^T + h_i m^T P_i) + gamma^2 h_i h_i^T]``.

    x_star: (d,) the minimiser. mean_offset: (d,) m = E x - x*. second_moment: (d, d) S = E (x - x*)(x - x*)^T.

    Source: derived from the recursion x+ = x - gamma (grad f_i(x) - lam grad f_i(theta)) of arXiv:2305.17581.
    """

    x_star: NDArray[np.float64]
    mean_offset: NDArray[np.float64]
    second_moment: NDArray[np.float64]

    @property
    def error(self) -> float:
        """E|x - x*|^2 = trace(S), what a long run's time average of |x_t - x*|^2 tends to."""
        return float(np.trace(self.second_moment))

    @classmethod
    def solve(
        cls, A: ArrayLike, b: ArrayLike, *, lam: float, learning_rate: float, theta: ArrayLike, unbiased: bool = False
    ) -> LeastSquaresOracle:
        """Solve the d^2 x d^2 linear system above in float64.

        Args:
            A: (n, d) rows of full column rank, d <= 48. b: (n,) targets. theta: (d,) the teacher.
            lam: distillation weight, any real number. learning_rate: gamma per step.
            unbiased: whether the teacher's mean gradient is added back.

        Raises:
            ValueError: shapes that do not fit; A without full column rank; a learning rate for which S is infinite.

        Example:
            >>> import numpy as np
            >>> A, b = np.eye(2), np.array([1.0, 2.0])
            >>> LeastSquaresOracle.solve(A, b, lam=0.0, learning_rate=0.5, theta=np.zeros(2)).error
            0.0
        """
        A, b, theta = np.asarray(A, np.float64), np.asarray(b, np.float64), np.asarray(theta, np.float64)
        _check_oracle_shapes(A, b, theta)
        check.positive(learning_rate, "learning_rate")
        n = len(A)
        x_star: NDArray[np.float64] = np.linalg.lstsq(A, b, rcond=None)[0]
        at_teacher = (A @ theta - b)[:, None] * A
        h = (A @ x_star - b)[:, None] * A - lam * (at_teacher - float(unbiased) * at_teacher.mean(0))
        m: NDArray[np.float64] = -np.linalg.solve(A.T @ A / n, h.mean(0))
        Pm = m - learning_rate * (A @ m)[:, None] * A
        cross = Pm.T @ h / n
        constant = learning_rate**2 * h.T @ h / n - learning_rate * (cross + cross.T)
        S = _solve_moments(A, learning_rate, constant)
        return cls(x_star, m, (S + S.T) / 2)


def _check_oracle_shapes(A: NDArray[np.float64], b: NDArray[np.float64], theta: NDArray[np.float64]) -> None:
    if A.ndim != 2 or b.shape != A.shape[:1] or theta.shape != A.shape[1:]:
        raise ValueError(f"expected A (n, d), b (n,), theta (d,); got {A.shape}, {b.shape}, {theta.shape}")
    if A.shape[1] > _ORACLE_LIMIT:
        raise ValueError(f"the oracle solves for d^2 numbers: d = {A.shape[1]} is above its limit of {_ORACLE_LIMIT}")
    if np.linalg.matrix_rank(A) < A.shape[1]:
        raise ValueError("A lacks full column rank, so the minimiser is not unique: drop dependent columns")


def _solve_moments(A: NDArray[np.float64], learning_rate: float, constant: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve S - mean_i P_i S P_i = constant; on vec(S) a symmetric operator, positive definite iff the moments are finite."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    n, d = A.shape
    outer = (A[:, :, None] * A[:, None, :]).reshape(n, d * d)
    eye, H = np.eye(d), A.T @ A / n
    system = learning_rate * (np.kron(eye, H) + np.kron(H, eye)) - learning_rate**2 * (outer.T @ outer) / n
    try:
        factor = cho_factor(system)
    except LinAlgError:
        raise ValueError(f"learning_rate = {learning_rate} is too large for these rows: the second moment diverges") from None
    return np.asarray(cho_solve(factor, constant.ravel())).reshape(d, d)
