"""The numba backend beyond the parity tests: custom losses, what it refuses, interrupts, caches, sparse work."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from problems import make_point, make_problem, prepare, to_csr
from test_custom_loss import HUBER, POISSON, TWINS
from test_parity import Case, close_passes, close_sums, learning_rate, tolerance

import kdvr_fast as kd
from kdvr_fast import backend_status
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import Compression, ControlVariate, Step, Work

REASON = backend_status()["numba"]
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"numba: {REASON}")

VECTOR = kd.Loss.custom(  # Huber's loss of the length of a row's error
    lambda y, z: np.sqrt(1.0 + ((z - y) ** 2).sum()),
    lambda y, z: (z - y) / np.sqrt(1.0 + ((z - y) ** 2).sum()),
    name="length",
    joint=True,
)
CASES = {  # name: loss, the built-in loss whose targets it takes, outputs
    "huber": (HUBER, "squared", 2),
    "poisson": (POISSON, "squared", 1),
    "length": (VECTOR, "squared", 3),
    "twin of logistic": (TWINS["logistic"], "logistic", 1),
    "twin of softmax": (TWINS["softmax"], "softmax", 4),
}


def make_custom_problem(name, dtype, *, sparse=False):
    loss, like, k = CASES[name]
    problem = make_problem(like, 40, 9, k, dtype=dtype, weighted=True, density=0.4 if sparse else 1.0)
    y = np.abs(problem.y) if name == "poisson" else problem.y
    return replace(problem, loss=loss, y=y, X=to_csr(problem.X) if sparse else problem.X)


@pytest.mark.parametrize("kind", [ControlVariate(), ControlVariate(0.6, "weights", use_mean=True)], ids=["SGD", "SVRG"])
@pytest.mark.parametrize(("dtype", "sparse"), [(np.float32, False), (np.float64, False), (np.float64, True)])
@pytest.mark.parametrize("name", CASES)
def test_custom_losses_against_the_reference(name, dtype, sparse, kind):
    problem = make_custom_problem(name, dtype, sparse=sparse)
    step = Step(batch_size=4, l2=0.01)
    bounded = replace(problem, loss=replace(problem.loss, smoothness=5.0))  # of all of them near these weights
    rate, results = 0.2 * learning_rate(bounded, step), []
    for backend in ("reference", "numba"):
        session = get_backend(backend).open(problem)
        prepare(session, problem, kind)
        walk = session.epoch(np.arange(40), np.array([rate]), step, kind)
        results.append((walk, session.evaluate(*make_point(problem, 5), kind), *session.weights()))
    (walk, read, W, b), (expected_walk, expected_read, V, c) = results[1], results[0]
    case = Case("custom", "weights+mean", 40, 9, problem.n_outputs, step, dtype)
    allowed = tolerance(case, problem, (V, c))
    allowed = replace(
        allowed, gradient=8 * allowed.gradient, moment=64 * allowed.moment, loss=8 * allowed.loss
    )  # exp(z) <= 8 r
    close_sums(walk.sums, expected_walk.sums, allowed)
    close_passes(read, expected_read, allowed)
    np.testing.assert_allclose(W, V, rtol=0, atol=8 * allowed.weights)
    np.testing.assert_allclose(b, c, rtol=0, atol=8 * allowed.weights)


@pytest.mark.parametrize("name", CASES)
def test_the_mean_gradient_is_the_slope_of_the_mean_loss(name):
    problem = make_custom_problem(name, np.float64)
    session, (W, b), h = get_backend("numba").open(problem), make_point(problem), 1e-5
    read = session.evaluate(W, b, ControlVariate())
    D = np.random.default_rng(0).normal(size=W.shape)
    above, below = (session.evaluate(W + s * h * D, b, ControlVariate()).sums.loss for s in (1, -1))
    assert (above - below) / (2 * h * problem.n) == pytest.approx(float(np.vdot(read.grad, D)), rel=1e-6, abs=1e-8)


def test_auto_takes_numba_for_a_custom_loss():
    problem = make_problem("squared", k=1)
    run = kd.solve(problem.X, problem.y[:, 0], loss=HUBER, epochs=1, random_state=0)
    assert run.backend == "numba"
    assert kd.gradient_stats(problem.X, problem.y, run.coef, loss=HUBER).variance > 0


def test_one_kernel_serves_every_loss():
    from kdvr_fast.backends.numba_kernels import _COMPILED

    before = None
    for name in ("huber", "length", "poisson"):
        problem = make_custom_problem(name, np.float64)
        get_backend("numba").open(problem).evaluate(*make_point(problem), ControlVariate())
        assert before is None or len(_COMPILED) == before
        before = len(_COMPILED)


# -- what it refuses ---------------------------------------------------------------------------------------------------


def _difference(scale, y, z):
    return scale * (z - y)


def _uncompilable(y, z):
    return sum({"squared": (z - y) ** 2 / 2}.values())


@pytest.mark.parametrize(
    ("changes", "work", "message"),
    [
        ({"X": kd.Compact(np.zeros((2, 2), np.uint8))}, Work(), "no Compact rows"),
        ({}, Work(step=Step(compression=Compression("top", kept=1))), "does not compress weights"),
        ({}, Work(network=object()), "no deep linear models"),
        (
            {"loss": kd.Loss.custom(_uncompilable, lambda y, z: z - y, name="odd")},
            Work(),
            "numba cannot compile loss 'odd'",
        ),
        (
            {"loss": kd.Loss.custom(lambda y, z: z * z / 2 - y * z, partial(_difference, 1.0), name="built")},
            Work(),
            "numba cannot compile loss 'built'",
        ),
    ],
    ids=["compact", "compress", "deep", "uncompilable", "no Python function"],
)
def test_what_it_cannot_do_it_says(changes, work, message):
    problem = replace(make_problem("squared"), **changes)
    refused = get_backend("numba").refusal(problem, work)
    assert refused is not None and message in refused


def test_a_refusal_names_what_does_it():
    problem = make_problem("softmax")
    with pytest.raises(
        ValueError, match=r"backend='numba' does not do this: it does not compress weights; use backend=.*'reference'"
    ):
        kd.solve(problem.X, problem.y, loss="softmax", compress=kd.TopK(0.5), backend="numba")


# -- the process around it ---------------------------------------------------------------------------------------------


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )


def test_numba_is_not_imported_before_it_is_asked_for():
    done = run_python("""
        import sys, numpy as np, kdvr_fast as kd
        kd.solve(np.eye(3), np.arange(3.0), loss="squared", epochs=1, batch_size=1, backend="reference")
        sys.exit("numba" in sys.modules)
    """)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_ends_an_epoch():
    """A process interrupts itself in the middle of an epoch that would take far longer."""
    done = run_python("""
        import signal, threading, time, numpy as np
        from kdvr_fast.backends import get_backend
        from kdvr_fast.backends.base import ControlVariate, Problem, Step
        from kdvr_fast.losses import LOSSES
        signal.signal(signal.SIGINT, signal.default_int_handler)
        X = np.random.default_rng(0).normal(size=(1000, 100))
        session = get_backend("numba").open(Problem(X, X[:, :1].copy(), LOSSES["squared"], 1))
        order, walk = np.tile(np.arange(1000), 20_000), (np.array([1e-6]), Step(batch_size=10), ControlVariate())
        session.epoch(order[:1000], *walk)
        threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()
        start = time.perf_counter()
        try:
            session.epoch(order, *walk)
        except KeyboardInterrupt:
            print("interrupted", time.perf_counter() - start < 60)
    """)
    assert done.stdout.strip() == "interrupted True", done.stderr
