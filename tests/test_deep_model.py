"""Deep linear models as `solve` takes them: initial layers, seeds, history, what is refused and why."""

from __future__ import annotations

import doctest
import importlib
from itertools import pairwise

import numpy as np
import pytest
from deep_problems import TEACHERS, WIDTHS, layers_of
from problems import OUTPUTS, make_problem

import kdvr_fast as kd
from kdvr_fast._layers import Network, product


@pytest.mark.parametrize("hidden", WIDTHS, ids=str)
@pytest.mark.parametrize("init", ["balanced", "orthogonal", "gaussian"])
def test_initial_layers(init, hidden):
    rng = np.random.default_rng(0)
    widths, flat = kd.DeepLinear(widths=hidden, init=init).start(7, 4, np.dtype(float), rng)
    assert widths == (7, *hidden, 4)
    layers = Network(widths).split(flat)
    if init == "balanced":
        for below, above in pairwise(layers):
            np.testing.assert_allclose(above.T @ above, below @ below.T, atol=1e-12)
    if init == "orthogonal":
        for W in layers:
            np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False), 1.0, atol=1e-12)
    assert np.linalg.norm(product(layers)) > 0.1
    again = kd.DeepLinear(widths=hidden, init=init, scale=2.0).start(7, 4, np.dtype(float), np.random.default_rng(0))[1]
    assert np.array_equal(again, 2 * flat)


def test_a_seed_makes_the_same_run_again():
    problem = make_problem("softmax", 40, 6, 3)
    model = kd.DeepLinear(widths=(8,), init="gaussian")
    options = {"loss": "softmax", "model": model, "epochs": 2, "backend": "reference"}
    first = kd.solve(problem.X, problem.y, **options)
    again = kd.solve(problem.X, problem.y, random_state=first.random_state, **options)
    assert all(np.array_equal(a, b) for a, b in zip(first.weights, again.weights, strict=True))
    assert first.weights[0].shape == (8, 6) and first.coef.shape == (3, 6)


def test_history_and_callbacks_see_the_product():
    problem = make_problem("softmax", 40, 6, 3)
    seen = []
    with pytest.warns(kd.ConvergenceWarning):
        result = kd.solve(
            problem.X,
            problem.y,
            loss="softmax",
            model=kd.DeepLinear(widths=(8, 5)),
            method=kd.SVRG(),
            epochs=4,
            alpha=0.01,
            tol=1e-12,
            learning_rate=0.1,
            track=("objective", "accuracy"),
            callbacks=seen.append,
            random_state=0,
            backend="reference",
        )
    np.testing.assert_array_equal(seen[-1].coef, result.coef)
    for layer, last, before in zip(result.weights, seen[-1].weights, seen[-2].weights, strict=True):
        np.testing.assert_array_equal(layer, last)
        assert not np.array_equal(layer, before) and not np.shares_memory(layer, last)
    penalty = 0.005 * sum((W**2).sum() for W in result.weights)
    Z = result.decision_function(problem.X)
    loss = kd.LOSSES["softmax"].value(problem.y, Z).mean()
    assert result.history["objective"][-1] == pytest.approx(loss + penalty, rel=1e-12)
    assert result.history["accuracy"][-1] == pytest.approx((result.predict(problem.X) == problem.y).mean())
    assert np.isfinite(result.history["teacher_cosine"]).all() and np.isnan(result.history["variance"]).all()


REFUSED = [
    ({"method": kd.SAGA()}, "table of every layer"),
    ({"method": kd.LBFGS()}, "convex"),
    ({"method": kd.KD(form="parameter"), "teacher": TEACHERS["linear"]}, "form='parameter' .* 6-9-4-3"),
    ({"method": kd.KD(teacher_alpha=0.1), "teacher": TEACHERS["linear"]}, "teacher_alpha"),
    ({"average": True}, "no average: .* Progress"),
    ({"l1_ratio": 0.5}, "no l1_ratio: .* l1_ratio=0"),
    ({"compress": kd.TopK(0.5)}, "no compress: .* leave it out"),
    ({"coef_init": np.zeros((3, 6))}, r"no coef_init: .* DeepLinear\(weights="),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_deep_models_do_not_take(options, message):
    problem = make_problem("softmax", 40, 6, 3)
    with pytest.raises(ValueError, match=message):
        kd.solve(problem.X, problem.y, loss="softmax", model=kd.DeepLinear(widths=(9, 4)), backend="reference", **options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: kd.DeepLinear(), ValueError, "one of the two"),
        (lambda: kd.DeepLinear(widths=(3,), weights=[np.eye(2)]), ValueError, "one of the two"),
        (lambda: kd.DeepLinear(widths=5), TypeError, "sequence of integers"),
        (lambda: kd.DeepLinear(widths=(3, 0)), ValueError, r"widths\[1\]"),
        (lambda: kd.DeepLinear(widths=(3,), init="zero"), ValueError, "init='zero'"),
        (lambda: kd.DeepLinear(weights=[np.eye(3), np.eye(2)]), ValueError, r"weights\[1\] takes 2 numbers, .* gives 3"),
        (lambda: kd.DeepLinear(weights=np.eye(3)), TypeError, "list of matrices"),
        (lambda: kd.Teacher.layers([np.full((2, 2), np.nan)]), ValueError, "row 0"),
    ],
)
def test_models_that_make_no_sense(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_layers_must_fit_the_data():
    problem = make_problem("softmax", 40, 6, 3)
    for weights, message in (([np.zeros((3, 5))], "5 features"), ([np.zeros((2, 6))], "label 2")):
        with pytest.raises(ValueError, match=message):
            kd.solve(problem.X, problem.y, loss="softmax", model=kd.DeepLinear(weights=weights), backend="reference")
    with pytest.raises(TypeError, match="DeepLinear"):
        kd.solve(problem.X, problem.y, loss="softmax", model=(9, 4), backend="reference")


def test_depth_one_is_the_linear_model(backend):
    problem = make_problem("squared", 40, 6, OUTPUTS["squared"])
    W = layers_of((6, problem.n_outputs))
    options = {"loss": "squared", "epochs": 2, "learning_rate": 0.01, "momentum": 0.5, "alpha": 0.1, "random_state": 3}
    linear = kd.solve(problem.X, problem.y, coef_init=W[0], backend=backend, **options)
    deep = kd.solve(problem.X, problem.y, model=kd.DeepLinear(weights=W), backend=backend, **options)
    np.testing.assert_allclose(deep.coef, linear.coef, rtol=0, atol=1e-13)
    np.testing.assert_allclose(deep.history["loss"], linear.history["loss"], rtol=1e-12)


@pytest.mark.parametrize("module", ["deep", "_layers", "layer_statistics", "_spec", "history"])
def test_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"kdvr_fast.{module}"))
    assert found.attempted > 0 and found.failed == 0
