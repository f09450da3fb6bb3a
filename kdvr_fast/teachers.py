"""Teachers: anything that gives an output for every row. Linear weights, stored logits or probabilities, a fitted estimator.

A linear teacher theta (k, d) can be asked by the backend on the fly. Every other teacher becomes a table (n, k) of residuals
c_i = link(z_i) - y_i (p_i - onehot(y_i) for softmax), or, at a temperature T != 1, of tempered outputs link(z_i / T), for which
probabilities give p_i^(1/T) / sum p_i^(1/T). Arrays may be read-only memory maps: they are read in chunks of rows.
Source: arXiv:2305.17581, Proposition 1; temperature: arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation as check
from ._layers import product
from ._probabilities import Probabilities, minus_target
from .backends.base import FloatArray
from .losses import Loss

_CHUNK_NUMBERS = 1 << 20  # of outputs held at once while a table is filled
_CHUNK_ROWS = 8192


@dataclass(frozen=True, eq=False)
class TopK:
    """The largest probabilities of each row, (n, m) class numbers and values, and how the other of k classes are filled."""

    indices: NDArray[Any]
    values: NDArray[Any]
    k: int
    uniform_tail: bool

    def check(self, rows: slice) -> None:
        """Raise for classes out of range or named twice in a row, and for values that are not part of a distribution."""
        classes, p = np.asarray(self.indices[rows], np.int64), np.asarray(self.values[rows], np.float64)
        check.finite(p, "top-k values", rows.start)
        slack = 4 * self.k * float(np.finfo(self.values.dtype).eps) if self.values.dtype.kind == "f" else 0.0
        ordered, total = np.sort(classes, axis=1), p.sum(axis=1)
        need = np.zeros(len(p)) if self.uniform_tail and p.shape[1] < self.k else np.full(len(p), 1e-12)
        for bad, what in (
            ((classes < 0) | (classes >= self.k), f"is no class; classes are 0 .. {self.k - 1}"),
            (np.diff(ordered, axis=1, prepend=-1) == 0, "stands twice in its row; each class once"),
            ((p < 0) | (p > 1 + slack), "goes with a value outside [0, 1]"),
            (((total > 1 + slack) | (total < need))[:, None], "is in a row whose values sum to more than 1, or to nothing"),
        ):
            if bad.any():
                row, column = np.argwhere(bad)[0]
                raise ValueError(f"top-k row {rows.start + row}: class {classes[row, column]} {what}")

    def expand(self, rows: slice) -> NDArray[np.float64]:
        """Full probabilities (rows, k)."""
        classes, p = np.asarray(self.indices[rows], np.int64), np.asarray(self.values[rows], np.float64)
        total, rest = p.sum(axis=1, keepdims=True), self.k - p.shape[1]
        if not (self.uniform_tail and rest):
            p, total = p / total, np.ones_like(total)
        full = np.repeat(np.maximum(1.0 - total, 0.0) / max(rest, 1), self.k, axis=1)
        np.put_along_axis(full, classes, p, axis=1)
        return full


@dataclass(frozen=True, eq=False)
class Teacher:
    """A teacher; made by `weights`, `logits`, `probabilities`, `top_k` or `estimator`, never directly.

    >>> import numpy as np
    >>> from kdvr_fast import Teacher
    >>> Teacher.weights(np.zeros((3, 5))).kind
    'weights'
    """

    kind: Literal["weights", "logits", "probabilities", "top-k probabilities", "estimator"]
    source: Any
    intercept: NDArray[Any] | None = None
    top: TopK | None = None
    factors: tuple[NDArray[Any], ...] | None = None

    @classmethod
    def weights(cls, W: ArrayLike, b: ArrayLike | None = None) -> Teacher:
        """A linear teacher z = W a + b: W (k, d), or (d,) for one output; b (k,), zero if None. Raises for NaN."""
        theta = check.real_array(W, "teacher weights")
        if theta.ndim == 1:
            theta = theta[None, :]
        if theta.ndim != 2:
            raise ValueError(f"teacher weights have shape {theta.shape}; expected (outputs, features)")
        theta = np.array(theta)  # a copy: the caller may go on changing his
        check.finite(theta, "teacher weights")
        intercept = check.initial(b, (len(theta),), np.dtype(np.float64), "teacher intercept", "one number an output")
        return cls("weights", theta, intercept)

    @classmethod
    def layers(cls, weights: Sequence[ArrayLike], b: ArrayLike | None = None) -> Teacher:
        """A deep linear teacher z = W_L ... W_1 a + b, from W_1 .. W_L. Where its layers do not matter it is their product.

        >>> from kdvr_fast import Teacher
        >>> Teacher.layers([[[1.0, 2.0]], [[3.0]]]).source.tolist()
        [[3.0, 6.0]]
        """
        factors = check.layers(weights, "teacher layers")
        return replace(cls.weights(product(factors), b), factors=factors)

    @classmethod
    def logits(cls, Z: ArrayLike) -> Teacher:
        """Stored outputs before the link: Z (n, k), or (n,) for one output. For the squared loss these are predicted values."""
        return cls("logits", _table(Z, "teacher logits"))

    @classmethod
    def probabilities(cls, P: ArrayLike) -> Teacher:
        """Stored probabilities: P (n, k) with rows that sum to 1 (checked in `solve`), or (n,) for the logistic loss.

        P may be a memory map, and float16: where the method asks for no temperature the CUDA backend keeps it so on the device,
        2 bytes a number.
        """
        return cls("probabilities", _table(P, "teacher probabilities"))

    @classmethod
    def top_k(cls, indices: ArrayLike, values: ArrayLike, n_outputs: int, tail: str = "uniform") -> Teacher:
        """The m largest probabilities of each row: class numbers and values, both (n, m), of k = `n_outputs` classes.

        tail: what the other k - m classes get. "uniform": equal shares of what is missing to 1; "renormalise": nothing, and the
        m values are divided by their sum. Both arrays may be memory maps, values float16. Softmax only.

        >>> from kdvr_fast import Teacher
        >>> Teacher.top_k([[2, 0]], [[0.5, 0.3]], n_outputs=4).top.expand(slice(0, 1))
        array([[0.3, 0.1, 0.5, 0.1]])
        """
        check.choice(tail, ("uniform", "renormalise"), "tail")
        classes, p = check.real_array(indices, "top-k indices"), check.real_array(values, "top-k values")
        k = check.count(n_outputs, "n_outputs", low=2)
        if classes.ndim != 2 or classes.shape != p.shape or not 1 <= classes.shape[1] <= k:
            raise ValueError(f"top-k indices {classes.shape} and values {p.shape} must both be (rows, m), 1 <= m <= {k}")
        if classes.dtype.kind not in "iu":
            raise TypeError(f"top-k indices are {classes.dtype}; class numbers are integers")
        return cls("top-k probabilities", p, top=TopK(classes, p, k, tail == "uniform"))

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

    def n_outputs(self, loss: Loss) -> int | None:
        """The number k of outputs, None if only asking the teacher would tell. Raises for a teacher of another loss."""
        if loss.functions is not None and self.kind not in ("weights", "logits"):
            raise ValueError(
                f"loss {loss.name!r} is custom and its residual is taken at a teacher's logits, which a teacher of {self.kind} "
                "does not give; pass Teacher.weights or Teacher.logits"
            )
        if self.top is not None:
            if loss.targets != "classes":
                raise ValueError(f"loss={loss.name!r} has no top-k classes; pass Teacher.probabilities or .logits")
            return self.top.k
        if self.kind == "probabilities" and not loss.probabilities:
            raise ValueError(f"loss={loss.name!r} has no probabilities; pass the teacher's predicted values as Teacher.logits")
        if self.kind != "estimator":
            array = self.source
            k = len(array) if self.kind == "weights" else array.shape[1]
            if self.kind == "probabilities" and loss.targets == "unit" and k == 2:
                raise ValueError(f"loss={loss.name!r} takes the probability of class 1 alone: pass P[:, 1]")
            return int(k)
        return self._estimator_outputs(loss)

    def _estimator_outputs(self, loss: Loss) -> int | None:
        if not loss.probabilities:
            return None
        if not hasattr(self.source, "predict_proba"):
            raise TypeError(
                f"loss={loss.name!r} asks a teacher for predict_proba, which {type(self.source).__name__} does not have"
            )
        if not hasattr(self.source, "classes_"):
            raise ValueError(f"the teacher {type(self.source).__name__} has no classes_; fit it first")
        classes = np.asarray(self.source.classes_)
        k = len(classes)
        if k == 0 or classes.dtype.kind not in "biuf" or not np.array_equal(classes, np.arange(k)):
            found = classes.tolist()
            raise ValueError(f"the teacher's classes_ are {found}; they must be 0 .. k-1 in this order, as the labels y")
        if loss.targets == "unit" and k != 2:
            raise ValueError(f"the teacher has {k} classes; loss={loss.name!r} needs exactly 0 and 1")
        return 1 if loss.targets == "unit" else k

    def check(self, n: int, d: int) -> None:
        """Raise unless the teacher fits n rows of d features."""
        if self.kind == "weights" and self.source.shape[1] != d:
            raise ValueError(f"teacher weights have {self.source.shape[1]} features, X has {d}; expected shape (outputs, {d})")
        if self.kind not in ("weights", "estimator") and len(self.source) != n:
            raise ValueError(f"teacher {self.kind} have {len(self.source)} rows, X has {n}; one row of X each")

    def theta(self, dtype: np.dtype[Any]) -> tuple[FloatArray, FloatArray]:
        """Weights (k, d) and intercept (k,) of a linear teacher, in `dtype`."""
        if self.intercept is None:
            raise TypeError(f"a teacher of {self.kind} has no weights")
        return check.cast_finite(self.source, dtype, "teacher weights"), check.cast_finite(
            self.intercept, dtype, "teacher intercept"
        )

    def table(self, X: Any, y: NDArray[Any], loss: Loss, k: int, *, temperature: float = 1.0, scan: bool = True) -> FloatArray:
        """The (n, k) table of a teacher that is not linear, of X's dtype: residuals at T = 1, else tempered outputs.

        X, y as in `backends.base.Problem`. scan: check the teacher's values (finite; probabilities that sum to 1).
        """
        out = np.empty((X.shape[0], k), X.dtype)
        for rows in _chunks(X.shape[0], k):
            out[rows] = self.block(X[rows], y[rows], rows, loss, k, temperature=temperature, scan=scan)
        return out

    @property
    def in_float16(self) -> bool:
        """Whether the teacher is a table of probabilities given in float16."""
        return self.kind == "probabilities" and bool(self.source.dtype == np.float16)

    def stored(self, y: Any, loss: Loss, k: int, dtype: np.dtype[Any], *, scan: bool = True) -> Probabilities:
        """`table` at temperature 1, for probabilities in float16, which stay so. dtype: X's."""
        if scan:
            for rows in _chunks(len(self.source), k):
                self._outputs(None, rows, loss, k, scan)
        return Probabilities(self.source, y, dtype)

    def block(
        self, A: Any, y: NDArray[Any], rows: slice, loss: Loss, k: int, *, temperature: float, scan: bool
    ) -> NDArray[Any]:
        """Some rows of the table, (rows, k). A: these rows of X, which an estimator alone is asked about; y: their targets."""
        values = self._outputs(A, rows, loss, k, scan)
        raw = self.kind == "logits" or not loss.probabilities
        if temperature != 1.0:
            return loss.link(values / temperature) if raw else _temper(values, temperature)
        return loss.residual(y, values) if raw else minus_target(values, y)

    def _outputs(self, A: Any, rows: slice, loss: Loss, k: int, scan: bool) -> NDArray[np.float64]:
        """Logits or probabilities of some rows, float64 (rows, k)."""
        if self.kind == "estimator":
            given = self.source.predict_proba(A) if loss.probabilities else self.source.predict(A)
            values = check.real_array(given, "the teacher's output")
            if loss.targets == "unit" and values.ndim == 2 and values.shape[1] == 2:
                values = values[:, 1]
            values = values.reshape(A.shape[0], -1) if values.ndim == 1 else values
            check.shape(values, (A.shape[0], k), "the teacher's output", "(rows, outputs)")
        elif self.top is not None:
            if scan:
                self.top.check(rows)
            values = self.top.expand(rows)
        else:
            values = np.asarray(self.source[rows])
        if scan:
            check.finite(values, f"teacher {self.kind}", rows.start)
            if self.kind != "logits" and loss.probabilities:
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
    q = np.hstack([1.0 - p, p]) if single else p
    q = np.power(q / q.max(axis=1, keepdims=True), 1.0 / temperature)  # the largest becomes 1, so that no row vanishes
    q /= q.sum(axis=1, keepdims=True)
    return np.asarray(q[:, 1:] if single else q, np.float64)
