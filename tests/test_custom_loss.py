"""`Loss.custom`: the checks when it is made, what it does in the reference, and what it is refused for, before work starts."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import OUTPUTS, make_point, make_problem

import kdvr_fast as kd
from kdvr_fast import Loss
from kdvr_fast.losses import LOSSES
from kdvr_fast.theory import auto_learning_rate, smoothness, strong_convexity


def half_square(y, z):
    return (z - y) ** 2 / 2


def difference(y, z):
    return z - y


def poisson(y, z):
    return math.exp(z) - y * z


def poisson_residual(y, z):
    return math.exp(z) - y


def huber(y, z):
    e = abs(z - y)
    return e * e / 2 if e < 1.0 else e - 0.5


def huber_residual(y, z):
    return min(max(z - y, -1.0), 1.0)


def cross_entropy(y, z):
    top = z.max()
    return top + math.log(np.exp(z - top).sum()) - z[y]


def cross_entropy_residual(y, z):
    p = np.exp(z - z.max())
    p /= p.sum()
    p[y] -= 1.0
    return p


def log_loss(y, z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z))) - y * z


def log_residual(y, z):
    return 1 / (1 + math.exp(-z)) - y if z > 0 else math.exp(z) / (1 + math.exp(z)) - y


TWINS = {  # a custom loss for each built-in one
    "squared": Loss.custom(half_square, difference, name="my squared", smoothness=1.0, linear_in_target=True),
    "logistic": Loss.custom(log_loss, log_residual, name="my logistic", targets="unit", smoothness=0.25),
    "softmax": Loss.custom(cross_entropy, cross_entropy_residual, name="my softmax", targets="classes", smoothness=0.5),
}
POISSON = Loss.custom(poisson, poisson_residual, link=math.exp, linear_in_target=True, domain=lambda y: y >= 0)
HUBER = Loss.custom(huber, huber_residual, smoothness=1.0)


def fit(problem, loss, **options):
    defaults = {"epochs": 2, "batch_size": 4, "random_state": 0, "backend": "reference", "learning_rate": 0.05}
    y = problem.y[:, 0] if problem.y.ndim == 2 and problem.n_outputs == 1 else problem.y
    return kd.solve(problem.X, y, loss=loss, **{**defaults, **options})


# -- what it computes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TWINS)
def test_a_twin_of_a_built_in_loss_gives_its_numbers(name, dtype):
    problem, twin = make_problem(name, 40, dtype=dtype), TWINS[name]
    z = problem.X @ make_point(problem)[0].T
    tolerance = 16 * float(np.finfo(dtype).eps) * (1 + float(np.abs(z).max()))
    for got, expected in zip((twin.value, twin.residual), (problem.loss.value, problem.loss.residual), strict=True):
        assert got(problem.y, z).dtype == dtype
        np.testing.assert_allclose(got(problem.y, z), expected(problem.y, z), rtol=0, atol=tolerance)
    for method in (kd.SGD(), kd.SVRG(), kd.SAGA(), kd.LBFGS(precondition="none", max_iter=5)):
        mine, theirs = (fit(problem, loss, method=method, track="objective") for loss in (twin, name))
        np.testing.assert_allclose(mine.coef, theirs.coef, rtol=0, atol=300 * tolerance)
        assert mine.history["objective"][-1] == pytest.approx(theirs.history["objective"][-1], rel=100 * tolerance)
        assert mine.loss is twin and theirs.loss == name


@given(z=st.floats(-30, 30), y=st.floats(-30, 30))
def test_arrays_are_the_function_called_on_each_number(y, z):
    Y, Z = np.array([[y, 0.5], [1.0, y]]), np.array([[z, 2.0], [0.0, z]])
    sums = [huber(y, z) + huber(0.5, 2.0), huber(1.0, 0.0) + huber(y, z)]
    np.testing.assert_allclose(HUBER.value(Y, Z), sums, rtol=4 * np.finfo(float).eps)
    assert HUBER.residual(Y, Z).tolist() == [
        [huber_residual(y, z), huber_residual(0.5, 2.0)],
        [huber_residual(1.0, 0.0), huber_residual(y, z)],
    ]


def test_what_overflows_is_infinite_and_ends_the_run_as_divergence():
    y, z = np.ones((1, 1)), np.full((1, 1), 1e4)
    assert POISSON.value(y, z) == np.inf and POISSON.residual(y, z) == np.inf
    problem = make_problem("squared", k=1)
    problem.y[:] = np.abs(problem.y)
    with pytest.raises(kd.DivergenceError):
        fit(problem, POISSON, learning_rate=1e3, epochs=50)


def test_predictions_follow_the_targets():
    X, W = np.array([[1.0], [-1.0]]), np.array([[0.5]])
    common = {"history": kd.History([], []), "status": kd.Status.COMPLETED, "backend": "reference", "method": kd.SGD()}
    common |= {"epochs": 1, "message": "", "coef": W, "intercept": np.zeros(1)}
    assert kd.Result(loss=POISSON, **common).predict(X).tolist() == [math.exp(0.5), math.exp(-0.5)]
    assert kd.Result(loss=TWINS["logistic"], **common).predict(X).tolist() == [1, 0]
    assert kd.Result(loss=HUBER, **common).predict(X).tolist() == [0.5, -0.5]


@pytest.mark.parametrize("name", TWINS)
def test_statistics_and_teachers_are_those_of_the_twin(name):
    problem = make_problem(name, 30)
    (W, b), (theta, c), y = make_point(problem), make_point(problem, 2), problem.y.squeeze()
    logits = kd.Teacher.logits(problem.X @ theta.T + c)
    for teacher in (kd.Teacher.weights(theta, c), logits):
        mine, theirs = (
            kd.gradient_stats(problem.X, y, W, intercept=b, loss=loss, teacher=teacher, backend="reference")
            for loss in (TWINS[name], name)
        )
        for figure in ("loss", "variance", "rho", "bias_sq", "snr"):
            assert getattr(mine, figure) == pytest.approx(getattr(theirs, figure), rel=1e-10)
        runs = [fit(problem, loss, method=kd.KD(0.5, form="shift"), teacher=teacher) for loss in (TWINS[name], name)]
        np.testing.assert_allclose(runs[0].coef, runs[1].coef, rtol=0, atol=1e-12)


def test_smoothness_is_what_was_promised():
    X = np.random.default_rng(0).normal(size=(20, 3))
    assert smoothness(X, HUBER) == smoothness(X, "squared")
    assert auto_learning_rate(X, HUBER) == auto_learning_rate(X, "squared")
    y = np.random.default_rng(1).normal(size=20)
    assert kd.solve(X, y, loss=HUBER, learning_rate="auto", backend="reference").status is kd.Status.COMPLETED


def test_it_is_pickled_by_its_functions():
    copy = pickle.loads(pickle.dumps(HUBER))
    assert copy == HUBER and copy.functions.value is huber
    assert all(pickle.loads(pickle.dumps(loss)) is loss for loss in LOSSES.values())
    result = pickle.loads(pickle.dumps(fit(make_problem("squared", k=1), HUBER)))
    assert result.loss == HUBER
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(Loss.custom(lambda y, z: 0.0, lambda y, z: 0.0))


# -- what is refused ---------------------------------------------------------------------------------------------------

MADE = [  # arguments, what the message says
    (
        {"value": half_square, "residual": lambda y, z: y - z},
        r"residual at y=-3, z=-3.71 is 0.71, but value has the slope -0.71",
    ),
    ({"value": half_square, "residual": lambda y, z: (z - y) * (1 + (z > 4))}, "z=4.19"),
    ({"value": lambda y, z: math.log(y) * z, "residual": lambda y, z: math.log(y)}, r"raised ValueError at y=-3, z="),
    ({"value": lambda y, z: math.inf, "residual": difference}, "is inf at y="),
    ({"value": lambda y, z: "2", "residual": difference}, "gave .* expected a number"),
    ({"value": half_square, "residual": lambda y, z: [z - y, 0.0]}, "of shape .2,. at y=.* expected a number"),
    ({"value": half_square, "residual": difference, "domain": lambda y: False}, "allows none of the targets"),
    ({"value": half_square, "residual": difference, "smoothness": 0.5}, "smoothness=0.5 is too small: from z="),
    ({"value": half_square, "residual": difference, "smoothness": -1.0}, "smoothness=-1.0 must be a number above 0"),
    ({"value": huber, "residual": huber_residual, "linear_in_target": True}, r"link\(z\) - y is"),
    ({"value": half_square, "residual": difference, "name": "squared"}, "not that of a built-in loss"),
    ({"value": half_square, "residual": difference, "targets": "real numbers"}, "choose one of 'real', 'unit', 'classes'"),
    (
        {
            "value": cross_entropy,
            "residual": lambda y, z: cross_entropy_residual(y, z)[::-1].copy(),
            "targets": "classes",
        },
        "for output 0, but value has the slope",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MADE, ids=[message for _, message in MADE])
def test_functions_that_disagree_are_refused_when_the_loss_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        Loss.custom(**arguments)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"residual of Loss\.custom must be a function, got 3"):
        Loss.custom(half_square, 3)


REFUSED = [  # of a fit with one output: loss, options, what the message says
    (POISSON, {"backend": "native"}, "backend='native' does not do this: it has no loss but the built-in ones; use backend="),
    (HUBER, {"method": kd.KD(0.5), "teacher": "logits"}, r"not linear in its target.*use KD\(..., form='shift'\)"),
    (HUBER, {"method": kd.KD(0.5, temperature=2.0), "teacher": "logits"}, "temperature=2.0 has no meaning for loss='huber'"),
    (HUBER, {"method": kd.UnbiasedKD(), "teacher": "probabilities"}, "pass Teacher.weights or Teacher.logits"),
    (POISSON, {"method": kd.KD(lam="auto"), "teacher": "logits"}, "lam='auto' needs the teacher's loss"),
    (POISSON, {"learning_rate": "auto"}, r"pass Loss.custom\(smoothness=...\)"),
    (HUBER, {"method": kd.LBFGS(precondition="gram")}, "use precondition='none'"),
    (HUBER, {"track": "accuracy"}, "loss='huber' has no classes"),
    (Loss.custom(poisson, poisson_residual, domain=lambda y: y >= 1), {}, "y holds 0.*outside the domain of loss 'poisson'"),
]


@pytest.mark.parametrize(("loss", "options", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_what_a_custom_loss_cannot_do_is_said_before_work_starts(loss, options, message, monkeypatch):
    problem = make_problem("squared", k=1)
    problem.y[:] = np.abs(problem.y) / 10
    teachers = {"logits": kd.Teacher.logits(problem.y), "probabilities": kd.Teacher.probabilities(np.full((23, 1), 0.5))}
    options = options | ({"teacher": teachers[options["teacher"]]} if "teacher" in options else {})
    monkeypatch.setattr("kdvr_fast.backends.reference.ReferenceSession.__init__", lambda *_: pytest.fail("work has started"))
    with pytest.raises(ValueError, match=message):
        fit(problem, loss, **options)


def test_other_refusals():
    problem = make_problem("softmax", dense=True)
    with pytest.raises(ValueError, match=r"loss='my softmax' is custom and takes labels: pass y of shape \(23,\)"):
        fit(problem, TWINS["softmax"])
    with pytest.raises(ValueError, match=r"choose one of .*, or make a Loss.custom"):
        fit(problem, "hinge")
    with pytest.raises(ValueError, match="its second derivatives are not known"):
        strong_convexity(np.eye(3), HUBER, np.zeros((1, 3)))


def test_auto_takes_no_slow_backend_in_silence(monkeypatch):
    from kdvr_fast import backends

    class Missing:
        def unavailable(self):
            return "not here: pip install it"

    monkeypatch.setitem(backends.BACKENDS, "numba", Missing)
    found = "has no loss but the built-in ones; numba: not here: pip install it; cuda: .*; backend='reference' runs everywhere"
    with pytest.raises(RuntimeError, match=found):
        fit(make_problem("squared", k=1), HUBER, backend="auto")


def test_every_loss_has_a_twin():
    assert set(TWINS) == set(LOSSES) == set(OUTPUTS)
