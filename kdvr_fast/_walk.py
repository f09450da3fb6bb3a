"""The rows and rates of an epoch, and the walk along them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._blocks import Blocks, BlockWalk, Stretch
from ._job import Job
from ._order import shuffled_rows
from ._stream import StreamSession
from .backends.base import ControlVariate, Session, Step, Sums, Walk
from .schedules import LearningRate

_PIECE_ROWS = 1 << 20  # of an order that is not stored: 8 MiB


Order = NDArray[np.int64] | range | BlockWalk


class Path(NamedTuple):
    """An epoch's rows, rates of its steps (or one for all), and the steps before which the snapshot is renewed."""

    order: Order
    rates: NDArray[np.float64]
    refresh_at: NDArray[np.int64]


def steps_an_epoch(job: Job) -> int:
    """Steps of an epoch; the last may have fewer rows."""
    rows = job.n if job.order is None else job.order.shape[1]
    return -(-rows // job.step.batch_size)


def rows_of(job: Job, epoch: int) -> Order:
    """The order of an epoch, from 0: given, or drawn from the job's generator."""
    if job.order is not None:
        return np.asarray(job.order[epoch], np.int64)
    if isinstance(job.sampling, Blocks):
        return job.sampling.walk(job.rng, job.n, job.step.batch_size)
    if job.sampling == "sequential":
        return range(job.n)
    if job.sampling == "shuffle":
        return shuffled_rows(job.rng, job.n)
    return np.asarray(job.rng.integers(0, job.n, job.n), np.int64)


def rates_of(schedule: LearningRate, epoch: int, n_steps: int, epochs: int) -> NDArray[np.float64]:
    """A schedule's rates of an epoch, checked: they may be a user's own."""
    rates = np.asarray(schedule.values(epoch, n_steps, epochs), np.float64)
    if rates.shape not in ((n_steps,), (1,)) or not np.isfinite(rates).all() or rates.min() < 0:
        raise ValueError(
            f"{schedule!r} gave rates of shape {rates.shape} in epoch {epoch + 1}; "
            f"expected one or {n_steps} of them, finite and not negative"
        )
    return rates


def walk(session: Session, path: Path, steps: tuple[int, int], step: Step, variate: ControlVariate, limit: float) -> Walk:
    """The steps first .. last - 1 of an epoch at one weight, in pieces where the order is made on the way."""
    (order, rates, refresh_at), (first, last), b = path, steps, step.batch_size
    done = Walk(Sums(), 0)
    for place, rows in _pieces(order, first * b, min(last * b, len(order)), b):
        start, end = place // b, -(-(place + len(rows)) // b)
        piece = session.epoch(
            rows.rows if isinstance(rows, Stretch) and not isinstance(session, StreamSession) else rows,
            rates if len(rates) == 1 else rates[start:end],
            step,
            variate,
            refresh_at=(refresh_at[(start <= refresh_at) & (refresh_at < end)] - start).tolist(),
            loss_limit=limit,
        )
        done.sums.add(piece.sums)
        done = Walk(done.sums, done.steps + piece.steps, done.passes + piece.passes, piece.exploded)
        if piece.exploded:
            break
    return done


def _pieces(order: Order, first: int, last: int, batch_size: int) -> Iterator[tuple[int, Any]]:
    """Rows first .. last - 1 of an order, as it is handed out: (place of the first, rows) for pieces of whole batches."""
    if isinstance(order, BlockWalk):
        yield from order.parts(first, last)
    elif isinstance(order, range):
        size = max(1, _PIECE_ROWS // batch_size) * batch_size
        for start in range(first, last, size):
            yield start, np.arange(start, min(start + size, last))
    else:
        yield first, order[first:last]
