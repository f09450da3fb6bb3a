"""Timing that is the same for everybody: alternated rounds, limited threads, entries that turn into JSON."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Say = Callable[[str], None]
DISTORTING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # they make every rival's BLAS other than what a user has


@dataclass
class Entry:
    """One rival in one task. seconds: one figure a round, empty if it has none; note: why, or what is to be known.

    accuracy: the relative suboptimality asked for; effort and gap: the iterations it took and the suboptimality they reached.
    """

    comparison: str
    task: str
    rival: str
    ours: bool
    seconds: list[float] = field(default_factory=list)
    note: str = ""
    accuracy: float | None = None
    effort: int | None = None
    gap: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median if self.seconds else None}


def seconds_of(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    outcome = run()
    return time.perf_counter() - start, outcome


def alternated(contenders: Sequence[Any], rounds: int) -> Iterator[tuple[int, Any]]:
    """(round, contender): there and back again, so that drift of the machine falls on all alike."""
    for r in range(rounds):
        for contender in contenders if r % 2 == 0 else reversed(contenders):
            yield r, contender


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """Hold every thread pool that is loaded (BLAS, OpenMP, torch) to so many threads."""
    from threadpoolctl import threadpool_limits

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    with threadpool_limits(limits=threads):
        yield


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    packages = ("kdvr_fast", "numpy", "scipy", "scikit-learn", "torch", "cyanure")
    return {
        "processor": _processor(),
        "cores": cores(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: v for name in packages if (v := _version(name))},
    }


def _version(package: str) -> str | None:
    if package == "kdvr_fast":
        import kdvr_fast

        return kdvr_fast.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
