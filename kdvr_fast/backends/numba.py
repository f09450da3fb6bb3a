"""The numba backend: the contract's steps in kernels compiled from Python, and so for a user's own loss.

Dense rows of any stride and sparse rows are read in place (of the latter the n + 1 offsets are copied). On sparse rows a step
costs O(k) a non-zero of the batch, with L2 and lam m too (`numba_kernels.py`); momentum, L1 and the average make it O(k d).
One thread, whatever is allowed, so that the bits are the same. Loops run without the GIL and are cut into pieces, between which
Python sees a Ctrl-C; a single step is not cut. Kernels are compiled at first use and kept in numba's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._rows import gram, is_compact, is_sparse, row_numbers
from .._virtual import is_virtual
from .base import LARGEST, ControlVariate, FloatArray, Pass, Problem, Session, State, Step, Sums, Walk, Work

if TYPE_CHECKING:
    from .._layers import Network
    from .deep import DeepSession

Weights = tuple[FloatArray, FloatArray]  # W flat and b

_PIECE = 1 << 26  # multiplications between two looks at signals: some hundredths of a second
_BLOCK_ROWS = 256  # of a pass, that are summed in X's dtype


class NumbaSession:
    """See `base.Session`; arrays are those of `numba_kernels`, flat and of X's dtype."""

    def __init__(self, problem: Problem) -> None:
        from . import numba_kernels as kernels
        from .numba_losses import compiled

        self._kernels, self._problem = kernels, problem
        X, n, k = problem.X, problem.n, problem.n_outputs
        self._dtype, self._shape = X.dtype, (k, X.shape[1])
        self._rows = self._sparse_rows() if is_sparse(X) else self._dense_rows()
        labelled = problem.y.ndim == 1
        self._data = kernels.Data(
            targets=_frozen(np.zeros((0, k), self._dtype) if labelled else problem.y),
            labels=_frozen(problem.y.astype(np.int64) if labelled else np.zeros(0, np.int64)),
            s=_frozen(np.zeros(0, self._dtype) if problem.weights is None else problem.weights),
            n=n,
            free=problem.fit_intercept,
        )
        self._loss = compiled(problem.loss, self._dtype)
        self._table = np.zeros((0, k), self._dtype)
        self._anchor = self._m = (np.zeros(k * X.shape[1], self._dtype), np.zeros(k, self._dtype))
        self._cached = self._mean = False
        self.set_weights(np.zeros(self._shape, self._dtype), np.zeros(k, self._dtype))

    def _dense_rows(self) -> Any:
        X = self._problem.X
        (n, d), item = X.shape, X.itemsize
        step = X.strides[0] // item
        low = min(0, (n - 1) * step)
        begin = X[n - 1 :] if step < 0 else X  # the row that lies first in memory
        span = np.lib.stride_tricks.as_strided(begin, ((n - 1) * abs(step) + d,), (item,), writeable=False)
        return self._kernels.Dense(span, -low, step, d)

    def _sparse_rows(self) -> Any:
        X = self._problem.X
        return self._kernels.Sparse(_frozen(X.data), _frozen(X.indices), _frozen(X.indptr.astype(np.int64)), X.shape[1])

    # -- weights and anchors -------------------------------------------------------------------------------------------

    def _flat(self, coef: FloatArray, intercept: FloatArray, dtype: np.dtype[Any] | None = None) -> Weights:
        """Copies as the kernels take them, of X's dtype if no other is given."""
        W = np.asarray(coef, dtype or self._dtype)
        return (W.T if is_sparse(self._problem.X) else W).flatten(), np.array(intercept, W.dtype)

    def _matrix(self, flat: NDArray[Any]) -> NDArray[Any]:
        """A copy (k, d)."""
        k, d = self._shape
        return flat.reshape(d, k).T.copy() if is_sparse(self._problem.X) else flat.reshape(k, d).copy()

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        self._W, self._b = self._flat(coef, intercept)
        self._velocity: Weights | None = None
        self._running: Weights = (self._W.astype(np.float64), self._b.astype(np.float64))
        self._averaged = 0

    def weights(self) -> tuple[FloatArray, FloatArray]:
        return self._matrix(self._W), self._b.copy()

    def average(self) -> tuple[FloatArray, FloatArray]:
        if not self._averaged:
            return self.weights()
        W, b = self._running
        return self._matrix(W).astype(self._dtype), b.astype(self._dtype)

    def anchor_at(self, coef: FloatArray, intercept: FloatArray, *, cached: bool, mean: bool) -> Pass | None:
        self._cached, self._mean = cached, mean
        self._anchor = self._flat(coef, intercept)
        if not (cached or mean):
            return None
        if cached:
            self._table = np.empty((self._problem.n, self._shape[0]), self._dtype)
        done = self._read(self._anchor, ControlVariate(), store=cached)
        if mean:
            self.set_mean(done.grad, done.grad_intercept)
        return done

    def anchor_table(self, values: FloatArray, *, mean: bool) -> Pass | None:
        self._table = np.array(values, self._dtype, order="C")
        if not mean:
            return None
        done = self._read((self._W, self._b), ControlVariate(source="table"))
        assert done.anchor_grad is not None and done.anchor_grad_intercept is not None
        self.set_mean(done.anchor_grad, done.anchor_grad_intercept)
        return done

    def set_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        self._m = self._flat(mean, mean_intercept)

    def state(self, *, anchor: bool = False, table: bool = False) -> State:
        pairs = {"coef": (self._W, self._b)}
        pairs |= {} if self._velocity is None else {"velocity": self._velocity}
        pairs |= {"average": self._running} if self._averaged else {}
        pairs |= {"anchor": self._anchor, "mean": self._m} if anchor else {}
        state: State = {name: self._matrix(W) for name, (W, _) in pairs.items()}
        state |= {"intercept" if name == "coef" else f"{name}_intercept": b.copy() for name, (_, b) in pairs.items()}
        state["counts"] = np.array([self._averaged, 0])
        if anchor:
            state["anchor_flags"] = np.array([self._cached, self._mean])
        if table and len(self._table):
            state["table"] = self._table.copy()
        return state

    def set_state(self, state: State) -> None:
        self.set_weights(state["coef"], state["intercept"])
        self._averaged = int(state["counts"][0])
        if "velocity" in state:
            self._velocity = self._flat(state["velocity"], state["velocity_intercept"])
        if "average" in state:
            self._running = self._flat(state["average"], state["average_intercept"], np.dtype(np.float64))
        if "anchor_flags" not in state:
            return
        cached, mean = (bool(flag) for flag in state["anchor_flags"])
        self.anchor_at(state["anchor"], state["anchor_intercept"], cached=cached and "table" not in state, mean=False)
        if "table" in state:
            self.anchor_table(state["table"], mean=False)
        self.set_mean(state["mean"], state["mean_intercept"])
        self._cached, self._mean = cached, mean

    # -- walks and passes ----------------------------------------------------------------------------------------------

    def epoch(
        self,
        order: NDArray[np.int64],
        learning_rates: NDArray[np.float64],
        step: Step,
        variate: ControlVariate,
        *,
        refresh_at: Sequence[int] = (),
        loss_limit: float = LARGEST,
    ) -> Walk:
        rows, rates = np.array(order, np.int64), np.array(learning_rates, np.float64)
        n_steps, b = -(-len(rows) // step.batch_size), step.batch_size
        scratch, sums, passes = self._scratch(min(b, len(rows))), np.zeros(8), list[Pass]()
        state, options = self._state(step), self._options(step)
        size = max(1, int(_PIECE // (self._work(b) + (self._W.size if step.momentum or step.l1 or step.average else 0))))
        cuts = sorted({*range(0, n_steps, size), *refresh_at, n_steps})
        for first, last in pairwise(cuts):
            if first in refresh_at:
                done = self.anchor_at(*self.weights(), cached=self._cached, mean=self._mean)
                passes += [] if done is None else [done]
            end = self._kernels.call(
                self._kernels.walk, self._rows, self._data, *self._loss, state, self._anchor_of(), scratch, options,
                self._form(variate), rows, rates, (first, last), self._averaged, float(loss_limit), sums,
            )  # fmt: skip
            self._averaged += (end - first) if step.average else 0
            if end < last:
                return Walk(_sums(float(min((end + 1) * b, len(rows))), sums), end, passes, exploded=True)
        return Walk(_sums(float(len(rows)), sums), n_steps, passes)

    def _work(self, rows: int) -> float:
        """Multiplications that some rows take, times two for logits and step."""
        return max(1.0, 2 * rows * row_numbers(self._problem.X) * self._shape[0])

    def _state(self, step: Step) -> Any:
        none = (self._W[:0], self._b[:0])
        if step.momentum and self._velocity is None:
            self._velocity = (np.zeros_like(self._W), np.zeros_like(self._b))
        velocity = none if self._velocity is None else self._velocity
        gradient = (np.empty_like(self._W), np.empty_like(self._b)) if step.momentum else none
        return self._kernels.State(self._W, self._b, *velocity, *self._running, *gradient)

    def _anchor_of(self) -> Any:
        return self._kernels.Anchor(*self._anchor, self._table, *self._m)

    def _scratch(self, rows: int) -> Any:
        k = self._shape[0]
        arrays = [np.zeros((rows, k), self._dtype) for _ in range(5)]
        lists = [np.zeros(size, self._dtype) for size in (rows, rows, k, k)]
        return self._kernels.Scratch(*arrays, *lists)

    def _options(self, step: Step) -> Any:
        numbers = (float(step.l2), float(step.l1), float(step.momentum))
        flags = (step.nesterov, step.average, step.statistics)
        return self._kernels.Options(step.batch_size, *numbers, *flags, step.pairs_every)

    def _form(self, variate: ControlVariate) -> Any:
        source, temperature = self._kernels.SOURCES[variate.source], float(variate.temperature or 0.0)
        return self._kernels.Form(float(variate.lam), source, variate.use_mean, variate.update_table, temperature)

    def evaluate(self, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        return self._read(self._flat(coef, intercept), variate)

    def _read(self, point: Weights, variate: ControlVariate, *, store: bool = False) -> Pass:
        n, k, sums = self._problem.n, self._shape[0], np.zeros(8)
        with_anchor, dense = variate.source != "none", not is_sparse(self._problem.X)
        size = k * self._shape[1]
        totals = (np.zeros(size), np.zeros(k), np.zeros(size if with_anchor else 0), np.zeros(k))
        blocks = (np.zeros(size if dense else 0, self._dtype), np.zeros(size if dense and with_anchor else 0, self._dtype))
        rows = max(1, int(_PIECE // (self._work(_BLOCK_ROWS)))) * _BLOCK_ROWS
        scratch = self._scratch(min(n, _BLOCK_ROWS))
        for start in range(0, n, rows):
            self._kernels.call(
                self._kernels.read, self._rows, self._data, *self._loss, point, self._anchor_of(), scratch,
                self._form(variate), (start, min(start + rows, n)), self._table if store else self._table[:0], blocks, totals,
                sums,
            )  # fmt: skip
        free = float(self._problem.fit_intercept)
        grads = [self._matrix(totals[0]) / n, free * totals[1] / n]
        grads += [self._matrix(totals[2]) / n, free * totals[3] / n] if with_anchor else []
        return Pass(_sums(float(n), sums), *grads)

    # -- for full-batch methods: products are SciPy's and BLAS's trade -------------------------------------------------

    def logits(self, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        z = np.empty((self._problem.n, self._shape[0]), self._dtype)
        self._kernels.call(self._kernels.multiply, self._rows, self._problem.n, self._flat(coef, intercept), z)
        return z

    def combine(self, numbers: FloatArray) -> FloatArray:
        return np.ascontiguousarray((self._problem.X[:].T @ numbers.T).T)

    def images(self, numbers: FloatArray) -> FloatArray:
        return np.ascontiguousarray((self._problem.X[:] @ self.combine(numbers).T).T)

    def gram(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return gram(self._problem.X, rows, weights, self._problem.fit_intercept)


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    """A C-ordered array as kernels take data: read-only, since numba compiles anew for what may be written."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view


def _sums(rows: float, sums: NDArray[np.float64]) -> Sums:
    loss, *moments = sums.tolist()
    return Sums(rows, loss, *moments)


class NumbaBackend:
    """Kernels compiled from Python: for losses of one's own, and where there is no C++ compiler."""

    name = "numba"

    def unavailable(self) -> str | None:
        try:
            import numba  # noqa: F401
        except ImportError as error:  # not there, or not for this NumPy
            return f"numba does not load ({error}): install with `pip install '.[numba]'`"
        return None

    def refusal(self, problem: Problem, work: Work) -> str | None:
        if work.network is not None:
            return "it has no deep linear models"
        if is_virtual(problem.X) or is_compact(problem.X):
            return f"it reads float32 and float64 arrays and CSR matrices, no {type(problem.X).__name__} rows"
        if work.step is not None and work.step.compression is not None:
            return "it does not compress weights"
        return _uncompiled(problem)

    def open(self, problem: Problem, n_threads: int | None = None) -> Session:
        return NumbaSession(problem)

    def open_deep(self, problem: Problem, network: Network, n_threads: int | None = None) -> DeepSession:
        raise NotImplementedError("the numba backend has no deep linear models")


def _uncompiled(problem: Problem) -> str | None:
    """Why numba cannot compile the loss, or None."""
    from numba.core.errors import NumbaError

    from .numba_losses import compiled

    try:
        compiled(problem.loss, problem.X.dtype)
    except (NumbaError, TypeError) as error:  # the latter for callables that are no Python functions
        return f"numba cannot compile loss {problem.loss.name!r} ({' '.join(str(error).split())})"
    return None
