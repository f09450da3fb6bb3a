"""The inverse Hessian of L-BFGS in its compact form: the last steps, what the gradient did in them, and a metric below.

With pairs s_i = P_{i+1} - P_i and y_i = grad_{i+1} - grad_i as the rows of S and Y, an inverse H_0 to begin with and Q = Y H_0,

    H = H_0 + [S^T Q^T] [ R^-T (D + Y Q^T) R^-1   -R^-T ] [ S ]      R_ij = <s_i, y_j> for i <= j, else 0;   D its diagonal
                        [ -R^-1                      0  ] [ Q ]

so that a direction costs four products with m x N matrices where the usual recursion makes 4 m passes over vectors, and H_0 may
be replaced while the pairs stay. H_0 is the metric's, or the identity, times <s, y> / <y, H_0 y> of the last pair. Vectors have
X's dtype.
Source: Byrd, Nocedal and Schnabel, "Representations of Quasi-Newton Matrices", 1994, theorem 2.2.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ._precondition import Metric
from .backends.base import FloatArray


class Memory:
    """The last `size` pairs of arrays of one shape, (k, p) where there is a metric, and H with them."""

    def __init__(self, size: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.metric: Metric | None = None
        self._rows: list[int] = []  # of the matrices, oldest first
        self._S, self._Y = (np.empty((size, prod(shape)), dtype) for _ in range(2))
        self._Q = self._Y  # Y H_0, Y itself without a metric
        self._SY, self._YQ = np.zeros((size, size)), np.zeros((size, size))

    def _inner(self, rows: FloatArray, vector: FloatArray) -> FloatArray:
        """<row, vector> for each row."""
        products: FloatArray = rows @ vector
        return products

    def __len__(self) -> int:
        return len(self._rows)

    def clear(self) -> None:
        """Forget all pairs."""
        self._rows = []

    def replace(self, metric: Metric) -> None:
        """Put another metric below the pairs."""
        self.metric = metric
        self._Q = np.empty_like(self._Y)
        for row in self._rows:
            self._Q[row] = metric.solve(self._Y[row].reshape(self.shape)).ravel()
        self._YQ[:] = 0
        if self._rows:
            self._YQ[np.ix_(self._rows, self._rows)] = self._Y[self._rows] @ self._Q[self._rows].T

    def add(self, s: FloatArray, y: FloatArray) -> None:
        """Remember a pair, unless rounding took its curvature away."""
        sy, ss, yy = (float(self._inner(a.reshape(1, -1), b.ravel())[0]) for a, b in ((s, y), (s, s), (y, y)))
        if not sy > np.finfo(self._S.dtype).eps * abs(yy) ** 0.5 * abs(ss) ** 0.5:
            return
        size = len(self._S)
        row = self._rows.pop(0) if len(self._rows) == size else len(self._rows)
        self._rows.append(row)
        self._S[row], self._Y[row] = s.ravel(), y.ravel()
        if self.metric is not None:
            self._Q[row] = self.metric.solve(y.astype(np.float64, copy=False)).ravel()
        used = len(self._rows)  # rows 0 .. used - 1 are filled
        self._SY[:used, row] = self._inner(self._S[:used], self._Y[row])
        self._YQ[:used, row] = self._YQ[row, :used] = self._inner(self._Y[:used], self._Q[row])

    def direction(self, gradient: Any) -> FloatArray:
        """-H gradient, of X's dtype."""
        dtype = self._S.dtype
        g = gradient.astype(dtype, copy=False)
        below: FloatArray = g if self.metric is None else self.metric.solve(gradient).astype(dtype, copy=False)
        if not self._rows:
            return -below
        from scipy.linalg import solve_triangular

        order, used = self._rows, len(self._rows)
        R = np.triu(self._SY[np.ix_(order, order)])
        gamma = R[-1, -1] / self._YQ[order[-1], order[-1]]
        a = self._inner(self._S[:used], g.ravel())[order].astype(np.float64)
        b = gamma * self._inner(self._Q[:used], g.ravel())[order].astype(np.float64)
        u = solve_triangular(R, a, check_finite=False)
        middle = np.diag(R.diagonal()) + gamma * self._YQ[np.ix_(order, order)]
        v = solve_triangular(R, middle @ u - b, trans="T", check_finite=False)
        on_s, on_q = np.empty((2, used))
        on_s[order], on_q[order] = v, gamma * u
        out: FloatArray = on_q.astype(dtype) @ self._Q[:used] - on_s.astype(dtype) @ self._S[:used]
        out = out.reshape(self.shape)
        out -= dtype.type(gamma) * below
        return out


class SpanMemory(Memory):
    """The same for vectors in the span of the rows, (2, k, m): numbers of the rows, and their images."""

    def _inner(self, rows: FloatArray, vector: FloatArray) -> FloatArray:
        half = len(vector) // 2
        products: FloatArray = rows[:, :half] @ vector[half:]
        return products
