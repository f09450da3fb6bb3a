"""L-BFGS in the span of the rows, for sparse rows of more features than there are rows.

From W = 0 all weights are W = A^T C, with numbers C (k, n) of the rows: gradients A^T (R / n + l2 C), R the residuals, and so
all steps. A vector is held as C and its image A A^T C, the logits that it adds. Then

    <A^T C1, A^T C2> = <C1, A A^T C2>

so that an iteration is one product with A A^T, that of the new gradient, and the rest is work on n k numbers instead of d k;
and the logits along a step are known beforehand, so that its length costs no reading at all. An intercept is one more number
behind those of the rows and its own image. 20 newsgroups (11 314 rows, 56 438 words): a third of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ._job import Job
from ._line import Line
from ._measuring import Weights
from ._memory import SpanMemory
from ._precondition import resolve
from ._rows import CsrRows, is_sparse
from .backends.base import ControlVariate, FloatArray, Pass, Session, Sums
from .history import NAN
from .lbfgs import Descent
from .result import DivergenceError, Result, Status

_MOST_ROWS = 1 << 31
_FAR = 32.0  # a logit where a prediction is beyond doubt


def spans(job: Job) -> bool:
    """Whether the weights of a full-batch run stay in the span of the rows, and are told by fewer numbers there."""
    full, (n, d) = job.plan.full_batch, job.problem.X.shape
    free = job.teacher_weights is None and job.teacher_table is None and not job.initial[0].any()
    free = free and job.problem.loss.curvature is not None  # which the length of a step follows from
    return full is not None and free and is_sparse(job.problem.X) and n < min(d, _MOST_ROWS) and _plain(job)


def _plain(job: Job) -> bool:
    full = job.plan.full_batch
    return full is not None and resolve(full.precondition, job.problem) == "none"


def _square_norms(X: CsrRows) -> FloatArray:
    """|a_i|^2, (n,)."""
    squares = np.zeros(len(X.data) + 1, X.dtype)  # one more, so that every row starts somewhere
    np.multiply(X.data, X.data, out=squares[:-1])
    norms: FloatArray = np.add.reduceat(squares, X.indptr[:-1])
    norms[np.diff(X.indptr) == 0] = 0
    return norms


@dataclass(frozen=True)
class SpanPoint:
    """A point of the span: at (2, k, n) or (2, k, n + 1), C and its image; gradient likewise. The rest as in `lbfgs`."""

    session: Session
    n: int
    at: FloatArray
    sums: Sums
    value: float
    gradient: FloatArray
    norm: float

    @cached_property
    def weights(self) -> Weights:
        """W and b."""
        C = self.at[0]
        return self.session.combine(C[:, : self.n]), C[:, self.n] if C.shape[1] > self.n else np.zeros(len(C), C.dtype)

    @cached_property
    def read(self) -> Pass:
        """All figures of these weights."""
        return self.session.evaluate(*self.weights, ControlVariate())


class SpanDescent(Descent):
    """A run of L-BFGS in the span of the rows; weights are made of their numbers when someone asks for them."""

    def _begin(self) -> None:
        problem, (W, b) = self.job.problem, self.job.initial
        self._norms = _square_norms(problem.X) + problem.X.dtype.type(problem.fit_intercept)
        at = np.zeros((2, len(W), problem.n + problem.fit_intercept), W.dtype)
        if problem.fit_intercept:
            at[:, :, -1] = b
        self._ends: dict[int, SpanPoint] = {}
        self.bias = None
        self.point: SpanPoint = self._reach(at)
        self.memory = SpanMemory(self.full.memory, at.shape, W.dtype)

    def _reach(self, at: FloatArray) -> SpanPoint:
        """The point of the span at `at`: one product with A A^T. Raises DivergenceError where the function is not finite."""
        problem, l2, n = self.job.problem, self.job.step.l2, self.job.n
        loss, z = problem.loss, self._logits_of(at)
        r, losses = loss.residual(problem.y, z), loss.value(problem.y, z).astype(np.float64)
        if problem.weights is not None:
            r, losses = r * problem.weights[:, None], losses * problem.weights
        C, image = at[:, :, :n]
        gradient = np.empty_like(at)
        gradient[0, :, :n] = r.T / n + at.dtype.type(l2) * C
        gradient[1, :, :n] = self.session.images(gradient[0, :, :n])
        if problem.fit_intercept:
            gradient[:, :, n] = r.sum(axis=0) / n
        self.cost.grad_evals += 1
        value = float(losses.sum()) / n + l2 / 2 * float(np.sum(C * image, dtype=np.float64))
        norm = max(0.0, _inner(*gradient)) ** 0.5
        if not (np.isfinite(value) and np.isfinite(norm)):
            raise DivergenceError(self.finished.epochs + 1, value, NAN)
        squares = float(((r * r).sum(axis=1) * self._norms).sum(dtype=np.float64))
        return SpanPoint(self.session, n, at, Sums(rows=n, loss=float(losses.sum()), xx=squares), value, gradient, norm)

    def _logits_of(self, vector: FloatArray) -> FloatArray:
        """(n, k)."""
        n, image = self.job.n, vector[1]
        z: FloatArray = (image[:, :n] + image[:, n:] if self.job.problem.fit_intercept else image).T
        return z

    def _step(self) -> bool:
        before = self.point
        D = self.memory.direction(before.gradient)
        slope = _inner(before.gradient[0], D[1])
        if slope < 0:
            line = Line(self.job.problem, self._logits_of(before.at), self._logits_of(D), slope, self._bend(D))
            if not len(self.memory):  # the length of a gradient says nothing
                first = self._first(line)
                D *= D.dtype.type(first)
                line = replace(line, dz=self._logits_of(D), slope=first * slope, bend=first * first * line.bend)
            step = D.dtype.type(line.least()) * D
            self.point = self._reach(before.at + step)
            if self._less(before, self.point, _inner(before.gradient[0], step[1]), _inner(self.point.gradient[0], step[1])):
                self.memory.add(step, self.point.gradient - before.gradient)
                return True
            self.point = before
        if not len(self.memory):
            return False
        self.memory.clear()  # the pairs may mislead where the gradient alone does not
        return self._step()

    def _first(self, line: Line) -> float:
        """The length of a step along a gradient: Newton's, but not far beyond 0 where rows are fitted beyond doubt."""
        loss = self.job.problem.loss
        curvature = line.curvature(loss.link(line.z))
        if loss.quadratic:
            return -line.slope / curvature
        most = (_FAR + float(np.abs(line.z).max())) / max(float(np.abs(line.dz).max()), float(np.finfo(np.float32).tiny))
        return most if curvature * most <= -line.slope else -line.slope / curvature

    def _bend(self, D: FloatArray) -> float:
        n = self.job.n
        return self.job.step.l2 * _inner(D[0, :, :n], D[1, :, :n])

    def _end(self, point: Any) -> Weights:
        done = self.finished
        self._ends = {done.epochs: self._ends.get(done.epochs, point), done.epochs + 1: point}
        return point.weights if self.job.callbacks else done.weights

    def result(self, status: Status) -> Result:
        """The finished iterations as a Result."""
        if self.finished.epochs:
            self.finished = replace(self.finished, weights=self._ends[self.finished.epochs].weights)
        return super().result(status)


def _inner(C: FloatArray, image: FloatArray) -> float:
    """<A^T C, A^T C2> from C and the image of C2."""
    return float(np.vdot(C, image))
