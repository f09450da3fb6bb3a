"""Runs in parallel processes of one thread each, and a way to end them all.

An interrupt reaches the parent alone. It sets an event that every run looks at after each epoch, so that the workers end soon
and by themselves. A parent that was killed takes them along.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from threading import Thread
from typing import Any

from threadpoolctl import threadpool_limits

from .._job import Progress
from ..result import Result, Status
from ..solve import solve
from ._experiment import Row, Settings

Work = Callable[[Settings, Row, int], Iterable[Row]]
_stop: Event | None = None  # of a worker process


def train(X: Any, y: Any, *, callbacks: Sequence[Callable[[Progress], object]] = (), **options: Any) -> Result:
    """`solve` on one thread; raises KeyboardInterrupt where `solve` would return what it has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted after", RuntimeWarning)
        result = solve(X, y, n_threads=1, callbacks=[*callbacks, _told_to_stop], **options)
    if result.status in (Status.INTERRUPTED, Status.STOPPED):
        raise KeyboardInterrupt
    return result


def perform(
    work: Work, settings: Settings, runs: Sequence[Row], seeds: Sequence[int], jobs: int
) -> Generator[list[Row], None, None]:
    """The rows of each run, as runs end."""
    tasks = [(f"{i}.{seed}", run, seed) for seed in seeds for i, run in enumerate(runs)]
    if jobs == 1:
        with threadpool_limits(1):
            for task in tasks:
                yield _rows(work, settings, *task)
        return
    context = get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=_prepare, initargs=(stop,))
    try:
        for done in as_completed([pool.submit(_rows, work, settings, *task) for task in tasks]):
            yield done.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _rows(work: Work, settings: Settings, name: str, run: Row, seed: int) -> list[Row]:
    return [{"run": name, "seed": seed, **row, **run} for row in work(settings, run, seed)]


def _prepare(stop: Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to send results to


def stopping() -> bool:
    """Whether the experiment is to end."""
    return _stop is not None and _stop.is_set()


def _told_to_stop(progress: Progress) -> bool:
    return stopping()
