"""L-BFGS in the span of sparse rows: the same optimum as on weights, a true history, weights that are there when asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem, relative, to_csr

import kdvr_fast as kd
from kdvr_fast._memory import Memory, SpanMemory
from kdvr_fast._span import SpanDescent
from kdvr_fast.backends import get_backend
from kdvr_fast.losses import LOSSES

EPS = np.finfo(float).eps
ALPHA = 0.01


def wide(loss="softmax", **options):
    """Fewer rows than features, one row and one feature empty: the problem with dense rows, and with sparse ones."""
    problem = make_problem(loss, n=40, d=60, **{"weighted": True, "density": 0.3} | options)
    problem.X[7] = 0
    problem.X[:, 5] = 0
    return problem, dataclasses.replace(problem, X=to_csr(problem.X))


def fit(problem, method=None, **options):
    options = {"loss": problem.loss, "alpha": ALPHA, "sample_weight": problem.weights} | options
    method = kd.LBFGS(precondition="none") if method is None else method
    return kd.solve(problem.X, problem.y, method=method, fit_intercept=problem.fit_intercept, **options)


@pytest.fixture
def runs(monkeypatch):
    """The runs made in the span."""
    seen, begin = [], SpanDescent._begin

    def noticed(self):
        seen.append(self)
        begin(self)

    monkeypatch.setattr(SpanDescent, "_begin", noticed)
    return seen


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_optimum_is_that_of_dense_rows(loss, fit_intercept, weighted, backend, runs):
    dense, thin = wide(loss, fit_intercept=fit_intercept, weighted=weighted)
    run, other = (fit(p, tol=1e-10, backend=backend) for p in (thin, dense))
    assert len(runs) == 1
    assert run.status is other.status is kd.Status.CONVERGED
    assert relative(run.coef, other.coef) < 1e-7 and relative(run.intercept, other.intercept) < 1e-7
    assert (run.coef[:, 5] == 0).all()


def test_a_given_intercept_is_where_it_begins(backend, runs):
    dense, thin = wide("logistic")
    run, other = (fit(p, tol=1e-10, intercept_init=[3.0], backend=backend) for p in (thin, dense))
    assert len(runs) == 1 and relative(run.intercept, other.intercept) < 1e-7
    stay = fit(thin, kd.LBFGS(precondition="none", max_iter=1), intercept_init=[3.0], backend=backend)
    exact = kd.gradient_stats(thin.X[:], thin.y, np.zeros((1, 60)), intercept=[3.0], loss="logistic", backend=backend)
    assert stay.history["loss"][0] < exact.loss


@pytest.mark.parametrize("start", [10.0, 50.0, -1000.0])
@pytest.mark.parametrize("alpha", [0.0, ALPHA])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("precondition", ["none", "diagonal", "gram"])
def test_a_start_where_rows_are_fitted_beyond_doubt_is_left(start, alpha, dtype, precondition, backend, runs):
    """There the loss is all but straight, its curvature 0 in floating point, and a Newton step as long as one likes."""
    _, thin = wide("logistic", dtype=dtype)
    method = kd.LBFGS(precondition=precondition, max_iter=200)
    run = fit(thin, method, tol=1e-3, intercept_init=[start], alpha=alpha, backend=backend)
    assert run.status is kd.Status.CONVERGED and len(runs) == (precondition == "none")


@pytest.mark.parametrize("track", [(), ("accuracy", "statistics")])
def test_its_history_is_true(track, backend):
    dense, thin = wide()
    run = fit(thin, tol=1e-8, track=track, backend=backend)
    exact = kd.gradient_stats(
        dense.X, dense.y, run.coef, intercept=run.intercept, loss="softmax", alpha=ALPHA, batch_size=40,
        sample_weight=dense.weights, backend=backend,
    )  # fmt: skip
    last = run.history.rows[-1]
    assert last["objective"] == pytest.approx(exact.objective, rel=1e2 * EPS)
    assert last["loss"] == pytest.approx(exact.loss, rel=1e2 * EPS)
    norms = (dense.X**2).sum(axis=1) + 1
    r = dense.weights[:, None] * LOSSES["softmax"].residual(dense.y, dense.X @ run.coef.T + run.intercept)
    assert last["mean_sq_norm"] == pytest.approx(((r**2).sum(axis=1) * norms).mean(), rel=1e3 * EPS)
    gradient = np.column_stack([exact.grad, exact.grad_intercept])
    r = dense.weights[:, None] * LOSSES["softmax"].residual(dense.y, np.zeros(r.shape))
    first = np.linalg.norm(np.column_stack([r.T @ dense.X, r.sum(axis=0)])) / 40
    assert np.linalg.norm(gradient) < 1.01e-8 * first and last["grad_norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-6)
    assert np.all(np.diff(run.history["objective"]) <= 8 * EPS)
    if track:
        hits = run.predict(dense.X) == dense.y
        assert last["accuracy"] == pytest.approx((dense.weights * hits).mean(), rel=1e2 * EPS)
        assert run.stats.loss == pytest.approx(exact.loss, rel=1e2 * EPS)


def test_products_with_the_rows_are_counted(backend, monkeypatch):
    _, thin = wide()
    session = type(get_backend(backend).open(thin, 1))
    made, images = [], session.images
    monkeypatch.setattr(session, "images", lambda self, C: made.append(1) or images(self, C))
    run = fit(thin, kd.LBFGS(precondition="none", max_iter=6), backend=backend)
    assert run.epochs == 6 and run.history["grad_evals"].tolist() == list(range(2, 8)) and len(made) == 7


def test_the_bits_are_the_same_at_any_number_of_threads():
    _, thin = wide(dtype=np.float32)
    one, *others = (fit(thin, backend="native", n_threads=threads) for threads in (1, 2, 3))
    for other in others:
        assert np.array_equal(one.coef, other.coef) and np.array_equal(one.intercept, other.intercept)
        assert one.history["objective"].tolist() == other.history["objective"].tolist()


def test_callbacks_and_interrupts_get_the_weights_of_their_iteration(backend):
    _, thin = wide()
    plain = fit(thin, kd.LBFGS(precondition="none", max_iter=4), backend=backend)
    seen = []
    stopped = fit(thin, callbacks=[lambda p: seen.append(p) or p.epoch == 4], backend=backend)
    assert stopped.status is kd.Status.STOPPED and np.array_equal(stopped.coef, plain.coef)
    assert np.array_equal(seen[-1].coef, plain.coef) and not np.array_equal(seen[0].coef, plain.coef)

    def interrupt(progress):
        if progress.epoch == 4:
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted after 4 of 1000"):
        cut = fit(thin, callbacks=[interrupt], backend=backend)
    assert np.array_equal(cut.coef, plain.coef) and np.array_equal(cut.intercept, plain.intercept)


@pytest.mark.parametrize("place", ["kdvr_fast._span.SpanDescent._reach", "kdvr_fast.lbfgs.replace"])
def test_an_interrupt_within_an_iteration_leaves_the_one_before(place, backend, monkeypatch):
    """In the fourth iteration: while its point is sought, and just before it is finished."""
    _, thin = wide()
    plain = fit(thin, kd.LBFGS(precondition="none", max_iter=3), backend=backend)
    whole, calls = (
        (SpanDescent._reach, 5) if place.endswith("_reach") else (dataclasses.replace, 4)
    )  # the first point is reached, too
    left = [calls]

    def interrupted(*args, **options):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return whole(*args, **options)

    monkeypatch.setattr(place, interrupted)
    with pytest.warns(RuntimeWarning, match="interrupted after 3 of 1000"):
        cut = fit(thin, backend=backend)
    assert np.array_equal(cut.coef, plain.coef)


def test_float32_rows_reach_the_optimum_to_their_precision(backend):
    _, thin = wide(dtype=np.float32)
    exact = fit(dataclasses.replace(thin, X=to_csr(thin.X[:].toarray().astype(np.float64))), tol=1e-10, backend=backend)
    run, best = fit(thin, backend=backend), exact.history["objective"][-1]
    assert run.coef.dtype == np.float32 and run.status is kd.Status.COMPLETED and "float32" in run.message
    assert abs(run.history["objective"][-1] - best) < 4 * np.finfo(np.float32).eps * best


def test_without_a_penalty_separable_rows_are_no_harm(backend):
    _, thin = wide("logistic", weighted=False)
    run = fit(thin, kd.LBFGS(precondition="none", max_iter=50), alpha=0.0, backend=backend)
    assert np.isfinite(run.coef).all() and run.history["objective"][-1] < 1e-3


def test_weights_that_need_no_step_get_none(backend):
    problem = make_problem("squared", n=20, d=30, k=1)
    run = kd.solve(
        to_csr(problem.X), np.zeros(20), loss="squared", method=kd.LBFGS(precondition="none"), tol=1e-6, backend=backend
    )
    assert run.status is kd.Status.CONVERGED and run.epochs == 0 and not run.coef.any()


def test_what_leaves_the_span_is_done_on_weights(backend, runs):
    dense, thin = wide()
    W, b = make_point(thin)
    tall = make_problem("softmax", n=60, d=40)
    options = {"backend": backend, "tol": 1e-6}
    fit(dense, **options)
    fit(dataclasses.replace(tall, X=to_csr(tall.X)), **options)
    fit(thin, coef_init=W, **options)
    fit(thin, kd.LBFGS(precondition="diagonal"), **options)
    fit(thin, kd.LBFGS(precondition="none", lam=0.5), teacher=kd.Teacher.weights(W, b), **options)
    assert not runs


def test_inner_products_of_the_span_are_those_of_the_weights():
    """A direction, from numbers and images, is the one of a memory of the weights themselves."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 9))
    K, H = A @ A.T, np.diag(rng.uniform(0.5, 2, 9))
    inside, outside = SpanMemory(3, (2, 2, 6), np.dtype(float)), Memory(3, (2, 9), np.dtype(float))
    both = lambda C: np.stack([C, C @ K])  # noqa: E731
    for _ in range(5):
        s = rng.normal(size=(2, 6))
        y = s @ A @ H @ A.T @ np.linalg.inv(K)  # of the span too, with positive curvature
        inside.add(both(s), both(y))
        outside.add(s @ A, y @ A)
    g = rng.normal(size=(2, 6))
    D = inside.direction(both(g))
    assert len(inside) == 3 and relative(D[0] @ A, outside.direction(g @ A)) < 1e-10
    assert relative(D[1], D[0] @ K) < 1e-10
