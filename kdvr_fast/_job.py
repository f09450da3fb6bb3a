"""What a run is given, what it has finished, and what a callback is told: data without behaviour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ._blocks import Blocks
from ._measuring import Weights
from .backends.base import ControlVariate, FloatArray, Problem, State, Step
from .checkpoint import Checkpoint
from .methods import Method, Plan
from .schedules import LearningRate
from .statistics import GradientStats


@dataclass(frozen=True)
class Progress:
    """What a callback gets after each epoch (from 1) of `epochs`: the history's row, and copies of the weights so far.

    weights: the layers of a `DeepLinear` model, whose product coef is; None for a linear one.
    """

    epoch: int
    epochs: int
    row: dict[str, float]
    coef: FloatArray
    intercept: FloatArray
    weights: list[FloatArray] | None = None


Callback = Callable[[Progress], object]


_NOTHING = ControlVariate()


@dataclass(frozen=True)
class Job:
    """A validated call of `solve`.

    order: (epochs, m) row numbers, or None to draw them as `sampling` says, which may also be "sequential": all rows as they
    come, being independent draws. Rows in files are walked by `Blocks`. variate: the form of what epochs subtract; its lam and
    source are those of the first anchor. cached: store the residuals of anchors that have
    weights. teacher_weights or teacher_table: the teacher, in the one form it has. average_after: epochs before averaging
    starts, None for no averaging. seed: what replays `rng`. tol: of the gradient's norm, None for no such end. checkpoint:
    where the run is kept, None for nowhere. walk: the state of another run's session from which the first epoch goes on;
    `initial` are its weights.
    """

    problem: Problem
    method: Method
    plan: Plan
    step: Step
    epochs: int
    learning_rate: LearningRate
    initial: Weights
    rng: np.random.Generator
    sampling: str | Blocks
    variate: ControlVariate = _NOTHING
    order: NDArray[np.int64] | None = None
    cached: bool = True
    teacher_weights: Weights | None = None
    teacher_table: FloatArray | None = None
    average_after: int | None = None
    track: frozenset[str] = frozenset()
    callbacks: Sequence[Callback] = ()
    seed: int | None = None
    tol: float | None = None
    checkpoint: Checkpoint | None = None
    walk: State | None = None

    @property
    def n(self) -> int:
        """Rows of the data."""
        return self.problem.n


@dataclass(frozen=True)
class Finished:
    """State at the end of an epoch, replaced as a whole so that an interrupt never finds half of it.

    The lists are shared by all epochs; an interrupted epoch may leave more in them than the first `epochs` entries.
    """

    weights: Weights
    epochs: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    stats: list[GradientStats] = field(default_factory=list)
