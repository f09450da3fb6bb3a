"""A teacher's probabilities in float16 on an emulated device: kept so, and the numbers that they give."""

from __future__ import annotations

import numpy as np
import pytest
from device import nvrtc
from device.backend import cuda_on
from device.engines import PtxEngine, ShimEngine
from problems import make_point, make_problem
from ptx import Traffic

import kdvr_fast as kd
from kdvr_fast._probabilities import Probabilities
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Problem, Step
from kdvr_fast.backends.cuda_device import POINTERS, Tuning
from kdvr_fast.losses import LOSSES

TABLE = ControlVariate(lam=0.7, source="table")
WAYS = {"alone": Tuning(walk_work=2**62), "launches": Tuning(walk_work=0), "products": Tuning(walk_work=0, fused_outputs=1)}
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(params=["source", "ptx"])
def engine(request, compiler):
    if request.param == "source":
        return ShimEngine(compiler)
    if nvrtc.unavailable() is not None:
        pytest.skip(str(nvrtc.unavailable()))
    return PtxEngine()


def probabilities(problem):
    """float16, some of them subnormal, some 0 and 1."""
    k = problem.n_outputs
    P = np.random.default_rng(3).dirichlet(np.full(max(k, 2), 0.05), problem.n)[:, :k].astype(np.float16)
    assert np.logical_and(P > 0, np.finfo(np.float16).tiny > P).any()
    return P


def session_with(problem, values):
    session = get_backend("cuda").open(problem)
    session.set_weights(*make_point(problem))
    session.anchor_table(values, mean=True)
    return session


@both
@pytest.mark.parametrize(
    ("loss", "k", "way", "soft"),
    [("softmax", 5, "alone", False), ("softmax", 3, "products", True), ("logistic", 1, "launches", False)],
)
def test_the_bits_are_those_of_the_widened_residuals(engine, loss, k, way, soft, dtype):
    """In passes and walks. With soft targets the host rounds p - y from float64: these are compared with a tolerance."""
    problem = make_problem(loss, 40, 9, k, dtype=dtype, weighted=True, dense=soft)
    stored = Probabilities(probabilities(problem), problem.y, problem.X.dtype)
    tolerance = 4 * np.finfo(dtype).eps if soft else 0.0
    found = []
    with cuda_on(engine, WAYS[way]):
        for values in (stored, np.asarray(stored)):
            session = session_with(problem, values)
            walk = session.epoch(np.arange(40), np.array([0.05]), Step(batch_size=6), TABLE)
            read = session.evaluate(*make_point(problem), TABLE)
            found.append([*session.weights(), read.anchor_grad, np.array([walk.sums.xt, read.sums.tt])])
    for got, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def test_every_number_of_a_distribution(engine):
    """c = p - y for all float16 from 0 to 1: their sum, and that of their squares."""
    p = np.arange(0, 0x3C01, dtype=np.uint16).view(np.float16)
    n = len(p)
    X = np.zeros((n, 1), np.float32)
    problem = Problem(X, np.zeros((n, 1), np.float32), LOSSES["logistic"], 1, fit_intercept=True)
    with cuda_on(engine, Tuning(walk_work=2**62)):
        session = get_backend("cuda").open(problem)
        session.set_weights(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
        session.anchor_table(Probabilities(p[:, None], problem.y, X.dtype), mean=False)
        read = session.evaluate(np.zeros((1, 1), np.float32), np.zeros(1, np.float32), TABLE)
    assert read.sums.tt == pytest.approx(float((p.astype(np.float64) ** 2).sum()), rel=1e-6)
    assert float(read.anchor_grad_intercept[0]) == pytest.approx(float(p.astype(np.float64).mean()), rel=1e-6)


@both
def test_a_run_is_that_of_the_reference(compiler, dtype):
    problem = make_problem("softmax", 60, 13, 4, dtype=dtype)
    teacher = kd.Teacher.probabilities(probabilities(problem))
    options = {"loss": "softmax", "teacher": teacher, "batch_size": 8, "epochs": 2, "random_state": 0, "learning_rate": 0.1}
    with cuda_on(ShimEngine(compiler)):
        for method in (kd.KD(0.7), kd.UnbiasedKD(0.8), kd.KD(0.7, temperature=2.0), kd.KD("auto")):
            got, wanted = (
                kd.solve(problem.X, problem.y, method=method, backend=name, **options) for name in ("cuda", "reference")
            )
            np.testing.assert_allclose(got.coef, wanted.coef, rtol=0, atol=1e3 * np.finfo(dtype).eps)


def test_two_bytes_a_number_on_the_device_and_in_a_walk():
    """What is allocated for the table, and what warps ask of it."""
    if nvrtc.unavailable() is not None:
        pytest.skip(str(nvrtc.unavailable()))
    problem = make_problem("softmax", 64, 5, 64, dtype=np.float32)
    stored = Probabilities(probabilities(problem), problem.y, problem.X.dtype)
    moved, allocated = [], []
    for values in (stored, np.asarray(stored)):
        engine = PtxEngine(None, POINTERS)
        with cuda_on(engine, WAYS["alone"]):
            session = session_with(problem, values)
            allocated.append(session._table.nbytes)
            engine.traffic = Traffic()
            session.epoch(np.arange(64), np.array([1e-3]), Step(batch_size=8), TABLE)
            moved.append(engine.traffic.moved("table"))
    assert allocated == [2 * 64 * 64, 4 * 64 * 64]
    assert moved == [2 * 64 * 64, 4 * 64 * 64]


def test_a_state_holds_residuals_and_saga_may_write_over_them(compiler):
    problem = make_problem("softmax", 40, 9, 5)
    stored = Probabilities(probabilities(problem), problem.y, problem.X.dtype)
    saga = ControlVariate(lam=1.0, source="table", use_mean=True, update_table=True)
    with cuda_on(ShimEngine(compiler)):
        session = session_with(problem, stored)
        np.testing.assert_array_equal(session.state(table=True)["table"], np.asarray(stored))
        session.epoch(np.arange(40), np.array([0.05]), Step(batch_size=6), saga)
        other = session_with(problem, np.asarray(stored))
        other.epoch(np.arange(40), np.array([0.05]), Step(batch_size=6), saga)
        np.testing.assert_array_equal(session.state(table=True)["table"], other.state(table=True)["table"])
        np.testing.assert_array_equal(session.weights()[0], other.weights()[0])
