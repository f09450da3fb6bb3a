"""Bounds above the exact error over a grid, ratios equal to it where the theory is exact, strong convexity from Hessians."""

import itertools
import math

import numpy as np
import pytest
from problems import make_point, make_problem

import kdvr_fast as kd
from kdvr_fast.losses import LOSSES
from kdvr_fast.theory import (
    LeastSquaresOracle,
    _constants,
    noise,
    noise_ratio,
    optimal_lambda,
    pl_bound,
    smoothness,
    sqc_bound,
    strong_convexity,
)

GRID = list(itertools.product([0.05, 0.3, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0], [False, True]))  # distance, lam, unbiased


def least_squares(n=120, d=6):
    rng = np.random.default_rng(4)
    A = rng.normal(size=(n, d)) * np.linspace(0.5, 1.5, d)
    b = A @ rng.normal(size=d) + 0.7 * rng.normal(size=n)
    return A, b, np.linalg.lstsq(A, b, rcond=None)[0], rng.normal(size=d)


def stats_at(A, b, x, theta):
    teacher = kd.Teacher.weights(theta[None])
    return kd.gradient_stats(A, b, x[None], loss="squared", fit_intercept=False, teacher=teacher)


@pytest.mark.parametrize(("distance", "lam", "unbiased"), GRID)
def test_bounds_lie_above_the_exact_error(distance, lam, unbiased):
    A, b, x, direction = least_squares()
    theta = x + distance * direction
    stats = stats_at(A, b, x, theta)
    constants = smoothness(A, "squared", fit_intercept=False)
    mu = strong_convexity(A, "squared", fit_intercept=False)
    H = A.T @ A / len(A)
    assert mu == pytest.approx(np.linalg.eigvalsh(H)[0], rel=1e-12)
    for share in (1.0, 0.3, 0.05):
        gamma = share / (2 * constants.L_max)
        exact = LeastSquaresOracle.solve(A, b, lam=lam, learning_rate=gamma, theta=theta, unbiased=unbiased)
        bound = sqc_bound(stats, lam, gamma, mu=mu, L=constants.L_max, steps=math.inf, start_sq=1.0, unbiased=unbiased)
        assert exact.error <= bound
        gamma *= mu / (2 * constants.L_full)  # mu / (4 L L_full)
        exact = LeastSquaresOracle.solve(A, b, lam=lam, learning_rate=gamma, theta=theta, unbiased=unbiased)
        gap = float(np.trace(H @ exact.second_moment)) / 2
        options = {"mu": mu, "L": constants.L_max, "L_full": constants.L_full, "unbiased": unbiased}
        assert gap <= pl_bound(stats, lam, gamma, steps=math.inf, start_gap=1.0, **options)


def test_bounds_hold_along_a_run():
    A, b, x, direction = least_squares()
    theta, runs, steps = x + 0.3 * direction, 200, 400
    stats, mu = stats_at(A, b, x, theta), strong_convexity(A, "squared", fit_intercept=False)
    L = smoothness(A, "squared", fit_intercept=False).L_max
    gamma, lam, rng = 1 / (4 * L), 0.5, np.random.default_rng(0)
    X = np.zeros((runs, 6))
    for t in range(steps + 1):
        if t % 40 == 0:
            error = ((X - x) ** 2).sum(1).mean()
            assert error <= sqc_bound(stats, lam, gamma, mu=mu, L=L, steps=t, start_sq=float(x @ x))
        a, target = A[i := rng.integers(0, len(A), runs)], b[i]
        X = X - gamma * a * (((X * a).sum(1) - target) - lam * (a @ theta - target))[:, None]


@pytest.mark.parametrize("kappa", [0.2, 1.0])
def test_the_ratio_is_that_of_the_noise_at_the_best_weight(kappa):
    A, b, x, direction = least_squares()
    stats = stats_at(A, b, x, x + 0.3 * direction)
    for unbiased in (False, True):
        best = optimal_lambda(stats, 0.05, kappa, unbiased=unbiased, clip=False)
        ratio = noise(stats, best, 0.05, kappa, unbiased) / noise(stats, 0.0, 0.05, kappa, unbiased)
        assert noise_ratio(stats, 0.05, kappa, unbiased) == pytest.approx(ratio, rel=1e-10)


@pytest.mark.parametrize("distance", [0.05, 0.3, 1.0])
def test_the_unbiased_ratio_is_that_of_the_exact_error(distance):
    """Up to the spread of H's eigenvalues, which weigh the noise of different directions differently."""
    A, b, x, direction = least_squares()
    theta, gamma = x + distance * direction, 0.005
    stats = stats_at(A, b, x, theta)
    lam = optimal_lambda(stats, gamma, unbiased=True, clip=False)
    options = {"learning_rate": gamma, "theta": theta, "unbiased": True}
    taught, alone = (LeastSquaresOracle.solve(A, b, lam=weight, **options).error for weight in (lam, 0.0))
    assert taught / alone == pytest.approx(noise_ratio(stats, gamma, unbiased=True), rel=0.25)


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_strong_convexity_is_the_least_eigenvalue_of_the_hessian(loss, fit_intercept, weighted, monkeypatch):
    problem = make_problem(loss, weighted=weighted, fit_intercept=fit_intercept)
    W, b = make_point(problem)
    X, n, k = problem.X, problem.n, problem.n_outputs
    A = np.hstack([X, np.ones((n, 1))]) if fit_intercept else X
    s = np.ones(n) if problem.weights is None else problem.weights
    u, v = LOSSES[loss].curvature(LOSSES[loss].link(X @ W.T + b))
    D = np.einsum("nk,kl->nkl", u, np.eye(k)) - v[:, :, None] * v[:, None, :]
    H = np.einsum("n,nkl,ni,nj->kilj", s / n, D, A, A).reshape(k * A.shape[1], -1)
    penalty = np.full((k, A.shape[1]), 0.1)
    penalty[:, X.shape[1] :] = 0
    H += np.diag(penalty.ravel())
    options = {"alpha": 0.1, "fit_intercept": fit_intercept, "sample_weight": problem.weights}
    expected = np.linalg.eigvalsh(H)[0]
    assert strong_convexity(X, loss, W, b, **options) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    monkeypatch.setattr(_constants, "_GRAM_LIMIT", 1)
    assert strong_convexity(X, loss, W, b, **options) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    if loss != "squared":
        assert strong_convexity(X, loss, **options) == (0.0 if fit_intercept else 0.1)


def test_over_all_weights_an_intercept_leaves_no_strong_convexity():
    """It has no penalty, and where it is large the loss is flat: the number over all weights is not above that of any."""
    X = np.random.default_rng(0).normal(size=(50, 3))
    somewhere = strong_convexity(X, "logistic", np.zeros((1, 3)), [50.0], alpha=0.1)
    assert strong_convexity(X, "logistic", alpha=0.1) <= somewhere < 1e-12


def test_a_teacher_without_gradients_has_no_ratio():
    A, x = np.eye(2), np.array([1.0, 2.0])
    stats = stats_at(A, x, np.zeros(2), x)
    assert stats.teacher_mean_sq_norm == 0 and math.isnan(noise_ratio(stats, 0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 1.0}, r"learning_rate=1 is above 1 / \(2 L\) = 0.05"),
        ({"steps": -1}, "steps=-1 is outside its range"),
        ({"mu": 0.0}, "mu=0.0 is outside its range"),
        ({"start_sq": -1.0}, "start_sq"),
    ],
)
def test_a_bound_that_does_not_hold_is_not_given(options, message):
    A, b, x, direction = least_squares()
    given = {"lam": 0.5, "learning_rate": 0.01, "mu": 0.1, "L": 10.0, "steps": 10, "start_sq": 1.0} | options
    with pytest.raises(ValueError, match=message):
        sqc_bound(stats_at(A, b, x, x + direction), **given)
