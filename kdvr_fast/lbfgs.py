"""Full-batch steps: Newton's where the Hessian is cheap and exact, else those of L-BFGS, in the metric of `_precondition`.

They minimise ``f(W, b) - lam (<m, W> + <m_b, b>) + l2/2 |W|^2`` with (m, m_b) = grad f(teacher), the mean of the residuals
that a distillation step subtracts; its gradient is grad f(W) - lam m + l2 W. The constant m comes with the first pass. Weights
have X's dtype, and objective, penalty and gradient are those of the rounded weights, in float64. A step P + t D is taken once

    F(P + t D) - F(P) <= DECREASE t <grad F(P), D>   and   <grad F(P + t D), D> >= STEEP <grad F(P), D>;

where values differ by less than their rounding, gradients do not yet, and the first condition is the same of the slopes, exact
for a quadratic: <grad F(P + t D), D> <= (2 DECREASE - 1) <grad F(P), D>. W (k, d), b (k,); P = (W, b) is (k, p), p = d + 1 with
an intercept, else d. The loop is our own since SciPy's takes four times as long as the passes where there are a million weights
(20 newsgroups: 3.5 s of 4.4), and forgets the steps made whenever the metric changes.

Source: Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", 1989; approximate Wolfe conditions:
Hager and Zhang, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search", 2005.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from ._job import Job
from ._line import Line
from ._measuring import Weights, accuracy, compare, objective
from ._memory import Memory
from ._point import PassPoint, Point
from ._precondition import Floats, measure, resolve
from ._record import exact_statistics
from ._sample import sample_of, worth_making
from ._threads import one_blas_thread
from ._training import Run
from .backends.base import ControlVariate, FloatArray
from .history import NAN, make_row
from .methods import FullBatch
from .result import DivergenceError, Status

_FIRST_LOOK = 10  # iterations until the Hessian is looked at anew: the first point says little about the last
_LONGER = 2  # times the iterations before: the model changes less and less
_TRIALS = 12  # passes of one line search: the first mostly fits, and rounding makes the rest vain
_LOST = 3  # of them without a decrease: the model is off by orders of magnitude, as where rows are fitted beyond doubt
_DECREASE, _STEEP = 1e-4, 0.9  # of the slope
_NOISE = 1 / 32  # times eps: a relative difference of values that rounding of X's dtype hides
_NOISE_OF_SUMS = 8 * float(np.finfo(np.float64).eps)
_PATIENCE = 100  # iterations without a smaller gradient, values lost in rounding: on the way it rises and falls,
_NEWTON_PATIENCE = 3  # but not in Newton's steps
_GROWN = 100.0  # times the smallest gradient: steps that follow nothing but rounding lead away


class _Stop(Exception):
    """Ends the loop from inside an iteration."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class Descent(Run):
    """A run whose epochs are iterations of L-BFGS, or Newton's."""

    exhausted = False  # the objective decreases no further
    enough: float | None = None  # in a run on a sample: the gain of a step below which it is the last

    def loop(self) -> Status:
        """Iterations until an end is reached."""
        # BLAS has little to do here, and its idle threads spin beside the engine's: twice the time on two busy cores
        with one_blas_thread():
            return self._iterate()

    def _iterate(self) -> Status:
        options = self.full
        self._mark = perf_counter()
        self._begin()
        kind = resolve(options.precondition, self.job.problem)
        try:
            self._ask(self.point)
            sample = sample_of(self.job, kind) if self.enough is None else None
            if sample is not None:
                self._jump(sample)
            look, wait = self.finished.epochs if kind != "none" else options.max_iter, _FIRST_LOOK
            least, lost = self.point.norm, 0
            while self.finished.epochs < options.max_iter and lost < (_NEWTON_PATIENCE if self._newton() else _PATIENCE):
                if self.finished.epochs == look:
                    look = self._look(kind, wait)
                    wait *= _LONGER
                before = self.point
                if not self._step():
                    break
                near = self._near(self.point, before)
                if near and self.point.norm > _GROWN * least:
                    break
                lost = lost + 1 if near and self.point.norm >= least else 0
                least = min(least, self.point.norm)
                self._iteration(self.point)
                if self.enough is not None and before.value - self.point.value <= self.enough:
                    break
        except _Stop as stop:
            return stop.status
        self.exhausted = self.finished.epochs < options.max_iter
        return Status.COMPLETED

    @property
    def full(self) -> FullBatch:
        """Options of the method."""
        if self.plan.full_batch is None:
            raise TypeError(f"{self.job.method!r} makes no full-batch steps")
        return self.plan.full_batch

    def _begin(self) -> None:
        """The first point, and a memory for points of its kind."""
        self.bias: Floats | None = None
        self.point: Point = self._pass(self.job.initial)
        self._logits: FloatArray | None = None  # (n, k), of the point
        self._moving: FloatArray | None = None  # of the direction
        self.memory = Memory(self.full.memory, self.point.gradient.shape, self.job.problem.X.dtype)

    def message(self, status: Status) -> str:
        """How the run ended, in a sentence."""
        if status not in (Status.COMPLETED, Status.CONVERGED):
            return status.message
        text, remedy = status.message, ""
        if status is Status.COMPLETED and self.exhausted:
            dtype = self.job.problem.X.dtype
            text = f"no step decreases the objective any further in the arithmetic of X, {dtype}"
            remedy = ": take a larger tol" + (", or X in float64" if dtype == np.float32 else "")
        elif status is Status.COMPLETED:
            text, remedy = f"max_iter={self.job.epochs} iterations were made", ": take a larger max_iter or tol"
        return text if self.criterion is None else f"{text}; {self.criterion.message('iterations')}{remedy}"

    # -- the function --------------------------------------------------------------------------------------------------

    def _stack(self, W: Any, b: Any) -> Any:
        """P (k, p)."""
        return np.column_stack([W, b]) if self.job.problem.fit_intercept else W

    def _pass(self, weights: Weights) -> PassPoint:
        """One read of the rows. Raises DivergenceError where the function is not finite."""
        variate = self.anchors.variate(0)
        first = self.bias is None and variate.lam > 0
        read = self.session.evaluate(*weights, variate if first else ControlVariate())
        self.cost.grad_evals += 2 if first and variate.source == "weights" else 1
        if first and read.anchor_grad is not None and read.anchor_grad_intercept is not None:
            self.bias = variate.lam * self._stack(read.anchor_grad, read.anchor_grad_intercept)
        W = weights[0].astype(np.float64)
        value = read.sums.loss / read.sums.rows + self.job.step.l2 / 2 * float(np.vdot(W, W))
        W *= self.job.step.l2
        W += read.grad
        gradient = self._stack(W, read.grad_intercept)
        if self.bias is not None:
            gradient = gradient - self.bias
            value -= float(np.vdot(self.bias, self._stack(*weights)))
        norm = float(np.linalg.norm(gradient))
        if not (np.isfinite(value) and np.isfinite(norm)):
            raise DivergenceError(self.finished.epochs + 1, value, NAN)
        return PassPoint(weights, read, value, gradient, norm)

    def _moved(self, D: FloatArray, t: float) -> Weights:
        """The weights P + t D."""
        W, b = self.point.weights
        d = W.shape[1]
        step = W.dtype.type(t)
        return W + step * D[:, :d], b + step * D[:, d] if self.job.problem.fit_intercept else b

    def _less(self, before: Point, after: Point, slope: float, now: float) -> bool:
        """Whether a step decreases the function by enough; slope, now: along it at its start and its end, times its length."""
        if self._near(after, before):
            return now <= (2 * _DECREASE - 1) * slope
        return after.value - before.value <= _DECREASE * slope

    def _near(self, one: Point, other: Point) -> bool:
        """Whether rounding hides the difference of the values."""
        noise = max(_NOISE * float(np.finfo(self.job.problem.X.dtype).eps), _NOISE_OF_SUMS)
        return abs(one.value - other.value) <= noise * min(1.0, abs(other.value))

    # -- iterations ----------------------------------------------------------------------------------------------------

    def _jump(self, sample: Job) -> None:
        """An iteration to about the optimum of a sample of the rows, unless all rows object."""
        run = Descent(sample, self.backend, self.n_threads)
        run.enough = worth_making(sample)
        try:
            run.prepare()
            run.loop()
            point = self._pass(run.finished.weights)
        except DivergenceError:
            return
        finally:
            self.cost.grad_evals += run.cost.grad_evals * sample.n / self.job.n
        if point.value < self.point.value:
            self.point = point
            self._iteration(point)

    def _look(self, kind: str, wait: int) -> int:
        """Put the metric of the current weights below the pairs; returns the iteration at which it is due again."""
        problem, done = self.job.problem, self.finished.epochs
        metric = measure(self.session, problem, self._at_point(), self.job.step.l2, kind)
        self.cost.grad_evals += 1
        if metric.exact:  # pairs of other points would spoil it
            self.memory.clear()
        self.memory.replace(metric)
        if problem.loss.quadratic:
            return self.job.epochs
        return done + (1 if metric.exact else wait)

    def _newton(self) -> bool:
        """Whether the metric is the Hessian itself."""
        return self.memory.metric is not None and self.memory.metric.exact

    def _at_point(self) -> FloatArray:
        """The logits of the current weights, (n, k)."""
        if self._logits is None:
            self._logits = self.session.logits(*self.point.weights)
            self.cost.grad_evals += 1
        return self._logits

    def _step(self) -> bool:
        """Make a step and remember it; False if none decreases the function any further."""
        D = self.memory.direction(self.point.gradient)
        first = 1.0
        if self.memory.metric is None and not len(self.memory):
            first = 1 / self.point.norm if self.point.norm > 0 else 1.0
        elif self._newton() and not self.job.problem.loss.quadratic:
            first = self._along(D)
        before, found = self.point, self._search(D, first)
        if found is None and len(self.memory):  # the pairs may mislead where the metric alone does not
            self.memory.clear()
            return self._step()
        if found is None:
            return False
        self.point, t = found
        after = self.point
        self._logits = None if self._moving is None or self._logits is None else self._logits + D.dtype.type(t) * self._moving
        self._moving = None
        if not self._newton():
            step = [new - old for new, old in zip(after.weights, before.weights, strict=True)]
            self.memory.add(self._stack(*step), after.gradient - before.gradient)
        return True

    def _search(self, D: FloatArray, t: float) -> tuple[Point, float] | None:
        """The first point P + t D that satisfies both conditions, or at least the first, with its t; None if there is none."""
        before = self.point
        slope = float(np.vdot(before.gradient, D))
        if not slope < 0:
            return None
        best: tuple[Point, float] | None = None
        low, low_slope, high = 0.0, slope, np.inf
        for trial in range(_TRIALS):
            weights = self._moved(D, t)
            if all(np.array_equal(new, old) for new, old in zip(weights, before.weights, strict=True)):
                return best
            point = self._pass(weights)
            now = float(np.vdot(point.gradient, D))
            less = self._less(before, point, t * slope, t * now)
            if less and now >= _STEEP * slope:
                return point, t
            root = low + (t - low) * low_slope / (low_slope - now) if now > low_slope else np.inf  # where the slope is 0
            if less:
                best, low, low_slope = (point, t), t, now
            else:
                high = t
            if np.isinf(high):
                t = min(max(root, 2 * t), 10 * t)
            elif best is None and trial >= _LOST:
                t = 0.1 * high
            else:
                t = min(max(root, low + 0.1 * (high - low)), low + 0.9 * (high - low))
        return best

    def _along(self, D: FloatArray) -> float:
        """About the t at which F(P + t D) is least."""
        problem, d = self.job.problem, self.job.problem.X.shape[1]
        V = D[:, :d]
        self._moving = self.session.logits(V, D[:, d] if problem.fit_intercept else np.zeros(len(D), D.dtype))
        self.cost.grad_evals += 1
        slope = float(np.vdot(self.point.gradient, D))
        bend = self.job.step.l2 * float(np.vdot(V.astype(np.float64), V))
        return Line(problem, self._at_point(), self._moving, slope, bend).least()

    def _iteration(self, point: Point) -> None:
        """Finish one iteration at the point. Raises _Stop if it was the last."""
        self.cost.seconds += perf_counter() - self._mark
        job, done, variate = self.job, self.finished, self.anchors.variate(0)
        values = self._objective(point) | {"mean_sq_norm": point.sums.xx / point.sums.rows}
        if self.anchors.at is not None:
            values |= compare(point.weights, self.anchors.at)
        if "accuracy" in job.track:
            values["accuracy"] = accuracy(job.problem, point.weights)
        if "statistics" in job.track:
            exact = point.read if variate.source == "none" else self.session.evaluate(*point.weights, variate)
            done.stats.append(exact_statistics(job, exact, point.weights[0], "shuffle"))
        done.rows.append(
            make_row(
                epoch=done.epochs + 1,
                loss=point.sums.loss / point.sums.rows,
                grad_evals=self.cost.grad_evals,
                seconds=self.cost.seconds,
                lam=variate.lam,
                **values,
            )
        )
        self.finished = replace(done, weights=self._end(point), epochs=done.epochs + 1)
        stop = self.ask_callbacks()
        self._ask(point)
        if stop:
            raise _Stop(Status.STOPPED)
        self._mark = perf_counter()

    def _end(self, point: Any) -> Weights:
        """The weights that an iteration ends with."""
        weights: Weights = point.weights
        return weights

    def _objective(self, point: Point) -> dict[str, float]:
        """The columns "objective" and "grad_norm", without the constant part of the gradient."""
        if self.bias is None:
            return {"objective": point.value, "grad_norm": point.norm}
        return objective(point.read, point.weights[0], self.job.step)

    def _ask(self, point: Point) -> None:
        """Ask the criterion; raises _Stop if it is met."""
        if self.criterion is not None:
            self.criterion.check(point.norm, self.finished.epochs)
        if self._met():
            raise _Stop(Status.CONVERGED)
