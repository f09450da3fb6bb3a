"""The metric of a full-batch method's steps: a model of the Hessian at the current weights, and its inverse.

With P = (W, b) of shape (k, p), p = d + 1 with an intercept, and d2loss_i/dz2 = diag(u_i) - v_i v_i^T, t_i its trace, the
Hessian is mean s_i (diag(u_i) - v_i v_i^T) (x) a_i a_i^T + alpha I. Its model is

    H ~ M (x) G + alpha I,    G (p, p) = mean s_i t_i a_i a_i^T,    M (k, k) = sum s_i (diag(u_i) - v_i v_i^T) / sum s_i t_i

which is exact where there is one output or the rows share one curvature: for the squared loss, and for any loss at P = 0. With
M = Q diag(m) Q^T it is inverted in the rows of Q^T P: ``m_c (G + alpha / mean(m))`` stands for row c. A direction that M does
not see (softmax: all logits raised alike) has the curvature alpha alone. G comes from all rows where they are few, else from
at most about m of them, a multiple of p: row i is taken with the probability min(1, s_i t_i m / sum s_j t_j) and counts for
those that are not. So the price does not grow with n, and rows fitted beyond doubt, most of w8a, are hardly read.

Source: M (x) G: Martens and Grosse, arXiv:1503.05671; rows drawn by curvature: Xu et al., arXiv:1607.00559.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._rows import is_sparse, row_numbers
from .backends.base import FloatArray, Problem, Session

Floats = NDArray[np.float64]

_GRAM_LIMIT = 2048  # columns: beyond, p^3 work and p^2 numbers are no longer small beside a pass
_GRAM_CHEAP = 512  # columns up to which it is built whatever n is
_ROWS_A_COLUMN = 16  # relative error of G about sqrt(1 / 16): 4 percent more iterations than from all 60000 rows of MNIST
_ROWS_OF_NEWTON = 512  # 1 / 20: near the optimum a step still divides what is left of the objective by some hundreds
_BLOCK_NUMBERS = 1 << 21  # of rows or logits held at once
_LEAST_CURVATURE = 1e-6  # of s_i t_i: rows fitted beyond doubt must not make the model flat
_FLAT = 1e-10  # relative eigenvalue of M below which the loss does not see a direction
_LEAST_PIVOT = 1e-12
_SHORT = 64  # numbers a row holds, up to which that many rows cost no more than a few passes


@dataclass(frozen=True)
class Metric:
    """H^-1 for gradients (k, p). exact: it is so close to the Hessian that steps are Newton's.

    Q (k, k). scale (k, p): H^-1 in the rows of Q^T P, or in those that M sees what is left of it beside that of `factor`, the
    Cholesky factor (p, p) of G with its penalty and a unit diagonal, root (p,) the roots of the diagonal it had. seen (k,).
    """

    Q: Floats
    scale: Floats
    exact: bool = False
    factor: Floats | None = None
    root: Floats | None = None
    seen: NDArray[np.bool_] | None = None

    def solve(self, G: Floats) -> Floats:
        """H^-1 G, (k, p)."""
        V = self.Q.T @ G
        if self.factor is not None and self.root is not None:
            from scipy.linalg import cho_solve

            V[self.seen] = cho_solve((self.factor, True), (V[self.seen] / self.root).T, check_finite=False).T / self.root
        V *= self.scale
        solved: Floats = self.Q @ V
        return solved


def resolve(asked: str, problem: Problem) -> str:
    """The kind that "auto" stands for on this problem; every other is itself. Raises ValueError where there is no Hessian."""
    if problem.loss.curvature is None and asked in ("diagonal", "gram"):
        raise ValueError(
            f"precondition={asked!r} is made of second derivatives, which the custom loss {problem.loss.name!r} does not have; "
            "use precondition='none'"
        )
    if problem.loss.curvature is None:
        return "none"
    if asked != "auto":
        return asked
    n, k, p = problem.n, problem.n_outputs, columns(problem)
    if p <= _GRAM_CHEAP or (p <= _GRAM_LIMIT and p * p <= 16 * n * k):
        return "gram"
    return "none" if is_sparse(problem.X) else "diagonal"  # words of 20 newsgroups: 36 iterations without it, 40 with it


def measure(session: Session, problem: Problem, Z: FloatArray, alpha: float, kind: str) -> Metric:
    """The metric where the logits are Z (n, k); kind: "diagonal" or "gram". Reads the rows once."""
    t, M = _curvature(problem, Z)
    m, Q = np.linalg.eigh(M)
    m = np.where(m > _FLAT * m[-1], m, 0.0)
    penalty = np.full(columns(problem), alpha)
    if problem.fit_intercept:
        penalty[-1] = 0.0
    if kind == "diagonal":
        return Metric(Q, scale=_inverse(np.outer(m, _second_moments(problem, t)) + penalty))
    seen = m > 0
    index, share = _rows(problem, t)
    G = session.gram(index, share)
    root, factor = _factor(G, penalty / np.exp(np.log(m[seen]).mean()), _least_pivot(problem))
    scale = np.where(seen[:, None], _inverse(m)[:, None], _inverse(penalty))
    return Metric(Q, scale, is_newton(problem), factor, root, seen)


def is_newton(problem: Problem) -> bool:
    """Whether "gram" is so close to the Hessian that steps are Newton's."""
    return problem.n_outputs == 1 and (problem.n <= _ROWS_A_COLUMN * columns(problem) or row_numbers(problem.X) <= _SHORT)


def columns(problem: Problem) -> int:
    """Weights of an output, the intercept among them."""
    return int(problem.X.shape[1]) + int(problem.fit_intercept)


def _inverse(h: Floats) -> Floats:
    """1 / h, 1 where there is no curvature and hence no gradient."""
    return 1 / np.where(h > 0, h, 1.0)


def _blocks(n: int, width: int) -> Iterator[slice]:
    size = max(1, _BLOCK_NUMBERS // width)
    for start in range(0, n, size):
        yield slice(start, start + size)


def _curvature(problem: Problem, Z: FloatArray) -> tuple[Floats, Floats]:
    """s_i t_i, (n,), and M (k, k), whose trace is one, from the logits Z (n, k)."""
    n, k = Z.shape
    loss = problem.loss
    t, M = np.empty(n), np.zeros((k, k))
    for rows in _blocks(n, k):
        u, v = loss.bends(loss.link(Z[rows]))
        s = np.ones(len(u)) if problem.weights is None else problem.weights[rows].astype(np.float64)
        t[rows] = s * (u - v * v).sum(axis=1, dtype=np.float64)
        M[np.diag_indices(k)] += s @ u
        M -= v.T @ (s[:, None] * v)
        t[rows] = np.maximum(t[rows], _LEAST_CURVATURE * s)
    # every row fitted beyond doubt: no direction is told from another
    return t, M / np.trace(M) if np.trace(M) > 0 else np.eye(k) / k


def _second_moments(problem: Problem, t: Floats) -> Floats:
    """Diagonal of G, (p,)."""
    total = np.zeros(problem.X.shape[1])
    for rows in _blocks(len(t), row_numbers(problem.X)):
        A = problem.X[rows].astype(np.float64)
        total += t[rows] @ (A * A)
    return (np.append(total, t.sum()) if problem.fit_intercept else total) / len(t)


def _rows(problem: Problem, t: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Numbers of the rows that G is made of, and what each counts."""
    n, p = len(t), columns(problem)
    if n <= _ROWS_A_COLUMN * p:
        return np.arange(n), t / n
    least = t.sum() / (p * (_ROWS_OF_NEWTON if is_newton(problem) else _ROWS_A_COLUMN))
    kept = np.flatnonzero(np.random.default_rng(0).random(n) * least < t)  # a fixed seed: the method stays deterministic
    return kept, np.maximum(t[kept], least) / n


def _least_pivot(problem: Problem) -> float:
    """Of G scaled to a unit diagonal: above the rounding of its products, which are of X's dtype."""
    return max(_LEAST_PIVOT, 8 * float(np.finfo(problem.X.dtype).eps))


def _factor(G: Floats, penalty: Floats, least: float) -> tuple[Floats, Floats]:
    """root (p,) and L (p, p) with diag(root) L L^T diag(root) = G + diag(penalty), up to `least` on the diagonal of L L^T."""
    from scipy.linalg import cho_factor

    root = np.sqrt(np.where(G.diagonal() > 0, G.diagonal(), 1.0))
    C = G / np.outer(root, root)  # features of any scale: the factor and its least pivot are the same
    C[np.diag_indices(len(C))] += penalty / root**2 + least
    return root, cho_factor(C, lower=True, overwrite_a=True, check_finite=False)[0]
