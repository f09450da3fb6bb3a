"""The measurements behind `kdvr bench`: the fused pass and an epoch of each method, beside what the machine could do.

A pass reads every row once and gives loss, mean gradient and statistics; with a teacher also its residuals, its mean gradient
and the cross terms. It cannot be faster than its floor

    max(bytes of the rows / read bandwidth,  multiply-adds / FMA peak),   multiply-adds = n d k (2, with a teacher on the fly 4)

both measured by `kdvr_fast._core` in the same round as the pass, with as many threads: the fraction of the floor is the median
over the rounds of the two times' ratio. An epoch is timed through `solve`, checks and set-up included, over 5 epochs.
Shapes: X (n, d) float32, or uint8 where it says so, W (k, d) float32; rows of d numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows import Compact
from .backends import get_backend
from .backends.base import ControlVariate, Problem, Session
from .losses import LOSSES
from .methods import KD, LSVRG, SAGA, SGD, SVRG, Method, RepeatedKD, UnbiasedKD
from .solve import solve
from .teachers import Teacher

# n, d, k, type of the rows: logistic, the same stored in bytes, MNIST, 150 classes of sentence embeddings. All but the last are
# far larger than a cache, and there arithmetic binds.
PASSES = (
    (60_000, 784, 1, "float32"),
    (240_000, 784, 1, "uint8"),
    (60_000, 784, 10, "float32"),
    (15_000, 384, 150, "float32"),
)
EPOCH = (20_000, 784, 10)
EPOCHS = 5
SOLVES: dict[str, tuple[Method, dict[str, Any]]] = {
    "SGD": (SGD(), {}),
    "KD": (KD(lam=0.7), {}),
    "KD, teacher on the fly": (KD(lam=0.7), {"cache_anchor": False}),
    "RepeatedKD": (RepeatedKD(lam=0.7), {}),
    "UnbiasedKD": (UnbiasedKD(), {}),
    "SVRG": (SVRG(), {}),
    "LSVRG": (LSVRG(), {}),
    "SAGA": (SAGA(), {}),
}
BATCHES = (10, 256)
Watch = Callable[[str], None]  # told of each stage as it begins


@dataclass(frozen=True)
class MachineSpeed:
    """Best of the rounds. fma_peak: float32 multiply-adds a second. read_bandwidth: bytes a second, from memory."""

    isa: str
    threads: int
    fma_peak: float
    read_bandwidth: float


@dataclass(frozen=True)
class PassSpeed:
    """One shape of the pass: median rates, and the fraction of the floor, whose side binds ("memory" or "arithmetic")."""

    n: int
    d: int
    k: int
    dtype: str
    teacher: bool
    rows_per_second: float
    bytes_per_second: float
    floor_fraction: float
    bound: str


@dataclass(frozen=True)
class EpochSpeed:
    """One method: median seconds of an epoch, and rows walked a second (a method's full passes are in the time)."""

    method: str
    batch_size: int
    seconds: float
    rows_per_second: float


@dataclass(frozen=True)
class BenchReport:
    """What `run_bench` measured. epoch_shape: (n, d, k) of the epochs. rounds: measurements behind each median."""

    machine: MachineSpeed
    passes: tuple[PassSpeed, ...]
    epoch_shape: tuple[int, int, int]
    epochs: tuple[EpochSpeed, ...]
    rounds: int

    def plain(self) -> dict[str, Any]:
        """The report as dictionaries, lists and numbers."""
        return asdict(self)


def floor(n: int, d: int, k: int, teacher: bool, machine: MachineSpeed, itemsize: int = 4) -> tuple[float, str]:
    """Seconds below which no pass over rows of numbers of `itemsize` bytes can come, and which side binds.

    >>> floor(1000, 100, 1, False, MachineSpeed("", 1, fma_peak=2e9, read_bandwidth=1e9))
    (0.0004, 'memory')
    """
    memory = n * d * itemsize / machine.read_bandwidth
    arithmetic = n * d * k * (4 if teacher else 2) / machine.fma_peak
    return max((memory, "memory"), (arithmetic, "arithmetic"))


def run_bench(n_threads: int = 1, rounds: int = 3, scale: float = 1.0, watch: Watch = lambda stage: None) -> BenchReport:
    """Measure passes and epochs on random data, in under a minute at scale 1.

    n_threads: of passes, epochs and the machine's own figures. rounds: measurements behind each median. scale: multiplies the
    numbers of rows; below 1 the data may fit into a cache and its floor means nothing. Raises RuntimeError without the compiled
    extension.

    Example:
        report = run_bench(scale=0.1)
        report.passes[0].floor_fraction
    """
    get_backend("native")  # raises with the reason
    seen: list[MachineSpeed] = []
    passes = []
    for rows, d, k, dtype in PASSES:
        n = max(1, int(rows * scale))
        watch(f"pass over {n} x {d} {dtype}, {k} outputs")
        passes += pass_speeds(n, d, k, dtype, n_threads, rounds, seen)
    n, d, k = max(max(BATCHES), int(EPOCH[0] * scale)), *EPOCH[1:]
    epochs = _epochs(n, d, k, n_threads, rounds, watch)
    peak, bandwidth = max(m.fma_peak for m in seen), max(m.read_bandwidth for m in seen)
    machine = MachineSpeed(seen[0].isa, n_threads, peak, bandwidth)
    return BenchReport(machine, tuple(passes), (n, d, k), epochs, rounds)


def machine_speed(n_threads: int = 1, seconds: float = 0.15) -> MachineSpeed:
    """Measure this machine: FMA peak and read bandwidth (from 256 MiB), best of the trials that fit into `seconds` each."""
    from . import _core

    return MachineSpeed(
        isa=_core.isa(),
        threads=n_threads,
        fma_peak=_core.measure_fma_peak("float32", seconds, n_threads),
        read_bandwidth=_core.measure_read_bandwidth(1 << 28, seconds, n_threads),
    )


def _data(n: int, d: int, k: int, dtype: str = "float32") -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows uniform in [0, 1), or stored bytes uniform in 0 .. 255, and random labels."""
    rng = np.random.default_rng(0)
    X = rng.random((n, d), np.float32) if dtype == "float32" else rng.integers(256, size=(n, d), dtype=np.uint8)
    y = rng.integers(max(k, 2), size=n)
    return X, y if k > 1 else y[:, None].astype(np.float32)


def pass_speeds(n: int, d: int, k: int, dtype: str, n_threads: int, rounds: int, seen: list[MachineSpeed]) -> list[PassSpeed]:
    """The pass over random rows without and with a teacher; each round's machine is appended to `seen`.

    Example:
        pass_speeds(1000, 64, 10, "float32", n_threads=1, rounds=1, seen=[])[0].floor_fraction
    """
    X, y = _data(n, d, k, dtype)
    rows = Compact(X, scale=1 / 255) if dtype == "uint8" else X
    session: Session = get_backend("native").open(Problem(rows, y, LOSSES["softmax" if k > 1 else "logistic"], k), n_threads)
    coef, intercept = np.full((k, d), 0.01, np.float32), np.zeros(k, np.float32)
    session.anchor_at(coef / 2, intercept, cached=False, mean=False)
    times: dict[bool, list[float]] = {False: [], True: []}
    ratios: dict[bool, list[float]] = {False: [], True: []}
    bound = {}
    for _ in range(rounds):
        machine = machine_speed(n_threads)
        seen.append(machine)
        for teacher, spent in times.items():
            variate = ControlVariate(source="weights" if teacher else "none")
            best = min(_seconds(lambda v=variate: session.evaluate(coef, intercept, v)) for _ in range(3))  # type: ignore[misc]
            least, bound[teacher] = floor(n, d, k, teacher, machine, X.itemsize)
            spent.append(best)
            ratios[teacher].append(least / best)
    return [
        PassSpeed(n, d, k, dtype, teacher, n / median(t), X.nbytes / median(t), median(ratios[teacher]), bound[teacher])
        for teacher, t in times.items()
    ]


def _epochs(n: int, d: int, k: int, n_threads: int, rounds: int, watch: Watch) -> tuple[EpochSpeed, ...]:
    """Every method at every batch size, in turn, `rounds` times."""
    X, y = _data(n, d, k)
    teacher = Teacher.weights(np.full((k, d), 0.01, np.float32))
    times: dict[tuple[str, int], list[float]] = {(name, b): [] for name in SOLVES for b in BATCHES}
    for round_ in range(rounds):
        watch(f"epochs of each method, round {round_ + 1} of {rounds}")
        for (name, batch_size), spent in times.items():
            method, options = SOLVES[name]
            given = None if method.plan().teacher == "none" else teacher

            def fit(m: Method = method, t: Teacher | None = given, b: int = batch_size, o: dict[str, Any] = options) -> None:
                solve(
                    X, y, loss="softmax", method=m, teacher=t, learning_rate=1e-4, batch_size=b, epochs=EPOCHS,
                    random_state=0, n_threads=n_threads, **o,
                )  # fmt: skip

            spent.append(_seconds(fit) / EPOCHS)
    return tuple(EpochSpeed(name, b, median(t), n / median(t)) for (name, b), t in times.items())


def _seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
