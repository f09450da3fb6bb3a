"""Each method through `solve` against explicit per-sample gradients, and what the dataclasses refuse."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import LOSS_NAMES, make_point, make_problem, relative

import kdvr_fast as kd

# every method with settings that exercise its rules; the last entries vary one rule each
CASES = (
    kd.SGD(),
    kd.KD(lam=0.7),
    kd.KD(lam=kd.Geometric(0.4, factor=1.5, cap=0.8)),
    kd.RepeatedKD(lam=0.5, refresh=2),
    kd.UnbiasedKD(lam=0.6),
    kd.SVRG(lam=1.0, refresh=2),
    kd.SVRG(lam=kd.Geometric(0.9, factor=0.5), refresh=1, start=2),
    kd.LSVRG(probability=1.0),
    kd.SAGA(),
)
EPOCHS, LEARNING_RATE, BATCH, ALPHA = 5, 0.05, 4, 0.1


def explicit(problem, method, order, theta=None):
    """The method as the literature writes it: dense per-sample gradients (n, k, d + 1), one snapshot or table at a time."""
    n = len(problem.X)
    A = np.column_stack([problem.X, np.full(n, float(problem.fit_intercept))])
    s = np.ones(n) if problem.weights is None else problem.weights
    P = np.zeros((problem.n_outputs, A.shape[1]))
    penalty = ALPHA * np.array([1.0] * problem.X.shape[1] + [0.0])

    def gradients(Q):
        r = problem.loss.residual(problem.y, A @ Q.T)
        return (s[:, None] * r)[:, :, None] * A[:, None, :]

    centered = isinstance(method, kd.UnbiasedKD | kd.SVRG | kd.LSVRG | kd.SAGA)
    anchor = None if theta is None else gradients(theta)
    if isinstance(method, kd.SAGA):
        anchor = gradients(P)
    for epoch, rows in enumerate(order):
        if isinstance(method, kd.RepeatedKD) and epoch and epoch % method.refresh == 0:
            anchor = gradients(P)
        if isinstance(method, kd.SVRG) and epoch >= method.start and (epoch - method.start) % method.refresh == 0:
            anchor = gradients(P)
        lam = getattr(method, "lam", 1.0)
        lam = min(lam.cap, lam.initial * lam.factor**epoch) if isinstance(lam, kd.Geometric) else lam
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            if isinstance(method, kd.LSVRG):
                anchor = gradients(P)  # probability 1
            now = gradients(P)
            g = now[batch].mean(0) + penalty * P
            if anchor is not None:
                g -= lam * (anchor[batch].mean(0) - centered * anchor.mean(0))
            if isinstance(method, kd.SAGA):
                anchor[batch] = now[batch]
            P = P - LEARNING_RATE * g
    return P


def run(problem, method, order, backend, teacher=None, **options):
    result = kd.solve(
        problem.X,
        problem.y,
        loss=problem.loss,
        method=method,
        teacher=teacher,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH,
        epochs=EPOCHS,
        alpha=ALPHA,
        order=order,
        fit_intercept=problem.fit_intercept,
        sample_weight=problem.weights,
        backend=backend,
        **options,
    )
    return np.column_stack([result.coef, result.intercept]), result


def draw_order(problem, seed=3):
    """Distinct rows within an epoch; the number of them leaves a short last batch."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(len(problem.X)) for _ in range(EPOCHS)])


@pytest.mark.parametrize("method", CASES, ids=repr)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_method_follows_its_definition(loss, method, backend):
    problem = make_problem(loss, n=13, d=3, weighted=loss != "logistic", fit_intercept=loss != "squared")
    theta = np.column_stack(make_point(problem))
    teacher = kd.Teacher.weights(theta[:, :-1], theta[:, -1]) if method.plan().teacher == "required" else None
    order = draw_order(problem)
    expected = explicit(problem, method, order, None if teacher is None else theta)
    found, _ = run(problem, method, order, backend, teacher)
    # 20 steps, each a few roundings of numbers of size one
    assert relative(found, expected) < 1e3 * np.finfo(float).eps


def test_repeated_distillation_starts_from_a_given_teacher(backend):
    problem = make_problem("softmax", n=13, d=3)
    theta = np.column_stack(make_point(problem))
    order, method = draw_order(problem), kd.RepeatedKD(lam=0.5, refresh=2)
    found, _ = run(problem, method, order, backend, kd.Teacher.weights(theta[:, :-1], theta[:, -1]))
    assert relative(found, explicit(problem, method, order, theta)) < 1e3 * np.finfo(float).eps
    assert relative(found, explicit(problem, method, order)) > 1e-3


@pytest.mark.parametrize("method", [m for m in CASES if not isinstance(m, kd.SAGA)], ids=repr)
def test_storing_the_anchor_changes_nothing(method, backend):
    problem = make_problem("softmax", n=13, d=3, weighted=True)
    teacher = kd.Teacher.weights(*make_point(problem)) if method.plan().teacher == "required" else None
    (stored, _), (fresh, _) = (
        run(problem, method, draw_order(problem), backend, teacher, cache_anchor=c) for c in (True, False)
    )
    assert relative(stored, fresh) < 1e3 * np.finfo(float).eps


# full passes are counted, and a row costs twice where its anchor is computed on the fly
@pytest.mark.parametrize(
    ("method", "cache", "passes", "row_cost"),
    [
        (kd.SGD(), None, [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
        (kd.KD(), None, [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
        (kd.KD(), False, [0, 0, 0, 0, 0], [2, 2, 2, 2, 2]),
        (kd.KD(temperature=2.0), None, [0, 0, 0, 0, 0], [2, 2, 2, 2, 2]),
        (kd.UnbiasedKD(), None, [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
        (kd.UnbiasedKD(), False, [1, 0, 0, 0, 0], [2, 2, 2, 2, 2]),
        (kd.RepeatedKD(refresh=2), None, [0, 0, 0, 0, 0], [1, 1, 2, 2, 2]),
        (kd.RepeatedKD(refresh=2), True, [0, 0, 1, 0, 1], [1, 1, 1, 1, 1]),
        (kd.SVRG(refresh=2, start=1), None, [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]),
        (kd.SVRG(refresh=2, start=1), False, [0, 1, 0, 1, 0], [1, 2, 2, 2, 2]),
        (kd.LSVRG(probability=1.0), None, [4, 4, 4, 4, 4], [1, 1, 1, 1, 1]),
        (kd.SAGA(), None, [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
    ],
    ids=repr,
)
def test_gradient_evaluations_are_counted(method, cache, passes, row_cost, backend):
    problem = make_problem("softmax", n=13, d=3)
    teacher = kd.Teacher.weights(*make_point(problem)) if method.plan().teacher == "required" else None
    _, result = run(problem, method, draw_order(problem), backend, teacher, cache_anchor=cache, track="objective")
    assert result.history["grad_evals"].tolist() == np.cumsum(np.add(passes, row_cost)).tolist()


def test_loopless_svrg_renews_with_its_probability(backend):
    problem = make_problem("squared", n=400, d=2, k=1)
    result = kd.solve(
        problem.X, problem.y, loss="squared", method=kd.LSVRG(), batch_size=4, epochs=20, random_state=0, backend=backend
    )
    renewals = result.history["grad_evals"][-1] - 20 - 1
    # 2000 coins of probability 1/100: 20 expected, five standard deviations either side
    assert abs(renewals - 20) < 5 * np.sqrt(20)
    again = kd.solve(
        problem.X, problem.y, loss="squared", method=kd.LSVRG(), batch_size=4, epochs=20, random_state=0, backend=backend
    )
    assert np.array_equal(result.coef, again.coef)


def test_teacher_alpha_restores_the_fixed_point(backend):
    """At theta with grad f(theta) + alpha theta = 0, KD with teacher_alpha = alpha stays; without, it moves."""
    problem = make_problem("squared", n=13, d=3, k=1, fit_intercept=False)
    A, b = problem.X, problem.y[:, 0]
    theta = np.linalg.solve(A.T @ A / len(A) + ALPHA * np.eye(3), A.T @ b / len(A))[None, :]
    options = {
        "loss": "squared",
        "teacher": kd.Teacher.weights(theta),
        "fit_intercept": False,
        "alpha": ALPHA,
        "backend": backend,
    }
    options |= {"batch_size": 13, "epochs": 3, "coef_init": theta}
    stays = kd.solve(A, b, method=kd.KD(lam=0.6, teacher_alpha=ALPHA), **options)
    assert relative(stays.coef, theta) < 1e2 * np.finfo(float).eps
    assert relative(kd.solve(A, b, method=kd.KD(lam=0.6), **options).coef, theta) > 1e-4


@pytest.mark.parametrize("method", kd.METHODS, ids=lambda m: m.__name__)
def test_methods_are_frozen_data_with_a_documented_row(method):
    instance = method()
    assert instance == method() and hash(instance) == hash(method())
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        instance.lam = 0.3
    assert "Source:" in method.__doc__ and method.__name__ in kd.methods.__doc__
    assert isinstance(instance.plan(), kd.Plan)


WITH_LAM = [m for m in kd.METHODS if any(f.name == "lam" for f in dataclasses.fields(m))]


@pytest.mark.parametrize("method", WITH_LAM, ids=lambda m: m.__name__)
@given(lam=st.floats(allow_nan=True).filter(lambda x: not 0 <= x <= 1))
def test_lam_outside_its_range_is_refused(method, lam):
    with pytest.raises(ValueError, match=rf"lam of {method.__name__}=.* is outside its range \[0, 1\]"):
        method(lam=lam)


@pytest.mark.parametrize("method", WITH_LAM, ids=lambda m: m.__name__)
@pytest.mark.parametrize("lam", ["automatic", None, True, [0.5], 0.5j])
def test_lam_of_another_type_is_refused(method, lam):
    also = "" if method is kd.LBFGS else r", a kdvr_fast\.Geometric schedule, or 'auto'"  # iterations are no epochs
    with pytest.raises(TypeError, match=f"must be a number{also}, got"):
        method(lam=lam)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: kd.KD(form="shift", temperature=2.0), ValueError, "form='shift' .* no temperature, got 2.0"),
        (lambda: kd.KD(form="other"), ValueError, "form='other' is unknown; choose one of 'standard', 'shift'"),
        (lambda: kd.KD(temperature=0.0), ValueError, r"temperature=0.0 is outside its range \(0, inf\)"),
        (lambda: kd.KD(teacher_alpha=-1.0), ValueError, r"teacher_alpha=-1.0 is outside its range \[0, inf\)"),
        (lambda: kd.RepeatedKD(refresh=0), ValueError, "refresh=0 must be at least 1"),
        (lambda: kd.SVRG(refresh=1.5), TypeError, "refresh must be an integer, got float 1.5"),
        (lambda: kd.SVRG(start=-1), ValueError, "start=-1 must be at least 0"),
        (lambda: kd.LSVRG(probability=0.0), ValueError, r"probability=0.0 is outside its range \(0, 1\]"),
    ],
)
def test_wrong_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
