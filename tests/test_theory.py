"""Best weights by scanning, smoothness against explicit Hessians and eigenvalues, step sizes, the oracle against recursions."""

from __future__ import annotations

import doctest
import itertools
from dataclasses import replace

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem

import kdvr_fast as kd
from kdvr_fast.losses import LOSSES
from kdvr_fast.statistics import gradient_stats
from kdvr_fast.theory import (
    LeastSquaresOracle,
    Smoothness,
    _constants,
    _oracle,
    _weights,
    auto_learning_rate,
    batch_smoothness,
    noise,
    optimal_lambda,
    smoothness,
)

TIGHT = 1e-10  # float64 sums and eigenvalues of small matrices


@pytest.fixture
def stats():
    problem = make_problem("softmax", n=40)
    W, b = make_point(problem)
    noisy = kd.Teacher.weights(W + 0.1 * np.random.default_rng(3).normal(size=W.shape), b)
    return gradient_stats(problem.X, problem.y, W, intercept=b, loss="softmax", teacher=noisy, backend="reference")


@pytest.mark.parametrize("kappa", [1.0, 0.1])
@pytest.mark.parametrize("unbiased", [False, True])
def test_optimal_lambda_minimises_the_noise(stats, unbiased, kappa):
    best = optimal_lambda(stats, 0.05, kappa, unbiased=unbiased, clip=False)
    values = [noise(stats, best + step, 0.05, kappa, unbiased) for step in (-1e-3, 0.0, 1e-3)]
    assert values[1] < values[0] and values[1] < values[2]
    # a parabola: equal on both sides of its minimum, up to rounding
    assert values[0] == pytest.approx(values[2], rel=1e-12)


def test_noise_ratio_of_the_best_weight(stats):
    """N(lam*)/N(0) = 1 - rho^2 / (1 + B / (gamma kappa V))."""
    gamma, kappa = 0.05, 0.7
    ratio = noise(stats, optimal_lambda(stats, gamma, kappa, clip=False), gamma, kappa) / noise(stats, 0.0, gamma, kappa)
    shrink = 1 + stats.bias_sq / (gamma * kappa * stats.teacher_mean_sq_norm)
    assert ratio == pytest.approx(1 - stats.rho**2 / shrink, rel=TIGHT)


def test_unbiased_noise_is_the_second_moment_of_the_estimator():
    problem, lam = make_problem("squared"), 0.6
    (W, b), (V, c) = make_point(problem), make_point(problem, 2)
    A = np.hstack([problem.X, np.ones((23, 1))])
    G, H = ((problem.X @ P.T + q - problem.y)[:, :, None] * A[:, None, :] for P, q in ((W, b), (V, c)))
    moment = ((G - lam * (H - H.mean(0))) ** 2).sum((1, 2)).mean()
    s = gradient_stats(
        problem.X, problem.y, W, intercept=b, loss="squared", teacher=kd.Teacher.weights(V, c), backend="reference"
    )
    assert noise(s, lam, 0.05, unbiased=True) == pytest.approx(0.05 * moment, rel=TIGHT)
    moment = ((G - lam * H) ** 2).sum((1, 2)).mean() * 0.05 + lam**2 / 0.7 * (H.mean(0) ** 2).sum()
    assert noise(s, lam, 0.05, 0.7) == pytest.approx(moment, rel=TIGHT)


def test_optimal_lambda_is_clipped_and_defined_for_a_silent_teacher(stats):
    assert optimal_lambda(replace(stats, cross=-1.0), 0.05) == 0.0
    assert optimal_lambda(replace(stats, cross=1e9), 0.05) == 1.0
    silent = replace(stats, cross=0.0, teacher_mean_sq_norm=0.0, bias_sq=0.0, covariance=0.0, teacher_variance=0.0)
    assert optimal_lambda(silent, 0.05) == optimal_lambda(silent, 0.05, unbiased=True) == 0.0


def test_optimal_lambda_errors(stats):
    with pytest.raises(ValueError, match="no teacher: pass teacher="):
        optimal_lambda(replace(stats, teacher_grad=None), 0.05)
    with pytest.raises(ValueError, match="learning_rate=0 is outside"):
        optimal_lambda(stats, 0)
    with pytest.raises(ValueError, match="kappa=-1 is outside"):
        noise(stats, 0.5, 0.1, -1)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_smoothness_constants(loss, weighted, intercept):
    problem = make_problem(loss, n=30, weighted=weighted, fit_intercept=intercept)
    A = np.hstack([problem.X, np.ones((30, int(intercept)))])
    s = np.ones(30) if problem.weights is None else problem.weights
    each = LOSSES[loss].smoothness * s * (A * A).sum(1) + 0.2
    got = smoothness(problem.X, loss, alpha=0.2, fit_intercept=intercept, sample_weight=problem.weights)
    assert got.L_max == pytest.approx(each.max(), rel=TIGHT)
    assert got.L_mean == pytest.approx(each.mean(), rel=TIGHT)
    top = np.linalg.eigvalsh((A.T * s) @ A / 30)[-1]
    assert got.L_full == pytest.approx(LOSSES[loss].smoothness * top + 0.2, rel=TIGHT)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_smoothness_bounds_gradient_differences(loss):
    """|grad f(x) - grad f(y)| <= L_full |x - y| and the same for each row, at random points."""
    problem = make_problem(loss, n=30)
    A = np.hstack([problem.X, np.ones((30, 1))])
    constants = smoothness(problem.X, loss)
    for seed in range(20):
        P, Q = (np.column_stack(make_point(problem, seed + i, 2.0)) for i in (1, 100))
        change = LOSSES[loss].residual(problem.y, A @ P.T) - LOSSES[loss].residual(problem.y, A @ Q.T)
        distance = np.linalg.norm(P - Q)
        assert np.linalg.norm(change.T @ A / 30) <= constants.L_full * distance * (1 + TIGHT)
        rows = np.linalg.norm(change, axis=1) * np.linalg.norm(A, axis=1)
        assert rows.max() <= constants.L_max * distance * (1 + TIGHT)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [40, 700])
def test_lanczos_and_blocks_agree_with_the_gram_matrix(n, dtype, monkeypatch):
    """Above the limit on d the eigenvalue comes from products in row blocks; fewer rows than features is allowed."""
    X = np.random.default_rng(0).normal(size=(n, 60)).astype(dtype)[::-1]
    s = np.random.default_rng(1).uniform(0.5, 2, n)
    exact = smoothness(X, "softmax", sample_weight=s)
    monkeypatch.setattr(_constants, "_GRAM_LIMIT", 20)
    monkeypatch.setattr(_constants, "_BLOCK_NUMBERS", 60 * 32)
    iterated = smoothness(X, "softmax", sample_weight=s)
    assert iterated.L_full == pytest.approx(exact.L_full, rel=2 * _constants._EIGSH_TOL)
    assert (iterated.L_max, iterated.L_mean) == pytest.approx((exact.L_max, exact.L_mean), rel=TIGHT)
    assert iterated == smoothness(X, "softmax", sample_weight=s)


def test_batch_smoothness_goes_from_L_max_to_L_full():
    sm = Smoothness(L_max=10.0, L_mean=5.0, L_full=2.0)
    assert batch_smoothness(sm, 100, 1) == batch_smoothness(sm, 100, 1, "replacement") == 10.0
    assert batch_smoothness(sm, 100, 100) == 2.0
    assert batch_smoothness(sm, 100, 100, "replacement") == pytest.approx(2.08)
    assert batch_smoothness(sm, 1, 1) == 10.0
    shuffled = [batch_smoothness(sm, 100, b) for b in range(1, 101)]
    assert np.all(np.diff(shuffled) < 0)
    with pytest.raises(ValueError, match="batch_size=101"):
        batch_smoothness(sm, 100, 101)
    with pytest.raises(ValueError, match="sampling='order'"):
        batch_smoothness(sm, 100, 1, "order")


@pytest.mark.parametrize("sampling", ["replacement", "shuffle"])
def test_batch_smoothness_bounds_the_batches_of_least_squares(sampling):
    """Expected smoothness by enumeration: E|grad f_B(x) - grad f_B(x*)|^2 <= 2 L(b) (f(x) - f*), batches of 2 of 6 rows."""
    problem = make_problem("squared", n=6, d=2, k=1, fit_intercept=False)
    A = problem.X
    L = batch_smoothness(smoothness(A, "squared", fit_intercept=False), 6, 2, sampling)
    batches = list(itertools.product(range(6), repeat=2) if sampling == "replacement" else itertools.combinations(range(6), 2))
    H = A.T @ A / 6
    for seed in range(20):
        v = np.random.default_rng(seed).normal(size=2)
        gradients = [A[list(B)].T @ (A[list(B)] @ v) / 2 for B in batches]
        assert np.mean([g @ g for g in gradients]) <= L * (v @ H @ v) * (1 + TIGHT)


def test_auto_learning_rate():
    problem = make_problem("logistic", n=30)
    sm = smoothness(problem.X, "logistic", alpha=0.1)
    options = {"alpha": 0.1, "batch_size": 4}
    L = batch_smoothness(sm, 30, 4)
    assert auto_learning_rate(problem.X, "logistic", **options) == pytest.approx(1 / (2 * L))
    # recursive anchors: SAGA's rate for single rows, gradient descent's for all, and a blend of L_max and L_full between
    recursive = {b: auto_learning_rate(problem.X, "logistic", recursive=True, alpha=0.1, batch_size=b) for b in (1, 4, 30)}
    assert recursive[1] == pytest.approx(1 / (3 * sm.L_max)) and recursive[30] == pytest.approx(1 / sm.L_full)
    assert recursive[4] == pytest.approx(1 / (L + 2 * (30 - 4) / (4 * 29) * sm.L_max))
    assert auto_learning_rate(problem.X, "logistic", momentum=0.9, **options) == pytest.approx(0.1 / (2 * L))
    iid = batch_smoothness(sm, 30, 4, "replacement")
    assert auto_learning_rate(problem.X, "logistic", sampling="replacement", **options) == pytest.approx(1 / (2 * iid))
    with pytest.raises(ValueError, match="all zero"):
        auto_learning_rate(np.zeros((3, 2)), "squared", fit_intercept=False)
    with pytest.raises(ValueError, match="momentum=1"):
        auto_learning_rate(problem.X, "logistic", momentum=1)


def test_smoothness_names_a_nan():
    X = np.ones((5, 2))
    X[3, 1] = np.inf
    with pytest.raises(ValueError, match="X holds inf in row 3, column 1"):
        smoothness(X, "squared")
    with pytest.raises(ValueError, match="alpha=-1"):
        smoothness(np.ones((5, 2)), "squared", alpha=-1)


def oracle_case(n=12, d=3):
    rng = np.random.default_rng(4)
    A = rng.normal(size=(n, d))
    b = A @ rng.normal(size=d) + rng.normal(size=n)
    return A, b, rng.normal(size=d)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0, 1.5])
def test_oracle_is_the_fixed_point_of_the_exact_moment_recursion(lam, unbiased):
    """Push mean and second moment of x - x* through every row many times: what they settle at is what the oracle solves for."""
    A, b, theta = oracle_case()
    gamma = 0.1
    oracle = LeastSquaresOracle.solve(A, b, lam=lam, learning_rate=gamma, theta=theta, unbiased=unbiased)
    np.testing.assert_allclose(A.T @ (A @ oracle.x_star - b), 0, atol=1e-12)
    G, H = A * (A @ oracle.x_star - b)[:, None], A * (A @ theta - b)[:, None]
    h = G - lam * (H - unbiased * H.mean(0))
    P = np.eye(3) - gamma * A[:, :, None] * A[:, None, :]
    m, S = np.zeros(3), np.zeros((3, 3))
    for _ in range(2000):  # contracts by 1 - gamma mu per step, mu ~ 0.25
        cross = (P @ m).T @ h / len(h)
        S = (P @ S @ P).mean(0) - gamma * (cross + cross.T) + gamma**2 * h.T @ h / len(h)
        m = np.mean(P, axis=0) @ m - gamma * h.mean(0)
    np.testing.assert_allclose(oracle.mean_offset, m, atol=1e-10)
    np.testing.assert_allclose(oracle.second_moment, S, atol=1e-10)
    assert oracle.error == pytest.approx(np.trace(S), abs=1e-10)
    assert np.allclose(oracle.mean_offset, 0, atol=1e-12) == (unbiased or lam == 0)


def test_oracle_of_the_perfect_teacher_is_zero():
    A, b, _ = oracle_case()
    x_star = LeastSquaresOracle.solve(A, b, lam=0, learning_rate=0.1, theta=np.zeros(3)).x_star
    perfect = LeastSquaresOracle.solve(A, b, lam=1, learning_rate=0.1, theta=x_star, unbiased=True)
    assert perfect.error == pytest.approx(0, abs=1e-25)  # squares of rounding errors, eps^2 x 1e5


def test_oracle_errors():
    A, b, theta = oracle_case()
    with pytest.raises(ValueError, match=r"expected A \(n, d\)"):
        LeastSquaresOracle.solve(A, b[:-1], lam=0, learning_rate=0.1, theta=theta)
    with pytest.raises(ValueError, match="full column rank"):
        LeastSquaresOracle.solve(np.hstack([A, A]), b, lam=0, learning_rate=0.1, theta=np.zeros(6))
    with pytest.raises(ValueError, match=r"learning_rate = 5\.0 is too large"):
        LeastSquaresOracle.solve(A, b, lam=0, learning_rate=5.0, theta=theta)
    with pytest.raises(ValueError, match="learning_rate=0 is outside"):
        LeastSquaresOracle.solve(A, b, lam=0, learning_rate=0, theta=theta)
    with pytest.raises(ValueError, match="d = 49 is above its limit"):
        LeastSquaresOracle.solve(np.eye(49), np.zeros(49), lam=0, learning_rate=0.1, theta=np.zeros(49))


def test_docstring_examples():
    assert all(doctest.testmod(module).failed == 0 for module in (_constants, _oracle, _weights))
