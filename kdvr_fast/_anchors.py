"""Where c_i and m come from in a run: the teacher, a snapshot of the weights, or SAGA's table; and when they are renewed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ._job import Job
from ._measuring import Weights, square, table_loss
from ._weight import Anchor, Weight
from .backends.base import ControlVariate, FloatArray, Pass, Session

_COINS = 1 << 20  # tossed at once


@dataclass
class Cost:
    """What a run has cost: gradient evaluations in units of n, full passes included, and seconds of training."""

    grad_evals: float = 0.0
    seconds: float = 0.0


class Anchors:
    """The anchor of a session. source: of c_i, as in `ControlVariate`. at: the anchor's weights where they are known."""

    def __init__(self, job: Job, session: Session, weight: Weight, cost: Cost) -> None:
        self.job, self.plan, self.session, self.weight, self.cost = job, job.plan, session, weight, cost
        self.source = "none"
        self.at: Weights | None = None
        self.is_teacher = False

    def start(self) -> None:
        """Set the first anchor, the teacher or the table of the initial weights, where there is one."""
        job, start = self.job, perf_counter()
        if job.teacher_weights is not None or job.teacher_table is not None:
            self._place_teacher(job.teacher_weights, job.teacher_table)
        elif self.plan.anchor == "table":
            self._place(job.initial)
        self.cost.seconds += perf_counter() - start

    def renew(self, epoch: int) -> tuple[Weights, Pass | None] | None:
        """Renew the snapshot before an epoch if it is due; its weights, and the pass that it took."""
        plan, since = self.plan, epoch - self.plan.start
        if plan.refresh == "never" or since < 0:
            return None
        if since > 0 and (plan.refresh != "epochs" or since % plan.refresh_epochs):
            return None
        start, weights = perf_counter(), self.session.weights()
        made = self._place(weights)
        self.cost.seconds += perf_counter() - start
        return weights, made

    def renew_at(self, epoch: int, n_steps: int) -> NDArray[np.int64]:
        """The steps of an epoch before which the snapshot is renewed."""
        plan, since = self.plan, epoch - self.plan.start
        if plan.refresh != "random" or since < 0:
            return np.zeros(0, np.int64)
        p = self.job.step.batch_size / self.job.n if plan.refresh_probability is None else plan.refresh_probability
        late = np.concatenate(
            [at + np.flatnonzero(self.job.rng.random(min(_COINS, n_steps - at)) < p) for at in range(0, n_steps, _COINS)]
        )
        if since == 0:  # the first snapshot was just taken
            late = late[late > 0]
        if len(late):
            self.at = None  # it will be where the walk happens to be
            self.weight.anchored(Anchor())
        return late

    def variate(self, epoch: int) -> ControlVariate:
        """What an epoch subtracts."""
        if self.source == "none":
            return ControlVariate()
        return replace(self.job.variate, lam=self.weight.value(epoch), source=self.source)

    def keeps_bias(self, variate: ControlVariate) -> bool:
        """Whether the minimised function has the constant -lam m in its gradient."""
        return variate.source != "none" and not self.plan.centered

    def _place_teacher(self, weights: Weights | None, table: FloatArray | None) -> None:
        plan = self.plan
        if weights is not None:
            self._place(weights)
            if plan.teacher_alpha:
                theta, b = weights
                self.session.set_mean((-plan.teacher_alpha * theta).astype(theta.dtype), np.zeros_like(b))
        elif table is not None:
            made = self.session.anchor_table(table, mean=plan.centered or self.weight.auto)
            self._count(made)
            self.source = "table"
            if self.weight.auto and made is not None:
                self.weight.anchored(
                    Anchor(square(made.anchor_grad, made.anchor_grad_intercept), table_loss(self.job.problem, table))
                )
        self.is_teacher = True

    def _place(self, weights: Weights) -> Pass | None:
        cached = self.job.cached
        made = self.session.anchor_at(*weights, cached=cached, mean=self.plan.centered or self.weight.auto)
        self._count(made)
        self.source = "table" if cached else "weights"
        self.at = None if self.plan.update_table else weights
        self.is_teacher = False
        if self.weight.auto and made is not None:
            loss, penalty = made.sums.loss / made.sums.rows, self.job.step.l2 / 2 * square(weights[0])
            self.weight.anchored(Anchor(square(made.grad, made.grad_intercept), loss, penalty))
        return made

    def _count(self, made: Pass | None) -> None:
        self.cost.grad_evals += made is not None
