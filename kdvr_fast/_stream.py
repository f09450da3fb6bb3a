"""A session over rows that stay in files, on top of any backend: the contract of `base.Session`, window by window.

While a session of the backend walks one window, a thread reads the next into other memory; then a session is opened on that and
takes the first one's state, so that weights, momentum, average and counters go on to the same bits. A pass over all rows is the
sum of passes over chunks of them: mean = sum_c (rows_c / n) mean_c, in float64. Chunks and windows are counted in rows of the
data, so that results do not depend on how it is stored. Pairs of neighbours in the walk are counted within a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._blocks import Blocks, BlockWalk, Stretch
from ._problem import head
from ._windows import Window, Windows
from .backends.base import LARGEST, Backend, ControlVariate, FloatArray, Pass, Problem, Session, State, Step, Sums, Walk, Work
from .files._rows import in_files
from .files._targets import FileOutputs, FileTargets

if TYPE_CHECKING:
    from ._layers import Network
    from .backends.deep import DeepSession

_PASS_ROWS, _PASS_BYTES = 8192, 1 << 22  # of a chunk of a pass, at most


def for_reading(engine: Backend, problem: Problem) -> Backend:
    """The backend for passes over a problem, wherever its rows are."""
    return Streaming(engine, Blocks(1, 1), 1) if in_files(problem.X) else engine


class Streaming:
    """A backend that opens problems whose rows stay in files, for walks by blocks; others it leaves to the one below.

    window: rows of a window.
    """

    def __init__(self, engine: Backend, blocks: Blocks, window: int) -> None:
        self.engine, self.blocks, self.window, self.name = engine, blocks, window, engine.name

    def unavailable(self) -> str | None:
        return self.engine.unavailable()

    def refusal(self, problem: Problem, work: Work) -> str | None:
        return self.engine.refusal(problem, work)

    def open(self, problem: Problem, n_threads: int | None = None) -> Session:
        if isinstance(problem.y, FileTargets):
            return StreamSession(self, problem, n_threads)
        return self.engine.open(problem, n_threads)

    def open_deep(self, problem: Problem, network: Network, n_threads: int | None = None) -> DeepSession:
        raise ValueError("a DeepLinear model trains on rows in memory: read them, data.rows[:]")


class StreamSession:
    """See the head of this file. Not for use from two threads at once."""

    def __init__(self, plan: Streaming, problem: Problem, n_threads: int | None) -> None:
        self._engine, self._problem, self._n_threads = plan.engine, problem, n_threads
        X, block = problem.X, plan.blocks.rows
        self._pass_rows = max(1, min(problem.n, _PASS_ROWS, _PASS_BYTES // X.row_bytes))
        other = 8 * (2 * problem.n_outputs + 4)  # a row's targets, outputs, weight, and places in the order
        _check_memory(
            X.memory_limit,
            window=plan.window,
            windows=2 * (X.window_bytes(plan.window, block) + other * plan.window),
            chunks=2 * (X.window_bytes(self._pass_rows, self._pass_rows) + other * self._pass_rows),
        )
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="kdvr-read")
        self._windows = Windows(problem, plan.blocks.rows, plan.window, self._reader)
        self._session = self._engine.open(head(problem), n_threads)  # until the first window is there
        self._at: tuple[BlockWalk, int] | None = None
        self._anchor: tuple[FloatArray, FloatArray] | None = None
        self._mean: tuple[FloatArray, FloatArray] | None = None
        self._adds_mean = False
        self._outputs: FileOutputs | None = None

    # -- what the session of the backend does ------------------------------------------------------------------------

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        self._session.set_weights(coef, intercept)

    def weights(self) -> tuple[FloatArray, FloatArray]:
        return self._session.weights()

    def average(self) -> tuple[FloatArray, FloatArray]:
        return self._session.average()

    def state(self, *, anchor: bool = False, table: bool = False) -> State:
        state = self._session.state(anchor=anchor)
        return state | {"anchor_flags": np.array([False, self._adds_mean])} if anchor else state

    def set_state(self, state: State) -> None:
        self._session.set_state(state)
        if "anchor_flags" in state:
            self._anchor, self._adds_mean = (state["anchor"], state["anchor_intercept"]), bool(state["anchor_flags"][1])
            self._mean = state["mean"], state["mean_intercept"]

    # -- anchors -------------------------------------------------------------------------------------------------------

    def set_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        self._mean = mean, mean_intercept
        self._session.set_mean(mean, mean_intercept)

    def anchor_at(self, coef: FloatArray, intercept: FloatArray, *, cached: bool, mean: bool) -> Pass | None:
        if cached:
            raise ValueError("rows in files have no room for a residual a row")
        self._anchor, self._adds_mean = (coef, intercept), mean
        self._session.anchor_at(coef, intercept, cached=False, mean=False)
        if not mean:
            return None
        result = self.evaluate(coef, intercept, ControlVariate())
        self._round_mean(result.grad, result.grad_intercept)
        return result

    def anchor_table(self, values: Any, *, mean: bool) -> Pass | None:
        """values: `FileOutputs`, whose rows are computed where they are read."""
        self._outputs = values
        self._windows.set_outputs(values)
        if not mean:
            return None
        result = self.evaluate(*self.weights(), ControlVariate(source="table"))
        assert result.anchor_grad is not None and result.anchor_grad_intercept is not None
        self._round_mean(result.anchor_grad, result.anchor_grad_intercept)
        return result

    def _round_mean(self, mean: NDArray[np.float64], mean_intercept: NDArray[np.float64]) -> None:
        dtype = self._problem.X.dtype
        self.set_mean(mean.astype(dtype), mean_intercept.astype(dtype))

    # -- the two loops over the data -------------------------------------------------------------------------------

    def epoch(
        self,
        order: Any,
        learning_rates: NDArray[np.float64],
        step: Step,
        variate: ControlVariate,
        *,
        refresh_at: Sequence[int] = (),
        loss_limit: float = LARGEST,
    ) -> Walk:
        """order: a `Stretch` of a window."""
        part: Stretch = order
        self._go_to(part)
        done, b = Walk(Sums(), 0), step.batch_size
        steps = -(-len(part) // b)
        for i, (first, last) in enumerate(zip([0, *refresh_at], [*refresh_at, steps], strict=True)):
            if i > 0:
                coef, intercept = self.weights()
                made = self.anchor_at(coef, intercept, cached=False, mean=self._adds_mean)
                done.passes.extend([] if made is None else [made])
            if first == last:
                continue
            rates = learning_rates if len(learning_rates) == 1 else learning_rates[first:last]
            walk = self._session.epoch(part.places[first * b : last * b], rates, step, variate, loss_limit=loss_limit)
            done.sums.add(walk.sums)
            done = replace(done, steps=done.steps + walk.steps, exploded=walk.exploded)
            if walk.exploded:
                break
        return done

    def _go_to(self, part: Stretch) -> None:
        """Open a session on the window of a part, to go on from where the last one ended."""
        if self._at is not None and self._at[0] is part.walk and self._at[1] == part.window:
            return
        problem, table = self._windows.get(part)
        state, self._at = self._session.state(), (part.walk, part.window)
        self._session = self._engine.open(problem, self._n_threads)
        self._session.set_state(state)
        if self._anchor is not None:
            self._session.anchor_at(*self._anchor, cached=False, mean=False)
        if self._mean is not None:
            self._session.set_mean(*self._mean)
        if table is not None:
            self._session.anchor_table(table, mean=False)

    def evaluate(self, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        sums, n, size = Sums(), self._problem.n, self._pass_rows
        means: list[Any] = [None] * 4
        outputs = self._outputs if variate.source == "table" else None
        coming = self._reader.submit(self._load, slice(0, min(size, n)), outputs)
        for start in range(0, n, size):
            chunk = coming.result()
            if start + size < n:
                coming = self._reader.submit(self._load, slice(start + size, min(start + 2 * size, n)), outputs)
            read = self._read(chunk, coef, intercept, variate)
            sums.add(read.sums)
            share = min(size, n - start) / n
            for i, mean in enumerate((read.grad, read.grad_intercept, read.anchor_grad, read.anchor_grad_intercept)):
                if mean is not None:
                    means[i] = share * mean if means[i] is None else means[i] + share * mean
        return Pass(sums, *means)

    def _load(self, rows: slice, outputs: FileOutputs | None) -> Window:
        """A chunk of a pass."""
        p = self._problem
        y, weights = p.y[rows], None if p.weights is None else p.weights[rows]
        table = None if outputs is None else outputs.of(rows, y)
        return replace(p, X=p.X.load(rows.start, rows.stop), y=y, weights=weights), table

    def _read(self, chunk: Window, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        """A pass over a chunk, of which nothing stays."""
        problem, table = chunk
        session = self._engine.open(problem, self._n_threads)
        if table is not None:
            session.anchor_table(table, mean=False)
        elif self._anchor is not None and variate.source == "weights":
            session.anchor_at(*self._anchor, cached=False, mean=False)
        return session.evaluate(coef, intercept, variate)

    # -- what needs all rows at once -------------------------------------------------------------------------------

    def logits(self, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        raise ValueError(_ALL_ROWS)

    def combine(self, numbers: FloatArray) -> FloatArray:
        raise ValueError(_ALL_ROWS)

    def images(self, numbers: FloatArray) -> FloatArray:
        raise ValueError(_ALL_ROWS)

    def gram(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        raise ValueError(_ALL_ROWS)


def _check_memory(limit: int, *, window: int, windows: int, chunks: int) -> None:
    """Raise where two windows and two chunks of a pass are over the limit."""
    if windows + chunks > limit:
        fits = int(window * max(limit - chunks, 0) / windows * 0.95)
        remedy = f"sampling=Blocks(window={fits}) (for kdvr blocks:window={fits}), or a" if fits else "a"
        raise ValueError(
            f"two windows of {window} rows take {windows} bytes and chunks for passes {chunks}, together more than "
            f"memory_limit={limit}: use {remedy} larger memory_limit"
        )


_ALL_ROWS = "full-batch methods keep a number a row and read rows anywhere, which rows in files have no room for"
