"""The loop over epochs: anchors, sampling, divergence, tracking, callbacks. It knows plans and numbers, no method by name.

An epoch is `finished` when its row of the history is complete; an interrupt, a divergence or an error in a callback leaves the
weights and rows of the finished epochs, nothing of the one that was cut.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ._anchors import Anchors, Cost
from ._job import Finished, Job, Progress
from ._keeping import Keeper
from ._measuring import Weights, accuracy, compare, null_loss, objective, square
from ._record import Part, exact_statistics, factor_of, moments_of, sampling_of
from ._rows import beside, lies_on_device
from ._stopping import Criterion, residual_norm
from ._virtual import is_virtual
from ._walk import Path, rates_of, rows_of, steps_an_epoch, walk
from ._weight import Conditions, Weight
from .backends.base import LARGEST, Backend, ControlVariate, FloatArray, Pass, Problem, Session, State, Sums
from .history import History, make_row
from .result import ConvergenceWarning, DivergenceError, Result, Status
from .statistics import GradientStats

_EXPLODED = 1e6  # times the loss of the null model or of the first epoch
_HEAD_ROWS = 1024  # rows that tell the size of the loss at given initial weights, and of virtual rows' loss at all


def train(run: Run) -> Result:
    """Carry out a run; see `solve` for what is raised."""
    status = Status.COMPLETED
    try:
        run.prepare()
        status = run.loop()
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
        kept = run.job.checkpoint
        remedy = status.remedy if kept is None else f"to go on, call again with Checkpoint({str(kept.file)!r}, resume=True)"
        warnings.warn(
            f"interrupted after {run.finished.epochs} of {run.job.epochs} epochs: {remedy}", RuntimeWarning, stacklevel=3
        )
    except DivergenceError as error:
        error.result = run.result(Status.DIVERGED)
        raise
    result = run.result(status)
    if status is Status.COMPLETED and run.criterion is not None:
        warnings.warn(result.message, ConvergenceWarning, stacklevel=3)
    return result


class Run:
    """A walk over batches: the session, where the anchor is, and what has been counted."""

    def __init__(self, job: Job, backend: Backend, n_threads: int | None) -> None:
        self.job, self.plan = job, job.plan
        self.backend, self.n_threads = backend, n_threads
        self.finished = Finished(job.initial)
        self.cost = Cost()
        self.keeper: Keeper | None = None
        self.limit = LARGEST
        self.rate = 0.0  # of the last step, or of the first to come
        self.criterion = None if job.tol is None else Criterion(job.tol)
        self.weight = Weight(job.plan, job.step.momentum, job.problem.loss.quadratic, job.epochs)
        # a snapshot of the weights returned brings their gradient with it
        self.checks_snapshots = job.plan.refresh == "epochs" and job.plan.centered and job.average_after is None

    def open(self, problem: Problem, n_threads: int | None) -> Session:
        """A session of the backend on the data."""
        return self.backend.open(problem, n_threads)

    def linear(self, weights: Weights) -> Weights:
        """The linear model (k, d), (k,) that weights of the session stand for."""
        return weights

    def layers(self, weights: Weights) -> list[FloatArray] | None:
        """Copies of the layers of a deep model."""
        return None

    def prepare(self) -> None:
        """Open the session and set the first anchor, or go on from a checkpoint."""
        self.session = self.open(self.job.problem, self.n_threads)
        if self.job.walk is None:
            self.session.set_weights(*self.job.initial)
        else:
            self.session.set_state(self.job.walk)
        self.anchors = Anchors(self.job, self.session, self.weight, self.cost)
        if self.job.checkpoint is not None:
            self.keeper = Keeper(self.job.checkpoint, self)
        self.resumed = self.keeper is not None and self.keeper.load()
        if not self.resumed:
            self.anchors.start()

    def loop(self) -> Status:
        """Walk all epochs, or those until the criterion is met or a callback says stop."""
        if not self.resumed:
            self.limit = self._loss_limit()
            self.rate = float(self.rates(0)[0])
            if not (self.checks_snapshots and self.plan.start == 0):
                self._check_now(0)
            self._keep()
        status = self._epochs()
        self._keep()
        return status

    def _epochs(self) -> Status:
        if self._met():
            return Status.CONVERGED
        for epoch in range(self.finished.epochs, self.job.epochs):
            self._renew(epoch)
            if self._met():
                return Status.CONVERGED
            self.epoch(epoch)
            if self.keeper is not None and self.keeper.due():
                self._keep()
            stop = self.ask_callbacks()
            if self._met():
                return Status.CONVERGED
            if stop:
                return Status.STOPPED
        if self.checks_snapshots:
            self._check_now(self.job.epochs - 1)
        return Status.CONVERGED if self._met() else Status.COMPLETED

    def _keep(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.keeper is not None:
            self.keeper.save()

    def _loss_limit(self) -> float:
        """A million times the mean loss at z = 0, or at the given initial weights (first rows) if that is larger."""
        p, initial, head = self.job.problem, self.job.initial, slice(0, _HEAD_ROWS)
        part = replace(p, X=p.X[head], y=p.y[head], weights=None if p.weights is None else p.weights[head])
        loss = null_loss(part if is_virtual(p.X) else p)
        if any(w.any() for w in initial):
            sums = self.open(part, 1).evaluate(*initial, ControlVariate()).sums
            loss = max(loss, sums.loss / sums.rows)
        return _EXPLODED * loss if 0 < loss < LARGEST / _EXPLODED else LARGEST

    # -- the end -------------------------------------------------------------------------------------------------------

    def _met(self) -> bool:
        return self.criterion is not None and self.criterion.met

    def _check(self, read: Pass, weights: Weights, variate: ControlVariate) -> None:
        """Ask the criterion about a full pass at the weights."""
        if self.criterion is None:
            return
        grad, grad_intercept = read.grad, read.grad_intercept
        if self.anchors.keeps_bias(variate) and read.anchor_grad is not None and read.anchor_grad_intercept is not None:
            grad = grad - variate.lam * read.anchor_grad
            grad_intercept = grad_intercept - variate.lam * read.anchor_grad_intercept
            if self.job.teacher_weights is not None:
                grad = grad - variate.lam * self.plan.teacher_alpha * self.job.teacher_weights[0]
        self.criterion.check(residual_norm(grad, grad_intercept, weights[0], self.job.step, self.rate), self.finished.epochs)

    def _check_now(self, epoch: int) -> None:
        """Make a pass at the finished weights for the criterion alone."""
        if self.criterion is None:
            return
        start = perf_counter()
        variate, weights = self.anchors.variate(epoch), self.finished.weights
        read = self.session.evaluate(*weights, variate if self.anchors.keeps_bias(variate) else ControlVariate())
        self._check(read, weights, variate)
        self.cost.grad_evals += 1
        self.cost.seconds += perf_counter() - start

    def _renew(self, epoch: int) -> None:
        """Renew the snapshot before an epoch if it is due, and ask the criterion about it."""
        renewed = self.anchors.renew(epoch)
        if renewed is not None and self.checks_snapshots:
            weights, made = renewed
            if made is not None:
                self._check(made, weights, ControlVariate())

    def rates(self, epoch: int) -> NDArray[np.float64]:
        """Rates of an epoch's steps, or one for all."""
        return rates_of(self.job.learning_rate, epoch, steps_an_epoch(self.job), self.job.epochs)

    # -- one epoch -----------------------------------------------------------------------------------------------------

    def epoch(self, epoch: int) -> None:
        """Walk one epoch and replace `finished`. Raises DivergenceError."""
        job = self.job
        start = perf_counter()
        order, n_steps = rows_of(job, epoch), steps_an_epoch(job)
        rates = self.rates(epoch)
        path = Path(order, rates, self.anchors.renew_at(epoch, n_steps))
        averaging = job.average_after is not None and epoch >= job.average_after
        step = replace(job.step, average=averaging)
        self.rate = float(rates[-1])
        total, parts, first = Sums(), list[Part](), 0
        for last in self.weight.looks(n_steps):
            variate = self.anchors.variate(epoch)
            walked = walk(self.session, path, (first, last), step, variate, self.limit)
            self.cost.grad_evals += len(walked.passes)
            total.add(walked.sums)
            if walked.exploded:
                break
            parts.append(Part(walked.sums, variate.lam))
            self._observe(parts[-1])
            first = last
        weights = self.session.average() if averaging else self.session.weights()
        self.cost.seconds += perf_counter() - start
        self.cost.grad_evals += len(order) / job.n * (2 if variate.source == "weights" else 1)
        loss = total.loss / max(total.rows, 1.0)
        if walked.exploded or not np.isfinite(loss) or not all(np.isfinite(w).all() for w in weights):
            raise DivergenceError(epoch + 1, loss, self.rate)
        if epoch == 0 and self.limit < LARGEST:
            self.limit = max(self.limit, _EXPLODED * loss)
        self._finish(parts, loss, weights, variate)

    def _observe(self, part: Part) -> None:
        """Tell an automatic weight what some batches show."""
        if self.weight.auto:
            l2, half = self.job.step.l2, square(self.session.weights()[0]) / 2
            foreign = abs(l2 - self.plan.teacher_alpha) * half
            now = Conditions(self.job.n, factor_of(self.job), self.rate, l2 * half, foreign)
            self.weight.observe(self.moments(part), part.lam, now)

    def moments(self, part: Part) -> Sums:
        """Loss, second moments and products of pairs that some batches show."""
        return part.sums

    def _finish(self, parts: list[Part], loss: float, weights: Weights, variate: ControlVariate) -> None:
        job, done = self.job, self.finished
        values = moments_of(job, parts, variate.source != "none")
        if self.anchors.at is not None:
            values |= compare(self.linear(weights), self.linear(self.anchors.at))
        if "accuracy" in job.track:
            values["accuracy"] = accuracy(job.problem, self.linear(weights))
        checked = self.criterion is not None and not self.checks_snapshots
        read: Pass | None = None
        if checked or not job.track.isdisjoint(("objective", "statistics")):
            exact = "statistics" in job.track
            start = perf_counter()
            biased = checked and self.anchors.keeps_bias(variate)
            read, stats = self.read(weights, variate if exact or biased else ControlVariate(), exact)
            if checked and not job.track:  # a pass made for the criterion alone is a cost of the run
                self.cost.grad_evals += 1
                self.cost.seconds += perf_counter() - start
            if "objective" in job.track:
                values |= objective(read, weights[0], job.step)
            if stats is not None:
                done.stats.append(stats)
                values |= self.shown(stats, variate.lam)
        row = make_row(
            epoch=done.epochs + 1,
            loss=loss,
            grad_evals=self.cost.grad_evals,
            seconds=self.cost.seconds,
            learning_rate=self.rate,
            **values,
        )
        done.rows.append(row)
        self.finished = replace(done, weights=weights, epochs=done.epochs + 1)
        if read is not None and checked:
            self._check(read, weights, variate)

    def read(self, weights: Weights, variate: ControlVariate, exact: bool) -> tuple[Pass, GradientStats | None]:
        """One pass over all rows, and if `exact` the statistics that it shows."""
        read = self.session.evaluate(*weights, variate)
        return read, exact_statistics(self.job, read, weights[0], sampling_of(self.job)) if exact else None

    def shown(self, stats: GradientStats, lam: float) -> dict[str, float]:
        """Columns of the history that only statistics fill."""
        return {}

    def ask_callbacks(self) -> bool:
        """Call every callback; True if one asks to stop. Its exception carries the run so far as `result`."""
        done, stop = self.finished, False
        for callback in self.job.callbacks:
            coef, intercept = (w.copy() for w in self.linear(done.weights))
            row, layers = dict(done.rows[done.epochs - 1]), self.layers(done.weights)
            try:
                stop |= bool(callback(Progress(done.epochs, self.job.epochs, row, coef, intercept, layers)))
            except Exception as error:
                with suppress(AttributeError):  # an exception with slots cannot carry it
                    error.result = self.result(Status.STOPPED)  # type: ignore[attr-defined]
                raise
        return stop

    def message(self, status: Status) -> str:
        """How the run ended, in a sentence; with a criterion, what it found last."""
        if self.criterion is None or status not in (Status.COMPLETED, Status.CONVERGED):
            return status.message
        remedy = ": take more epochs, a larger tol, or method=LBFGS()" if status is Status.COMPLETED else ""
        return f"{status.message}; {self.criterion.message('epochs')}{remedy}"

    def _walk_state(self, status: Status) -> State | None:
        """What a walk over other rows goes on from, where weights do not say it all; of an epoch that was cut nothing."""
        step, cut = self.job.step, status in (Status.INTERRUPTED, Status.DIVERGED)
        carries = self.plan.full_batch is None and (step.momentum > 0 or self.job.average_after is not None)
        return self.session.state() if carries and not cut else None

    def result(self, status: Status) -> Result:
        """The finished epochs as a Result."""
        done, job = self.finished, self.job
        stats = done.stats[: done.epochs]
        coef, intercept = self.linear(done.weights)
        if lies_on_device(job.problem.X):
            coef, intercept = beside(coef), beside(intercept)
        return Result(
            coef=coef,
            intercept=intercept,
            history=History(done.rows[: done.epochs], stats),
            status=status,
            backend=self.backend.name,
            method=job.method,
            loss=job.problem.loss.known,
            epochs=done.epochs,
            message=self.message(status),
            stats=stats[-1] if stats else None,
            random_state=job.seed,
            walk=self._walk_state(status),
        )
