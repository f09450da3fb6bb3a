"""A run on layers: the loop of `_training` with another session, and the product where a linear model is shown."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ._job import Job
from ._layer_rate import LayerRate
from ._layer_weight import LayerWeight, sample_rows, sums_of_sample
from ._layers import Network
from ._measuring import Weights
from ._record import Part, sampling_of
from ._training import Run
from .backends.base import Backend, ControlVariate, FloatArray, Pass, Problem, Session, Sums
from .backends.deep import DeepSession
from .layer_statistics import LayerStats, stats_from_layers
from .result import Result, Status
from .statistics import GradientStats, stats_from_pass


class DeepRun(Run):
    """`Run` on (flat, b): all layers (p,) and the intercept. rate: follows the layers; None for the job's schedule."""

    def __init__(
        self, job: Job, backend: Backend, n_threads: int | None, network: Network, rate: LayerRate | None = None
    ) -> None:
        super().__init__(job, backend, n_threads)
        self.network, self.layer_rate = network, rate
        layered = job.teacher_weights is None or job.teacher_weights[0].ndim == 1
        self.weight = LayerWeight(job.plan, job.step.momentum, job.problem.loss.quadratic, job.epochs, layered=layered)

    def open(self, problem: Problem, n_threads: int | None) -> Session:
        session = self.backend.open_deep(problem, self.network, n_threads)
        return cast(Session, session)  # but for logits, combine, images and gram, which no walk over batches asks for

    def linear(self, weights: Weights) -> Weights:
        coef, b = weights
        return (self.network.product(coef), b) if coef.ndim == 1 else weights

    def layers(self, weights: Weights) -> list[FloatArray] | None:
        """Copies of all layers."""
        return [W.copy() for W in self.network.split(weights[0])]

    def read(self, weights: Weights, variate: ControlVariate, exact: bool) -> tuple[Pass, LayerStats | None]:
        """A pass, through all layers where statistics are wanted."""
        if not exact:
            return self.session.evaluate(*weights, variate), None
        job, session, alpha = self.job, cast(DeepSession, self.session), self.plan.teacher_alpha
        theta = job.teacher_weights[0] if alpha and job.teacher_weights is not None else None
        stats = partial(
            stats_from_pass,
            alpha=job.step.l2,
            teacher_alpha=alpha,
            batch_size=job.step.batch_size,
            sampling=sampling_of(job),
        )
        made = session.layers(*weights, variate)
        return made.whole, stats_from_layers(made, session, weights[0], theta, stats)

    def shown(self, stats: GradientStats, lam: float) -> dict[str, float]:
        """The cosine of both forms."""
        return {"form_cosine": stats.similarity(lam)} if isinstance(stats, LayerStats) else {}

    def rates(self, epoch: int) -> NDArray[np.float64]:
        """The schedule's, or one from the layers as they are."""
        if self.layer_rate is None:
            return super().rates(epoch)
        return np.array([self.layer_rate.at(self.network.split(self.session.weights()[0]))])

    def moments(self, part: Part) -> Sums:
        """The loss of some batches; the moments, which steps do not show, by a read of a sample of the rows."""
        variate, rows = self.anchors.variate(self.finished.epochs), sample_rows(self.job.n)
        read = cast(DeepSession, self.session).layers(*self.session.weights(), variate, rows).whole
        self.cost.grad_evals += len(rows) / self.job.n * (2 if variate.source == "weights" else 1)
        return sums_of_sample(read, part.sums)

    def result(self, status: Status) -> Result:
        return replace(super().result(status), weights=self.layers(self.finished.weights))
