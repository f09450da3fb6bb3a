"""solve(walk=): momentum and average go on over other rows, as if the walk had not been cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kdvr_fast as kd

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 5)), RNG.integers(0, 3, 40)
TASK: dict[str, Any] = {"loss": "softmax", "learning_rate": 0.1, "batch_size": 4}


@pytest.mark.parametrize("model", [None, kd.DeepLinear(weights=[np.eye(4, 5), RNG.normal(size=(3, 4))])])
@pytest.mark.parametrize(
    "options", [{"momentum": 0.9}, {"average": True}, {"momentum": 0.5, "average": True, "nesterov": True}]
)
def test_two_halves_of_the_rows_are_a_walk_over_all(options: dict[str, Any], model: kd.DeepLinear | None, backend: str) -> None:
    if model is not None and "average" in options:
        pytest.skip("a DeepLinear model takes no average")
    options = {**TASK, **options, "epochs": 1, "model": model, "backend": backend}
    whole = kd.solve(X, Y, order=np.arange(40), **options)
    first = kd.solve(X[:20], Y[:20], order=np.arange(20), **options)
    rest = kd.solve(X[20:], Y[20:], order=np.arange(20), walk=first.walk, **options)
    np.testing.assert_allclose(rest.coef, whole.coef, rtol=1e-12)
    np.testing.assert_allclose(rest.intercept, whole.intercept, rtol=1e-12)
    assert first.walk is not None and np.isfinite(rest.history["loss"]).all()
    if model is None:
        lost = kd.solve(X[20:], Y[20:], order=np.arange(20), coef_init=first.coef, intercept_init=first.intercept, **options)
        assert np.abs(lost.coef - whole.coef).max() > 1e-4


def test_without_momentum_or_average_the_weights_are_all_there_is() -> None:
    assert kd.solve(X, Y, epochs=1, **TASK).walk is None
    assert kd.solve(X, Y, method=kd.LBFGS(), loss="softmax", alpha=0.1).walk is None


def test_a_walk_that_does_not_fit_says_why() -> None:
    walk = kd.solve(X, Y, epochs=1, momentum=0.9, **TASK).walk
    for given, error, message in (
        ({"coef_init": np.zeros((3, 5))}, ValueError, "walk and coef_init are both given"),
        ({"method": kd.LBFGS()}, ValueError, "LBFGS has no momentum to go on with"),
        ({"walk": "there"}, TypeError, "walk must be the `walk` of a Result"),
        ({"walk": walk, "model": kd.DeepLinear(widths=(4,))}, ValueError, "walk holds coef of shape"),
    ):
        with pytest.raises(error, match=message):
            kd.solve(X, Y, **{**TASK, "momentum": 0.9, "walk": walk, **given})
    with pytest.raises(ValueError, match=r"walk holds coef of shape \(3, 5\), float64; this run has \(3, 5\), float32"):
        kd.solve(X.astype(np.float32), Y, momentum=0.9, walk=walk, **TASK)
