"""Threads: the same bits at any number of them, no hang after fork or under joblib, limits of the process obeyed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import kdvr_fast as kd
from kdvr_fast import _threads
from kdvr_fast.backends import backend_status
from kdvr_fast.backends.base import ControlVariate, Problem, Step
from kdvr_fast.losses import LOSSES

if backend_status()["native"] is not None:
    pytest.skip(f"native: {backend_status()['native']}", allow_module_level=True)

from kdvr_fast.backends.native import NativeSession

# Batches below 16 rows, of one block cut into chunks, of several blocks with a short last one; rows long and short.
CASES = [(10, 700, 400), (16, 700, 400), (100, 700, 400), (300, 700, 400), (700, 700, 400), (250, 600, 3000), (2000, 5000, 17)]


def walk(n_threads: int, batch: int, n: int, d: int, variate: ControlVariate, dtype: type) -> list[bytes]:
    """Everything that an epoch and a pass give, as bytes."""
    rng = np.random.default_rng(batch + d)
    X, y = rng.standard_normal((n, d)).astype(dtype), rng.integers(0, 12, n)
    theta, b = (0.1 * rng.standard_normal((12, d))).astype(dtype), np.zeros(12, dtype)
    session = NativeSession(Problem(X, y, LOSSES["softmax"], 12, rng.uniform(0.5, 1.5, n).astype(dtype)), n_threads)
    session.anchor_at(theta, b, cached=variate.source == "table", mean=variate.use_mean)
    step = Step(batch_size=batch, l2=0.01, l1=0.001, momentum=0.5, average=True)
    done = session.epoch(rng.integers(0, n, 2 * n), np.array([1e-4]), step, variate)
    read = session.evaluate(theta, b, variate)
    arrays = (*session.weights(), *session.average(), read.grad, read.grad_intercept)
    return [a.tobytes() for a in arrays] + [repr(done.sums).encode(), repr(read.sums).encode()]


@pytest.mark.parametrize(("batch", "n", "d"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "variate",
    [
        ControlVariate(),
        ControlVariate(lam=0.7, source="weights", temperature=2.0),
        ControlVariate(lam=1.0, source="table", use_mean=True, update_table=True),
    ],
    ids=["none", "tempered weights", "saga"],
)
def test_the_bits_are_the_same_at_any_number_of_threads(batch, n, d, variate, dtype):
    one = walk(1, batch, n, d, variate, dtype)
    for n_threads in (2, 3, 7):
        assert walk(n_threads, batch, n, d, variate, dtype) == one, f"{n_threads} threads"


def fit(n_threads: int | None = 2) -> bytes:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 500)), rng.integers(0, 5, 400)
    return kd.solve(X, y, loss="softmax", batch_size=100, epochs=2, random_state=0, n_threads=n_threads).coef.tobytes()


def test_a_forked_child_starts_with_threads_of_its_own():
    expected = fit()  # the parent's pool exists now
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_threads import fit
expected = fit()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        os._exit(0 if fit() == expected else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes, fit() == expected)
"""
    root = Path(kd.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[0] == "[0, 0, 0, 0] True", done.stderr
    assert fit() == expected


@pytest.mark.parametrize("kind", ["loky", "threading"])
def test_joblib_workers_finish_and_agree(kind):
    import joblib

    expected = fit(1)
    with joblib.parallel_config(kind, n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(fit)(n) for n in (1, 2, 2, None)) == [expected] * 4


def test_fits_in_several_python_threads_at_once():
    expected, got = fit(1), [b""] * 4

    def run(i: int) -> None:
        got[i] = fit(2)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == [expected] * 4


def test_what_is_asked_for_and_what_the_process_may_use(monkeypatch):
    monkeypatch.setattr(_threads, "_processors", lambda: 6)
    monkeypatch.setattr(_threads, "_quota", lambda: 256)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert _threads.usable_threads() == 6
    assert _threads.usable_threads(3) == 3
    for text, threads in (("2", 2), ("9", 6), ("3,1", 3), ("", 6), ("many", 6), ("0", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert _threads.usable_threads() == threads, text
    assert _threads.usable_threads(5) == 5  # an argument goes before the environment
    monkeypatch.setattr(_threads, "_quota", lambda: 2)
    assert _threads.usable_threads(5) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert _threads.usable_threads() == 2


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 256),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 256),
        ({}, 256),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _threads._quota(tmp_path) == quota


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_affinity_is_obeyed(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert _threads.usable_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
