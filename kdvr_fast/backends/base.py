"""The contract between the solver and a backend: plain data in, plain sums out.

A backend opens a `Session` on a `Problem`. The session owns the weights, the anchor (the point whose
residuals are subtracted), the momentum buffer and the running average; the solver owns everything else
(methods, schedules, sampling, history) and hands it over as numbers. Every backend therefore walks the
same rows with the same coefficients, and each is tested against `reference.py`.

One step on the batch B (rows of `order`, |B| of them, the last one may be shorter):

    r_i = s_i * residual(y_i, W a_i + b)                       s_i: sample weight, mean one over the data
    c_i = s_i * residual(y_i, anchor's output on row i)        or the tempered form, see `ControlVariate`
    g   = 1/|B| sum_{i in B} (r_i - lam c_i) (x) a_i  +  lam m  +  alpha W     (b: the same with a_i = 1, alpha = 0)
    v   = momentum v + g   (first step: v = g);   p = g + momentum v if nesterov else v
    W   = soft_threshold(W - lr p, lr l1)                      (b: no threshold)

Shapes: X (n, d), W and m (k, d), b (k,), r and c (n, k). Source: arXiv:2305.17581, Proposition 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..losses import Loss

if TYPE_CHECKING:
    from .._layers import Network
    from .deep import DeepSession

FloatArray = NDArray[np.floating]
State = dict[str, NDArray[Any]]  # of a session, see `Session.state`
LARGEST = sys.float_info.max  # a limit that only a non-finite loss passes


@dataclass(frozen=True)
class Problem:
    """The data of one fit, validated: backends trust it and check nothing again.

    X: (n, d) float32 or float64: an array of unit stride along d and any row stride, or sparse rows with the attributes `data`,
        `indices` and `indptr` (int32 or int64), `shape` and `dtype` of a CSR matrix, features rising within each row.
        Or virtual rows, which give arrays by index and are not stored (`_virtual.py`).
    y: (n,) int64 labels (losses of classes only) or (n, k) targets of X's dtype; of virtual rows what gives these by index.
    loss: the loss itself; its functions take targets as they stand in y.
    weights: (n,) of X's dtype with mean one, or None for all ones.
    """

    X: Any
    y: Any
    loss: Loss
    n_outputs: int
    weights: FloatArray | None = None
    fit_intercept: bool = True

    @property
    def n(self) -> int:
        """Rows of the data."""
        return int(self.X.shape[0])


@dataclass(frozen=True)
class ControlVariate:
    """What is subtracted in a step: lam * (c_i - m).

    source: "none" (c = 0), "weights" (c_i from the anchor's weights, on the fly) or "table" (stored rows).
    use_mean: add lam * m, the anchor's mean gradient (or whatever constant the session was given).
    update_table: after a step the table's rows become the residuals just computed and m follows (SAGA).
    temperature: None for the residual difference. A number T for the standard distillation form, where
        lam c_i = lam (r_i - s_i T (link(z_i / T) - t_i)) and t_i is the teacher's output at temperature T: link(z_teacher / T)
        for source "weights", the stored row for "table". At T = 1 both forms agree.
    """

    lam: float = 0.0
    source: str = "none"
    use_mean: bool = False
    update_table: bool = False
    temperature: float | None = None


@dataclass(frozen=True)
class Compression:
    """Q of W <- Q(W - lr p): all k d weights go through it after each step, the intercept does not.

    With N = k d, numbers counted row by row, and word(i) number t N + i of SplitMix64 from `seed`, t the steps since
    set_weights:

    kind "mask": those where mask (k, d) is false become 0.
    "random": the `kept` numbers of the smallest words stay, times N / kept.
    "top": the `kept` largest in size stay, of equal ones the first.
    "rounding": x becomes floor(x / top * levels + u) * top / levels, top = max |W|, u the word's upper 53 bits as a number in
    [0, 1).
    """

    kind: str
    kept: int = 0
    levels: int = 0
    mask: NDArray[np.bool_] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Step:
    """What is done with the corrected gradient. l2 = alpha (1 - l1_ratio), l1 = alpha l1_ratio.

    pairs_every: of so many rows of the walk, counted from 0 in each epoch, one is paired with the row before it.
    compression: what the weights go through after each step, None for nothing.
    statistics: accumulate second moments and pair products beside the loss (see `Sums`).
    average: fold the weights after each step into the running (Polyak) average. Not with a compression.
    """

    batch_size: int = 1
    l2: float = 0.0
    l1: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    average: bool = False
    statistics: bool = True
    pairs_every: int = 1
    compression: Compression | None = None


@dataclass(frozen=True)
class Work:
    """What a session will be asked for, as far as it is known before one is opened.

    step: the walk's, None for passes alone. variate: in the form its source will have. full_batch: `combine`, `images`, `gram`
    and `logits` too. network: the layers of a deep linear model, for `open_deep`.
    """

    step: Step | None = None
    variate: ControlVariate = ControlVariate()
    full_batch: bool = False
    network: Network | None = None


@dataclass
class Sums:
    """Sums over the rows visited, in float64 (an engine may sum up to 256 rows in X's dtype first).

    r, c as above; norms include the intercept's 1 where there is one.
    rows: rows visited. loss: sum s_i loss_i. xx: sum |r_i|^2 |a_i|^2. xt: sum <r_i, c_i> |a_i|^2. tt: sum |c_i|^2 |a_i|^2.
    pairs: pairs (i, j) of neighbours in the walk, see `Step.pairs_every`; pair_xx: sum <r_i, r_j> <a_i, a_j>; pair_xt: sum of
    the symmetrised <r_i, c_j> <a_i, a_j>; pair_tt: sum <c_i, c_j> <a_i, a_j>. Neighbours are (nearly) independent draws, so
    pair_xx / pairs estimates |grad f(x)|^2 without ever forming the gradient; a full pass leaves the pair sums at 0.
    """

    rows: float = 0.0
    loss: float = 0.0
    xx: float = 0.0
    xt: float = 0.0
    tt: float = 0.0
    pairs: float = 0.0
    pair_xx: float = 0.0
    pair_xt: float = 0.0
    pair_tt: float = 0.0

    def add(self, other: Sums) -> None:
        """Add `other` in place, field by field."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


@dataclass(frozen=True)
class Pass:
    """One read of all rows: the sums, and the means of both gradients (1/n stands here and nowhere else), float64."""

    sums: Sums
    grad: NDArray[np.float64]
    grad_intercept: NDArray[np.float64]
    anchor_grad: NDArray[np.float64] | None = None
    anchor_grad_intercept: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Walk:
    """One epoch: its sums, the steps finished, and the passes over all rows made inside it (refreshes of the anchor).

    exploded: the loss became non-finite or passed `loss_limit`; the session's weights are then worthless.
    """

    sums: Sums
    steps: int
    passes: list[Pass] = field(default_factory=list)
    exploded: bool = False


class Session(Protocol):
    """A problem opened by a backend. All arrays that come out are copies."""

    def set_weights(self, coef: FloatArray, intercept: FloatArray) -> None:
        """Set W (k, d) and b (k,); clears the momentum buffer and the running average."""

    def weights(self) -> tuple[FloatArray, FloatArray]:
        """Current W and b."""

    def average(self) -> tuple[FloatArray, FloatArray]:
        """The running average of the weights; the current weights if no step was averaged yet."""

    def anchor_at(self, coef: FloatArray, intercept: FloatArray, *, cached: bool, mean: bool) -> Pass | None:
        """Put the anchor at weights. cached: store its residuals (source "table"). mean: compute m.

        Needs one pass over the data if either is asked for, and returns it (its `grad` is m); None if no pass was needed.
        """

    def anchor_table(self, values: FloatArray, *, mean: bool) -> Pass | None:
        """Put the anchor at stored rows (n, k): residuals, before s_i, or tempered outputs. mean: m = mean s_i c_i (x) a_i."""

    def set_mean(self, mean: FloatArray, mean_intercept: FloatArray) -> None:
        """Set the constant part m (k, d) and (k,) directly."""

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
        """Walk `order` in batches with learning_rates[t] at step t (or one rate for all: length 1).

        order: row numbers; of rows in files a `Stretch` of a window (`_blocks.py`).

        refresh_at: sorted steps before which the anchor is put at the current weights, as the last `anchor_at` did it.
        loss_limit: stop when the mean loss of recent batches exceeds it or is not finite.
        A pending signal (Ctrl-C) raises KeyboardInterrupt within a fraction of a second.
        """

    def state(self, *, anchor: bool = False, table: bool = False) -> State:
        """What an epoch leaves to the next, as plain arrays by name.

        coef, intercept                    W (k, d) and b (k,)
        velocity, velocity_intercept       the momentum buffer, after a step with momentum
        average, average_intercept         the running average in float64, after an averaged step
        counts                             (2,) int64: steps in the average, steps that ended with a compression
        anchor, anchor_intercept, mean, mean_intercept, anchor_flags
                                           with `anchor`: its weights, m, and (2,) bool: `cached`, `mean` of `anchor_at`
        table                              with `table`: the stored rows (n, k)
        """

    def set_state(self, state: State) -> None:
        """Go on from a state of a session on the same rows, to the same bits; or, without `anchor_flags`, on any rows.

        What it does not name is cleared, but for the anchor, m and the table, which stay where it names no anchor. The table of
        an anchor that was cached is computed anew, in one pass, where it is not named.
        """

    def logits(self, coef: FloatArray, intercept: FloatArray) -> FloatArray:
        """W a_i + b of all rows at the given weights, (n, k), of X's dtype."""

    def combine(self, numbers: FloatArray) -> FloatArray:
        """Weights in the span of sparse rows: sum over i of numbers_i (x) a_i, (k, d), from numbers (k, n), of X's dtype."""

    def images(self, numbers: FloatArray) -> FloatArray:
        """The logits (k, n) of `combine(numbers)` without an intercept, of X's dtype."""

    def gram(self, rows: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """G (p, p) = sum over some rows of weights_i a_i a_i^T, each a_i with a 1 behind it where there is an intercept.

        weights: (rows,), not negative. Sums over many rows are in float64, products may be in X's dtype.
        """

    def evaluate(self, coef: FloatArray, intercept: FloatArray, variate: ControlVariate) -> Pass:
        """One read of all rows at the given weights; `variate.source` other than "none" fills the anchor's figures too."""


class Backend(Protocol):
    """An engine: a name, a reason when it cannot run (None when it can), what it refuses, and `open`."""

    name: str

    def unavailable(self) -> str | None:
        """Why this backend cannot run here and what to install, or None."""

    def refusal(self, problem: Problem, work: Work) -> str | None:
        """What of this it does not do, such as "it takes no virtual rows", or None. Asked once, before a session is opened."""

    def open(self, problem: Problem, n_threads: int | None = None) -> Session:
        """Open a session on validated data."""

    def open_deep(self, problem: Problem, network: Network, n_threads: int | None = None) -> DeepSession:
        """Open a session on validated data for a deep linear model."""
