"""The exact stationary error of KD-SGD on least squares: what every claim about noise floors is measured against.

Shapes: A (n, d), b (n,), theta (d,), S (d, d).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _validation as check

_ORACLE_LIMIT = 48  # the oracle solves a dense system of d^2 unknowns: 42 MB at d = 48


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
