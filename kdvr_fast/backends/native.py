"""The compiled engine (csrc/, bindings/) behind the backend contract: numbers are handed over, numbers come back.

Rows, dense or sparse, are read in place, loops run without the GIL, and Ctrl-C ends a loop within a fraction of a second.
Threads share each batch and each pass; the bits are the same at any number of them. The instruction set is chosen at start
(`kdvr_fast._core.isa()`, forced by the environment variable KDVR_ISA).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._rows import gram, is_compact, is_sparse
from .._threads import usable_threads
from .._virtual import GROUP, is_virtual
from .base import LARGEST, ControlVariate, FloatArray, Pass, Problem, Session, State, Step, Sums, Walk, Work

if TYPE_CHECKING:
    from .._layers import Network
    from .deep import DeepSession

try:
    from .. import _core as _core  # for the modules that check and shuffle, too
except ImportError as error:  # a source tree that was not built, or a wheel for another machine
    _core = None  # type: ignore[assignment]
    _IMPORT_ERROR: str | None = str(error)
else:
    _IMPORT_ERROR = None


def _pass(values: tuple[Any, ...]) -> Pass:
    sums, *gradients = values
    return Pass(Sums(*sums), *gradients)


def _row_arrays(X: Any) -> Any:
    """Rows as the extension takes them."""
    if is_sparse(X):
        return X.data, X.indices, X.indptr, X.shape[1]
    if is_compact(X):
        values = X.values.view(np.uint16) if X.values.dtype.name == "bfloat16" else X.values
        return (values, None, None) if X.plain else (values, *X.factors())
    if is_virtual(X):
        scale = np.zeros(-(-X.d // GROUP) * GROUP, X.dtype)
        scale[: X.d] = np.sqrt(X.variances)
        return X.n, X.d, X.seed, X.distribution, scale
    return X


class NativeSession:
    """See `base.Session`. Not for use from two threads at once."""

    def __init__(self, problem: Problem, n_threads: int | None = None) -> None:
        opened = _core.SessionFloat32 if problem.X.dtype == np.float32 else _core.SessionFloat64
        self._problem, self._dtype = problem, problem.X.dtype
        self.core = opened(
            _row_arrays(problem.X),
            (*problem.y.model, problem.y.noise) if is_virtual(problem.X) else problem.y,
            problem.loss.name,
            problem.n_outputs,
            problem.weights,
            problem.fit_intercept,
            usable_threads(n_threads),
        )

    def plain(self, values: FloatArray) -> FloatArray:
        """Values as the core takes them."""
        return np.ascontiguousarray(values, self._dtype)

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        self.core.set_weights(self.plain(coef), self.plain(intercept))

    def weights(self) -> tuple[FloatArray, FloatArray]:
        return self.core.weights()

    def average(self) -> tuple[FloatArray, FloatArray]:
        return self.core.average()

    def anchor_at(self, coef: FloatArray, intercept: FloatArray, *, cached: bool, mean: bool) -> Pass | None:
        done = self.core.anchor_at(self.plain(coef), self.plain(intercept), cached=cached, mean=mean)
        return None if done is None else _pass(done)

    def anchor_table(self, values: FloatArray, *, mean: bool) -> Pass | None:
        done = self.core.anchor_table(self.plain(values), mean=mean)
        return None if done is None else _pass(done)

    def set_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        self.core.set_mean(self.plain(mean), self.plain(mean_intercept))

    def state(self, *, anchor: bool = False, table: bool = False) -> State:
        return self.core.state(anchor=anchor, table=table)

    def set_state(self, state: State) -> None:
        self.core.set_state({name: np.ascontiguousarray(values) for name, values in state.items()})

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
        sums, steps, passes, exploded = self.core.epoch(
            np.ascontiguousarray(order, np.int64),
            np.ascontiguousarray(learning_rates, np.float64),
            refresh_at=np.array(refresh_at, np.int64),
            loss_limit=loss_limit,
            **{**vars(step), "compression": None if step.compression is None else tuple(vars(step.compression).values())},
            **vars(variate),
        )
        return Walk(Sums(*sums), steps, [_pass(p) for p in passes], exploded)

    def logits(self, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        return self.core.logits(self.plain(coef), self.plain(intercept))

    def combine(self, numbers: FloatArray) -> FloatArray:
        return self.core.combine(self.plain(numbers))

    def images(self, numbers: FloatArray) -> FloatArray:
        return self.core.images(self.plain(numbers))

    def gram(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if is_sparse(self._problem.X):
            return self.core.gram(rows, weights)
        return gram(self._problem.X, rows, weights, self._problem.fit_intercept)  # dense products are BLAS's trade

    def evaluate(self, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        return _pass(self.core.evaluate(self.plain(coef), self.plain(intercept), **vars(variate)))


class NativeBackend:
    """C++17 kernels for this processor's instruction set: the default."""

    name = "native"

    def unavailable(self) -> str | None:
        if _core is None:
            return f"the compiled extension does not load ({_IMPORT_ERROR}): install with `pip install .`"
        try:
            _core.isa()
        except ValueError as error:  # KDVR_ISA names what is not there
            return str(error)
        return None

    def refusal(self, problem: Problem, work: Work) -> str | None:
        return "it has no loss but the built-in ones" if problem.loss.functions is not None else None

    def open(self, problem: Problem, n_threads: int | None = None) -> Session:
        return NativeSession(problem, n_threads)

    def open_deep(self, problem: Problem, network: Network, n_threads: int | None = None) -> DeepSession:
        from .native_deep import NativeDeepSession

        return NativeDeepSession(problem, network, n_threads)
