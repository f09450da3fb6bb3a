"""lam="auto": the formulas on given sums, and what they lead to with teachers of every kind."""

import numpy as np
import pytest

import kdvr_fast as kd
from kdvr_fast._measuring import table_loss
from kdvr_fast._problem import make_problem
from kdvr_fast._weight import Anchor, Conditions, Weight
from kdvr_fast.backends.base import Sums

FLOOR = {"loss": "squared", "batch_size": 1, "learning_rate": 0.05, "epochs": 12, "random_state": 0, "fit_intercept": False}


def least_squares(n=1500, d=15):
    rng = np.random.default_rng(1)
    A = rng.standard_normal((n, d)) * np.logspace(0, -0.5, d)
    x = rng.standard_normal(d)
    b = A @ x + 0.5 * rng.standard_normal(n)
    return A, b, np.linalg.lstsq(A, b, rcond=None)[0]


def excess(A, b, run):
    """Suboptimality over the last third of the epochs, mean."""
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    return run.history["objective"][-4:].mean() - float(np.mean((A @ x - b) ** 2) / 2)


def weight(method, quadratic=True, epochs=10):
    return Weight(method.plan(), momentum=0.5, quadratic=quadratic, epochs=epochs)


def sums(loss=2.0):
    """100 rows: Var(x) = 3, C = 2, V = 4."""
    return Sums(rows=100, loss=100 * loss, xx=400, xt=300, tt=500, pairs=50, pair_xx=50, pair_xt=50, pair_tt=50)


def test_the_weight_of_a_centred_anchor_is_the_regression_coefficient():
    w = weight(kd.UnbiasedKD(lam="auto"))
    assert w.value(0) == 0.0 and w.looks(100) == [100]  # nothing is known of an anchor yet
    w.anchored(Anchor(mean_sq=1.0))
    assert w.looks(100) == [6, 12, 25, 50, 100]
    w.observe(sums(), 0.0, Conditions(n=1000, factor=0.1, rate=0.2, penalty=0.0))
    assert w.value(1) == 2 / 4
    assert w.looks(100) == [100]


@pytest.mark.parametrize("quadratic", [True, False])
def test_the_weight_of_a_biased_anchor_minimises_floor_and_bias(quadratic):
    w = weight(kd.KD(lam="auto"), quadratic)
    level, factor, rate, penalty = 1.9, 0.1, 0.8, 0.01
    w.anchored(Anchor(mean_sq=1.0, loss=level, penalty=0.0))
    for _ in range(2):
        w.observe(sums(), 0.0, Conditions(1000, factor, rate, penalty))
    gamma = rate / (1 - 0.5)
    optimum = 2.0 + penalty - gamma / 4 * factor * 3  # of the two epochs alike, so that nothing more is to come
    D = level - optimum
    assert D > 0

    def f(lam):
        return (lam**2 if quadratic else lam) * D + gamma / 4 * factor * (3 - 2 * lam * 2 + lam**2 * 4)

    grid = np.linspace(0, 1, 100_001)
    assert w.value(2) == pytest.approx(grid[np.argmin(f(grid))], abs=2e-5)
    assert 0.01 < w.value(2) < 0.9


def test_as_long_as_the_loss_falls_a_biased_teacher_waits():
    conditions = Conditions(1000, 0.1, 0.8, 0.0)
    falling, standing = weight(kd.KD(lam="auto"), False), weight(kd.KD(lam="auto"), False)
    for w, losses in ((falling, (3.0, 2.5)), (standing, (2.5, 2.5))):
        w.anchored(Anchor(mean_sq=1.0, loss=2.38, penalty=0.0))
        for loss in losses:
            w.observe(sums(loss), 0.0, conditions)
    assert falling.value(2) == 0.0 < standing.value(2)


@pytest.mark.parametrize("method", [kd.KD, kd.UnbiasedKD])
def test_a_good_teacher_is_followed(method, backend):
    A, b, x = least_squares()
    track = {**FLOOR, "track": "objective", "backend": backend}
    alone = kd.solve(A, b, **track)
    taught = kd.solve(A, b, method=method(lam="auto"), teacher=kd.Teacher.weights(x[None]), **track)
    assert excess(A, b, taught) < 0.3 * excess(A, b, alone)
    lam = taught.history["lam"]
    assert lam[-1] > 0.6 and (lam >= 0).all() and (lam <= 1).all()
    assert taught.history["variance"][-1] < 0.5 * taught.history["sgd_variance"][-1]


@pytest.mark.parametrize("method", [kd.KD, kd.UnbiasedKD])
@pytest.mark.parametrize("kind", ["random", "adversarial", "table"])
def test_a_useless_teacher_does_no_harm(method, kind):
    A, b, x = least_squares()
    rng = np.random.default_rng(3)
    teacher = {
        "random": kd.Teacher.weights(rng.standard_normal((1, len(x)))),
        "adversarial": kd.Teacher.weights(-x[None]),
        "table": kd.Teacher.logits(5 * rng.standard_normal(len(b))),
    }[kind]
    alone = kd.solve(A, b, track="objective", **FLOOR)
    taught = kd.solve(A, b, method=method(lam="auto"), teacher=teacher, track="objective", **FLOOR)
    assert taught.history["objective"][-4:].mean() < 1.02 * alone.history["objective"][-4:].mean()


@pytest.mark.parametrize("alpha", [0.0, 1e-6])
def test_a_penalty_that_is_the_teachers_alone_does_no_harm(alpha):
    """The optimum as a teacher, but its L2 term is not the student's: taken along, it would lead far away."""
    A, b, x = least_squares()
    options = {**FLOOR, "alpha": alpha, "track": "objective"}
    method = kd.KD(lam="auto", teacher_alpha=1.0)
    taught, alone = kd.solve(A, b, method=method, teacher=kd.Teacher.weights(x[None]), **options), kd.solve(A, b, **options)
    assert excess(A, b, taught) < 1.02 * excess(A, b, alone)


@pytest.mark.parametrize("method", [kd.RepeatedKD, kd.SVRG, kd.LSVRG])
def test_snapshots_have_a_weight_of_their_own(method):
    A, b, _ = least_squares()
    alone = kd.solve(A, b, track="objective", **FLOOR)
    run = kd.solve(A, b, method=method(lam="auto"), track="objective", **FLOOR)
    assert excess(A, b, run) < 0.8 * excess(A, b, alone)
    assert run.history["lam"][-1] > 0.3
    passes = run.history["grad_evals"][-1] - FLOOR["epochs"]
    assert passes == (FLOOR["epochs"] - 1 if method is kd.RepeatedKD else pytest.approx(FLOOR["epochs"], rel=0.6))


def test_the_rate_may_be_automatic_as_well_and_backends_agree(backend):
    A, b, x = least_squares(400, 6)
    theta = kd.Teacher.weights(x[None] + 0.05)
    options = {**FLOOR, "learning_rate": "auto", "epochs": 5, "method": kd.UnbiasedKD(lam="auto"), "teacher": theta}
    one, other = (kd.solve(A, b, backend=name, **options) for name in (backend, "reference"))
    np.testing.assert_allclose(one.history["lam"], other.history["lam"], rtol=1e-9)
    np.testing.assert_allclose(one.history["variance"], other.history["variance"], rtol=1e-9)


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_stored_outputs_is_that_of_the_weights_they_come_from(loss, weighted):
    rng = np.random.default_rng(2)
    X, W, k = rng.standard_normal((40, 5)), None, 3 if loss == "softmax" else 1
    W = rng.standard_normal((k, 5))
    y = rng.integers(0, max(k, 2), 40)
    s = rng.uniform(0.5, 2, 40) if weighted else None
    problem = make_problem(X, y, loss, coef=("coef", W), teacher=None, sample_weight=s, fit_intercept=False, scan=True)
    table = kd.Teacher.logits(X @ W.T).table(problem.X, problem.y, problem.loss, k)
    expected = kd.gradient_stats(X, y, W, loss=loss, sample_weight=s, fit_intercept=False).loss
    assert table_loss(problem, table) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, y, t: kd.KD(lam="auto", temperature=2.0), r"lam='auto' weighs a difference of two gradients"),
        (lambda X, y, t: kd.KD(lam="automatic"), r"lam of KD must be a number, .* or 'auto', got str 'automatic'"),
        (lambda X, y, t: kd.LBFGS(lam="auto"), r"lam of LBFGS must be a number"),
        (
            lambda X, y, t: kd.solve(X, y, loss="squared", method=kd.KD(lam="auto"), teacher=t, statistics=False),
            r"statistics=True",
        ),
    ],
)
def test_what_cannot_be_automatic_is_said_at_once(make, message):
    A, b, x = least_squares(20, 3)
    with pytest.raises((TypeError, ValueError), match=message):
        make(A, b, kd.Teacher.weights(x[None]))
