"""Times of the CUDA backend on the device of this machine: passes beside the time to read their rows, steps in either way.

    python tests/gpu/benchmark.py

A pass cannot be quicker than its bytes at the bandwidth of the memory, which is measured by a copy. Steps are made in one block
and by launches on all; `Tuning.walk_work` (kdvr_fast/backends/cuda_device.py) should lie between the two where they cross.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from scipy.sparse import random_array

from kdvr_fast._rows import CsrRows
from kdvr_fast.backends.base import ControlVariate, Problem, Step
from kdvr_fast.backends.cuda import CudaBackend, CudaSession
from kdvr_fast.backends.cuda_device import Device, Tuning
from kdvr_fast.losses import LOSSES

PASSES = ((240_000, 784, 1), (240_000, 784, 10), (60_000, 384, 150), (60_000, 784, 1000))  # n, d, k
STEPS = (
    (784, 10, 1),
    (784, 10, 10),
    (784, 10, 64),
    (784, 10, 256),
    (784, 10, 1024),
    (384, 150, 10),
    (384, 150, 256),
)  # d, k, b
ROUNDS = 7


def make_problem(n: int, d: int, k: int, density: float = 1.0) -> Problem:
    rng = np.random.default_rng(0)
    if density < 1:
        A = random_array((n, d), density=density, format="csr", dtype=np.float32, rng=rng)
        X: Any = CsrRows(A.data, A.indices, A.indptr, A.shape)
    else:
        X = rng.standard_normal((n, d), np.float32)
    if k == 1:
        return Problem(X, rng.integers(0, 2, (n, 1)).astype(np.float32), LOSSES["logistic"], 1)
    return Problem(X, rng.integers(0, k, n), LOSSES["softmax"], k)


def seconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


def bandwidth(device: Device) -> float:
    """Bytes a second that a copy reads and writes."""
    source = device.xp.zeros(1 << 28, np.float32)
    target = device.xp.empty_like(source)

    def copy() -> None:
        target[...] = source
        device.synchronize()

    return 2 * source.nbytes / seconds(copy)


def passes(device: Device) -> None:
    rate = bandwidth(device)
    print(f"copy: {rate / 1e9:.0f} GB/s\n{'pass, float32':32} {'ms':>8} {'floor':>8} {'ratio':>6}")
    for n, d, k in PASSES:
        session = CudaSession(make_problem(n, d, k), device)
        W, b = np.zeros((k, d), np.float32), np.zeros(k, np.float32)
        took, floor = seconds(lambda s=session, p=(W, b): s.evaluate(*p, ControlVariate())), 4 * n * d / rate
        print(f"{f'{n} x {d}, {k} outputs':32} {1e3 * took:8.3f} {1e3 * floor:8.3f} {took / floor:6.2f}")


def steps(device: Device) -> None:
    print(f"\n{'step, float32, statistics':32} {'one block, us':>14} {'launches, us':>14} {'multiply-adds':>14}")
    cases = [(d, k, b, 1.0) for d, k, b in STEPS] + [(50_000, 20, 10, 0.002), (50_000, 20, 256, 0.002)]
    for d, k, b, density in cases:
        problem = make_problem(20_000, d, k, density)
        order = np.random.default_rng(1).permutation(20_000)[: min(20_000, 512 * b)]
        times = []
        for tuning in (Tuning(walk_work=2**62), Tuning(walk_work=0)):
            device.tuning = tuning
            session, step = CudaSession(problem, device), Step(batch_size=b, pairs_every=8)
            took = seconds(lambda s=session, t=step, o=order: s.epoch(o, np.array([1e-3]), t, ControlVariate()))
            times.append(1e6 * took / -(-len(order) // b))
        name = f"{d} features, {k} outputs, batch {b}" + (" CSR" if density < 1 else "")
        print(f"{name:32} {times[0]:14.2f} {times[1]:14.2f} {int(2 * b * d * density * k):14}")


def main() -> None:
    backend = CudaBackend()
    reason = backend.unavailable()
    if reason is not None or backend.device is None:
        sys.exit(f"nothing to measure: {reason}")
    passes(backend.device)
    steps(backend.device)


if __name__ == "__main__":
    main()
