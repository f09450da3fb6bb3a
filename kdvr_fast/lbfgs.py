"""Full-batch steps: SciPy's L-BFGS-B on the fused pass, in the variables of `_precondition`.

It minimises ``f(W, b) - lam (<m, W> + <m_b, b>) + l2/2 |W|^2`` with (m, m_b) = grad f(teacher), the mean of the residuals
that a distillation step subtracts; its gradient is grad f(W) - lam m + l2 W. The constant m comes with the first pass. The
outer arithmetic is float64; weights are rounded to X's dtype before each pass, and objective and penalty are those of the
rounded ones. Near the optimum values differ by less than their rounding, gradients do not yet: once the line search finds no
smaller value F, the differences come from the gradients alone, ``F(P) - F(P_0) = <grad F(P) + grad F(P_0), P - P_0> / 2``,
exact for a quadratic. W (k, d), b (k,); P = (W, b) is (k, p), p = d + 1 with an intercept, else d. Source: Liu and Nocedal,
"On the Limited Memory BFGS Method for Large Scale Optimization", 1989.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from ._measuring import Weights, accuracy, compare, objective
from ._precondition import Floats, precondition, resolve
from ._training import Run
from .backends.base import ControlVariate, FloatArray, Pass
from .history import NAN, make_row
from .methods import FullBatch
from .result import DivergenceError, Status

_FIRST_PHASE = 10  # iterations until the Hessian is looked at anew: the first point says little about the last
_LONGER = 2  # times the phase before: a change of variables costs the memory of the steps
_TRIALS = 8  # passes of one line search: in the right variables the first mostly fits, and rounding makes the rest vain
_SMALL = 1 / 32  # times eps: a relative decrease that rounding of X's dtype hides
_UNLIMITED = 1 << 30


@dataclass(frozen=True)
class _Point:
    """Weights of X's dtype and what the pass there gave: value of the minimised function, its gradient (k, p)."""

    weights: Weights
    read: Pass
    value: float
    gradient: Floats


class _Stop(Exception):
    """Ends SciPy's loop from inside."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class Descent(Run):
    """A run whose epochs are iterations of L-BFGS."""

    exhausted = False  # the objective decreases no further

    def loop(self) -> Status:
        """Phases of iterations, each in the variables of the Hessian at its start, until an end is reached."""
        from threadpoolctl import threadpool_limits

        # BLAS has little to do here, and its idle threads spin beside the engine's: twice the time on two busy cores
        with threadpool_limits(limits=1, user_api="blas"):
            return self._iterate()

    def _iterate(self) -> Status:
        options = self.plan.full_batch
        if options is None:
            raise TypeError(f"{self.job.method!r} makes no full-batch steps")
        kind = resolve(options.precondition, self.job.problem)
        self._mark = perf_counter()
        self.bias: Floats | None = None
        self.point = self._pass(self.job.initial)
        length = _FIRST_PHASE if kind != "none" else options.max_iter
        try:
            self._ask(self.point)
            fine = False
            while self.finished.epochs < options.max_iter and not self.exhausted:
                stuck = self._phase(options, kind, min(length, options.max_iter - self.finished.epochs), fine)
                self.exhausted = stuck and fine
                fine |= stuck
                length *= _LONGER
        except _Stop as stop:
            return stop.status
        return Status.COMPLETED

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

    def _stack(self, W: FloatArray, b: FloatArray) -> Floats:
        return np.column_stack([W, b] if self.job.problem.fit_intercept else [W]).astype(np.float64)

    def _split(self, P: Floats) -> Weights:
        d, dtype = self.job.problem.X.shape[1], self.job.problem.X.dtype
        b = P[:, d] if self.job.problem.fit_intercept else np.zeros(len(P))
        return P[:, :d].astype(dtype), b.astype(dtype)

    def _pass(self, weights: Weights) -> _Point:
        """One read of the rows. Raises DivergenceError where the function is not finite."""
        variate = self._variate(0)
        first = self.bias is None and variate.lam > 0
        read = self.session.evaluate(*weights, variate if first else ControlVariate())
        self.grad_evals += 2 if first and variate.source == "weights" else 1
        if self.bias is None:
            self.bias = np.zeros((len(weights[0]), 1))
            if read.anchor_grad is not None and read.anchor_grad_intercept is not None:
                self.bias = variate.lam * self._stack(read.anchor_grad, read.anchor_grad_intercept)
        P, penalised = self._stack(*weights), weights[0].astype(np.float64)
        gradient = self._stack(read.grad + self.job.step.l2 * penalised, read.grad_intercept) - self.bias
        value = read.sums.loss / read.sums.rows + self.job.step.l2 / 2 * float((penalised**2).sum())
        value -= float((self.bias * P).sum())
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise DivergenceError(self.finished.epochs + 1, value, NAN)
        return _Point(weights, read, value, gradient)

    def _at(self, P: Floats) -> _Point:
        """The point at P; the last one is remembered, since a step ends, and a phase begins, where the last pass was made."""
        weights = self._split(P)
        if not all(np.array_equal(new, old) for new, old in zip(weights, self.point.weights, strict=True)):
            self.point = self._pass(weights)
        return self.point

    # -- iterations ----------------------------------------------------------------------------------------------------

    def _phase(self, options: FullBatch, kind: str, iterations: int, fine: bool) -> bool:
        """At most so many iterations from the finished weights; True if it ended before, with no smaller value to be found.

        fine: take differences of values from the gradients.
        """
        from scipy.optimize import minimize

        weights = self.finished.weights
        change = precondition(self.job.problem, weights, self.job.step.l2, kind)
        self.grad_evals += kind != "none"
        start = self._stack(*weights)
        origin = self._at(start)
        small = 0.0 if fine else _SMALL * float(np.finfo(self.job.problem.X.dtype).eps) * min(1.0, abs(origin.value))

        def move(v: Floats) -> Floats:
            return start + change.to_weights(v.reshape(start.shape))

        def function(v: Floats) -> tuple[float, Floats]:
            point = self._at(move(v))
            moved = self._stack(*point.weights) - start
            value = float(np.vdot(point.gradient + origin.gradient, moved)) / 2 if fine else point.value
            return value, change.to_gradient(point.gradient).ravel()

        def iterated(v: Floats) -> None:
            self._iteration(self._at(move(v)))

        settings = {
            "maxcor": options.memory,
            "maxiter": iterations,
            "maxfun": _UNLIMITED,
            "maxls": _TRIALS,
            "ftol": small,
            "gtol": 0.0,
        }
        v = np.zeros(start.size)
        done = minimize(function, v, jac=True, method="L-BFGS-B", callback=iterated, options=settings)
        return bool(done.nit < iterations)

    def _iteration(self, point: _Point) -> None:
        """Finish one iteration at the point. Raises _Stop if it was the last."""
        self.seconds += perf_counter() - self._mark
        job, done, variate = self.job, self.finished, self._variate(0)
        read, (W, _) = point.read, point.weights
        values = objective(read, W, job.step) | {"mean_sq_norm": read.sums.xx / read.sums.rows}
        if self.anchor is not None:
            values |= compare(point.weights, self.anchor)
        if "accuracy" in job.track:
            values["accuracy"] = accuracy(job.problem, point.weights)
        if "statistics" in job.track:
            exact = read if variate.source == "none" else self.session.evaluate(*point.weights, variate)
            done.stats.append(self._statistics(exact, W, "shuffle"))
        done.rows.append(
            make_row(
                epoch=done.epochs + 1,
                loss=read.sums.loss / read.sums.rows,
                grad_evals=self.grad_evals,
                seconds=self.seconds,
                lam=variate.lam,
                **values,
            )
        )
        self.finished = replace(done, weights=point.weights, epochs=done.epochs + 1)
        stop = self.ask_callbacks()
        self._ask(point)
        if stop:
            raise _Stop(Status.STOPPED)
        self._mark = perf_counter()

    def _ask(self, point: _Point) -> None:
        """Ask the criterion; raises _Stop if it is met."""
        if self.criterion is not None:
            self.criterion.check(float(np.linalg.norm(point.gradient)), self.finished.epochs)
        if self._met():
            raise _Stop(Status.CONVERGED)
