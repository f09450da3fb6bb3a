"""The change of variables in which a full-batch method makes its steps, from the Hessian at the current weights.

With P = (W, b) of shape (k, p), p = d + 1 with an intercept, and d2loss_i/dz2 = diag(u_i) - v_i v_i^T, t_i its trace, the
Hessian is mean s_i (diag(u_i) - v_i v_i^T) (x) a_i a_i^T + alpha I. Its model is

    H ~ M (x) G + alpha I,    G (p, p) = mean s_i t_i a_i a_i^T,    M (k, k) = sum s_i (diag(u_i) - v_i v_i^T) / sum s_i t_i

which is exact where the rows share one curvature: for the squared loss, and for any loss at P = 0. With M = Q diag(m) Q^T and
a triangular T such that T (G + alpha / mean(m)) T^T = I, steps are made in V (k, p), P = P_0 + Q diag(m)^-1/2 V T, where H is
near I. A direction that M does not see (softmax: all logits raised alike) has the curvature alpha alone. G comes from
`_ROWS_A_COLUMN` p rows, drawn with probabilities s_i t_i, so that its price does not grow with n.

Source: M (x) G: Martens and Grosse, arXiv:1503.05671; rows drawn by curvature: Xu et al., arXiv:1607.00559.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._measuring import Weights
from ._rows import dense, row_numbers
from .backends.base import FloatArray, Problem
from .losses import LOSSES

Floats = NDArray[np.float64]

_GRAM_LIMIT = 2048  # columns: beyond, p^3 work and p^2 numbers are no longer small beside a pass
_GRAM_CHEAP = 512  # columns up to which it is built whatever n is
_ROWS_A_COLUMN = 16  # relative error of G about sqrt(1 / 16): 4 percent more iterations than from all 60000 rows of MNIST
_BLOCK_NUMBERS = 1 << 21  # of rows or logits held at once
_LEAST_CURVATURE = 1e-6  # of s_i t_i: rows fitted beyond doubt must not make the model flat
_FLAT = 1e-10  # relative eigenvalue of M below which the loss does not see a direction
_LEAST_PIVOT = 1e-12  # of G scaled to a unit diagonal; in float32 its rounding, 8 eps


@dataclass(frozen=True)
class Change:
    """P - P_0 = Q (scale * (V T)), rows of V marked flat without T; the identity where a part is None.

    Q (k, k), T (p, p), scale (k, p), flat (k,) of bool.
    """

    Q: Floats | None = None
    T: Floats | None = None
    scale: Floats | None = None
    flat: NDArray[np.bool_] | None = None

    def to_weights(self, V: Floats) -> Floats:
        """The move of the weights (k, p) that V (k, p) stands for."""
        if self.Q is None or self.scale is None:
            return V
        moved: Floats = self.Q @ (self.scale * self._mix(V, self.T))
        return moved

    def to_gradient(self, G: Floats) -> Floats:
        """The gradient in V from the gradient in P: the transposed map."""
        if self.Q is None or self.scale is None:
            return G
        return self._mix(self.scale * (self.Q.T @ G), None if self.T is None else self.T.T)

    def _mix(self, V: Floats, T: Floats | None) -> Floats:
        return V if T is None or self.flat is None else np.where(self.flat[:, None], V, V @ T)


def resolve(asked: str, problem: Problem) -> str:
    """The kind that "auto" stands for on this problem; every other is itself."""
    if asked != "auto":
        return asked
    n, k, p = problem.n, problem.n_outputs, _columns(problem)
    return "gram" if p <= _GRAM_CHEAP or (p <= _GRAM_LIMIT and p * p <= 16 * n * k) else "diagonal"


def precondition(problem: Problem, weights: Weights, alpha: float, kind: str) -> Change:
    """The change of variables at `weights`; kind: "none", "diagonal" or "gram". Reads the rows once, "diagonal" twice."""
    if kind == "none":
        return Change()
    t, M = _curvature(problem, weights)
    m, Q = np.linalg.eigh(M)
    m = np.where(m > _FLAT * m[-1], m, 0.0)
    penalty = np.full(_columns(problem), alpha)
    if problem.fit_intercept:
        penalty[-1] = 0.0
    if kind == "diagonal":
        return Change(Q, scale=_inverse_root(np.outer(m, _second_moments(problem, t)) + penalty))
    seen = m > 0
    least = max(_LEAST_PIVOT, 8 * float(np.finfo(problem.X.dtype).eps))
    T = _whitening(_gram(problem, t), penalty / np.exp(np.log(m[seen]).mean()), least)
    scale = np.where(seen[:, None], _inverse_root(m)[:, None], _inverse_root(penalty))
    return Change(Q, T, scale, ~seen)


def _columns(problem: Problem) -> int:
    return int(problem.X.shape[1]) + int(problem.fit_intercept)


def _inverse_root(h: Floats) -> Floats:
    """1 / sqrt(h), 1 where there is no curvature and hence no gradient."""
    return 1 / np.sqrt(np.where(h > 0, h, 1.0))


def _blocks(n: int, width: int) -> Iterator[slice]:
    size = max(1, _BLOCK_NUMBERS // width)
    for start in range(0, n, size):
        yield slice(start, start + size)


def _curvature(problem: Problem, weights: Weights) -> tuple[Floats, Floats]:
    """s_i t_i, (n,), and M (k, k), whose trace is one."""
    n, k = problem.n, problem.n_outputs
    W, b = weights
    loss = LOSSES[problem.loss]
    t, M = np.empty(n), np.zeros((k, k))
    for rows in _blocks(n, max(row_numbers(problem.X), k)):
        u, v = loss.curvature(loss.link(np.asarray(problem.X[rows] @ W.T + b)))
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


def _gram(problem: Problem, t: Floats) -> Floats:
    """G (p, p), products in X's dtype, summed over blocks in float64."""
    n, p = len(t), _columns(problem)
    m = _ROWS_A_COLUMN * p
    if m < n:  # one row from each of m parts of equal weight; a fixed seed, so that the method stays deterministic
        steps = np.cumsum(t)
        places = (np.arange(m) + np.random.default_rng(0).random(m)) * (steps[-1] / m)
        index, roots = np.minimum(np.searchsorted(steps, places), n - 1), np.full(m, np.sqrt(steps[-1] / (m * n)))
    else:
        index, roots = np.arange(n), np.sqrt(t / n)
    G = np.zeros((p, p))
    for part in _blocks(len(index), p):
        A: FloatArray = dense(problem.X[index[part]])
        A = np.column_stack([A, np.ones(len(A), A.dtype)]) if problem.fit_intercept else A
        A = A * roots[part, None].astype(A.dtype)
        G += A.T @ A
    return G


def _whitening(G: Floats, penalty: Floats, least: float) -> Floats:
    """T (p, p) with T (G + diag(penalty)) T^T = I, up to `least` on the diagonal of G scaled to ones."""
    from scipy.linalg import cholesky, solve_triangular

    root = np.sqrt(np.where(G.diagonal() > 0, G.diagonal(), 1.0))
    C = G / np.outer(root, root)  # features of any scale: the factor and its least pivot are the same
    C[np.diag_indices(len(C))] += penalty / root**2 + least
    L = cholesky(C, lower=True, check_finite=False)
    T: Floats = solve_triangular(L, np.diag(1 / root), lower=True, check_finite=False)
    return T
