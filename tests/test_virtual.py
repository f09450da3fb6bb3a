"""Virtual rows: the generator, the law of rows and targets, the compiled engine against the reference, runs without memory."""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from problems import VARIATES, every_complete_backend, make_point, prepare, relative

import kdvr_fast as kd
from kdvr_fast import _anchors, _walk, synthetic
from kdvr_fast._virtual import DISTRIBUTIONS, philox
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import LARGEST, ControlVariate, Problem, Step
from kdvr_fast.losses import LOSSES
from kdvr_fast.synthetic import VirtualRows, VirtualTargets

SIGMAS = 5
OUTPUTS = {"squared": 1, "logistic": 1, "softmax": 4}


def make_virtual(loss, n=700, d=37, *, k=None, dtype=np.float64, distribution="normal", noise=0.3, seed=7, fit_intercept=True):
    """A problem as a backend takes it."""
    k = OUTPUTS[loss] if k is None else k
    rows = VirtualRows(n, d, seed=seed, condition=10, distribution=distribution, dtype=dtype)
    rng = np.random.default_rng(seed)
    y = VirtualTargets(rows, rng.normal(size=(k, d)), rng.normal(size=k), loss=loss, noise=noise)
    return Problem(rows, y, LOSSES[loss], k, fit_intercept=fit_intercept)


def stored(problem: Problem) -> Problem:
    """The same problem in memory."""
    return replace(problem, X=problem.X[:], y=problem.y[:])


# -- the generator -----------------------------------------------------------------------------------------------------


def test_philox_gives_the_words_its_authors_list():
    """Known answers of Random123 for Philox4x32-7."""
    for word, seed, expected in (
        (0, 0, [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]),
        (0xFFFFFFFF, 2**64 - 1, [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]),
    ):
        c = np.full(1, word, np.uint64)
        assert [int(w[0]) for w in philox((c, c, c, c), seed)] == expected


@pytest.mark.parametrize("distribution", list(DISTRIBUTIONS))
@pytest.mark.parametrize("d", [1, 16, 33, 100])
def test_a_row_depends_on_the_seed_and_its_number_alone(distribution, d):
    rows = VirtualRows(10**9, d, seed=3, distribution=distribution)
    some = rows[[5, 999_999_999, 5, 2**29]]
    assert np.array_equal(some[0], some[2]) and not np.array_equal(some[0], some[1])
    assert np.array_equal(some[1], rows[-1]) and np.array_equal(some[0], rows[3:9][2])
    shorter = VirtualRows(9, d, seed=3, distribution=distribution, dtype=np.float64)
    assert np.allclose(shorter[5], some[0], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(VirtualRows(9, d, seed=3 + 2**32, distribution=distribution)[5], some[0])


def test_features_beyond_the_first_do_not_change_those_before():
    assert np.array_equal(VirtualRows(5, 40, seed=1)[:][:, :7], VirtualRows(5, 7, seed=1)[:])


@pytest.mark.parametrize(("distribution", "fourth"), DISTRIBUTIONS.items())
def test_moments_of_the_rows(distribution, fourth):
    """Mean, variance, kurtosis and products of all pairs, within sampling error; the largest number where it should be."""
    n, d = 60_000, 40
    X = VirtualRows(n, d, seed=11, distribution=distribution, dtype=np.float64)[:]
    assert np.all(abs(X.mean(0)) < SIGMAS / np.sqrt(n))
    products = X.T @ X / n
    assert np.all(abs(np.diag(products) - 1) < SIGMAS * np.sqrt((fourth - 1) / n))
    assert np.all(abs(products - np.diag(np.diag(products))) < SIGMAS / np.sqrt(n))
    assert np.all(abs((X[1:] * X[:-1]).mean(0)) < SIGMAS / np.sqrt(n))
    eighth = 105 if distribution == "normal" else 9
    assert abs((X**4).mean() - fourth) < SIGMAS * np.sqrt((eighth - fourth**2) / (n * d))
    assert abs((X**3).mean()) < SIGMAS * np.sqrt(15 / (n * d))
    top = abs(X).max()
    assert 4.5 < top < 6 if distribution == "normal" else np.sqrt(3) * 0.9999 < top <= np.sqrt(3)


def test_normal_rows_pass_a_test_of_their_distribution():
    from scipy.stats import kstest

    X = VirtualRows(4_000, 32, seed=5)[:]
    assert kstest(X.ravel().astype(np.float64), "norm").pvalue > 1e-4
    assert kstest((X * X).sum(1).astype(np.float64), "chi2", (32,)).pvalue > 1e-4


@pytest.mark.parametrize("loss", list(OUTPUTS))
def test_targets_follow_the_model(loss):
    n = 40_000
    problem = make_virtual(loss, n, 5, k=2 if loss == "squared" else None, noise=0.4)
    X, y = problem.X[:], problem.y[:]
    W, b = problem.y.model
    z = X @ W.T + b
    if loss == "squared":
        e = (y - z) / 0.4
        assert np.all(abs(e.mean(0)) < SIGMAS / np.sqrt(n)) and np.all(abs((e * e).mean(0) - 1) < SIGMAS * np.sqrt(2 / n))
        assert abs((e[:, 0] * e[:, 1]).mean()) < SIGMAS / np.sqrt(n)
        assert np.all(abs(e.T @ X / n) < SIGMAS * X.std(0) / np.sqrt(n))
        return
    P = 1 / (1 + np.exp(-z)) if loss == "logistic" else np.exp(z) / np.exp(z).sum(1, keepdims=True)
    k = problem.n_outputs if loss == "softmax" else 2
    hit = y == 1.0 if loss == "logistic" else y[:, None] == np.arange(k)
    expected = 0.6 * P + 0.4 / k
    for weight in (np.ones((n, 1)), X[:, :1], 1.0 * (X[:, 1:2] > 0), X[:, :1] ** 2):  # overall, and along two features
        bound = SIGMAS * np.sqrt((weight**2).mean() / n)
        assert np.all(abs(((hit - expected) * weight).mean(0)) < bound)


# -- the compiled engine -----------------------------------------------------------------------------------------------


@every_complete_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distribution", list(DISTRIBUTIONS))
@pytest.mark.parametrize("d", [1, 17, 31, 32, 33, 48, 100])
def test_rows_are_the_reference_s(backend, dtype, distribution, d):
    """Read one feature at a time, through logits."""
    problem = make_virtual("squared", 70, d, dtype=dtype, distribution=distribution)
    session, zero = get_backend(backend).open(problem, 1), np.zeros(1, dtype)
    X = np.hstack([session.logits(unit[None], zero) for unit in np.eye(d, dtype=dtype)])
    assert np.allclose(X, problem.X[:], rtol=0, atol=16 * np.finfo(dtype).eps)


@every_complete_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", list(OUTPUTS))
@pytest.mark.parametrize("kind", ["none", "weights", "weights+mean", "table"])
@pytest.mark.parametrize("batch_size", [3, 150])
def test_an_epoch_is_the_reference_s(backend, dtype, loss, kind, batch_size):
    """Steps, statistics and passes; labels that rounding could turn are as rare as eps."""
    variate = VARIATES[kind]
    problem = make_virtual(loss, n=400, k=2 if loss == "squared" and batch_size == 3 else None, dtype=dtype)
    order = np.random.default_rng(0).permutation(problem.n)
    step = Step(batch_size=batch_size, l2=0.01, momentum=0.5)
    sessions = [get_backend(name).open(problem, 2) for name in (backend, "reference")]
    walks = []
    for session in sessions:
        prepare(session, stored(problem), variate)
        walks.append(session.epoch(order, np.full(1, 0.01), step, variate, loss_limit=LARGEST))
    tolerance = 200 * float(np.finfo(dtype).eps)
    for ours, theirs in zip(sessions[0].weights(), sessions[1].weights(), strict=True):
        assert relative(ours, theirs) < tolerance
    ours, theirs = (np.array(list(vars(walk.sums).values())) for walk in walks)
    assert np.allclose(ours, theirs, rtol=tolerance, atol=tolerance * abs(theirs[2]))
    point = make_point(problem)
    passes = [session.evaluate(*point, replace(variate, use_mean=False)) for session in sessions]
    assert relative(passes[0].grad, passes[1].grad) < tolerance
    assert passes[0].sums.loss == pytest.approx(passes[1].sums.loss, rel=tolerance)


@every_complete_backend
@pytest.mark.parametrize("loss", list(OUTPUTS))
def test_bits_do_not_depend_on_threads_or_blocks(backend, loss):
    """Large enough for threads to take part, in a pass and in a step; blocks begin elsewhere where there are fewer rows."""
    problem = make_virtual(loss, 6_000, 64, dtype=np.float32)
    results = []
    for threads in (1, 2, 3):
        session = get_backend(backend).open(problem, threads)
        session.set_weights(*make_point(problem))
        session.epoch(np.arange(problem.n), np.full(1, 0.01), Step(batch_size=1500), ControlVariate())
        read = session.evaluate(*session.weights(), ControlVariate())
        results.append([*session.weights(), read.grad, np.array(list(vars(read.sums).values()))])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    short = replace(problem, X=replace(problem.X, n=1500))
    short = replace(short, y=replace(problem.y, rows=short.X))
    z = [get_backend(backend).open(p, 1).logits(*make_point(problem))[:1500] for p in (problem, short)]
    assert np.array_equal(*z)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa):
    if kd.backend_status()["native"] is not None:
        pytest.skip("the extension is not built")
    from kdvr_fast import _core

    if isa not in _core.isa_available():
        pytest.skip(f"{isa} is not available here")
    if os.environ.get("KDVR_ISA"):
        pytest.skip("an instruction set is forced already")
    env = {**os.environ, "KDVR_ISA": isa, "PYTHONPATH": str(Path(kd.__file__).parents[1]), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", __file__, "-k", "reference_s"],
        env=env, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


# -- runs --------------------------------------------------------------------------------------------------------------


def solve_both(problem: Problem, backend: str, **options):
    """A run over virtual rows, and the same over stored ones walked in their order."""
    common = {"loss": problem.loss, "backend": backend, "random_state": 0, **options}
    epochs = common["epochs"]
    order = np.tile(np.arange(problem.n), epochs)
    return kd.solve(problem.X, problem.y, **common), kd.solve(problem.X[:], problem.y[:], order=order, **common)


@pytest.mark.parametrize(
    "method", [kd.SGD(), kd.KD(lam=0.5), kd.UnbiasedKD(lam="auto"), kd.SVRG(), kd.LSVRG(), kd.RepeatedKD()]
)
@pytest.mark.parametrize("loss", list(OUTPUTS))
def test_solve_walks_virtual_rows_in_their_order(backend, method, loss):
    problem = make_virtual(loss, 600, 9)
    teacher = kd.Teacher.weights(*problem.y.model) if method.plan().teacher == "required" else None
    ours, theirs = solve_both(
        problem, backend, method=method, teacher=teacher, epochs=3, batch_size=7, learning_rate=0.02, momentum=0.5
    )
    assert np.allclose(ours.coef, theirs.coef, rtol=1e-9, atol=1e-12)
    assert np.allclose(ours.history["loss"], theirs.history["loss"], rtol=1e-9)
    assert np.allclose(ours.history["variance"], theirs.history["variance"], rtol=1e-9)


@pytest.mark.parametrize("method", [kd.SGD(), kd.UnbiasedKD(lam="auto"), kd.LSVRG()])
def test_an_epoch_in_pieces_is_the_epoch(monkeypatch, backend, method):
    """Orders of virtual rows are made a piece at a time, none longer than _PIECE_ROWS; a seam costs a pair of neighbours."""
    problem = make_virtual("squared", 700, 9)
    lengths = []
    opened = get_backend(backend)

    class Watched:
        name = backend

        def open(self, p, n_threads=None):
            session = opened.open(p, n_threads)
            epoch = session.epoch

            def watched(order, *args, **options):
                lengths.append(len(order))
                return epoch(order, *args, **options)

            session.epoch = watched
            return session

    runs = []
    for rows in (_walk._PIECE_ROWS, 50):
        monkeypatch.setattr(_walk, "_PIECE_ROWS", rows)
        monkeypatch.setattr(_anchors, "_COINS", 8 if rows == 50 else 1 << 20)
        monkeypatch.setattr(sys.modules["kdvr_fast.solve"], "backend_for", lambda *_: Watched())
        lengths.clear()
        teacher = kd.Teacher.weights(*problem.y.model) if method.plan().teacher == "required" else None
        options = {"batch_size": 6, "epochs": 2, "learning_rate": kd.Inverse(0.02, decay=1.0), "random_state": 1}
        runs.append(kd.solve(problem.X, problem.y, loss="squared", method=method, teacher=teacher, **options))
    assert max(lengths) == 48 and sum(lengths) == 2 * 700
    exact = method.plan().lam != "auto"  # else the lost neighbours show in the weight
    assert np.allclose(runs[0].coef, runs[1].coef, rtol=1e-12 if exact else 0.02)
    assert np.allclose(runs[0].history["mean_sq_norm"], runs[1].history["mean_sq_norm"], rtol=1e-9 if exact else 0.02)


@pytest.mark.parametrize("loss", list(OUTPUTS))
def test_a_run_allocates_nothing_that_grows_with_the_rows(loss):
    """A thousand million rows, stopped by the first poll: whatever is made for all of them would be made before."""
    import tracemalloc

    problem = make_virtual(loss, 10**9, 20, dtype=np.float32)

    class Enough(Exception):
        pass

    class Stops:
        name = "reference"

        def open(self, p, n_threads=None):
            session = get_backend("reference").open(p)
            if p.n == 10**9:
                session.epoch, session.anchor_at = stop, lambda *weights, **options: None  # a pass is for the engine
            return session

    def stop(order, *args, **options):
        assert len(order) <= 1 << 20
        raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["kdvr_fast.solve"], "backend_for", lambda *_: Stops())
        tracemalloc.start()
        with pytest.raises(Enough):
            kd.solve(
                problem.X, problem.y, loss=loss, method=kd.LSVRG() if loss == "logistic" else kd.KD(lam=0.5),
                teacher=None if loss == "logistic" else kd.Teacher.weights(*problem.y.model),
                learning_rate=0.01, batch_size=100, epochs=5, random_state=0,
            )  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40e6


def test_gradient_stats_are_the_population_s(backend):
    """C, V, B and the rest against their closed forms, within sampling error measured on parts."""
    parts, n = 16, 4_000
    for distribution in DISTRIBUTIONS:
        for free in (False, True):
            rows = VirtualRows(parts * n, 6, seed=2, condition=20, distribution=distribution, dtype=np.float64)
            rng = np.random.default_rng(3)
            W, b = rng.normal(size=(2, 6)), rng.normal(size=2) * free
            y = VirtualTargets(rows, W, b, noise=0.7)
            teacher = kd.Teacher.weights(W + 0.3 * rng.normal(size=W.shape), b + 0.2 * free)
            point = {"intercept": b - 0.1, "teacher": teacher} if free else {"teacher": teacher}
            exact = synthetic.population_stats(y, 1.2 * W, alpha=0.1, batch_size=3, **point)
            options = {"loss": "squared", "alpha": 0.1, "batch_size": 3, "backend": backend, **point}
            names = ("loss", "objective", "mean_sq_norm", "teacher_mean_sq_norm", "cross", "variance", "teacher_variance")
            names += ("covariance", "bias_sq", "rho", "rho_centered", "snr")
            X, t = rows[:], y[:]
            split = [kd.gradient_stats(X[i : i + n], t[i : i + n], 1.2 * W, **options) for i in range(0, parts * n, n)]
            whole = kd.gradient_stats(rows, y, 1.2 * W, **options)
            for name in names:
                error = np.std([getattr(s, name) for s in split]) / np.sqrt(parts) + 1e-3 * abs(getattr(exact, name))
                assert abs(getattr(whole, name) - getattr(exact, name)) < SIGMAS * error, (distribution, free, name)
            assert np.allclose(whole.grad, exact.grad, atol=SIGMAS * np.sqrt(3 * exact.variance / whole.n))
            assert kd.optimal_lambda(whole, 0.1) == pytest.approx(kd.optimal_lambda(exact, 0.1), rel=0.05)


def test_auto_learning_rate_of_virtual_rows_needs_no_read(backend):
    rows = VirtualRows(3000, 5, seed=1, condition=10, dtype=np.float64)
    constants, sample = kd.smoothness(rows, "squared"), kd.smoothness(rows[:], "squared")
    assert constants.L_mean == pytest.approx(sample.L_mean, rel=0.1)
    assert constants.L_full == pytest.approx(sample.L_full, rel=0.1)
    v = rows.variances
    D = np.random.default_rng(0).normal(size=5)
    X = rows[:]
    measured = ((X @ D) ** 2 * ((X * X).sum(1) + 1)).mean() / (D * D * v).sum()  # of one row, least squares
    assert measured < 1.1 * constants.L_max
    y = VirtualTargets(rows, np.ones(5), noise=0.1)
    run = kd.solve(rows, y, loss="squared", learning_rate="auto", batch_size=1, epochs=2, random_state=0, backend=backend)
    assert run.history["loss"][-1] < 0.2


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
def test_synthetic_problems_can_be_virtual(loss, backend):
    maker = {"squared": synthetic.least_squares, "logistic": synthetic.logistic, "softmax": synthetic.softmax}[loss]
    more = {"n_classes": 3} if loss == "softmax" else {}
    p = maker(3000, 8, condition=5, random_state=1, virtual=True, fit_intercept=True, **more)
    assert isinstance(p.X, VirtualRows) and p.optimum is None
    teacher = synthetic.teacher(p, correlation=0.7, random_state=2)
    stats = kd.gradient_stats(p.X, p.y, p.coef, intercept=p.intercept, loss=loss, teacher=teacher, backend=backend)
    assert stats.rho_centered == pytest.approx(0.7, abs=0.06)
    assert np.linalg.norm(stats.grad) < 3 * np.sqrt(stats.variance / p.X.n)


def test_what_virtual_rows_cannot_have_is_told():
    rows = VirtualRows(1000, 4, seed=1)
    y = VirtualTargets(rows, np.ones(4))
    teacher = kd.Teacher.weights(np.ones(4))
    for options, message in (
        ({"method": kd.SAGA()}, "table"),
        ({"method": kd.LBFGS()}, "logits of all rows"),
        ({"method": kd.KD(), "teacher": kd.Teacher.logits(np.zeros(1000))}, "Teacher.weights"),
        ({"method": kd.KD(), "teacher": teacher, "cache_anchor": True}, "cache_anchor"),
        ({"sampling": "replacement"}, "independent draws"),
        ({"track": "accuracy"}, "accuracy|no classes"),
        ({"sample_weight": np.ones(1000)}, "sample_weight"),
        ({"coef_init": np.ones((2, 4))}, "2 output"),
    ):
        with pytest.raises(ValueError, match=message):
            kd.solve(rows, y, loss="squared", backend="reference", **options)
    long = VirtualRows(10**9, 4, seed=1)
    with pytest.raises(ValueError, match="one rate a step"):
        kd.solve(long, VirtualTargets(long, np.ones(4)), loss="squared", learning_rate=kd.Cosine(0.1), backend="reference")
    with pytest.raises(ValueError, match="loss='squared'"):
        kd.solve(rows, y, loss="logistic", backend="reference")
    with pytest.raises(ValueError, match="other rows"):
        kd.solve(VirtualRows(1000, 4, seed=1), y, loss="squared", backend="reference")
    with pytest.raises(TypeError, match="VirtualTargets for y"):
        kd.solve(rows, np.zeros(1000), loss="squared", backend="reference")
    with pytest.raises(TypeError, match="stored rows"):
        kd.solve(rows[:], y, loss="squared", backend="reference")
    with pytest.raises(ValueError, match="density"):
        synthetic.least_squares(100, 4, virtual=True, density=0.5, random_state=0)
    with pytest.raises(TypeError, match="random_state"):
        synthetic.least_squares(100, 4, virtual=True)
    with pytest.raises(ValueError, match="closed form"):
        synthetic.population_stats(VirtualTargets(rows, np.ones(4), loss="logistic"), np.ones(4))
    for options, message in (({"seed": -1}, "seed"), ({"distribution": "cauchy"}, "distribution"), ({"spectrum": [1]}, "4,")):
        with pytest.raises(ValueError, match=message):
            VirtualRows(10, 4, **options)
    with pytest.raises(ValueError, match="noise"):
        VirtualTargets(rows, np.ones(4), loss="logistic", noise=1.5)
    with pytest.raises(IndexError, match=r"rows 0 \.\. 999"):
        rows[1000]


@pytest.mark.parametrize("module", ["_virtual", "synthetic.population"])
def test_examples_in_docstrings(module):
    assert doctest.testmod(importlib.import_module(f"kdvr_fast.{module}")).failed == 0
