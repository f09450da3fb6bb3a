"""The specification in NumPy: every compiled backend is tested against this file, never against another backend.

It says what `base.py` says, in the order in which a step happens, and nothing is done for speed. Shapes as in `base.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._rows import gram, stack
from .base import LARGEST, Compression, ControlVariate, FloatArray, Pass, Problem, Session, State, Step, Sums, Walk, Work

if TYPE_CHECKING:
    from .._layers import Network
    from .deep import DeepSession

Neighbour = tuple[Any, FloatArray, FloatArray]  # a, r and c of one row, (1, d), (1, k), (1, k)
_PASS_ROWS = 1024  # rows per block of a full pass: keeps (rows, k) temporaries small


class ReferenceSession:
    """See `base.Session`; state is W, b, the anchor (weights or table), m, the momentum buffer and the average."""

    def __init__(self, problem: Problem) -> None:
        self.p = problem
        self.loss = problem.loss
        n, d = problem.X.shape
        k, dtype = problem.n_outputs, problem.X.dtype
        self.n = n
        self.W, self.b = np.zeros((k, d), dtype), np.zeros(k, dtype)
        self.table: FloatArray | None = None
        self.anchor: tuple[FloatArray, FloatArray] | None = None
        self.m, self.m_b = np.zeros((k, d), dtype), np.zeros(k, dtype)
        self._cached = self._mean = False
        self.set_weights(self.W, self.b)

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        dtype = self.p.X.dtype
        self.W, self.b = np.array(coef, dtype), np.array(intercept, dtype)
        self.velocity: tuple[FloatArray, FloatArray] | None = None
        self.averaged = self.compressed = 0
        self.W_mean, self.b_mean = self.W.astype(np.float64), self.b.astype(np.float64)

    def weights(self) -> tuple[FloatArray, FloatArray]:
        return self.W.copy(), self.b.copy()

    def average(self) -> tuple[FloatArray, FloatArray]:
        if not self.averaged:
            return self.weights()
        return self.W_mean.astype(self.W.dtype), self.b_mean.astype(self.b.dtype)

    def anchor_at(self, coef: FloatArray, intercept: FloatArray, *, cached: bool, mean: bool) -> Pass | None:
        dtype = self.p.X.dtype
        self._cached, self._mean = cached, mean
        self.anchor = (np.array(coef, dtype), np.array(intercept, dtype))
        if not (cached or mean):
            return None
        if cached:
            self.table = np.empty((self.n, self.p.n_outputs), dtype)
            for rows in self._blocks():
                y, A = self.p.y[rows], self.p.X[rows]
                self.table[rows] = self.loss.residual(y, self._logits(A, *self.anchor))
        result = self.evaluate(*self.anchor, ControlVariate())
        if mean:
            self.set_mean(result.grad, result.grad_intercept)
        return result

    def anchor_table(self, values: FloatArray, *, mean: bool) -> Pass | None:
        self.table = np.array(values, self.p.X.dtype)
        if not mean:
            return None
        result = self.evaluate(self.W, self.b, ControlVariate(source="table"))
        assert result.anchor_grad is not None and result.anchor_grad_intercept is not None
        self.set_mean(result.anchor_grad, result.anchor_grad_intercept)
        return result

    def set_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        dtype = self.p.X.dtype
        self.m, self.m_b = np.array(mean, dtype), np.array(mean_intercept, dtype)

    def state(self, *, anchor: bool = False, table: bool = False) -> State:
        state: State = {"coef": self.W, "intercept": self.b, "counts": np.array([self.averaged, self.compressed])}
        if self.velocity is not None:
            state["velocity"], state["velocity_intercept"] = self.velocity
        if self.averaged:
            state["average"], state["average_intercept"] = self.W_mean, self.b_mean
        if anchor:
            state["anchor"], state["anchor_intercept"] = self.anchor or (np.zeros_like(self.W), np.zeros_like(self.b))
            state["mean"], state["mean_intercept"] = self.m, self.m_b
            state["anchor_flags"] = np.array([self._cached, self._mean])
        if table and self.table is not None:
            state["table"] = self.table
        return {name: values.copy() for name, values in state.items()}

    def set_state(self, state: State) -> None:
        self.set_weights(state["coef"], state["intercept"])
        self.averaged, self.compressed = (int(count) for count in state["counts"])
        if "velocity" in state:
            self.velocity = state["velocity"].copy(), state["velocity_intercept"].copy()
        if "average" in state:
            self.W_mean, self.b_mean = state["average"].copy(), state["average_intercept"].copy()
        if "anchor_flags" not in state:
            return
        cached, mean = (bool(flag) for flag in state["anchor_flags"])
        self.anchor_at(state["anchor"], state["anchor_intercept"], cached=cached and "table" not in state, mean=False)
        if "table" in state:
            self.anchor_table(state["table"], mean=False)
        self.set_mean(state["mean"], state["mean_intercept"])
        self._cached, self._mean = cached, mean

    @np.errstate(over="ignore", invalid="ignore")  # a run that explodes is told by its loss
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
        sums, passes = Sums(), list[Pass]()
        previous: Neighbour | None = None
        starts = range(0, len(order), step.batch_size)
        rates = np.broadcast_to(learning_rates, (len(starts),))
        for t, start in enumerate(starts):
            if t in refresh_at:
                done = self.anchor_at(self.W, self.b, cached=self._cached, mean=self._mean)
                passes += [done] if done is not None else []
            rows = order[start : start + step.batch_size]
            A = self.p.X[rows]
            loss, r, c = self.residuals_at(rows, A, self._logits(A, self.W, self.b), variate)
            s = self.sample_weights(rows)
            batch = self._row_sums(A, s * loss, s[:, None] * r, s[:, None] * c, step.statistics)
            if step.statistics:
                wanted = np.arange(start, start + len(rows)) % step.pairs_every == 0
                previous = self._add_pairs(batch, previous, A, s[:, None] * r, s[:, None] * c, wanted)
            sums.add(batch)
            if not (np.isfinite(batch.loss) and batch.loss / len(rows) <= loss_limit):
                return Walk(sums, t, passes, exploded=True)
            g, g_b = self._gradient(A, s[:, None] * (r - A.dtype.type(variate.lam) * c), variate)
            if variate.update_table:
                self._update_table(rows, A, r)
            self._apply(g, g_b, A.dtype.type(rates[t]), step)
        return Walk(sums, len(starts), passes)

    def evaluate(self, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        k, d = self.W.shape
        sums = Sums()
        G, G_b = np.zeros((k, d)), np.zeros(k)
        H, H_b = np.zeros((k, d)), np.zeros(k)
        for rows in self._blocks():
            A = self.p.X[rows]
            loss, r, c = self.residuals_at(rows, A, self._logits(A, coef, intercept), variate)
            s = self.sample_weights(rows)
            r, c = s[:, None] * r, s[:, None] * c
            sums.add(self._row_sums(A, s * loss, r, c, True))
            A64, r64, c64 = A.astype(np.float64), r.astype(np.float64), c.astype(np.float64)
            G, G_b = G + (A64.T @ r64).T, G_b + r64.sum(0)
            H, H_b = H + (A64.T @ c64).T, H_b + c64.sum(0)
        free = float(self.p.fit_intercept)
        if variate.source == "none":
            return Pass(sums, G / self.n, free * G_b / self.n)
        return Pass(sums, G / self.n, free * G_b / self.n, H / self.n, free * H_b / self.n)

    def logits(self, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        return self._logits(self.p.X[:], coef, intercept)

    def combine(self, numbers: FloatArray) -> FloatArray:
        return np.asarray((self.p.X[:].T @ numbers.T).T)

    def images(self, numbers: FloatArray) -> FloatArray:
        return np.asarray((self.p.X[:] @ self.combine(numbers).T).T)

    def gram(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return gram(self.p.X, rows, weights, self.p.fit_intercept)

    # -- the step, piece by piece --------------------------------------------------------------------------------------

    def _blocks(self) -> list[NDArray[np.int64]]:
        return [np.arange(i, min(i + _PASS_ROWS, self.n)) for i in range(0, self.n, _PASS_ROWS)]

    def sample_weights(self, rows: NDArray[np.int64]) -> FloatArray:
        """s_i of some rows."""
        return np.ones(len(rows), self.p.X.dtype) if self.p.weights is None else self.p.weights[rows]

    def _logits(self, A: Any, W: FloatArray, b: FloatArray) -> FloatArray:
        return np.asarray(A @ W.T + b)

    def residuals_at(
        self, rows: NDArray[np.int64], A: Any, z: FloatArray, variate: ControlVariate
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Losses (|B|,), r and c (|B|, k) of rows with the logits z, before the sample weights."""
        y = self.p.y[rows]
        r = self.loss.residual(y, z)
        if variate.source == "none":
            c = np.zeros_like(r)
        elif variate.temperature is None:
            c = self._table_rows(rows) if variate.source == "table" else self.loss.residual(y, self._anchor_logits(A))
        else:
            T = A.dtype.type(variate.temperature)
            t = self._table_rows(rows) if variate.source == "table" else self.loss.link(self._anchor_logits(A) / T)
            c = r - T * (self.loss.link(z / T) - t)
        return self.loss.value(y, z), r, c

    def _table_rows(self, rows: NDArray[np.int64]) -> FloatArray:
        assert self.table is not None
        return self.table[rows]

    def _anchor_logits(self, A: Any) -> FloatArray:
        assert self.anchor is not None
        return self._logits(A, *self.anchor)

    def _row_sums(self, A: Any, loss: FloatArray, r: FloatArray, c: FloatArray, statistics: bool) -> Sums:
        total = float(loss.sum(dtype=np.float64))
        if not statistics:
            return Sums(rows=len(r), loss=total)
        r, c = r.astype(np.float64), c.astype(np.float64)
        sq = self._row_dots(A, A)
        return Sums(
            rows=len(r),
            loss=total,
            xx=float(((r * r).sum(1) * sq).sum()),
            xt=float(((r * c).sum(1) * sq).sum()),
            tt=float(((c * c).sum(1) * sq).sum()),
        )

    def _add_pairs(
        self, sums: Sums, previous: Neighbour | None, A: Any, r: FloatArray, c: FloatArray, wanted: NDArray[np.bool_]
    ) -> Neighbour:
        """Add the products of wanted rows and those before them, the last of the previous batch included, which is returned."""
        A, r, c = (v.astype(np.float64) for v in (A, r, c))
        if previous is not None:
            A, r, c = (stack([p, v], axis=0) for p, v in zip(previous, (A, r, c), strict=True))
        else:
            wanted = wanted[1:]
        i = np.flatnonzero(wanted)
        j = i + 1
        dots = self._row_dots(A[i], A[j])
        sums.pairs += len(dots)
        sums.pair_xx += float(((r[i] * r[j]).sum(1) * dots).sum())
        sums.pair_xt += float((((r[i] * c[j]).sum(1) + (c[i] * r[j]).sum(1)) / 2 * dots).sum())
        sums.pair_tt += float(((c[i] * c[j]).sum(1) * dots).sum())
        return A[-1:], r[-1:], c[-1:]

    def _row_dots(self, A: Any, B: Any) -> NDArray[np.float64]:
        """<a_i, b_i> of rows, and 1 for the intercept, float64 (rows,)."""
        dots: NDArray[np.float64] = (A.astype(np.float64) * B.astype(np.float64)).sum(axis=1)
        return dots + self.p.fit_intercept

    def _gradient(self, A: Any, q: FloatArray, variate: ControlVariate) -> tuple[FloatArray, FloatArray]:
        """The mean of q_i (x) a_i over the batch's rows, plus lam m."""
        dtype = q.dtype.type
        g, g_b = (A.T @ q).T / dtype(len(q)), q.sum(0) / dtype(len(q))
        if variate.use_mean:
            g, g_b = g + dtype(variate.lam) * self.m, g_b + dtype(variate.lam) * self.m_b
        return g, g_b

    def _apply(self, g: FloatArray, g_b: FloatArray, eta: np.floating, step: Step) -> None:
        """Decay, momentum, step, proximal map, average."""
        dtype = self.W.dtype.type
        g = g + dtype(step.l2) * self.W
        if not self.p.fit_intercept:
            g_b = np.zeros_like(g_b)
        g, g_b, self.velocity = add_momentum(g, g_b, self.velocity, step)
        self.W, self.b = self.W - eta * g, self.b - eta * g_b
        if step.l1:
            self.W = np.sign(self.W) * np.maximum(np.abs(self.W) - eta * dtype(step.l1), 0)
        if step.compression is not None:
            self.W = compress(self.W, step.compression, self.compressed)
            self.compressed += 1
        if step.average:
            self.averaged += 1
            self.W_mean += (self.W - self.W_mean) / self.averaged
            self.b_mean += (self.b - self.b_mean) / self.averaged

    def _update_table(self, rows: NDArray[np.int64], A: Any, r: FloatArray) -> None:
        """table_i <- r_i and m += 1/n sum s_i (new - old) (x) a_i; a row met twice in a batch counts once."""
        assert self.table is not None
        first = np.unique(rows, return_index=True)[1]
        rows, A, r = rows[first], A[first], r[first]
        change = self.sample_weights(rows)[:, None] * (r - self.table[rows]) / A.dtype.type(self.n)
        self.table[rows] = r
        self.m, self.m_b = self.m + (A.T @ change).T, self.m_b + change.sum(0)


def add_momentum(
    g: FloatArray, g_b: FloatArray, velocity: tuple[FloatArray, FloatArray] | None, step: Step
) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray] | None]:
    """The step p of the weights and of the intercept from their gradients, and the new velocity."""
    if not step.momentum:
        return g, g_b, velocity
    mu = g.dtype.type(step.momentum)
    v, v_b = (g, g_b) if velocity is None else (mu * velocity[0] + g, mu * velocity[1] + g_b)
    return (g + mu * v, g_b + mu * v_b, (v, v_b)) if step.nesterov else (v, v_b, (v, v_b))


def compress(W: FloatArray, q: Compression, t: int) -> FloatArray:
    """Q(W) in step t, see `base.Compression`."""
    x = W.ravel()
    if q.mask is not None:
        return np.where(q.mask, W, 0).astype(W.dtype)
    if q.kind == "top":
        out = np.zeros_like(x)
        largest = np.argsort(-np.abs(x), kind="stable")[: q.kept]
        out[largest] = x[largest]
        return out.reshape(W.shape)
    words = random_words(q.seed, t * W.size, W.size)
    if q.kind == "random":
        kept = np.argsort(words)[: q.kept]
        out = np.zeros_like(x)
        out[kept] = x[kept] * W.dtype.type(W.size / q.kept)
        return out.reshape(W.shape)
    top = float(np.abs(x).max())
    if not top > 0:
        return W
    u = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    levels = np.floor(x.astype(np.float64) / top * q.levels + u)
    return (levels * (top / q.levels)).astype(W.dtype).reshape(W.shape)


def random_words(seed: int, first: int, count: int) -> NDArray[np.uint64]:
    """Numbers first .. first + count - 1 of SplitMix64, modulo 2^64 throughout."""
    numbers = (first + 1 + np.arange(count)).astype(np.uint64)
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + numbers * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


class ReferenceBackend:
    """NumPy: runs everywhere, slow."""

    name = "reference"

    def unavailable(self) -> str | None:
        return None

    def refusal(self, problem: Problem, work: Work) -> str | None:
        return None

    def open(self, problem: Problem, n_threads: int | None = None) -> Session:
        return ReferenceSession(problem)

    def open_deep(self, problem: Problem, network: Network, n_threads: int | None = None) -> DeepSession:
        from .reference_deep import ReferenceDeepSession

        return ReferenceDeepSession(problem, network, n_threads)
