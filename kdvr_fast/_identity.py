"""What tells a run from another: its settings as text, its arrays by digests, large ones by a sample of their rows."""

from __future__ import annotations

import hashlib
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._custom import probe
from ._job import Job
from ._probabilities import Probabilities
from ._rows import is_compact, is_sparse
from ._virtual import is_virtual
from .files._rows import CsrFileRows, DenseFileRows, in_files
from .files._targets import FileOutputs, FileTargets
from .losses import Loss

_SAMPLE_ROWS = 256  # of the data
_WHOLE_BYTES = 1 << 24  # arrays up to this size are digested whole


def identity(job: Job, backend: str) -> dict[str, Any]:
    """What makes a run the same run: settings as text, arrays as digests."""
    problem = job.problem
    step = job.step if job.step.compression is None else replace(job.step, compression=replace(job.step.compression, mask=None))
    in_memory = not (is_virtual(problem.X) or in_files(problem.X))
    mask = None if job.step.compression is None else job.step.compression.mask
    return {
        "X": f"{_kind(problem.X)} {problem.X.shape} {problem.X.dtype} {_digest(*_rows(problem.X, _sample(problem.n)))}",
        "y": _digest(problem.y[:]) if in_memory else _digest(*_rows(problem.y, _sample(problem.n))),
        "sample_weight": _digest(problem.weights),
        "loss": _loss(problem.loss),
        "fit_intercept": problem.fit_intercept,
        "method": repr(job.method),
        "teacher": _digest(*(job.teacher_weights or ()), *_table(job)),
        "learning_rate": _name(job.learning_rate),
        "options": repr(step),
        "mask": _digest(mask),
        "sampling": str(job.sampling),
        "order": _digest(job.order),
        "initial weights": _digest(*job.initial),
        "cache_anchor": None if job.plan.anchor == "none" else job.cached,
        "average": job.average_after,
        "track": sorted(job.track),
        "tol": job.tol,
        "seed": job.seed,
        "backend": backend,
        "instruction set": _isa() if backend == "native" else None,
        "processor": _processor(backend),
    }


def _loss(loss: Loss) -> str:
    """By name; one's own by its numbers too, since functions of different runs may share a name."""
    return loss.name if loss.functions is None else f"{loss.name} {_digest(probe(loss.functions, loss.targets))}"


def _isa() -> str:
    from .backends.native import _core

    return _core.isa()


def _processor(backend: str) -> str | None:
    """What the kernels of a backend were compiled for where they are run; None for those built before."""
    if backend == "numba":
        from llvmlite.binding import get_host_cpu_name
        from numba import config

        return str(getattr(config, "CPU_NAME", None) or get_host_cpu_name())
    if backend == "cuda":
        from .backends.cuda_device import device_name

        return device_name()
    return None


def _name(schedule: Any) -> str:
    """A schedule as text; that of a user's own class without its place in memory."""
    return repr(schedule) if is_dataclass(schedule) else f"{type(schedule).__module__}.{type(schedule).__qualname__}"


def _table(job: Job) -> tuple[NDArray[Any] | None, ...]:
    """The teacher's table; some rows of it where it stays in files."""
    table = job.teacher_table
    if isinstance(table, Probabilities):
        return (table.values,)
    return (table,) if table is None or isinstance(table, np.ndarray) else _rows(table, _sample(job.n))


def _kind(X: Any) -> str:
    kinds = {"in files": in_files(X), "sparse": is_sparse(X), "compact": is_compact(X), "virtual": is_virtual(X)}
    return next((kind for kind, found in kinds.items() if found), "dense")


def _sample(n: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n - 1, min(n, _SAMPLE_ROWS)).astype(np.int64))


def _rows(values: Any, rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    if isinstance(values, DenseFileRows | CsrFileRows | FileTargets | FileOutputs):  # read by slices
        return tuple(part for row in rows.tolist() for part in _arrays(values[row : row + 1]))
    return _arrays(values[rows])


def _arrays(some: Any) -> tuple[NDArray[Any], ...]:
    return (some.data, some.indices, some.indptr) if is_sparse(some) else (some,)


def _digest(*arrays: NDArray[Any] | None) -> str | None:
    """Of arrays, large ones by a sample of their rows; None for none."""
    given = [a for a in arrays if a is not None]
    if not given:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for a in given:
        digest.update(f"{a.dtype.str}{a.shape}".encode())
        some = a if a.nbytes <= _WHOLE_BYTES else a[_sample(len(a))]
        digest.update(np.ascontiguousarray(some).tobytes())
    return digest.hexdigest()
