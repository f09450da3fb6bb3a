"""L-BFGS: the minimised function and its gradient, the optimum of every loss, Newton's steps, the ends of a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem, make_table, relative, to_csr
from scipy.sparse import csr_array

import kdvr_fast as kd
from kdvr_fast._precondition import measure
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate
from kdvr_fast.lbfgs import Descent
from kdvr_fast.losses import LOSSES

EPS = np.finfo(float).eps
ALPHA = 0.03
KINDS = ("none", "diagonal", "gram")


def fit(problem, method=None, **options):
    options = {"loss": problem.loss, "alpha": ALPHA, "sample_weight": problem.weights} | options
    options.setdefault("fit_intercept", problem.fit_intercept)
    return kd.solve(problem.X, problem.y, method=kd.LBFGS() if method is None else method, **options)


def stacked(run):
    return np.column_stack([run.coef, run.intercept])


def weights_of(problem):
    return np.ones(len(problem.X)) if problem.weights is None else problem.weights


def gradient(problem, P, alpha=ALPHA, lam=0.0, teacher=None):
    """Of the minimised function at P = (W, b), in NumPy; teacher: logits (n, k)."""
    A = np.column_stack([problem.X, np.full(len(problem.X), float(problem.fit_intercept))])
    loss, s = problem.loss, weights_of(problem)[:, None]
    r = loss.residual(problem.y, A @ P.T)
    if lam:
        r = r - lam * loss.residual(problem.y, teacher)
    return (s * r).T @ A / len(A) + alpha * np.column_stack([P[:, :-1], np.zeros(len(P))])


# -- what is minimised -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("method", [kd.LBFGS(), kd.LBFGS(memory=3, precondition="none"), kd.LBFGS(precondition="diagonal")])
def test_the_optimum_of_every_loss_is_reached(loss, fit_intercept, method, backend):
    problem = make_problem(loss, n=60, d=5, weighted=True, fit_intercept=fit_intercept)
    run = fit(problem, method, tol=1e-10, backend=backend)
    assert run.status is kd.Status.CONVERGED
    start = np.linalg.norm(gradient(problem, np.zeros_like(stacked(run))))
    # the criterion holds for a gradient worked out in NumPy
    assert np.linalg.norm(gradient(problem, stacked(run))) <= 1.01e-10 * start + 1e2 * EPS


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_agree_with_the_closed_form_after_two_iterations(fit_intercept, backend):
    """H does not move and G is made of all rows, so that the function is a sphere in the variables of "gram"."""
    problem = make_problem("squared", n=50, d=4, k=3, weighted=True, fit_intercept=fit_intercept)
    problem = dataclasses.replace(problem, X=problem.X * np.array([1e-3, 1.0, 30.0, 1e4]))  # condition number 1e14
    A = np.column_stack([problem.X, np.ones(50)]) if fit_intercept else problem.X
    s, penalty = problem.weights[:, None], ALPHA * np.diag(np.arange(A.shape[1]) < 4)
    closed = np.linalg.solve(A.T @ (s * A) / 50 + penalty, A.T @ (s * problem.y) / 50).T
    run = fit(problem, tol=1e-12, backend=backend)
    assert relative(stacked(run)[:, : A.shape[1]], closed) < 1e-10 and run.epochs <= 3


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("kind", ["weights", "logits"])
def test_with_a_teacher_it_minimises_the_distillation_loss(loss, kind, backend):
    """(1 - lam) loss(y, z) + lam loss(t, z) plus penalty, t the teacher's output, differentiated in NumPy."""
    problem = make_problem(loss, n=60, d=4, weighted=True, dense=True)
    theta, b = make_point(problem)
    Z = problem.X @ theta.T + b
    teacher = kd.Teacher.weights(theta, b) if kind == "weights" else kd.Teacher.logits(Z)
    run = fit(problem, kd.LBFGS(lam=0.6), teacher=teacher, tol=1e-10, backend=backend)
    assert run.status is kd.Status.CONVERGED
    rule = LOSSES[loss]
    distilled = dataclasses.replace(problem, y=0.4 * problem.y + 0.6 * rule.link(Z))  # residuals are linear in the target
    start = np.linalg.norm(gradient(distilled, np.zeros_like(stacked(run))))
    assert np.linalg.norm(gradient(distilled, stacked(run))) < 1e-9 * start
    assert relative(stacked(run), stacked(fit(problem, tol=1e-10, backend=backend))) > 1e-3
    # and KD, the same objective walked in batches, stays there
    options = {"teacher": teacher, "coef_init": run.coef, "intercept_init": run.intercept, "backend": backend}
    still = fit(problem, kd.KD(lam=0.6), batch_size=60, epochs=3, **options)
    assert relative(stacked(still), stacked(run)) < 1e-9


def descent(problem, backend, lam=0.0, teacher=None):
    """A run that has made its first pass, from inside."""
    caught = []

    def loop(run):
        caught.append(run)
        run.bias = None
        run.point = run._pass(run.job.initial)
        return kd.Status.COMPLETED

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Descent, "loop", loop)
        fit(problem, kd.LBFGS(lam=lam), teacher=teacher, backend=backend)
    return caught[0]


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("lam", [0.0, 0.7])
def test_value_and_gradient_belong_together(loss, lam, backend):
    problem = make_problem(loss, n=30, d=3, weighted=True)
    teacher = kd.Teacher.weights(*make_point(problem, 2)) if lam else None
    run = descent(problem, backend, lam, teacher)
    P = np.column_stack(make_point(problem))

    def point(P):
        return run._pass((P[:, :-1], P[:, -1]))

    analytic, step = point(P).gradient, 1e-6
    for at in np.ndindex(*P.shape):
        e = np.zeros_like(P)
        e[at] = step
        slope = (point(P + e).value - point(P - e).value) / (2 * step)
        assert slope == pytest.approx(analytic[at], abs=1e-8 * (1 + np.abs(analytic).max()))
    expected = gradient(
        problem, P, lam=lam, teacher=None if teacher is None else problem.X @ teacher.source.T + teacher.intercept
    )
    assert relative(analytic, expected) < 1e3 * EPS


def test_float32_rows_reach_the_optimum_to_their_precision(backend):
    problem = make_problem("softmax", n=200, d=6)
    small = dataclasses.replace(problem, X=problem.X.astype(np.float32))
    exact = fit(dataclasses.replace(problem, X=small.X.astype(np.float64)), tol=1e-10, backend=backend)
    run = fit(small, backend=backend)
    assert run.coef.dtype == np.float32 and run.status is kd.Status.COMPLETED
    best = exact.history["objective"][-1]
    # weights are rounded to eps, which moves the objective by its curvature times eps^2; its sum is rounded to about eps
    assert abs(run.history["objective"][-1] - best) < 4 * np.finfo(np.float32).eps * best


def test_sample_weights_mean_repetition(backend):
    problem = make_problem("softmax", n=40, d=3)
    times = np.random.default_rng(5).integers(0, 4, 40)
    times[:8] += 1
    rows = np.repeat(np.arange(40), times)
    options = {"alpha": ALPHA, "loss": "softmax", "method": kd.LBFGS(), "tol": 1e-11, "backend": backend}
    weighted = kd.solve(problem.X, problem.y, sample_weight=times, **options)
    repeated = kd.solve(problem.X[rows], problem.y[rows], **options)
    assert relative(stacked(weighted), stacked(repeated)) < 1e-8


# -- Newton's steps ----------------------------------------------------------------------------------------------------


def newton(problem, alpha, lam=0.0, teacher=None):
    """The optimum of a problem with one output, by plain Newton steps in NumPy."""
    A = np.column_stack([problem.X[:], np.full(problem.n, float(problem.fit_intercept))])
    rule, s = problem.loss, weights_of(problem)[:, None]
    penalty = alpha * np.diag(np.arange(A.shape[1]) < A.shape[1] - 1) + (not problem.fit_intercept) * np.diag(
        np.arange(A.shape[1]) == A.shape[1] - 1
    )
    P = np.zeros((1, A.shape[1]))
    dense = dataclasses.replace(problem, X=A[:, :-1])
    for _ in range(30):
        p = rule.link(A @ P.T)
        H = A.T @ (s * p * (1 - p) * A) / len(A) + penalty
        P = P - np.linalg.solve(H, gradient(dense, P, alpha, lam, teacher).T).T
    return P


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("storage", ["dense", "csr32", "csr64", "compact"])
@pytest.mark.parametrize("lam", [0.0, 0.6])
def test_one_output_takes_newton_steps_to_the_optimum(storage, fit_intercept, lam, backend):
    """Quadratic convergence: a few iterations, whatever the rows are stored in; with a teacher, weights and soft targets."""
    problem = make_problem("logistic", n=300, d=6, weighted=True, dense=True, fit_intercept=fit_intercept, density=0.5)
    X = np.round(20 * problem.X).astype(np.int8)
    problem = dataclasses.replace(problem, X=X / 20)
    rows = {
        "dense": problem.X,
        "csr32": csr_array(problem.X),
        "csr64": to_csr(problem.X, np.int64),
        "compact": kd.Compact(X, scale=1 / 20, dtype=np.float64),
    }[storage]
    teacher = kd.Teacher.weights(*make_point(problem)) if lam else None
    logits = None if teacher is None else problem.X @ teacher.source.T + teacher.intercept
    run = fit(dataclasses.replace(problem, X=rows), kd.LBFGS(lam=lam), alpha=1e-3, tol=1e-10, teacher=teacher, backend=backend)
    assert run.status is kd.Status.CONVERGED and run.epochs <= 7
    expected = newton(problem, 1e-3, lam, logits)
    assert relative(stacked(run), expected) < 1e-8


def test_far_from_the_optimum_a_newton_step_is_stretched(backend):
    """Few positives and no intercept: plain Newton steps move each logit by about one."""
    rng = np.random.default_rng(0)
    X = rng.random((400, 5)) + 0.5
    y = (rng.random(400) < 0.02).astype(float)
    run = kd.solve(X, y, loss="logistic", method=kd.LBFGS(), alpha=1e-6, tol=1e-9, fit_intercept=False, backend=backend)
    assert run.status is kd.Status.CONVERGED and run.epochs <= 6


def test_newton_steps_reach_the_precision_of_float32(backend):
    problem = make_problem("logistic", n=500, d=6)
    small = dataclasses.replace(problem, X=problem.X.astype(np.float32))
    best = fit(dataclasses.replace(problem, X=small.X.astype(np.float64)), tol=1e-10, backend=backend).history["objective"][-1]
    run = fit(small, backend=backend)
    assert abs(run.history["objective"][-1] - best) < 4 * np.finfo(np.float32).eps * best and run.epochs < 20


# -- every metric ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_every_kind_finds_the_same_optimum_of_badly_scaled_data(loss, backend):
    problem = make_problem(loss, n=80, d=4, weighted=True)
    problem = dataclasses.replace(problem, X=problem.X * np.array([0.1, 1.0, 1.0, 30.0]) + 1.0)
    runs = [fit(problem, kd.LBFGS(precondition=kind, max_iter=5000), tol=1e-9, backend=backend) for kind in KINDS]
    assert all(run.status is kd.Status.CONVERGED for run in runs)
    best = min(run.history["objective"][-1] for run in runs)
    for run in runs:
        assert run.history["objective"][-1] - best < 1e-12 * best
    none, _, gram = (run.history["grad_evals"][-1] for run in runs)
    assert gram < none


@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_constant_columns_and_far_starts_without_a_penalty(loss, kind, backend):
    """A column of zeros has no curvature, and saturated predictions hardly any."""
    problem = make_problem(loss, n=60, d=4, dense=True)
    problem.X[:, 1] = 0.0
    start = np.full((problem.n_outputs, 4), 30.0) * np.resize([1, -1], (problem.n_outputs, 1))
    run = fit(problem, kd.LBFGS(precondition=kind), alpha=0.0, coef_init=start, backend=backend)
    other = fit(problem, kd.LBFGS(precondition=kind), alpha=0.0, backend=backend)
    assert run.history["objective"][-1] == pytest.approx(other.history["objective"][-1], rel=1e-9)
    assert np.array_equal(run.coef[:, 1], start[:, 1])  # nothing pulls at it


# -- the run -----------------------------------------------------------------------------------------------------------


def test_a_run_is_deterministic_and_its_history_true(backend):
    problem = make_problem("softmax", n=60, d=4, weighted=True)
    teacher = kd.Teacher.weights(*make_point(problem))
    options = {"teacher": teacher, "tol": 1e-8, "track": ("accuracy", "statistics"), "backend": backend}
    run, again = (fit(problem, kd.LBFGS(lam=0.5), **options) for _ in range(2))
    assert np.array_equal(run.coef, again.coef) and run.epochs == len(run.history)
    history = run.history
    assert history["epoch"].tolist() == list(range(1, run.epochs + 1))
    assert np.all(np.diff(history["grad_evals"]) >= 1) and np.all(np.diff(history["seconds"]) > 0)
    assert np.isnan(history["learning_rate"]).all() and set(history["lam"]) == {0.5}
    exact = kd.gradient_stats(
        problem.X, problem.y, run.coef, intercept=run.intercept, loss="softmax", teacher=teacher, alpha=ALPHA, batch_size=60,
        sampling="shuffle", sample_weight=problem.weights, backend=backend,
    )  # fmt: skip
    for name in ("loss", "objective", "cross", "bias_sq"):
        assert getattr(run.stats, name) == pytest.approx(getattr(exact, name), rel=1e3 * EPS), name
    assert history["objective"][-1] == pytest.approx(exact.objective, rel=1e2 * EPS)
    assert history["loss"][-1] == pytest.approx(exact.loss, rel=1e2 * EPS)
    hits = run.predict(problem.X) == problem.y
    assert history["accuracy"][-1] == pytest.approx((problem.weights * hits).mean(), rel=1e2 * EPS)
    theta = np.column_stack([teacher.source, teacher.intercept])
    assert history["teacher_distance"][-1] == pytest.approx(np.linalg.norm(stacked(run) - theta), rel=1e2 * EPS)


def test_the_objective_never_rises(backend):
    problem = make_problem("softmax", n=60, d=4)
    objective = fit(problem, alpha=1e-3, tol=1e-8, backend=backend).history["objective"]
    assert len(objective) > 10 and np.all(np.diff(objective) <= 8 * EPS * objective[0])


def test_passes_are_counted(backend, monkeypatch):
    """One for each read by the engine, logits too, two where student and teacher are read, one for each look at the Hessian."""
    problem = make_problem("softmax", n=60, d=4)
    session = type(get_backend(backend).open(problem, 1))
    reads, whole, logits = [], session.evaluate, session.logits

    def evaluate(self, coef, intercept, variate):
        reads.append(2 if variate != ControlVariate() else 1)
        return whole(self, coef, intercept, variate)

    def read_logits(self, coef, intercept):
        logits_read.append(1)
        return logits(self, coef, intercept)

    def look(*args):
        looks.append(1)
        return measure(*args)

    looks, logits_read = [], []
    monkeypatch.setattr(session, "evaluate", evaluate)
    monkeypatch.setattr(session, "logits", read_logits)
    monkeypatch.setattr("kdvr_fast.lbfgs.measure", look)
    teacher = kd.Teacher.weights(*make_point(problem))
    run = fit(problem, kd.LBFGS(lam=0.5, max_iter=11), teacher=teacher, alpha=1e-4, backend=backend)
    assert run.epochs == 11 and run.history["grad_evals"][-1] == sum(reads) + sum(looks) + sum(logits_read)
    assert sum(r == 2 for r in reads) == 1 and sum(looks) == 2  # at the start and after 10
    assert sum(logits_read) == 2

    reads.clear(), looks.clear(), logits_read.clear()
    newton = fit(make_problem("logistic", n=60, d=4), kd.LBFGS(max_iter=3), alpha=1e-4, backend=backend)
    assert sum(looks) == newton.epochs == 3 and sum(logits_read) >= 4
    assert newton.history["grad_evals"][-1] == sum(reads) + sum(looks) + sum(logits_read)


def test_callbacks_stop_and_interrupts_keep_the_last_iteration(backend):
    problem = make_problem("softmax", n=60, d=4)
    seen = []
    run = fit(problem, callbacks=[lambda p: seen.append(p) or p.epoch == 4], backend=backend)
    assert run.status is kd.Status.STOPPED and run.epochs == 4 == len(seen) and seen[0].epochs == 1000
    assert np.array_equal(seen[-1].coef, run.coef) and seen[-1].row == run.history.rows[-1]

    def interrupt(progress):
        if progress.epoch == 4:
            raise KeyboardInterrupt

    with pytest.warns(RuntimeWarning, match="interrupted after 4 of 1000"):
        cut = fit(problem, callbacks=[interrupt], backend=backend)
    assert cut.status is kd.Status.INTERRUPTED and np.array_equal(cut.coef, run.coef)


def test_max_iter_bounds_the_iterations_and_the_message_says_so(backend):
    problem = make_problem("softmax", n=60, d=4)
    run = fit(problem, kd.LBFGS(max_iter=12), epochs=1, batch_size=10_000, backend=backend)
    assert run.epochs == 12 and run.status is kd.Status.COMPLETED and run.message == "max_iter=12 iterations were made"
    with pytest.warns(kd.ConvergenceWarning, match=r"max_iter=12 .* after 12 iterations.*tol=1e-13: take a larger max_iter"):
        fit(problem, kd.LBFGS(max_iter=12), tol=1e-13, backend=backend)


def test_without_tol_it_runs_to_the_limit_of_the_arithmetic(backend):
    problem = make_problem("softmax", n=60, d=4)
    run = fit(problem, backend=backend)
    assert run.message == "no step decreases the objective any further in the arithmetic of X, float64"
    assert np.linalg.norm(gradient(problem, stacked(run))) < 1e-7
    small = dataclasses.replace(problem, X=problem.X.astype(np.float32))
    with pytest.warns(kd.ConvergenceWarning, match="float32; .*: take a larger tol, or X in float64"):
        fit(small, tol=1e-12, backend=backend)


def test_a_function_that_is_not_finite_is_a_divergence(backend):
    X = np.full((3, 1), 1e200)
    with np.errstate(all="ignore"), pytest.raises(kd.DivergenceError, match=r"running loss (inf|nan); lower") as caught:
        kd.solve(X, np.ones(3), loss="squared", method=kd.LBFGS(), coef_init=[[1e200]], backend=backend)
    assert caught.value.result.status is kd.Status.DIVERGED and caught.value.result.coef[0, 0] == 1e200


def test_what_it_cannot_do_is_refused():
    problem = make_problem("softmax", n=20, d=3)
    with pytest.raises(ValueError, match=r"LBFGS needs a smooth objective and l1_ratio=0.5 has none: use l1_ratio=0, or SVRG"):
        fit(problem, l1_ratio=0.5, backend="reference")
    with pytest.raises(ValueError, match="LBFGS needs a teacher"):
        fit(problem, kd.LBFGS(lam=0.5), backend="reference")
    with pytest.raises(ValueError, match="precondition='newton' is unknown; choose one of 'auto', 'none', 'diagonal', 'gram'"):
        kd.LBFGS(precondition="newton")
    with pytest.raises(ValueError, match="memory=0 must be at least 1"):
        kd.LBFGS(memory=0)
    with pytest.raises(ValueError, match="max_iter=0 must be at least 1"):
        kd.LBFGS(max_iter=0)


def test_a_teacher_s_table_serves_as_well_as_its_weights(backend):
    problem = make_problem("softmax", n=60, d=4)
    P = LOSSES["softmax"].link(make_table(problem, ControlVariate(temperature=2.0)))
    run = fit(problem, kd.LBFGS(lam=1.0), teacher=kd.Teacher.probabilities(P), tol=1e-9, backend=backend)
    soft = kd.solve(problem.X, P, loss="softmax", method=kd.LBFGS(), alpha=ALPHA, tol=1e-9, backend=backend)
    assert relative(stacked(run), stacked(soft)) < 1e-6
