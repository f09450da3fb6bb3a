"""NVIDIA GPUs: the kernels of csrc/cuda behind the backend contract. Data go to the device once, sums and weights come back.

A step on few numbers is one of thousands in a launch: one block walks the order with the weights in its cache. A step on many
is two launches on all multiprocessors. Passes over dense rows read memory once, over sparse rows twice (by rows for the
residuals, by columns for the gradient), and with many outputs go through cuBLAS. Same data, same device: same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .._probabilities import Probabilities
from .._rows import gram, is_compact, is_sparse, lies_on_device, row_numbers
from .._virtual import is_virtual
from .base import LARGEST, ControlVariate, FloatArray, Pass, Problem, Session, State, Step, Sums, Walk, Work
from .cuda_device import BLOCK_THREADS, SUMS, WALK_THREADS, Device, find_device
from .cuda_pass import Reader, variate_arguments

if TYPE_CHECKING:
    from .._layers import Network
    from .deep import DeepSession

_MOST = 2**31 - 1  # the kernels count weights, rows and the residuals of a batch in 32 bits


@dataclass(frozen=True)
class _Segment:
    """Steps first .. last - 1 of a walk between two refreshes, and how: in one block or launch by launch, so many at a time."""

    first: int
    last: int
    alone: bool
    piece: int


class CudaSession:
    """See `base.Session`. Weights and what is like them are one array on the device: k d numbers, then the intercept's k."""

    def __init__(self, problem: Problem, device: Device) -> None:
        self._problem, self._device, self._xp = problem, device, device.xp
        n, d = problem.X.shape
        self._n, self._d, self._k = n, d, problem.n_outputs
        self._dtype = np.dtype(problem.X.dtype)
        self._reader = Reader(problem, device)
        self._kernels = self._reader.kernels
        size = (d + 1) * self._k
        self._W, self._anchor, self._m, self._velocity = (self._xp.zeros(size, self._dtype) for _ in range(4))
        self._mean = self._xp.zeros(size, np.float64)
        self._gradient = self._xp.zeros(2 * size if is_sparse(problem.X) else 1, self._dtype)
        self._table: Any = None
        self._stored: Probabilities | None = None  # what the table holds if it is in float16
        self._averaged = 0
        self._moved = self._cached = self._centered = False

    # -- weights and anchors -------------------------------------------------------------------------------------------------

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        self._W = self._reader.pack(coef, intercept)
        self._velocity.fill(0)
        self._mean = self._W.astype(np.float64)
        self._averaged, self._moved = 0, False

    def weights(self) -> tuple[FloatArray, FloatArray]:
        return self._reader.unpack(self._W)

    def average(self) -> tuple[FloatArray, FloatArray]:
        return self._reader.unpack(self._mean.astype(self._dtype)) if self._averaged else self.weights()

    def anchor_at(self, coef: FloatArray, intercept: FloatArray, *, cached: bool, mean: bool) -> Pass | None:
        self._cached, self._centered = cached, mean
        return self._anchor_at(self._reader.pack(coef, intercept))

    def _anchor_at(self, weights: Any) -> Pass | None:
        """Put the anchor at weights on the device, which become its own."""
        self._anchor = weights
        if not (self._cached or self._centered):
            return None
        if self._cached:
            self._stored, self._table = None, self._reader.residuals(weights)
        read = self._reader.evaluate(weights, ControlVariate(), {})
        if self._centered:
            self.set_mean(read.grad, read.grad_intercept)
        return read

    def anchor_table(self, values: FloatArray, *, mean: bool) -> Pass | None:
        self._stored = values if isinstance(values, Probabilities) else None
        self._table = self._device.array(values.values) if self._stored else self._device.array(values, self._dtype)
        if not mean:
            return None
        read = self._reader.evaluate(self._W, ControlVariate(source="table"), {"table": self._table})
        assert read.anchor_grad is not None and read.anchor_grad_intercept is not None
        self.set_mean(read.anchor_grad, read.anchor_grad_intercept)
        return read

    def set_mean(self, mean: NDArray[Any], mean_intercept: NDArray[Any]) -> None:
        self._m = self._reader.pack(mean, mean_intercept)

    def state(self, *, anchor: bool = False, table: bool = False) -> State:
        pairs = {"coef": self._W}
        pairs |= {"velocity": self._velocity} if self._moved else {}
        pairs |= {"average": self._mean} if self._averaged else {}
        pairs |= {"anchor": self._anchor, "mean": self._m} if anchor else {}
        state: State = {"counts": np.array([self._averaged, 0])}
        for name, weights in pairs.items():
            state[name], state["intercept" if name == "coef" else f"{name}_intercept"] = self._reader.unpack(weights)
        if anchor:
            state["anchor_flags"] = np.array([self._cached, self._centered])
        if table and self._table is not None:
            state["table"] = self._table.get() if self._stored is None else self._stored[:]
        return state

    def set_state(self, state: State) -> None:
        self.set_weights(state["coef"], state["intercept"])
        self._averaged = int(state["counts"][0])
        if "velocity" in state:
            self._velocity, self._moved = self._reader.pack(state["velocity"], state["velocity_intercept"]), True
        if "average" in state:
            self._mean = self._reader.pack(state["average"], state["average_intercept"], np.float64)
        if "anchor_flags" not in state:
            return
        cached, centered = (bool(flag) for flag in state["anchor_flags"])
        self.anchor_at(state["anchor"], state["anchor_intercept"], cached=cached and "table" not in state, mean=False)
        if "table" in state:
            self.anchor_table(state["table"], mean=False)
        self.set_mean(state["mean"], state["mean_intercept"])
        self._cached, self._centered = cached, centered

    # -- the walk ------------------------------------------------------------------------------------------------------------

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
        rows, b = len(order), step.batch_size
        n_steps, passes = -(-rows // b), list[Pass]()
        given = self._walk_arguments(order, learning_rates, step, variate, loss_limit)
        ends = sorted({*refresh_at, n_steps} - {0})
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            if first in refresh_at:
                made = self._anchor_at(self._W.copy())
                passes += [made] if made is not None else []
                given |= self._anchors()
            exploded = self._steps(given, self._segment(first, last, step, variate))
            if exploded is not None:
                done = min(rows, (exploded + 1) * b)
                return Walk(self._walk_sums(given, done, step), exploded, passes, exploded=True)
        self._averaged += n_steps if step.average else 0
        self._moved |= step.momentum > 0
        return Walk(self._walk_sums(given, rows, step), n_steps, passes)

    def _walk_arguments(
        self, order: NDArray[np.int64], rates: NDArray[np.float64], step: Step, variate: ControlVariate, limit: float
    ) -> dict[str, Any]:
        """What kernels of a walk are given, by name."""
        xp, k, b = self._xp, self._k, min(step.batch_size, len(order))
        if variate.update_table and self._stored is not None:
            self.anchor_table(self._stored[:], mean=False)  # residuals that are written are of X's type
        if variate.update_table:
            order = _mark_repeats(order, step.batch_size)
        blocks = self._device.blocks
        return {
            **self._reader.arguments,
            **self._anchors(),
            "W": self._W,
            "velocity": self._velocity,
            "mean": self._mean,
            "gradient": self._gradient,
            "order": self._device.array(order, np.int64),
            "rates": self._device.array(rates, np.float64),
            "r": xp.zeros(2 * step.batch_size * k, self._dtype),
            "c": xp.zeros(2 * step.batch_size * k, self._dtype),
            "q": xp.empty(b * k, self._dtype),
            "change": xp.empty(b * k if variate.update_table else 1, self._dtype),
            "work": self._reader.work(max(blocks * BLOCK_THREADS, WALK_THREADS) // 32),
            "losses": xp.empty(b, np.float64),
            "sums": xp.zeros(blocks * SUMS, np.float64),
            "exploded": xp.zeros(1, np.int64),
            "count": len(order),
            "averaged": self._averaged if step.average else -1,
            "batch": step.batch_size,
            "pairs_every": step.pairs_every if step.statistics else 0,
            "statistics": step.statistics,
            "nesterov": step.nesterov,
            "constant_rate": len(rates) == 1,
            **variate_arguments(variate, self._anchors()),
            "use_mean": variate.use_mean,
            "update_table": variate.update_table,
            "lam": variate.lam,
            "l2": step.l2,
            "l1": step.l1,
            "momentum": step.momentum,
            "limit": min(limit, LARGEST / step.batch_size),
        }

    def _anchors(self) -> dict[str, Any]:
        return {"anchor": self._anchor, "m": self._m} | ({} if self._table is None else {"table": self._table})

    def _segment(self, first: int, last: int, step: Step, variate: ControlVariate) -> _Segment:
        """How steps are made, from the multiply-adds of one."""
        X = self._problem.X
        sides = 3 if variate.source == "weights" else 2  # logits, the anchor's, the gradient
        work = step.batch_size * row_numbers(X) * self._k * sides
        if is_sparse(X) and (variate.use_mean or step.l2 or step.l1 or step.momentum or step.average):
            work += self._d * self._k
        tuning = self._device.tuning
        return _Segment(first, last, work <= tuning.walk_work, max(1, tuning.piece_work // (work + tuning.step_work)))

    def _steps(self, given: dict[str, Any], segment: _Segment) -> int | None:
        """Make steps; the number of the one whose loss passed the limit, or None."""
        kernels, blocks, common = self._kernels, self._device.blocks, self._kernels.arguments(given)
        for start in range(segment.first, segment.last, segment.piece):
            end = min(start + segment.piece, segment.last)
            if segment.alone:
                kernels.launch("walk", 1, *common, np.int64(start), np.int64(end), threads=WALK_THREADS)
            else:
                for t in range(start, end):
                    kernels.launch("forward", blocks, *common, np.int64(t))
                    kernels.launch("step", blocks, *common, np.int64(t))
            exploded = int(given["exploded"].get()[0])  # waits for the piece
            if exploded:
                return exploded - 1
        return None

    def _walk_sums(self, given: dict[str, Any], rows: int, step: Step) -> Sums:
        loss, *moments = self._reader.reduce(given["sums"], SUMS)[: SUMS - 1].tolist()
        if not step.statistics:
            return Sums(rows=rows, loss=loss)
        names = ("xx", "xt", "tt", "pair_xx", "pair_xt", "pair_tt")
        pairs = max(rows - 1, 0) // step.pairs_every
        return Sums(rows=rows, loss=loss, pairs=pairs, **dict(zip(names, moments, strict=True)))

    # -- passes --------------------------------------------------------------------------------------------------------------

    def evaluate(self, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        return self._reader.evaluate(self._reader.pack(coef, intercept), variate, self._anchors())

    def logits(self, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        return self._reader.logits(self._reader.pack(coef, intercept))

    def combine(self, numbers: FloatArray) -> FloatArray:
        return self._reader.combine(numbers)

    def images(self, numbers: FloatArray) -> FloatArray:
        zero = np.zeros(self._k, self._dtype)
        return np.ascontiguousarray(self.logits(self.combine(numbers), zero).T)

    def gram(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return gram(self._problem.X, rows, weights, self._problem.fit_intercept)


def _mark_repeats(order: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
    """The order with -1 - row for a row that its batch has met before (csrc/cuda/job.cuh)."""
    batches = np.arange(len(order)) // batch_size
    first = np.unique(np.stack([batches, order]), axis=1, return_index=True)[1]
    marked = -1 - order
    marked[first] = order[first]
    return marked


class CudaBackend:
    """CUDA through CuPy. `device`: the one to use, None for CuPy's current one."""

    name = "cuda"

    def __init__(self, device: Device | None = None) -> None:
        self.device = device

    def unavailable(self) -> str | None:
        if self.device is None:
            found = find_device()
            if isinstance(found, str):
                return found
            self.device = found
        return None

    def refusal(self, problem: Problem, work: Work) -> str | None:
        (n, d), k = problem.X.shape, problem.n_outputs
        if work.network is not None:
            return "it trains linear models, no deep ones"
        if problem.loss.functions is not None:
            return "it has no loss but the built-in ones"
        if is_virtual(problem.X) or is_compact(problem.X):
            return "its rows are arrays of float32 or float64 or sparse ones, neither compact nor virtual"
        if work.step is not None and work.step.compression is not None:
            return "it compresses no weights"
        if work.full_batch and lies_on_device(problem.X):
            return "a full-batch method reads some rows on the processor, so that X must lie there"
        batch = 1 if work.step is None else work.step.batch_size
        if max(n, k * (d + 1), k * batch) > _MOST:
            return f"it counts rows, weights and residuals of a batch up to {_MOST}, and there are more"
        return None

    def open(self, problem: Problem, n_threads: int | None = None) -> Session:
        if self.device is None:
            raise RuntimeError("the CUDA backend has no device: ask `unavailable` first")
        return CudaSession(problem, self.device)

    def open_deep(self, problem: Problem, network: Network, n_threads: int | None = None) -> DeepSession:
        return _no_layers()


def _no_layers() -> NoReturn:
    raise NotImplementedError("the CUDA backend has no deep models, as its `refusal` says")
