"""The metric of full-batch steps and the memory above it, against the Hessian and the recursion written out in NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from problems import LOSS_NAMES, OUTPUTS, make_point, make_problem, relative, to_csr

from kdvr_fast._memory import Memory
from kdvr_fast._precondition import measure, resolve
from kdvr_fast.backends import get_backend
from kdvr_fast.losses import LOSSES

EPS = np.finfo(float).eps


def metric_at(problem, weights, alpha, kind, backend="reference"):
    session = get_backend(backend).open(problem, 2)
    return measure(session, problem, session.logits(*weights), alpha, kind)


def with_ones(problem):
    return np.column_stack([problem.X[:], np.ones(problem.n)]) if problem.fit_intercept else problem.X[:]


def hessian(problem, weights, alpha):
    """(k p, k p), from the curvature of each row."""
    A, (W, b) = with_ones(problem), weights
    rule, k = problem.loss, problem.n_outputs
    u, v = rule.curvature(rule.link(problem.X[:] @ W.T + b))
    s = np.ones(problem.n) if problem.weights is None else problem.weights
    S = s[:, None, None] * (u[:, :, None] * np.eye(k) - v[:, :, None] * v[:, None, :])
    H = np.einsum("ncd,ni,nj->cidj", S, A, A).reshape(k * A.shape[1], -1) / problem.n
    penalised = np.tile(np.arange(A.shape[1]) < problem.X.shape[1], k)
    return H + alpha * np.diag(penalised)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_curvature_is_the_derivative_of_the_residual(loss):
    rng = np.random.default_rng(0)
    k, rule = OUTPUTS[loss], LOSSES[loss]
    z, y, step = rng.normal(size=(9, k)), make_problem(loss, n=9, dense=True).y, 1e-6
    u, v = rule.curvature(rule.link(z))
    for c in range(k):
        e = step * np.eye(k)[c]
        slope = (rule.residual(y, z + e) - rule.residual(y, z - e)) / (2 * step)
        np.testing.assert_allclose(slope, u * np.eye(k)[c] - v * v[:, c : c + 1], atol=1e-8)


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_gram_metric_inverts_the_hessian_where_rows_share_one_curvature(loss, fit_intercept, backend):
    """At W = 0; softmax does not see all logits raised alike, and without a penalty nothing is asked of that direction."""
    problem = make_problem(loss, n=40, d=3, weighted=True, fit_intercept=fit_intercept)
    k, p = problem.n_outputs, 3 + fit_intercept
    metric = metric_at(problem, (np.zeros((k, 3)), np.zeros(k)), 0.0, "gram", backend)
    H = hessian(problem, (np.zeros((k, 3)), np.zeros(k)), 0.0)
    move = np.random.default_rng(0).normal(size=(k, p))
    move -= move.mean(axis=0) * (loss == "softmax")
    assert relative(metric.solve((H @ move.ravel()).reshape(k, p)), move) < 1e-9
    assert metric.exact == (k == 1)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("index", [None, np.int32, np.int64])
def test_with_one_output_it_is_exact_everywhere(index, fit_intercept, backend):
    problem = make_problem("logistic", n=70, d=5, weighted=True, fit_intercept=fit_intercept, density=0.4)
    weights = make_point(problem)
    H = hessian(problem, weights, 0.02)
    if index is not None:
        problem = dataclasses.replace(problem, X=to_csr(problem.X, index))
    metric = metric_at(problem, weights, 0.02, "gram", backend)
    G = np.random.default_rng(0).normal(size=(1, 5 + fit_intercept))
    assert metric.exact and relative(metric.solve(G)[0], np.linalg.solve(H, G[0])) < 1e-9


@pytest.mark.parametrize("kind", ["diagonal", "gram"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_metric_is_symmetric_and_positive(kind, fit_intercept):
    problem = make_problem("softmax", n=40, d=3, weighted=True, fit_intercept=fit_intercept)
    metric = metric_at(problem, make_point(problem), 0.1, kind)
    U, V = np.random.default_rng(0).normal(size=(2, 4, 3 + fit_intercept))
    assert np.vdot(metric.solve(U), V) == pytest.approx(np.vdot(U, metric.solve(V)), rel=1e3 * EPS)
    assert np.vdot(metric.solve(U), U) > 0


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_diagonal_is_that_of_the_model(fit_intercept):
    """For the squared loss M = I / k and u = 1: the Hessian's diagonal itself."""
    problem = make_problem("squared", n=40, d=3, weighted=True, fit_intercept=fit_intercept)
    metric = metric_at(problem, make_point(problem), 0.1, "diagonal")
    G = np.random.default_rng(0).normal(size=(2, 3 + fit_intercept))
    expected = G / hessian(problem, make_point(problem), 0.1).diagonal().reshape(G.shape)
    assert relative(metric.solve(G), expected) < 1e-12


def test_rows_drawn_by_curvature_stand_for_all(monkeypatch):
    """100 000 rows of 4 features: a sample of 64 gives the Hessian to sampling error."""
    monkeypatch.setattr("kdvr_fast._precondition._SHORT", 0)
    problem = make_problem("logistic", n=100_000, d=4, fit_intercept=False)
    metric = metric_at(problem, make_point(problem), 0.0, "gram")
    H = hessian(problem, make_point(problem), 0.0)
    inverse = np.array([metric.solve(e[None])[0] for e in np.eye(4)])
    values = np.linalg.eigvals(inverse @ H).real
    assert values.min() > 0.4 and values.max() < 2.5  # five standard deviations of sqrt(1/16) either side, inverted
    assert not metric.exact


@pytest.mark.parametrize("index", [None, np.int32])
def test_newton_takes_all_rows_that_matter_and_some_that_do_not(index, monkeypatch):
    """5000 rows, most of them fitted beyond doubt: the Hessian to a twentieth, from few of them."""
    problem = make_problem("logistic", n=5000, d=4, fit_intercept=False, scale=6.0, weighted=True)
    problem = dataclasses.replace(problem, X=problem.X if index is None else to_csr(problem.X, index))
    dense = dataclasses.replace(problem, X=np.asarray(problem.X[:] if index is None else problem.X[:].toarray()))
    weights = make_point(dense)
    session = get_backend("native").open(problem, 1)
    taken = []
    monkeypatch.setattr(
        type(session), "gram", lambda self, rows, t: taken.append(len(rows)) or reference_gram(dense.X, rows, t)
    )
    metric = measure(session, problem, session.logits(*weights), 0.0, "gram")
    inverse = np.array([metric.solve(e[None])[0] for e in np.eye(4)])
    values = np.linalg.eigvals(inverse @ hessian(dense, weights, 0.0)).real
    assert metric.exact and taken[0] < 2100 and 0.8 < values.min() < values.max() < 1.25


def reference_gram(X, rows, t):
    return X[rows].T @ (t[:, None] * X[rows])


def test_auto_takes_the_gram_matrix_where_it_is_cheap():
    small, wide = make_problem("softmax", n=30, d=5), make_problem("softmax", n=30, d=600)
    assert [resolve("auto", small), resolve("auto", wide), resolve("none", small)] == ["gram", "diagonal", "none"]
    tall = dataclasses.replace(wide, X=np.broadcast_to(wide.X[0], (100_000, 600)))
    assert resolve("auto", tall) == "gram"
    assert resolve("auto", dataclasses.replace(wide, X=to_csr(wide.X))) == "none"


# -- memory ------------------------------------------------------------------------------------------------------------


def recursion(pairs, solve, gradient):
    """-H gradient by the two loops of Nocedal and Wright, algorithm 7.4; `solve` is H_0 up to the usual factor."""
    q, kept = gradient.copy(), []
    for s, y in reversed(pairs):
        a = np.vdot(s, q) / np.vdot(s, y)
        kept.append(a)
        q = q - a * y
    r = solve(q)
    if pairs:
        s, y = pairs[-1]
        r = r * np.vdot(s, y) / np.vdot(y, solve(y))
    for (s, y), a in zip(pairs, reversed(kept), strict=True):
        r = r + s * (a - np.vdot(y, r) / np.vdot(s, y))
    return -r


@pytest.mark.parametrize("with_metric", [False, True])
@pytest.mark.parametrize("n_pairs", [0, 1, 3, 8])
def test_the_compact_form_is_the_recursion(n_pairs, with_metric):
    """Also once the oldest pairs are overwritten, and with a metric put below pairs that are there."""
    problem = make_problem("softmax", n=40, d=3)
    metric = metric_at(problem, make_point(problem), 0.1, "gram")
    rng, shape, size = np.random.default_rng(0), (4, 4), 5
    memory = Memory(size, shape, np.dtype(np.float64))
    B = rng.normal(size=(16, 16))
    pairs = [(s, (B @ B.T @ s.ravel()).reshape(shape)) for s in rng.normal(size=(n_pairs, *shape))]
    for i, pair in enumerate(pairs):
        if with_metric and i == 2:
            memory.replace(metric)
        memory.add(*pair)
    if with_metric and n_pairs < 3:
        memory.replace(metric)
    assert len(memory) == min(size, n_pairs)
    g = rng.normal(size=shape)
    expected = recursion(pairs[-size:], metric.solve if with_metric else lambda v: v, g)
    assert relative(memory.direction(g), expected) < 1e-9
    memory.clear()
    expected = recursion([], metric.solve if with_metric else lambda v: v, g)
    assert relative(memory.direction(g), expected) < 1e-14


def test_a_pair_without_curvature_is_not_remembered():
    memory = Memory(3, (1, 2), np.dtype(np.float64))
    memory.add(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert len(memory) == 0
