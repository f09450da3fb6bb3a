"""`tol`: what is measured, where it is looked at, what it costs, how a run ends."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem

import kdvr_fast as kd
from kdvr_fast._stopping import Criterion, residual_norm
from kdvr_fast.backends.base import Step

EPS = np.finfo(float).eps
P = make_problem("softmax", n=40, d=3, weighted=True)
METHODS = (
    kd.SGD(),
    kd.KD(lam=0.5),
    kd.RepeatedKD(lam=0.5),
    kd.UnbiasedKD(),
    kd.SVRG(),
    kd.SVRG(refresh=2),
    kd.LSVRG(),
    kd.SAGA(),
)


def train(problem=P, **options):
    options = {"loss": problem.loss, "sample_weight": problem.weights, "random_state": 0, "epochs": 200} | options
    options = {"learning_rate": 0.5, "batch_size": 40, "alpha": 0.1} | options
    return kd.solve(problem.X, problem.y, **options)


def teacher_for(method, problem=P):
    return kd.Teacher.weights(*make_point(problem)) if method.plan().teacher == "required" else None


def mean_gradient(problem, W, b):
    A = np.column_stack([problem.X, np.ones(len(problem.X))])
    s = np.ones(len(A)) if problem.weights is None else problem.weights
    return (s[:, None] * problem.loss.residual(problem.y, problem.X @ W.T + b)).T @ A / len(A)


def objective_gradient(problem, W, b, alpha=0.1):
    return mean_gradient(problem, W, b) + alpha * np.column_stack([W, np.zeros(len(W))])


# -- the criterion -----------------------------------------------------------------------------------------------------


def test_the_criterion_is_relative_to_the_first_norm():
    criterion = Criterion(0.1)
    assert not criterion.met
    found = []
    for epoch, norm in enumerate([5.0, 0.6, 0.5]):
        criterion.check(norm, epoch)
        found.append(criterion.met)
    assert found == [False, False, True]
    assert criterion.message("epochs") == (
        "the gradient's norm was 0.5 after 2 epochs, 0.1 times the 5 of the initial weights; tol=0.1"
    )
    still = Criterion(1e-3)
    still.check(0.0, 0)
    assert still.met and "0 times the 0 of" in still.message("epochs")


@pytest.mark.parametrize("rate", [1e-9, 0.3])
def test_with_l1_it_is_the_proximal_gradient_mapping(rate):
    """|W - argmin_V <G, V> + |V - W|^2 / (2 rate) + l1 |V|_1| / rate, the minimum found on a grid."""
    rng = np.random.default_rng(0)
    W, data, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)
    W[0, 0], W[1, 1] = 0.0, 1e-3
    step = Step(l2=0.2, l1=0.7)
    G = data + 0.2 * W
    moves = np.empty_like(W)
    for at in np.ndindex(*W.shape):
        grid = W[at] + rate * np.append(np.linspace(-6, 6, 240_001), -W[at] / rate)  # zero is on it
        value = G[at] * (grid - W[at]) + (grid - W[at]) ** 2 / (2 * rate) + 0.7 * np.abs(grid)
        moves[at] = (W[at] - grid[np.argmin(value)]) / rate
    expected = np.sqrt((moves**2).sum() + (b**2).sum())
    # half a cell of the grid, or at a tiny rate the rounding of the values
    assert residual_norm(data, b, W, step, rate) == pytest.approx(expected, abs=1e-3 if rate > 1e-6 else 5e-2)
    assert residual_norm(data, b, W, Step(l2=0.2), rate) == pytest.approx(np.sqrt((G**2).sum() + (b**2).sum()), rel=4 * EPS)


# -- where a run ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_a_converged_run_meets_the_criterion_and_the_epoch_before_does_not(method, loss, backend):
    """Full-batch steps, so that every method goes down; gradients from NumPy, of what the method minimises."""
    problem = make_problem(loss, n=40, d=3, weighted=True)
    teacher, tol = teacher_for(method, problem), 1e-3
    options = {"method": method, "teacher": teacher, "backend": backend, "learning_rate": 0.3}
    run = train(problem, tol=tol, **options)
    assert run.status is kd.Status.CONVERGED and 0 < run.epochs < 200
    bias = 0.0
    if isinstance(method, kd.KD):
        bias = method.lam * mean_gradient(problem, teacher.source, teacher.intercept)

    def norm(W, b):
        gradient = objective_gradient(problem, W, b)
        if isinstance(method, kd.RepeatedKD):
            anchor = train(problem, epochs=run.epochs - 1, **options) if run.epochs > 1 else None
            if anchor is not None:
                gradient = gradient - method.lam * mean_gradient(problem, anchor.coef, anchor.intercept)
        return np.linalg.norm(gradient - bias)

    initial = np.linalg.norm(objective_gradient(problem, np.zeros_like(run.coef), np.zeros_like(run.intercept)) - bias)
    assert norm(run.coef, run.intercept) <= tol * initial * (1 + 1e-9)
    if not isinstance(method, kd.RepeatedKD):
        before = train(problem, **options | {"epochs": run.epochs - getattr(method, "refresh", 1)})
        assert norm(before.coef, before.intercept) > tol * initial
    # tol ends a run and changes nothing before
    same = train(problem, **options | {"epochs": run.epochs})
    assert np.array_equal(run.coef, same.coef) and np.array_equal(run.intercept, same.intercept)


@pytest.mark.parametrize(
    ("method", "track", "passes"),
    [
        (kd.SGD(), (), 6),  # one before the first epoch and one after each
        (kd.SGD(), ("objective",), 1),  # the epoch's end is read anyway
        (kd.UnbiasedKD(), (), 7),  # and the teacher's mean gradient
        (kd.SVRG(), (), 5),  # the snapshots are there anyway
        (kd.SVRG(refresh=2), (), 3),
        (kd.SVRG(start=2), (), 4),
        (kd.SAGA(), (), 7),
    ],
    ids=repr,
)
def test_passes_made_for_the_criterion_are_counted(method, track, passes, backend):
    options = {"method": method, "teacher": teacher_for(method), "epochs": 5, "track": track, "backend": backend}
    with pytest.warns(kd.ConvergenceWarning):
        run = train(tol=1e-12, **options)
    assert run.history["grad_evals"][-1] == pytest.approx(5 + passes, rel=4 * EPS)


@pytest.mark.parametrize("method", [kd.SGD(), kd.SVRG(), kd.SVRG(refresh=3), kd.SVRG(start=2)], ids=repr)
def test_not_reached_is_a_warning_with_the_figures_and_the_remedy(method, backend):
    match = r"all epochs were run; the gradient's norm was .* after 4 epochs, .* tol=1e-12: take more epochs, a larger tol"
    with pytest.warns(kd.ConvergenceWarning, match=match) as caught:
        run = train(method=method, epochs=4, tol=1e-12, backend=backend)
    assert run.status is kd.Status.COMPLETED and run.epochs == 4 and run.message == str(caught[0].message)
    assert caught[0].filename == __file__  # it points at the caller
    norm = np.linalg.norm(objective_gradient(P, run.coef, run.intercept))
    assert f"norm was {norm:.3g} after" in run.message  # that of the weights returned


def test_the_last_epoch_counts(backend):
    """SVRG looks at its snapshots, and once more at the end, so that the last epoch is not lost."""
    run = train(method=kd.SVRG(), tol=1e-3, backend=backend)
    again = train(method=kd.SVRG(), tol=1e-3, epochs=run.epochs, backend=backend)
    assert again.status is kd.Status.CONVERGED and np.array_equal(run.coef, again.coef)
    with pytest.warns(kd.ConvergenceWarning):
        train(method=kd.SVRG(), tol=1e-3, epochs=run.epochs - 1, backend=backend)


@pytest.mark.parametrize("method", [kd.SGD(), kd.SVRG(), kd.LBFGS()], ids=repr)
def test_weights_that_need_no_step_get_none(method, backend):
    problem = make_problem("squared", n=20, d=3, k=1)
    run = kd.solve(problem.X, np.zeros(20), loss="squared", method=method, tol=1e-6, backend=backend)
    assert run.status is kd.Status.CONVERGED and run.epochs == 0 and not run.coef.any()
    assert "after 0 " in run.message


def test_an_average_is_what_is_looked_at(backend):
    run = train(method=kd.SVRG(), average=True, tol=0.1, backend=backend)
    assert run.status is kd.Status.CONVERGED
    initial = np.linalg.norm(objective_gradient(P, np.zeros_like(run.coef), np.zeros(4)))
    assert np.linalg.norm(objective_gradient(P, run.coef, run.intercept)) <= 0.1 * initial


def test_l1_runs_converge_too(backend):
    options = {"alpha": 0.1, "l1_ratio": 0.9, "learning_rate": 0.3, "batch_size": 4, "backend": backend, "epochs": 2000}
    run = train(method=kd.SVRG(), tol=1e-6, **options)
    assert run.status is kd.Status.CONVERGED and (run.coef == 0).any() and (run.coef != 0).any()
    # optimality: G = -l1 sign(W) where W is not zero, |G| <= l1 elsewhere
    G = objective_gradient(P, run.coef, run.intercept, alpha=0.01)
    off = np.where(run.coef != 0, G[:, :-1] + 0.09 * np.sign(run.coef), np.maximum(np.abs(G[:, :-1]) - 0.09, 0))
    assert np.abs(off).max() < 1e-5 and np.abs(G[:, -1]).max() < 1e-5


def test_callbacks_see_every_epoch_and_may_stop_first(backend):
    seen = []
    run = train(tol=1e-3, callbacks=[lambda p: seen.append(p.epoch) and None], backend=backend)
    assert seen == list(range(1, run.epochs + 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = train(tol=1e-9, callbacks=[lambda p: p.epoch == 2], backend=backend)
    assert stopped.status is kd.Status.STOPPED and stopped.message == kd.Status.STOPPED.message


def test_without_tol_nothing_is_measured_and_nothing_said(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = train(epochs=3, backend=backend)
    assert run.status is kd.Status.COMPLETED and run.message == "all epochs were run"
    assert run.history["grad_evals"][-1] == 3


@pytest.mark.parametrize(("tol", "error"), [(0.0, ValueError), (-1.0, ValueError), (np.nan, ValueError), ("1e-3", TypeError)])
def test_a_wrong_tol_is_refused(tol, error):
    with pytest.raises(error, match="tol"):
        train(tol=tol, backend="reference")
