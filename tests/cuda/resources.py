"""What the CUDA kernels take of a device, without one: registers, shared memory, spills from the assembler, bytes emulated.

    python tests/cuda/resources.py [--check]

prints the two tables of csrc/cuda/README.md, for every kind of problem. It ends with 1 where a kernel spills, a block asks for
more than there is, or a row moves more than it must; `--check` also where the tables are not those of the file.

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

from kdvr_fast._probabilities import Probabilities
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import Step
from kdvr_fast.backends.cuda_device import BLOCK_THREADS, POINTERS, WALK_THREADS, Kind, Tuning, source_folder

README = Path(__file__).parents[2] / "csrc" / "cuda" / "README.md"
REGISTERS, SHARED = 65536, 48 << 10  # of a block, on each of the architectures
SLACK = 1.01  # of the floor: sectors at the ends of arrays
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
KINDS = [
    Kind(np.dtype(dtype), sparse, loss, one)
    for dtype in (np.float32, np.float64)
    for sparse in (False, True)
    for loss, one in (("softmax", False), ("squared", False), ("squared", True), ("logistic", True))
]
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
    """A read of all rows ("pass"), or an epoch in one block ("walk") or in launches ("launches").

    stored: the type of a teacher's stored probabilities; None for a teacher given by weights.
    """

    name: str
    loss: str
    k: int
    way: str
    batch: int = 0
    sparse: bool = False
    stored: type | None = None


WORKLOADS = [
    Workload("pass, logistic", "logistic", 1, "pass"),
    Workload("pass, 10 classes", "softmax", 10, "pass"),
    Workload("pass, 10 classes, sparse", "softmax", 10, "pass", sparse=True),
    Workload("epoch, logistic, batch 10", "logistic", 1, "walk", 10),
    Workload("epoch, 10 classes, batch 10", "softmax", 10, "walk", 10),
    Workload("epoch, 10 classes, batch 128", "softmax", 10, "launches", 128),
    Workload("epoch, 64 classes, batch 10, stored teacher", "softmax", 64, "walk", 10, stored=np.float32),
    Workload("epoch, 64 classes, batch 10, stored in float16", "softmax", 64, "walk", 10, stored=np.float16),
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
    """A float32 problem with a teacher, run in the interpreter."""
    traffic = Traffic()
    problem = make_problem(work.loss, ROWS, FEATURES, work.k, dtype=np.float32)
    if work.sparse:
        problem = replace(problem, X=to_csr(make_problem(work.loss, ROWS, FEATURES, work.k, dtype=np.float32, density=0.25).X))
    tuning = Tuning(walk_work=0 if work.way == "launches" else 2**62)
    engine = PtxEngine(None, POINTERS, planted)
    with cuda_on(engine, tuning):
        session = get_backend("cuda").open(problem)
        variate = VARIATES["weights" if work.stored is None else "table"]
        prepare(session, problem, variate)
        if work.stored is np.float16:
            P = np.random.default_rng(1).dirichlet(np.ones(work.k), ROWS).astype(np.float16)
            session.anchor_table(Probabilities(P, problem.y, problem.X.dtype), mean=False)
        engine.traffic = traffic
        if work.way == "pass":
            session.evaluate(*make_point(problem), variate)
        else:
            order = np.random.default_rng(0).permutation(ROWS)
            session.epoch(order, np.array([1e-3]), Step(batch_size=work.batch), variate)
        del session
    labels = {label for label, _ in traffic.counters}
    rows = sum(traffic.moved(label) for label in STREAMED if label in labels)
    shared = sum(traffic.moved(*key) for key in list(traffic.counters)) - rows
    touched = sum(traffic.touched(label) for label in STREAMED if label in labels)
    return Bytes(floor(work, problem), touched / ROWS, rows / ROWS, shared / ROWS, traffic.coalesced("values"))


def floor(work: Workload, problem: Any) -> float:
    """Bytes of a row that must move: numbers, target, sample weight, stored outputs, and in a walk its place in the order."""
    target = 8 if work.loss == "softmax" else 4 * work.k
    own = target + 4 + (8 if work.way != "pass" else 0)
    if work.stored is not None:
        own += np.dtype(work.stored).itemsize * work.k
    if work.sparse:
        return len(problem.X.data) * 8 / ROWS + 8 * (1 + 1 / ROWS) + own
    return FEATURES * 4 + own


def excess(use: Use) -> str | None:
    """What a kernel takes that there is not."""
    threads = WALK_THREADS if use.kernel == "kdvr_walk" else BLOCK_THREADS
    if use.spills:
        return f"{use.kernel} spills {use.spills} bytes"
    if not 0 < use.registers * threads <= REGISTERS:
        return f"{use.kernel} takes {use.registers} registers in each of {threads} threads, a block has {REGISTERS}"
    return f"{use.kernel} takes {use.shared} bytes of shared memory, a block has {SHARED}" if use.shared > SHARED else None


def label(kind: Kind) -> str:
    return f"{kind.loss}, {'one output' if kind.one else 'more'}, {'CSR' if kind.sparse else 'dense'}, {kind.dtype}"


def kernel_lines(table: dict[tuple[Kind, str], list[Use]]) -> Iterator[str]:
    yield f"| kernel | kind | {' | '.join(ARCHITECTURES)} | shared memory | spills |"
    yield f"|---|---|{'---:|' * (len(ARCHITECTURES) + 2)}"
    for kind in dict.fromkeys(kind for kind, _ in table):
        for same in zip(*(table[kind, architecture] for architecture in ARCHITECTURES), strict=True):
            numbers = [*(use.registers for use in same), max(use.shared for use in same), sum(use.spills for use in same)]
            yield f"| {same[0].kernel} | {label(kind)} | {' | '.join(map(str, numbers))} |"


def byte_lines(found: dict[Workload, Bytes]) -> Iterator[str]:
    yield "| workload | floor | touched | rows | of it asked for by lanes | weights and scratch |"
    yield "|---|---:|---:|---:|---:|---:|"
    for work, b in found.items():
        yield f"| {work.name} | {b.floor:.0f} | {b.touched:.0f} | {b.rows:.0f} | {b.coalesced:.0%} | {b.shared:.0f} |"


def main(check: bool) -> list[str]:
    """Prints both tables; what is wrong with them."""
    table, found = all_uses(KINDS), {work: measure(work) for work in WORKLOADS}
    wrong = [
        f"{label(kind)}, {architecture}: {text}"
        for (kind, architecture), uses in table.items()
        for text in map(excess, uses)
        if text is not None
    ]
    wrong += [
        f"{work.name}: {b.touched:.0f} bytes a row come from memory, the floor is {b.floor:.0f}"
        for work, b in found.items()
        if not b.floor <= b.touched <= SLACK * b.floor
    ]
    lines = [*kernel_lines(table), "", *byte_lines(found)]
    sys.stdout.write("\n".join(lines) + "\n")
    if check:
        written = [line for line in README.read_text().splitlines() if line.startswith("|")]
        wrong += [f"{README.name} has not: {line}" for line in lines if line and line not in written]
        wrong += [f"{README.name} has, and it is not so: {line}" for line in written if line not in lines]
    return wrong


if __name__ == "__main__":
    sys.exit("\n".join(main("--check" in sys.argv[1:])) or None)
