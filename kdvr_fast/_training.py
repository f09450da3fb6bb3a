"""The loop over epochs: anchors, sampling, divergence, tracking, callbacks. It knows plans and numbers, no method by name.

An epoch is `finished` when its row of the history is complete; an interrupt, a divergence or an error in a callback leaves the
weights and rows of the finished epochs, nothing of the one that was cut.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._job import Finished, Job, Progress
from ._measuring import Weights, accuracy, compare, null_loss, objective, table_loss
from ._order import shuffled_rows
from ._stopping import Criterion, residual_norm
from ._virtual import is_virtual
from ._weight import Anchor, Conditions, Weight
from .backends.base import LARGEST, Backend, ControlVariate, FloatArray, Pass, Problem, Session, Step, Sums, Walk
from .history import History, batch_moments, make_row
from .result import ConvergenceWarning, DivergenceError, Result, Status
from .schedules import LearningRate
from .statistics import GradientStats, batch_factor, stats_from_pass

_EXPLODED = 1e6  # times the loss of the null model or of the first epoch
_HEAD_ROWS = 1024  # rows that tell the size of the loss at given initial weights, and of virtual rows' loss at all
_PIECE_ROWS = 1 << 20  # of an order that is not stored: 8 MiB
_COINS = 1 << 20  # tossed at once


class _Part(NamedTuple):
    """Some batches of an epoch that had one weight."""

    sums: Sums
    lam: float


def train(run: Run) -> Result:
    """Carry out a run; see `solve` for what is raised."""
    status = Status.COMPLETED
    try:
        run.prepare()
        status = run.loop()
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
        warnings.warn(
            f"interrupted after {run.finished.epochs} of {run.job.epochs} epochs: {status.remedy}", RuntimeWarning, stacklevel=3
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
        self.source = "none"  # of c_i, as in ControlVariate
        self.anchor: Weights | None = None  # the anchor's weights where they are known
        self.grad_evals = self.seconds = 0.0
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

    def prepare(self) -> None:
        """Open the session and set the first anchor."""
        job = self.job
        self.session = self.open(job.problem, self.n_threads)
        self.session.set_weights(*job.initial)
        start = perf_counter()
        if job.teacher_weights is not None or job.teacher_table is not None:
            self._anchor_at_teacher(job.teacher_weights, job.teacher_table)
        elif self.plan.anchor == "table":
            self._anchor_at_weights(job.initial)
        self.seconds += perf_counter() - start

    def loop(self) -> Status:
        """Walk all epochs, or those until the criterion is met or a callback says stop."""
        self.limit = self._loss_limit()
        self.rate = float(_rates(self.job.learning_rate, 0, self._n_steps(), self.job.epochs)[0])
        if not (self.checks_snapshots and self.plan.start == 0):
            self._check_now(0)
        for epoch in range(self.job.epochs):
            self._renew(epoch)
            if self._met():
                return Status.CONVERGED
            self.epoch(epoch)
            stop = self.ask_callbacks()
            if self._met():
                return Status.CONVERGED
            if stop:
                return Status.STOPPED
        if self.checks_snapshots:
            self._check_now(self.job.epochs - 1)
        return Status.CONVERGED if self._met() else Status.COMPLETED

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

    def _keeps_bias(self, variate: ControlVariate) -> bool:
        """Whether the minimised function has the constant -lam m in its gradient."""
        return variate.source != "none" and not self.plan.centered

    def _check(self, read: Pass, weights: Weights, variate: ControlVariate) -> None:
        """Ask the criterion about a full pass at the weights."""
        if self.criterion is None:
            return
        grad, grad_intercept = read.grad, read.grad_intercept
        if self._keeps_bias(variate) and read.anchor_grad is not None and read.anchor_grad_intercept is not None:
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
        variate, weights = self._variate(epoch), self.finished.weights
        read = self.session.evaluate(*weights, variate if self._keeps_bias(variate) else ControlVariate())
        self._check(read, weights, variate)
        self.grad_evals += 1
        self.seconds += perf_counter() - start

    # -- anchors -------------------------------------------------------------------------------------------------------

    def _anchor_at_teacher(self, weights: Weights | None, table: FloatArray | None) -> None:
        plan = self.plan
        if weights is not None:
            self._anchor_at_weights(weights)
            if plan.teacher_alpha:
                theta, b = weights
                self.session.set_mean((-plan.teacher_alpha * theta).astype(theta.dtype), np.zeros_like(b))
        elif table is not None:
            made = self.session.anchor_table(table, mean=plan.centered or self.weight.auto)
            self._count(made)
            self.source = "table"
            if self.weight.auto and made is not None:
                self.weight.anchored(
                    Anchor(_square(made.anchor_grad, made.anchor_grad_intercept), table_loss(self.job.problem, table))
                )

    def _anchor_at_weights(self, weights: Weights) -> Pass | None:
        cached = self.job.cached
        made = self.session.anchor_at(*weights, cached=cached, mean=self.plan.centered or self.weight.auto)
        self._count(made)
        self.source = "table" if cached else "weights"
        self.anchor = None if self.plan.update_table else weights
        if self.weight.auto and made is not None:
            loss, penalty = made.sums.loss / made.sums.rows, self.job.step.l2 / 2 * _square(weights[0])
            self.weight.anchored(Anchor(_square(made.grad, made.grad_intercept), loss, penalty))
        return made

    def _count(self, made: Pass | None) -> None:
        self.grad_evals += made is not None

    def _renew(self, epoch: int) -> None:
        """Renew the snapshot before an epoch if it is due, and ask the criterion about it."""
        plan, since = self.plan, epoch - self.plan.start
        if plan.refresh == "never" or since < 0:
            return
        if since == 0 or (plan.refresh == "epochs" and since % plan.refresh_epochs == 0):
            start, weights = perf_counter(), self.session.weights()
            made = self._anchor_at_weights(weights)
            if made is not None and self.checks_snapshots:
                self._check(made, weights, ControlVariate())
            self.seconds += perf_counter() - start

    def _renew_at(self, epoch: int, n_steps: int) -> NDArray[np.int64]:
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
            self.anchor = None  # it will be where the walk happens to be
            self.weight.anchored(Anchor())
        return late

    # -- one epoch -----------------------------------------------------------------------------------------------------

    def epoch(self, epoch: int) -> None:
        """Walk one epoch and replace `finished`. Raises DivergenceError."""
        job = self.job
        start = perf_counter()
        order = self._order(epoch)
        n_steps = self._n_steps()
        rates = _rates(job.learning_rate, epoch, n_steps, job.epochs)
        refresh_at = self._renew_at(epoch, n_steps)
        averaging = job.average_after is not None and epoch >= job.average_after
        step = replace(job.step, average=averaging)
        self.rate = float(rates[-1])
        total, parts, first = Sums(), [], 0
        for last in self.weight.looks(n_steps):
            variate = self._variate(epoch)
            walk = self._walk(order, rates, refresh_at, (first, last), step, variate)
            self.grad_evals += len(walk.passes)
            total.add(walk.sums)
            if walk.exploded:
                break
            parts.append(_Part(walk.sums, variate.lam))
            if self.weight.auto:
                half = _square(self.session.weights()[0]) / 2
                foreign = abs(step.l2 - self.plan.teacher_alpha) * half
                now = Conditions(job.n, self._factor(), self.rate, step.l2 * half, foreign)
                self.weight.observe(walk.sums, variate.lam, now)
            first = last
        weights = self.session.average() if averaging else self.session.weights()
        self.seconds += perf_counter() - start
        self.grad_evals += len(order) / job.n * (2 if variate.source == "weights" else 1)
        loss = total.loss / max(total.rows, 1.0)
        if walk.exploded or not np.isfinite(loss) or not all(np.isfinite(w).all() for w in weights):
            raise DivergenceError(epoch + 1, loss, self.rate)
        if epoch == 0 and self.limit < LARGEST:
            self.limit = max(self.limit, _EXPLODED * loss)
        self._finish(epoch, parts, loss, weights, variate)

    def _walk(
        self,
        order: NDArray[np.int64] | range,
        rates: NDArray[np.float64],
        refresh_at: NDArray[np.int64],
        steps: tuple[int, int],
        step: Step,
        variate: ControlVariate,
    ) -> Walk:
        """Some steps of an epoch at one weight, in pieces where the order is made on the way."""
        first, last = steps
        size = max(1, _PIECE_ROWS // step.batch_size) if isinstance(order, range) else last - first
        done = Walk(Sums(), 0)
        for start in range(first, last, size):
            end = min(last, start + size)
            rows = order[start * step.batch_size : end * step.batch_size]
            walk = self.session.epoch(
                np.arange(rows.start, rows.stop) if isinstance(rows, range) else rows,
                rates if len(rates) == 1 else rates[start:end],
                step,
                variate,
                refresh_at=(refresh_at[(start <= refresh_at) & (refresh_at < end)] - start).tolist(),
                loss_limit=self.limit,
            )
            done.sums.add(walk.sums)
            done = Walk(done.sums, done.steps + walk.steps, done.passes + walk.passes, walk.exploded)
            if walk.exploded:
                break
        return done

    def _n_steps(self) -> int:
        rows = self.job.n if self.job.order is None else self.job.order.shape[1]
        return -(-rows // self.job.step.batch_size)

    def _order(self, epoch: int) -> NDArray[np.int64] | range:
        job = self.job
        if job.order is not None:
            return np.asarray(job.order[epoch], np.int64)
        if job.sampling == "sequential":
            return range(job.n)
        if job.sampling == "shuffle":
            return shuffled_rows(job.rng, job.n)
        return np.asarray(job.rng.integers(0, job.n, job.n), np.int64)

    def _variate(self, epoch: int) -> ControlVariate:
        plan = self.plan
        if self.source == "none":
            return ControlVariate()
        return ControlVariate(
            lam=self.weight.value(epoch),
            source=self.source,
            use_mean=plan.centered or plan.teacher_alpha > 0,
            update_table=plan.update_table,
            temperature=None if plan.temperature == 1.0 else plan.temperature,
        )

    @property
    def _sampling(self) -> str:
        return "shuffle" if self.job.order is None and self.job.sampling == "shuffle" else "replacement"

    def _factor(self) -> float:
        """Variance of a batch's mean over that of a row as the running sums show it."""
        n = self.job.n
        factor = batch_factor(n, self.job.step.batch_size, self._sampling)
        if self._sampling == "shuffle":  # neighbours differ: their products average to |mean|^2 - variance / (n - 1)
            factor *= 1 - 1 / n
        return factor

    def _finish(self, epoch: int, parts: list[_Part], loss: float, weights: Weights, variate: ControlVariate) -> None:
        job, done = self.job, self.finished
        rows = sum(part.sums.rows for part in parts)
        values = {"lam": sum(part.lam * part.sums.rows for part in parts) / rows}
        if job.step.statistics:
            for part in parts:
                moments = batch_moments(part.sums, part.lam, self._factor(), variate.source != "none")
                for name, value in moments.items():
                    values[name] = values.get(name, 0.0) + value * part.sums.rows / rows
        if self.anchor is not None:
            values |= compare(self.linear(weights), self.linear(self.anchor))
        if "accuracy" in job.track:
            values["accuracy"] = accuracy(job.problem, self.linear(weights))
        checked = self.criterion is not None and not self.checks_snapshots
        read: Pass | None = None
        if checked or not job.track.isdisjoint(("objective", "statistics")):
            exact = "statistics" in job.track
            start = perf_counter()
            read = self.session.evaluate(
                *weights, variate if exact or (checked and self._keeps_bias(variate)) else ControlVariate()
            )
            if checked and not job.track:  # a pass made for the criterion alone is a cost of the run
                self.grad_evals += 1
                self.seconds += perf_counter() - start
            if "objective" in job.track:
                values |= objective(read, weights[0], job.step)
            if exact:
                done.stats.append(self._statistics(read, weights[0], self._sampling))
        row = make_row(
            epoch=epoch + 1,
            loss=loss,
            grad_evals=self.grad_evals,
            seconds=self.seconds,
            learning_rate=self.rate,
            **values,
        )
        done.rows.append(row)
        self.finished = replace(done, weights=weights, epochs=epoch + 1)
        if read is not None and checked:
            self._check(read, weights, variate)

    def _statistics(self, read: Pass, W: FloatArray, sampling: str) -> GradientStats:
        job = self.job
        return stats_from_pass(
            read,
            W,
            alpha=job.step.l2,
            theta=None if job.teacher_weights is None else job.teacher_weights[0],
            teacher_alpha=self.plan.teacher_alpha,
            batch_size=job.step.batch_size,
            sampling=sampling,
        )

    def ask_callbacks(self) -> bool:
        """Call every callback; True if one asks to stop. Its exception carries the run so far as `result`."""
        done, stop = self.finished, False
        for callback in self.job.callbacks:
            coef, intercept = (w.copy() for w in self.linear(done.weights))
            try:
                stop |= bool(
                    callback(Progress(done.epochs, self.job.epochs, dict(done.rows[done.epochs - 1]), coef, intercept))
                )
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

    def result(self, status: Status) -> Result:
        """The finished epochs as a Result."""
        done, job = self.finished, self.job
        stats = done.stats[: done.epochs]
        coef, intercept = self.linear(done.weights)
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
        )


def _square(*parts: Any) -> float:
    return sum(float(np.vdot(a, a)) for a in (np.asarray(part, np.float64) for part in parts))


def _rates(schedule: LearningRate, epoch: int, n_steps: int, epochs: int) -> NDArray[np.float64]:
    rates = np.asarray(schedule.values(epoch, n_steps, epochs), np.float64)
    if rates.shape not in ((n_steps,), (1,)) or not np.isfinite(rates).all() or rates.min() < 0:
        raise ValueError(
            f"{schedule!r} gave rates of shape {rates.shape} in epoch {epoch + 1}; "
            f"expected one or {n_steps} of them, finite and not negative"
        )
    return rates
