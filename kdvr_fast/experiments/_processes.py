"""Runs in parallel processes of one thread each, and a way to end them all.

An interrupt reaches the parent alone. It sets an event, at which a thread of each worker interrupts the run that it is in. A
parent that was killed takes its workers along.
"""

from __future__ import annotations

import os
import signal
import warnings
from _thread import interrupt_main
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from threading import Lock, Thread
from typing import Any

from threadpoolctl import threadpool_limits

from ..result import Result, Status
from ..solve import solve
from ._experiment import Row, Settings

Work = Callable[[Settings, Row, int], Iterable[Row]]
_stop: Event | None = None  # of a worker process
_running = False  # whether it is in a run
_lock = Lock()  # of _running


def train(X: Any, y: Any, **options: Any) -> Result:
    """`solve` on one thread; raises KeyboardInterrupt where `solve` would return what it has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted after", RuntimeWarning)
        result = solve(X, y, n_threads=1, **options)
    if result.status is Status.INTERRUPTED:
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
        for done in as_completed([pool.submit(_interruptible, work, settings, *task) for task in tasks]):
            yield done.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _rows(work: Work, settings: Settings, name: str, run: Row, seed: int) -> list[Row]:
    return [{"run": name, "seed": seed, **row, **run} for row in work(settings, run, seed)]


def _interruptible(work: Work, settings: Settings, name: str, run: Row, seed: int) -> list[Row]:
    """A run that `_interrupt_when_told` may end at any time, and nothing else of the worker."""
    global _running
    with _lock:
        if _stop is not None and _stop.is_set():  # it was in the worker's queue already
            raise KeyboardInterrupt
        _running = True
    try:
        return _rows(work, settings, name, run, seed)
    finally:
        with _lock:
            _running = False


def _prepare(stop: Event) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's, for the parent
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threadpool_limits(1)
    Thread(target=_end_with_parent, daemon=True).start()
    Thread(target=_interrupt_when_told, args=(stop,), daemon=True).start()


def _interrupt_when_told(stop: Event) -> None:
    stop.wait()
    with _lock:
        if _running:
            interrupt_main(signal.SIGTERM)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # nobody is left to send results to
