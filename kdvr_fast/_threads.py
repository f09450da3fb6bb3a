"""How many threads a fit may use: what was asked for, within what the process is allowed.

Without `n_threads` the environment variable OMP_NUM_THREADS decides (joblib sets it in its workers), else the processors that
the process may run on. A container's CPU quota (cgroup v1 and v2) limits both: threads beyond it are stopped for most of each
period.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

MAX_THREADS = 256  # the engine's own limit


def usable_threads(n_threads: int | None = None) -> int:
    """Threads for one fit: `n_threads`, or OMP_NUM_THREADS, or all allowed processors; at least 1, at most the CPU quota."""
    allowed = min(_processors(), _quota(), MAX_THREADS)
    if n_threads is not None:
        return max(1, min(n_threads, _quota(), MAX_THREADS))
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(1, min(int(asked), allowed)) if asked.isdigit() and int(asked) > 0 else allowed


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Whole processors of the CPU quota, rounded up; MAX_THREADS where there is none."""
    for quota_file, period_file in (("cpu.max", None), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            text = (root / quota_file).read_text().split()
            period = text[1] if period_file is None else (root / period_file).read_text()
            quota = int(text[0]) / int(period)
        except (OSError, ValueError, IndexError):
            continue  # no such file, or "max": no quota
        if quota > 0:
            return max(1, ceil(quota))
    return MAX_THREADS


def one_blas_thread() -> AbstractContextManager[Any]:
    """Within it BLAS has one thread, in the whole process: for products that our own threads make, or few of them."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


@lru_cache(maxsize=1)
def _libraries() -> Any:
    """Handles of the libraries loaded; to find them takes milliseconds."""
    import scipy.linalg  # noqa: F401 - has a BLAS of its own, which must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
