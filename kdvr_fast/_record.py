"""What an epoch's sums say: the free columns of its row of the history, and exact statistics of a full pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ._blocks import Blocks
from ._job import Job
from .backends.base import FloatArray, Pass, Sums
from .history import batch_moments
from .statistics import GradientStats, batch_factor, stats_from_pass


class Part(NamedTuple):
    """Some batches of an epoch that had one weight."""

    sums: Sums
    lam: float


def sampling_of(job: Job) -> str:
    """How rows are drawn, for the variance of a batch."""
    once = isinstance(job.sampling, Blocks) or job.sampling == "shuffle"
    return "shuffle" if job.order is None and once else "replacement"


def factor_of(job: Job) -> float:
    """Variance of a batch's mean over that of a row as the running sums show it."""
    factor = batch_factor(job.n, job.step.batch_size, sampling_of(job))
    if sampling_of(job) == "shuffle":  # neighbours differ: their products average to |mean|^2 - variance / (n - 1)
        factor *= 1 - 1 / job.n
    return factor


def moments_of(job: Job, parts: Sequence[Part], has_anchor: bool) -> dict[str, float]:
    """Columns "lam" and those of the second moments: means over the rows of all parts."""
    rows = sum(part.sums.rows for part in parts)
    values = {"lam": sum(part.lam * part.sums.rows for part in parts) / rows}
    if job.step.statistics:
        for part in parts:
            for name, value in batch_moments(part.sums, part.lam, factor_of(job), has_anchor).items():
                values[name] = values.get(name, 0.0) + value * part.sums.rows / rows
    return values


def exact_statistics(job: Job, read: Pass, W: FloatArray, sampling: str) -> GradientStats:
    """Statistics of a pass at W, of the estimator that the job runs."""
    return stats_from_pass(
        read,
        W,
        alpha=job.step.l2,
        theta=None if job.teacher_weights is None else job.teacher_weights[0],
        teacher_alpha=job.plan.teacher_alpha,
        batch_size=job.step.batch_size,
        sampling=sampling,
    )
