"""What only the compiled engine can get wrong: instruction sets, its exponential, the GIL, Ctrl-C, lifetimes, foreign calls."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

import kdvr_fast as kd
from kdvr_fast.backends import backend_status
from kdvr_fast.backends.base import ControlVariate, Problem, Step
from kdvr_fast.losses import LOSSES

if backend_status()["native"] is not None:
    pytest.skip(f"native: {backend_status()['native']}", allow_module_level=True)

from kdvr_fast import _core
from kdvr_fast.backends.native import NativeSession

ISAS = ("baseline", "avx2", "avx512", "neon")


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(kd.__file__).parents[1])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("isa", ISAS)
def test_every_instruction_set_agrees_with_the_reference(isa):
    if isa not in _core.isa_available():
        pytest.skip(f"this processor has no {isa}")
    here = Path(__file__).parent
    tests = [str(here / name) for name in ("test_parity.py", "test_compact.py")]
    tests.append(f"{here / 'test_sparse.py'}::test_neighbours_of_every_length")
    tests.append(f"{here / 'test_deep.py'}::test_both_ways_agree_on_wide_layers")
    options = ["-q", "-x", "-p", "no:cacheprovider", "-k", "not numba"]  # which has no kernels by instruction set
    forced = {"KDVR_ISA": isa, "KDVR_PARITY_EXAMPLES": "60", "PYTEST_ADDOPTS": ""}
    done = run_python("-m", "pytest", *options, *tests, **forced)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout and " failed" not in done.stdout
    shown = run_python("-c", "import kdvr_fast._core as c; print(c.isa())", KDVR_ISA=isa)
    assert shown.stdout.strip() == isa


def test_an_unknown_instruction_set_is_refused():
    done = run_python("-c", "import kdvr_fast._core as c; c.isa()", KDVR_ISA="mmx")
    assert done.returncode != 0
    assert "KDVR_ISA=mmx is not available on this processor: use one of " + ", ".join(_core.isa_available()) in done.stderr


def units_in_last_place(got: np.ndarray, exact: np.ndarray, dtype: type) -> float:
    return float(np.max(np.abs(got - exact) / np.spacing(exact.astype(dtype)).astype(np.float64)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_links_are_accurate_to_a_few_ulp(dtype):
    """One row of one feature 1, target 0: the mean gradient is the link of the weight, rounded as the kernel rounds it."""
    lowest = -80 if dtype is np.float32 else -700
    z = np.concatenate([np.linspace(lowest, 30, 1501), np.linspace(-1, 1, 501)]).astype(dtype)
    one, nothing = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)

    logistic = NativeSession(Problem(one, nothing, LOSSES["logistic"], 1, fit_intercept=False))
    got = np.array([logistic.evaluate(v.reshape(1, 1), np.zeros(1), ControlVariate()).grad[0, 0] for v in z])
    wide = z.astype(np.longdouble)
    exact = np.where(z >= 0, 1 / (1 + np.exp(-wide)), np.exp(wide) / (1 + np.exp(wide))).astype(np.float64)
    assert units_in_last_place(got, exact, dtype) <= 3  # exp 1.5, sum and quotient half each, and `exact`'s own

    softmax = NativeSession(Problem(one, np.zeros((1, 2), dtype), LOSSES["softmax"], 2, fit_intercept=False))
    point = np.stack([z, np.zeros_like(z)], axis=1)[z <= 0]
    got = np.array([softmax.evaluate(p.reshape(2, 1), np.zeros(2), ControlVariate()).grad[0, 0] for p in point])
    assert units_in_last_place(got, exact[z <= 0], dtype) <= 3.5  # one more product


def test_extreme_and_infinite_logits():
    X = np.array([[1e30], [-1e30], [0.0]], np.float32)
    s = NativeSession(Problem(X, np.array([0, 1, 1]), LOSSES["softmax"], 2, fit_intercept=False))
    fine = s.evaluate(np.array([[1.0], [-1.0]]), np.zeros(2), ControlVariate())
    assert fine.sums.loss == pytest.approx(np.log(2))
    overflow = s.evaluate(np.array([[1e30], [-1e30]]), np.zeros(2), ControlVariate())
    assert not np.isfinite(overflow.sums.loss)


def big_problem(rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 256), dtype=np.float32), rng.integers(0, 10, rows)


def test_the_gil_is_released():
    X, y = big_problem()
    session = NativeSession(Problem(X, y, LOSSES["softmax"], 10))
    order = np.tile(np.arange(len(X)), 10)
    count, running = [0], threading.Event()
    running.set()

    def counter() -> None:
        while running.is_set():
            count[0] += 1

    thread = threading.Thread(target=counter)
    thread.start()
    before = count[0]
    session.epoch(order, np.array([1e-3]), Step(batch_size=10), ControlVariate())
    during = count[0] - before
    running.clear()
    thread.join()
    assert during > 10_000  # with the GIL held the counter could not move at all


def test_ctrl_c_stops_within_a_second_and_returns_the_last_epoch(request):
    X, y = big_problem()
    first_epoch: list[np.ndarray] = []
    sent: list[float] = []

    def press_ctrl_c() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    def after_epoch(progress: kd.Progress) -> None:
        first_epoch.append(progress.coef.copy())
        threading.Timer(0.2, press_ctrl_c).start()

    order = np.tile(np.arange(len(X)), (2, 150))  # an epoch of this takes more than a second
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.warns(RuntimeWarning, match="interrupted"):
        result = kd.solve(
            X, y, loss="softmax", learning_rate=1e-3, batch_size=10, order=order, epochs=2, callbacks=(after_epoch,)
        )
    assert time.perf_counter() - sent[0] < 1.0
    assert result.status == "interrupted" and len(result.history) == 1
    np.testing.assert_array_equal(result.coef, first_epoch[0])


@pytest.mark.parametrize("options", [{"compress": kd.TopK(0.5)}, {"momentum": 0.9}], ids=["TopK", "momentum"])
def test_ctrl_c_stops_steps_that_move_more_than_their_rows(request, options):
    """Rows of one feature among many: what a step costs is not theirs. An epoch takes minutes."""
    n, d = 200_000, 200_000
    X = csr_array((np.ones(n), np.arange(n) % d, np.arange(n + 1)), shape=(n, d))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    sent: list[float] = []
    timers: list[threading.Timer] = []

    def press_ctrl_c() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    class Rate(kd.Constant):
        def values(self, epoch: int, n_steps: int, epochs: int) -> np.ndarray:
            if not timers:
                timers.append(threading.Timer(0.2, press_ctrl_c))
                timers[0].start()
            return super().values(epoch, n_steps, epochs)

    with pytest.warns(RuntimeWarning, match="interrupted"):
        result = kd.solve(X, np.arange(n) % 2, loss="logistic", learning_rate=Rate(0.1), batch_size=1, epochs=1, **options)
    assert time.perf_counter() - sent[0] < 3.0
    assert result.status == "interrupted"


def test_a_session_keeps_its_arrays_alive():
    X = np.random.default_rng(0).standard_normal((64, 300))
    session = NativeSession(Problem(X.copy(), np.zeros((64, 1)), LOSSES["squared"], 1, np.ones(64), True))
    expected = session.evaluate(np.ones((1, 300)), np.zeros(1), ControlVariate()).sums.loss
    gc.collect()
    trash = [np.full((64, 300), np.nan) for _ in range(50)]
    assert session.evaluate(np.ones((1, 300)), np.zeros(1), ControlVariate()).sums.loss == expected
    del trash


def test_the_same_seed_gives_the_same_bits():
    X, y = big_problem(2000)
    runs = [kd.solve(X, y, loss="softmax", method=kd.SAGA(), learning_rate=1e-3, epochs=2, random_state=7) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].coef, runs[1].coef)
    assert runs[0].history["loss"].tobytes() == runs[1].history["loss"].tobytes()


def test_rows_are_read_in_place():
    """Rows of a wider array, every second one, backwards, read-only: the extension sees the caller's memory."""
    base = np.random.default_rng(1).standard_normal((40, 24))
    view = base[::-2, 3:20]
    view.flags.writeable = False
    session = NativeSession(Problem(view, np.zeros((20, 1)), LOSSES["squared"], 1))
    one_row = ControlVariate()
    before = session.evaluate(np.ones((1, 17)), np.zeros(1), one_row).sums.loss
    base *= 2
    after = session.evaluate(np.ones((1, 17)), np.zeros(1), one_row).sums.loss
    assert after == pytest.approx(4 * before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(X=np.zeros((4, 3), order="F")), "X: rows must be contiguous"),
        (dict(X=np.zeros(4)), "X: two dimensions"),
        (dict(y=np.zeros((4, 2))), r"y: \(n, k\) expected"),
        (dict(y=np.zeros((4, 1), np.float32)), "y: wrong dtype"),
        (dict(weights=np.ones(3)), "weights: 4 elements"),
        (dict(loss="hinge"), "unknown loss hinge"),
    ],
)
def test_wrong_calls_from_inside_the_package_are_refused(change, message):
    call = dict(
        X=np.zeros((4, 3)), y=np.zeros((4, 1)), loss="squared", n_outputs=1, weights=None, fit_intercept=True, n_threads=1
    )
    with pytest.raises(ValueError, match=message):
        _core.SessionFloat64(**{**call, **change})


def test_rows_and_steps_out_of_range_are_refused():
    session = NativeSession(Problem(np.zeros((4, 3)), np.zeros((4, 1)), LOSSES["squared"], 1))
    rate, none = np.array([0.1]), ControlVariate()
    with pytest.raises(ValueError, match="no such row"):
        session.epoch(np.array([0, 4]), rate, Step(), none)
    with pytest.raises(ValueError, match="one a step"):
        session.epoch(np.arange(4), np.array([0.1, 0.1]), Step(), none)
    with pytest.raises(ValueError, match="no table"):
        session.epoch(np.arange(4), rate, Step(), ControlVariate(source="table"))
