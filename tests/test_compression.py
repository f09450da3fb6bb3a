"""Compressed students: each operator against the reference to the last bit, what it promises, and runs that use it."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import kdvr_fast as kd
from kdvr_fast._problem import make_problem
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import Compression, ControlVariate, Step
from kdvr_fast.backends.reference import compress, random_words

OPERATORS = [kd.Mask(0.4), kd.Mask(0.4, by="magnitude"), kd.TopK(0.3), kd.RandomK(0.6), kd.StochasticRounding(4)]
ids = [repr(q) for q in OPERATORS]


def problem_of(n=30, d=7, k=3, dtype=np.float64, sparse=False, seed=0):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n, d)) * (rng.random((n, d)) < 0.6)).astype(dtype)
    y = rng.integers(0, k, n)
    return (sp.csr_matrix(X) if sparse else X), y, rng.standard_normal((k, d)).astype(dtype)


def test_the_generator_is_splitmix64():
    # the first numbers from 1234567 as Vigna's reference implementation prints them
    assert random_words(1234567, 0, 3).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert random_words(7, 5, 4).tolist() == random_words(7, 0, 9)[5:].tolist()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["mask", "random", "top", "rounding"]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40)),
    share=st.floats(0.01, 1.0),
    dtype=st.sampled_from([np.float32, np.float64]),
    special=st.sampled_from(["plain", "ties", "zero", "huge"]),
    layout=st.sampled_from(["dense", "csr"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_step_that_moves_nothing_shows_the_operator(kind, shape, share, dtype, special, layout, seed):
    k, d = shape
    rng = np.random.default_rng(seed % 1000)
    W = rng.standard_normal((k, d)).astype(dtype)
    if special == "ties":
        W = np.round(W)
    elif special == "zero":
        W[:] = 0
    elif special == "huge":
        W *= dtype(1e30)
    q = Compression(kind, max(1, round(share * W.size)), 1 + seed % 100, rng.random((k, d)) < share, seed)
    q = q if kind == "mask" else Compression(kind, q.kept, q.levels, None, seed)
    X = rng.standard_normal((4, d)).astype(dtype) * dtype(1e-30)
    rows = sp.csr_matrix(X) if layout == "csr" else X
    y = rng.standard_normal((4, k)).astype(dtype)
    problem = make_problem(
        rows, y, "squared", coef=("coef", W), teacher=None, sample_weight=None, fit_intercept=True, scan=True
    )
    step = Step(batch_size=2, compression=q)
    expected = compress(compress(W, q, 0), q, 1)
    for name in ("native", "reference"):  # the others refuse it
        if kd.backend_status()[name] is not None:
            continue
        session = get_backend(name).open(problem, 2)
        session.set_weights(W, np.zeros(k, dtype))
        session.epoch(np.arange(4), np.zeros(1), step, ControlVariate())
        np.testing.assert_array_equal(session.weights()[0], expected, err_msg=name)


@pytest.mark.parametrize("q", OPERATORS, ids=ids)
def test_what_the_operators_promise(q):
    rng = np.random.default_rng(5)
    W = rng.standard_normal((4, 50))
    draws = np.array([compress(W, q.plan(W, np.random.default_rng(s)), 0) for s in range(2000)])
    zero = (draws == 0).mean()
    if isinstance(q, kd.Mask):
        assert zero == pytest.approx(0.6) and np.all((draws == 0) | (draws == W))
        if q.by == "magnitude":
            assert np.abs(W)[draws[0] != 0].min() > np.abs(W)[draws[0] == 0].max()
    elif isinstance(q, kd.TopK):
        assert np.all(draws == draws[0]) and zero == pytest.approx(0.7)
        assert np.linalg.norm(draws[0] - W) ** 2 <= 0.7 * np.linalg.norm(W) ** 2
    else:  # unbiased, with the variance the table states
        error = draws.mean(0) - W
        spread = draws.std(0) / np.sqrt(len(draws))
        assert np.abs(error).max() < 5 * spread.max()
        second = ((draws - W) ** 2).sum((1, 2)).mean()
        omega = 1 / q.keep - 1 if isinstance(q, kd.RandomK) else W.size / (4 * (2 ** (q.bits - 1) - 1) ** 2)
        assert second <= 1.05 * omega * np.linalg.norm(W) ** 2
        if isinstance(q, kd.StochasticRounding):
            assert len(np.unique(np.abs(draws).round(12))) <= 2 ** (q.bits - 1)


@pytest.mark.parametrize("q", OPERATORS[:4], ids=ids[:4])  # rounding turns the last bit into a level
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.4])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("method", [kd.SGD(), kd.UnbiasedKD(0.5), kd.SAGA()], ids=["SGD", "UnbiasedKD", "SAGA"])
def test_runs_agree_with_the_reference(q, sparse, momentum, batch_size, method, backend):
    X, y, W = problem_of(sparse=sparse)
    teacher = kd.Teacher.weights(W) if isinstance(method, kd.UnbiasedKD) else None
    options = {
        "loss": "softmax",
        "method": method,
        "teacher": teacher,
        "coef_init": W / 2,
        "batch_size": batch_size,
        "epochs": 3,
    }
    options |= {"random_state": 0, "alpha": 0.01, "l1_ratio": 0.3, "compress": q, "learning_rate": 0.05, "momentum": momentum}
    one, other = kd.solve(X, y, backend=backend, **options), kd.solve(X, y, backend="reference", **options)
    np.testing.assert_allclose(one.coef, other.coef, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(one.coef == 0, other.coef == 0)
    np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-10)


def test_distillation_lowers_the_gradients_part_of_a_masked_students_floor():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((1500, 16))
    b = A @ rng.standard_normal(16) + 0.5 * rng.standard_normal(1500)
    options = {"loss": "squared", "batch_size": 1, "learning_rate": 0.03, "epochs": 12, "random_state": 0, "track": "objective"}
    options |= {"fit_intercept": False, "compress": kd.Mask(0.5)}
    alone = kd.solve(A, b, **options)
    kept = alone.coef[0] != 0
    assert kept.sum() == 8
    theta = np.zeros((1, 16))
    theta[0, kept] = np.linalg.lstsq(A[:, kept], b, rcond=None)[0]
    best = float(np.mean((A @ theta[0] - b) ** 2) / 2)
    taught = kd.solve(A, b, method=kd.UnbiasedKD(), teacher=kd.Teacher.weights(theta), **options)
    excess = [run.history["objective"][-4:].mean() - best for run in (alone, taught)]
    assert excess[1] < 0.1 * excess[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compress": 0.5}, "compress must be an instance of one of Mask, TopK"),
        ({"compress": kd.TopK(0.5), "average": True}, "the average of compressed weights is not compressed"),
        ({"compress": kd.TopK(0.5), "method": kd.LBFGS()}, "LBFGS minimises over all weights"),
        ({"compress": kd.Mask(0.5, by="magnitude")}, "needs weights that differ: pass coef_init or a teacher"),
    ],
)
def test_what_does_not_fit_is_said_at_once(options, message):
    X, y, _ = problem_of()
    with pytest.raises((TypeError, ValueError), match=message):
        kd.solve(X, y, loss="softmax", **options)


def test_no_average_is_none_in_any_spelling():
    X, y, _ = problem_of()
    run = kd.solve(X, y, loss="softmax", compress=kd.TopK(0.5), average=np.bool_(False), epochs=1)
    assert run.status is kd.Status.COMPLETED


@pytest.mark.parametrize("make", [lambda: kd.TopK(0.0), lambda: kd.RandomK(1.5), lambda: kd.Mask(keep="half")])
def test_a_share_is_a_share(make):
    with pytest.raises((TypeError, ValueError), match="keep of"):
        make()


def test_bits_are_a_few():
    with pytest.raises(ValueError, match="bits"):
        kd.StochasticRounding(1)
