"""The stated objective and its optimum, in float64 NumPy, apart from every rival.

f(W) = mean_i loss(y_i, W a_i) + alpha/2 |W|^2 is alpha-strongly convex, so that f(W) - f* <= |grad f(W)|^2 / (2 alpha): the
optimum comes with its proof, whoever found it. It is found by Newton steps, each solved by conjugate gradients, preconditioned
where d is small by the fixed upper bound of the Hessian (Boehning 1992: softmax 1/2, logistic 1/4 of the Gram matrix), and kept
in optima.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from tasks import Task

STORE = Path(__file__).with_name("optima.json")
RESOLUTION = 1e-10  # of f*, relative, proven
GRAM_FEATURES = 2048  # up to so many, a Cholesky factor of the Gram matrix costs less than it saves

Matrix = NDArray[np.float64]


class Objective:
    """f at W (k, d) for one task."""

    def __init__(self, task: Task) -> None:
        self.X = task.data.rows("float64")
        self.y, self.k, self.alpha, self.loss = task.data.y, task.data.k, task.alpha, task.data.loss
        self.n, self.d = self.X.shape

    def value(self, W: NDArray[Any]) -> float:
        return self._at(W)[0]

    def _at(self, W: NDArray[Any]) -> tuple[float, Matrix]:
        """f and the probabilities (n, k)."""
        W = W.astype(np.float64)
        Z = self.X @ W.T
        if self.loss == "logistic":
            losses, P = np.logaddexp(0, Z[:, 0]) - self.y * Z[:, 0], 1 / (1 + np.exp(-Z))
        else:
            Z -= Z.max(axis=1, keepdims=True)
            P = np.exp(Z)
            total = P.sum(axis=1, keepdims=True)
            losses = np.log(total[:, 0]) - Z[np.arange(self.n), self.y]
            P /= total
        return float(losses.mean() + self.alpha / 2 * (W * W).sum()), P

    def _gradient(self, W: Matrix, P: Matrix) -> Matrix:
        R = P - (self.y[:, None] if self.loss == "logistic" else np.eye(self.k)[self.y])
        return self._back(R) + self.alpha * W

    def _back(self, R: Matrix) -> Matrix:
        """Mean of r_i (x) a_i."""
        return np.asarray((self.X.T @ R).T) / self.n

    def _hessian_times(self, P: Matrix, V: Matrix) -> Matrix:
        Z = self.X @ V.T
        D = P * (1 - P) * Z if self.loss == "logistic" else P * (Z - (P * Z).sum(axis=1, keepdims=True))
        return self._back(D) + self.alpha * V

    def _preconditioner(self) -> Callable[[Matrix], Matrix]:
        if self.d > GRAM_FEATURES:
            return lambda G: G
        gram = self.X.T @ self.X / self.n
        gram = gram if isinstance(gram, np.ndarray) else gram.toarray()
        factor = cho_factor(gram * (0.25 if self.loss == "logistic" else 0.5) + self.alpha * np.eye(self.d))
        return lambda G: cho_solve(factor, G.T).T

    def minimise(self) -> tuple[float, float]:
        """f* and a bound of what is missing, |grad|^2 / (2 alpha). Raises ArithmeticError if it stops above RESOLUTION."""
        precondition, W = self._preconditioner(), np.zeros((self.k, self.d))
        f, P = self._at(W)
        for _ in range(100):
            G = self._gradient(W, P)
            gap = float((G * G).sum()) / (2 * self.alpha)
            if gap <= RESOLUTION * f:
                return f, gap
            step = self._newton_step(G, P, precondition)
            rate, slope = 1.0, float((G * step).sum())
            while (tried := self._at(W - rate * step))[0] > f - 1e-4 * rate * slope and rate > 1e-6:
                rate /= 2
            W, (f, P) = W - rate * step, tried
        raise ArithmeticError(f"no optimum to {RESOLUTION}: {gap / f:.1e} after 100 Newton steps")

    def _newton_step(self, G: Matrix, P: Matrix, precondition: Callable[[Matrix], Matrix]) -> Matrix:
        """H^-1 G by conjugate gradients, the more exactly the smaller G is."""
        target = min(0.1, float(np.linalg.norm(G)) ** 0.5) * float(np.linalg.norm(G))
        step, r = np.zeros_like(G), G.copy()
        p = z = precondition(r)
        rz = float((r * z).sum())
        for _ in range(500):
            if np.linalg.norm(r) <= target:
                break
            Hp = self._hessian_times(P, p)
            a = rz / float((p * Hp).sum())
            step += a * p
            r -= a * Hp
            z = precondition(r)
            rz, before = float((r * z).sum()), rz
            p = z + rz / before * p
        return step


def optimum(task: Task) -> float:
    """f* of the task, out of optima.json or computed and kept there."""
    known: dict[str, Any] = json.loads(STORE.read_text()) if STORE.exists() else {}
    key = f"{task.data.name} alpha={task.alpha:g}"
    mark = _fingerprint(task)
    if known.get(key, {}).get("data") != mark:
        f, bound = Objective(task).minimise()
        known[key] = {"optimum": f, "at_most_too_large_by": bound, "data": mark}
        STORE.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    return float(known[key]["optimum"])


def _fingerprint(task: Task) -> str:
    X = task.data.X
    parts = (X.data, X.indices, X.indptr) if task.data.sparse else (X,)
    digest = hashlib.sha256(task.data.y.tobytes())
    for part in parts:
        digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    return digest.hexdigest()[:16]
