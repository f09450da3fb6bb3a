"""Smoothness and strong convexity of a problem, and the step sizes that follow.

    L_i = s_i * smoothness * |a_i|^2 + alpha      (|a_i|^2 + 1 with an intercept), s_i the sample weight

Shapes: X (n, d); everything else is a scalar.
Source: Gower et al., arXiv:1901.09401 (expected smoothness of mini-batches).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validation as check
from .._rows import blocks, dense, stack
from .._virtual import DISTRIBUTIONS, is_virtual
from ..losses import Loss

_BLOCK_NUMBERS = 1 << 20  # of a block of rows turned into float64: small beside any X worth chunking
_GRAM_LIMIT = 512  # up to this many features the d x d Gram matrix is formed exactly (2 MiB of float64)
_EIGSH_TOL = 1e-6  # relative: far below what a step size can notice


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
    loss: str | Loss,
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
        X: (n, d) float32 or float64, rows contiguous or CSR; read in blocks, twice; sums in float64. `VirtualRows` are not
            read: the constants are those of their distribution, and since that has no largest row, in place of L_max stands the
            expected smoothness of a row, ``smoothness * (sum v + f + (kurtosis - 1) max v) + alpha``, v the variances of the
            features, f = 1 with an intercept, else 0 (exact for the squared loss).
        loss: "squared", "logistic" or "softmax", or a `Loss`.
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
    rule = check.loss(loss)
    scale = rule.smoothness
    if scale is None:
        raise ValueError(
            f"no bound on the curvature of the custom loss {rule.name!r} is known: pass Loss.custom(smoothness=...)"
        )
    check.non_negative(alpha, "alpha")
    if is_virtual(rows):
        variances, free = rows.variances, float(fit_intercept)
        mean, top = float(variances.sum()) + free, float(variances.max())
        expected = mean + (DISTRIBUTIONS[rows.distribution] - 1) * top
        return Smoothness(*(scale * v + alpha for v in (expected, mean, max(top, free))))
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
    loss: str | Loss,
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
    from ..statistics import batch_factor  # here, since both modules are roots of the package's imports

    total = L + 2 * batch_factor(n, batch_size, sampling) * constants.L_max if recursive else 2 * L
    return (1 - momentum) / total


def strong_convexity(
    X: ArrayLike,
    loss: str | Loss,
    coef: ArrayLike | None = None,
    intercept: ArrayLike | None = None,
    *,
    alpha: float = 0.0,
    fit_intercept: bool = True,
    sample_weight: ArrayLike | None = None,
) -> float:
    """mu, the least eigenvalue of the Hessian of f; of all f for the squared loss, at a point for the others.

    Formula: ``lambda_min(mean s_i H_i (x) a_i a_i^T + alpha I)`` with H_i = d2loss/dz2 (k, k), 1 for the squared loss; alpha
    does not act on the intercept. The Hessian of the others fades far away, so that over all weights only alpha is left, and
    with an intercept nothing.

    Args:
        X, loss, alpha, fit_intercept, sample_weight: as in `smoothness`.
        coef: (k, d) where to look, not for the squared loss; None: over all weights. intercept: (k,), zero if None.

    Returns:
        mu, at least 0. Exact (dense eigenvalues) up to 512 rows of the Hessian, k (d + 1) or for the squared loss d + 1; beyond
        by Lanczos iteration, to a relative 1e-6 of the largest eigenvalue, one read of X an iteration.

    Raises:
        As `smoothness`; ValueError for a point of another shape.

    Example:
        >>> import numpy as np
        >>> strong_convexity(np.diag([1.0, 2.0]), "squared", fit_intercept=False)
        0.5

    Source: arXiv:2305.17581, assumption of strong quasi-convexity, which it implies.
    """
    rows = check.features(X, scan=False)
    rule = check.loss(loss)
    check.non_negative(alpha, "alpha")
    if is_virtual(rows):
        raise ValueError("virtual rows are too many to read in Python: pass some of them, such as X[:100_000]")
    n, d = rows.shape
    weights = check.sample_weight(sample_weight, n, np.dtype(np.float64))
    s = np.ones(n) if weights is None else weights.astype(np.float64)
    if rule.quadratic:  # the same everywhere, and for each output
        coef = intercept = None
    elif coef is None:
        return 0.0 if fit_intercept else float(alpha)
    W = np.zeros((1, d)) if coef is None else np.asarray(coef, np.float64)
    if W.ndim != 2 or W.shape[1] != d:
        raise ValueError(f"coef has shape {W.shape}; expected (outputs, {d})")
    b = np.zeros(len(W)) if intercept is None else np.asarray(intercept, np.float64)
    if b.shape != (len(W),):
        raise ValueError(f"intercept has shape {b.shape}; expected ({len(W)},)")
    P = np.column_stack([W, b]) if fit_intercept else W
    penalty = np.full(P.shape[1], float(alpha))
    if fit_intercept:
        penalty[-1] = 0.0

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        V = v.reshape(P.shape)
        out = penalty * V
        for at, A in _blocks(rows, fit_intercept):
            u, w = rule.bends(rule.link(np.asarray(A @ P.T)))
            D = np.asarray(A @ V.T)
            out += (A.T @ (s[at, None] * (u * D - w * (w * D).sum(axis=1, keepdims=True)))).T / n
        return out.ravel()

    if P.size <= _GRAM_LIMIT:
        H = np.array([product(e) for e in np.eye(P.size)])
        return max(0.0, float(np.linalg.eigvalsh((H + H.T) / 2)[0]))
    top = _largest(product, P.size)
    return max(0.0, top - _largest(lambda v: top * v - product(v), P.size))  # small eigenvalues themselves converge slowly


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

    def product(v: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.zeros(size)
        for rows, A in _blocks(X, fit_intercept):
            out += A.T @ (s[rows] * (A @ v.ravel()))
        out /= n
        return out

    return _largest(product, size)


def _largest(product: Callable[[NDArray[np.float64]], NDArray[np.float64]], size: int) -> float:
    """The largest eigenvalue of a symmetric operator by Lanczos iteration."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=size)  # fixed: the same data must give the same step size
    return float(eigsh(operator, k=1, which="LA", v0=start, tol=_EIGSH_TOL, return_eigenvectors=False)[0])
