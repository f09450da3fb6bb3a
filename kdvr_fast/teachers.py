"""Teachers: anything that gives an output for every row. Linear weights, stored logits or probabilities, a fitted estimator.

A linear teacher theta (k, d) can be asked by the backend on the fly. Every other teacher becomes a table (n, k) of residuals
c_i = link(z_i) - y_i (p_i - onehot(y_i) for softmax), or, at a temperature T != 1, of tempered outputs link(z_i / T), for which
probabilities give p_i^(1/T) / sum p_i^(1/T). Arrays may be read-only memory maps: they are read in chunks of rows.
Source: arXiv:2305.17581, Proposition 1; temperature: arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation as check
from .backends.base import FloatArray
from .losses import LOSSES

_CHUNK_NUMBERS = 1 << 20  # of outputs held at once while a table is filled
_CHUNK_ROWS = 8192


@dataclass(frozen=True, eq=False)
class Teacher:
    """A teacher; made by `weights`, `logits`, `probabilities` or `estimator`, never directly.

    >>> import numpy as np
    >>> from kdvr_fast import Teacher
    >>> Teacher.weights(np.zeros((3, 5))).kind
    'weights'
    """

    kind: Literal["weights", "logits", "probabilities", "estimator"]
    source: Any
    intercept: NDArray[Any] | None = None

    @classmethod
    def weights(cls, W: ArrayLike, b: ArrayLike | None = None) -> Teacher:
        """A linear teacher z = W a + b: W (k, d), or (d,) for one output; b (k,), zero if None. Raises for NaN."""
        theta = check.real_array(W, "teacher weights")
        if theta.ndim == 1:
            theta = theta[None, :]
        if theta.ndim != 2:
            raise ValueError(f"teacher weights have shape {theta.shape}; expected (outputs, features)")
        check.finite(theta, "teacher weights")
        intercept = check.initial(b, (len(theta),), np.dtype(np.float64), "teacher intercept", "one number an output")
        return cls("weights", theta, intercept)

    @classmethod
    def logits(cls, Z: ArrayLike) -> Teacher:
        """Stored outputs before the link: Z (n, k), or (n,) for one output. For the squared loss these are predicted values."""
        return cls("logits", _table(Z, "teacher logits"))

    @classmethod
    def probabilities(cls, P: ArrayLike) -> Teacher:
        """Stored probabilities: P (n, k) with rows that sum to 1 (checked in `solve`), or (n,) for the logistic loss."""
        return cls("probabilities", _table(P, "teacher probabilities"))

    @classmethod
    def estimator(cls, fitted: Any) -> Teacher:
        """A fitted estimator, asked in chunks of rows: `predict_proba` for softmax and logistic, `predict` for squared.

        Its `classes_` must be 0 .. k-1, in this order, as the labels are.
        """
        if not (hasattr(fitted, "predict") or hasattr(fitted, "predict_proba")):
            raise TypeError(f"a teacher estimator needs predict or predict_proba, {type(fitted).__name__} has neither")
        return cls("estimator", fitted)

    @property
    def linear(self) -> bool:
        """Whether the teacher is given by weights."""
        return self.kind == "weights"

    def n_outputs(self, loss: str) -> int | None:
        """The number k of outputs, None if only asking the teacher would tell. Raises for a teacher of another loss."""
        if self.kind == "probabilities" and loss == "squared":
            raise ValueError("loss='squared' has no probabilities; pass the teacher's predicted values as Teacher.logits")
        if self.kind != "estimator":
            array = self.source
            k = len(array) if self.kind == "weights" else array.shape[1]
            if self.kind == "probabilities" and loss == "logistic" and k == 2:
                raise ValueError("loss='logistic' takes the probability of class 1 alone: pass P[:, 1]")
            return int(k)
        return self._estimator_outputs(loss)

    def _estimator_outputs(self, loss: str) -> int | None:
        if loss == "squared":
            return None
        if not hasattr(self.source, "predict_proba"):
            raise TypeError(f"loss={loss!r} asks a teacher for predict_proba, which {type(self.source).__name__} does not have")
        if not hasattr(self.source, "classes_"):
            raise ValueError(f"the teacher {type(self.source).__name__} has no classes_; fit it first")
        classes = np.asarray(self.source.classes_)
        k = len(classes)
        if k == 0 or classes.dtype.kind not in "biuf" or not np.array_equal(classes, np.arange(k)):
            found = classes.tolist()
            raise ValueError(f"the teacher's classes_ are {found}; they must be 0 .. k-1 in this order, as the labels y")
        if loss == "logistic" and k != 2:
            raise ValueError(f"the teacher has {k} classes; loss='logistic' needs exactly 0 and 1")
        return 1 if loss == "logistic" else k

    def check(self, n: int, d: int) -> None:
        """Raise unless the teacher fits n rows of d features."""
        if self.kind == "weights" and self.source.shape[1] != d:
            raise ValueError(f"teacher weights have {self.source.shape[1]} features, X has {d}; expected shape (outputs, {d})")
        if self.kind in ("logits", "probabilities") and len(self.source) != n:
            raise ValueError(f"teacher {self.kind} have {len(self.source)} rows, X has {n}; one row of X each")

    def theta(self, dtype: np.dtype[Any]) -> tuple[FloatArray, FloatArray]:
        """Weights (k, d) and intercept (k,) of a linear teacher, in `dtype`."""
        if self.intercept is None:
            raise TypeError(f"a teacher of {self.kind} has no weights")
        return np.array(self.source, dtype), np.array(self.intercept, dtype)

    def table(
        self, X: FloatArray, y: NDArray[Any], loss: str, k: int, *, temperature: float = 1.0, scan: bool = True
    ) -> FloatArray:
        """The (n, k) table of a teacher that is not linear, of X's dtype: residuals at T = 1, else tempered outputs.

        X, y as in `backends.base.Problem`. scan: check the teacher's values (finite; probabilities that sum to 1).
        """
        out = np.empty((len(X), k), X.dtype)
        rule = LOSSES[loss]
        for rows in _chunks(len(X), k):
            values = self._outputs(X[rows], rows, loss, k, scan)
            raw = self.kind == "logits" or loss == "squared"
            t = rule.link(values / temperature) if raw else _temper(values, temperature)
            out[rows] = t if temperature != 1.0 else _minus_target(t, y[rows])
        return out

    def _outputs(self, A: FloatArray, rows: slice, loss: str, k: int, scan: bool) -> NDArray[np.float64]:
        """Logits or probabilities of some rows, float64 (rows, k)."""
        if self.kind == "estimator":
            given = self.source.predict(A) if loss == "squared" else self.source.predict_proba(A)
            values = check.real_array(given, "the teacher's output")
            if loss == "logistic" and values.ndim == 2 and values.shape[1] == 2:
                values = values[:, 1]
            values = values.reshape(len(A), -1) if values.ndim == 1 else values
            check.shape(values, (len(A), k), "the teacher's output", "(rows, outputs)")
        else:
            values = np.asarray(self.source[rows])
        if scan:
            check.finite(values, f"teacher {self.kind}", rows.start)
            if self.kind != "logits" and loss != "squared":
                check.probabilities(values, f"teacher {self.kind}", rows.start)
        return values.astype(np.float64)


def _table(values: ArrayLike, name: str) -> NDArray[Any]:
    table = check.real_array(values, name)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2:
        raise ValueError(f"{name} have shape {table.shape}; expected (rows, outputs)")
    return table


def _chunks(n: int, k: int) -> Iterator[slice]:
    rows = max(1, min(_CHUNK_ROWS, _CHUNK_NUMBERS // k))
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))


def _temper(p: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """p^(1/T), normalised over the classes; one column is the probability of class 1 of two."""
    if temperature == 1.0:
        return p
    single = p.shape[1] == 1
    q = np.power(np.hstack([1.0 - p, p]) if single else p, 1.0 / temperature, dtype=np.float64)
    q /= q.sum(axis=1, keepdims=True)
    return np.asarray(q[:, 1:] if single else q, np.float64)


def _minus_target(t: NDArray[np.float64], y: NDArray[Any]) -> NDArray[np.float64]:
    if y.ndim == 2:
        return np.asarray(t - y, np.float64)
    r = t.copy()
    r[np.arange(len(y)), y] -= 1.0
    return r
