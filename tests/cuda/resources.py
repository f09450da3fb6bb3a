"""What the CUDA kernels take of a device, without one: registers, shared memory, spills from the assembler, bytes emulated.

    python tests/cuda/resources.py [--all]

prints the two tables of csrc/cuda/README.md. `--all` looks at every kind of problem, not only the largest.

Bytes a row are those that warps ask memory for when the PTX is executed, in sectors of 32 bytes, before any cache. The floor
must move whatever a cache holds: each row of X once, and what belongs to it (target, sample weight, place in the order).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import numpy as np
from device import nvrtc
from device.backend import cuda_on
from device.engines import PtxEngine
from problems import VARIATES, make_point, make_problem, prepare, to_csr
from ptx import Traffic

from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import Step
from kdvr_fast.backends.cuda_device import POINTERS, Kind, Tuning, source_folder

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
KINDS = [
    Kind(np.dtype(dtype), sparse, loss, one)
    for dtype in (np.float32, np.float64)
    for sparse in (False, True)
    for loss, one in (("softmax", False), ("squared", False), ("squared", True), ("logistic", True))
]
LARGEST = [kind for kind in KINDS if kind.loss == "softmax"]
STREAMED = ("values", "features", "starts", "labels", "targets", "sample", "order", "table")  # a row's own; the rest is shared
_USE = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.S,
)


@dataclass(frozen=True)
class Use:
    """What a kernel takes: registers a thread, bytes of shared memory a block, bytes that spill to local memory a thread."""

    kernel: str
    registers: int
    shared: int
    spills: int


def uses(kind: Kind, architecture: str) -> list[Use]:
    """All kernels of one kind of problem on one architecture, as NVRTC assembles them."""
    folder = source_folder()
    options = ["-std=c++17", "-default-device", f"-I{folder}", f"-I{folder / 'cuda'}", *kind.options()]
    return read_log(nvrtc.compile_log((folder / "cuda" / "kernels.cu").read_text(), options, architecture))


def read_log(log: str) -> list[Use]:
    """The kernels of an assembler's log, by name."""
    found = []
    for name, stores, loads, registers, rest in _USE.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        found.append(Use(name, int(registers), int(shared[1]) if shared else 0, int(stores) + int(loads)))
    return sorted(found, key=lambda use: use.kernel)


def all_uses(kinds: Sequence[Kind]) -> dict[tuple[Kind, str], list[Use]]:
    """By kind and architecture; two at a time."""
    keys = [(kind, architecture) for kind in kinds for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(keys, pool.map(lambda key: uses(*key), keys), strict=True))


@dataclass(frozen=True)
class Workload:
    """A read of all rows ("pass"), or an epoch in one block ("walk") or in launches ("launches")."""

    name: str
    loss: str
    k: int
    way: str
    batch: int = 0
    sparse: bool = False


WORKLOADS = [
    Workload("pass, logistic", "logistic", 1, "pass"),
    Workload("pass, 10 classes", "softmax", 10, "pass"),
    Workload("pass, 10 classes, sparse", "softmax", 10, "pass", sparse=True),
    Workload("epoch, logistic, batch 10", "logistic", 1, "walk", 10),
    Workload("epoch, 10 classes, batch 10", "softmax", 10, "walk", 10),
    Workload("epoch, 10 classes, batch 128", "softmax", 10, "launches", 128),
]
ROWS, FEATURES = 256, 64


@dataclass(frozen=True)
class Bytes:
    """Of a row: the floor, what was touched of it, what warps asked for of rows and of all else, and X's coalesced share."""

    floor: float
    touched: float
    rows: float
    shared: float
    coalesced: float


def measure(work: Workload, planted: Any = None) -> Bytes:
    """A float32 problem with a teacher given by weights, run in the interpreter."""
    traffic = Traffic()
    problem = make_problem(work.loss, ROWS, FEATURES, work.k, dtype=np.float32)
    if work.sparse:
        problem = replace(problem, X=to_csr(make_problem(work.loss, ROWS, FEATURES, work.k, dtype=np.float32, density=0.25).X))
    tuning = Tuning(walk_work=0 if work.way == "launches" else 2**62)
    engine = PtxEngine(None, POINTERS, planted)
    with cuda_on(engine, tuning):
        session = get_backend("cuda").open(problem)
        prepare(session, problem, VARIATES["weights"])
        engine.traffic = traffic
        if work.way == "pass":
            session.evaluate(*make_point(problem), VARIATES["weights"])
        else:
            order = np.random.default_rng(0).permutation(ROWS)
            session.epoch(order, np.array([1e-3]), Step(batch_size=work.batch), VARIATES["weights"])
        del session
    labels = {label for label, _ in traffic.counters}
    rows = sum(traffic.moved(label) for label in STREAMED if label in labels)
    shared = sum(traffic.moved(*key) for key in list(traffic.counters)) - rows
    touched = sum(traffic.touched(label) for label in STREAMED if label in labels)
    return Bytes(floor(work, problem), touched / ROWS, rows / ROWS, shared / ROWS, traffic.coalesced("values"))


def floor(work: Workload, problem: Any) -> float:
    """Bytes of a row that must move: its numbers, target, sample weight (and, in a walk, its place in the order)."""
    target = 8 if work.loss == "softmax" else 4 * work.k
    own = target + 4 + (8 if work.way != "pass" else 0)
    if work.sparse:
        return len(problem.X.data) * 8 / ROWS + 8 * (1 + 1 / ROWS) + own
    return FEATURES * 4 + own


def lines(kinds: Sequence[Kind]) -> Iterator[str]:
    """Both tables."""
    table = all_uses(kinds)
    yield f"| kernel | kind | {' | '.join(ARCHITECTURES)} | shared memory | spills |"
    yield f"|---|---|{'---:|' * (len(ARCHITECTURES) + 2)}"
    for kind in kinds:
        by_architecture = [table[kind, architecture] for architecture in ARCHITECTURES]
        for same in zip(*by_architecture, strict=True):
            label = f"{kind.loss}, {'one output' if kind.one else 'more'}, {'CSR' if kind.sparse else 'dense'}, {kind.dtype}"
            numbers = [*(use.registers for use in same), max(use.shared for use in same), sum(use.spills for use in same)]
            yield f"| {same[0].kernel} | {label} | {' | '.join(map(str, numbers))} |"
    yield ""
    yield "| workload | floor | touched | rows | of it asked for by lanes | weights and scratch |"
    yield "|---|---:|---:|---:|---:|---:|"
    for work in WORKLOADS:
        b = measure(work)
        yield f"| {work.name} | {b.floor:.0f} | {b.touched:.0f} | {b.rows:.0f} | {b.coalesced:.0%} | {b.shared:.0f} |"


if __name__ == "__main__":
    for line in lines(KINDS if "--all" in sys.argv[1:] else LARGEST):
        sys.stdout.write(line + "\n")
