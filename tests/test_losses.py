"""The loss registry: known values, derivatives by finite differences, extreme logits, labels against one-hot rows, dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from problems import LOSS_NAMES, OUTPUTS, make_targets

from kdvr_fast.losses import LOSSES

KNOWN = [  # loss, y, z, value, residual: by hand
    ("squared", [[1.0, -1.0]], [[3.0, 0.0]], 2.5, [[2.0, 1.0]]),
    ("logistic", [[0.0]], [[0.0]], np.log(2), [[0.5]]),
    ("logistic", [[1.0]], [[np.log(3)]], np.log(4 / 3), [[-0.25]]),
    ("logistic", [[0.25]], [[-np.log(3)]], np.log(4 / 3) + 0.25 * np.log(3), [[0.0]]),
    ("softmax", [1], [[0.0, np.log(2), 0.0]], np.log(2), [[0.25, -0.5, 0.25]]),
    ("softmax", [[0.5, 0.5]], [[0.0, np.log(3)]], np.log(4) - np.log(3) / 2, [[-0.25, 0.25]]),
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("name", "y", "z", "value", "residual"), KNOWN)
def test_known_values(name, y, z, value, residual):
    loss = LOSSES[name]
    y, z = np.array(y), np.array(z)
    tolerance = 4 * np.finfo(float).eps  # a few roundings of numbers of order one
    np.testing.assert_allclose(loss.value(y, z), [value], rtol=0, atol=tolerance)
    np.testing.assert_allclose(loss.residual(y, z), residual, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_residual_is_the_derivative_of_value(name, dense, rng):
    loss, k = LOSSES[name], OUTPUTS[name]
    z = 3 * rng.normal(size=(50, k))
    y = make_targets(name, 50, k, rng, np.float64, dense)
    h = np.finfo(float).eps ** (1 / 3)  # balances truncation h^2 against rounding eps / h
    for c in range(k):
        e = h * np.eye(k)[c]
        slope = (loss.value(y, z + e) - loss.value(y, z - e)) / (2 * h)
        scale = 1 + np.abs(loss.value(y, z))
        assert np.all(np.abs(slope - loss.residual(y, z)[:, c]) < 10 * h**2 * scale)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_smoothness_bounds_the_residuals_slope_and_is_attained(name, rng):
    """|r(z + v) - r(z)| <= smoothness |v|, with equality in the worst direction at the worst z (to first order)."""
    loss, k = LOSSES[name], OUTPUTS[name]
    z, v = 3 * rng.normal(size=(500, k)), rng.normal(size=(500, k))
    y = make_targets(name, 500, k, rng, np.float64, True)
    change = np.linalg.norm(loss.residual(y, z + v) - loss.residual(y, z), axis=1)
    assert np.all(change <= loss.smoothness * np.linalg.norm(v, axis=1) * (1 + 1e-12))
    worst = np.array([[0.0, 0.0, -40.0, -40.0][:k]])
    step = 1e-4 * np.array([[1.0, -1.0, 0.0, 0.0][:k]])
    y0 = np.full((1, k), 1 / k)
    reached = np.linalg.norm(loss.residual(y0, worst + step) - loss.residual(y0, worst)) / np.linalg.norm(step)
    assert reached == pytest.approx(loss.smoothness, rel=1e-6)  # curvature varies by step^2 ~ 1e-8 around the worst z


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_residual_is_link_minus_target(name, rng):
    loss, k = LOSSES[name], OUTPUTS[name]
    assert loss.linear_in_target
    z = rng.normal(size=(20, k))
    y = make_targets(name, 20, k, rng, np.float64, True)
    np.testing.assert_allclose(
        loss.residual(y, z), loss.link(z) - y, rtol=0, atol=4 * np.finfo(float).eps * (1 + np.abs(z).max())
    )


def test_labels_equal_one_hot_rows(rng):
    loss, z, labels = LOSSES["softmax"], 5 * rng.normal(size=(40, 6)), rng.integers(0, 6, 40)
    rows = np.eye(6)[labels]
    tolerance = 8 * np.finfo(float).eps * np.abs(z).max()
    np.testing.assert_allclose(loss.value(labels, z), loss.value(rows, z), rtol=0, atol=tolerance)
    np.testing.assert_allclose(loss.residual(labels, z), loss.residual(rows, z), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_extreme_logits(name, dtype):
    """At |z| = 1e4 the loss is the margin, the residual 0 or +-1, and nothing overflows."""
    loss = LOSSES[name]
    if name == "logistic":
        z, y = np.array([[1e4], [-1e4], [1e4], [-1e4]], dtype), np.array([[1], [0], [0], [1]], dtype)
        value, residual = [0, 0, 1e4, 1e4], [[0], [0], [1], [-1]]
    else:
        z, y = np.array([[1e4, -1e4], [1e4, -1e4], [1e4, 1e4]], dtype), np.array([0, 1, 0])
        value, residual = [0, 2e4, np.log(2)], [[0, 0], [1, -1], [-0.5, 0.5]]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got_value, got_residual = loss.value(y, z), loss.residual(y, z)
    np.testing.assert_allclose(got_value, value, rtol=0, atol=np.finfo(dtype).eps * 2e4)  # roundings at the size of z
    np.testing.assert_array_equal(got_residual, np.array(residual, dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LOSS_NAMES)
def test_dtype_is_kept_and_arguments_untouched(name, dtype, rng):
    loss, k = LOSSES[name], OUTPUTS[name]
    z = rng.normal(size=(5, k)).astype(dtype)
    targets = [make_targets(name, 5, k, rng, dtype, True), make_targets(name, 5, k, rng, dtype, False)]
    z.flags.writeable = False
    for y in targets:
        y.flags.writeable = False
        assert loss.value(y, z).dtype == loss.residual(y, z).dtype == loss.link(z).dtype == dtype
        assert loss.value(y, z).shape == (5,)
        assert loss.residual(y, z).shape == loss.link(z).shape == (5, k)
