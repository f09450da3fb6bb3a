"""Synthetic problems: the law of the rows and targets, the optimum, teachers of a chosen quality, bad input."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest

import kdvr_fast as kd
from kdvr_fast import synthetic
from kdvr_fast.losses import LOSSES

MAKERS = {
    "squared": synthetic.least_squares,
    "logistic": synthetic.logistic,
    "softmax": lambda *shape, **options: synthetic.softmax(*shape, n_classes=3, **options),
}
SIGMAS = 5  # of sampling error that a statistic may be off


@pytest.mark.parametrize("density", [1.0, 0.2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_have_the_spectrum_and_the_density(density, dtype):
    n, spectrum = 20_000, np.array([4.0, 1.0, 0.25, 0.0])
    p = synthetic.least_squares(n, 4, spectrum=spectrum, density=density, random_state=0, dtype=dtype)
    assert p.X.dtype == dtype and p.X.shape == (n, 4)
    if density < 1:
        stored = p.X.nnz / (4 * n)
        assert abs(stored - density) < SIGMAS * np.sqrt(density / (4 * n))
    X = p.X.astype(np.float64) if density == 1 else p.X.toarray().astype(np.float64)
    fourth = 3 / density  # of a feature of variance one: a Gaussian of variance 1/density, there with that probability
    assert np.all(abs((X * X).mean(0) - spectrum) <= SIGMAS * spectrum * np.sqrt((fourth - 1) / n))
    assert np.all(abs(X.mean(0)) <= SIGMAS * np.sqrt(spectrum / n))


def test_the_condition_is_that_of_the_spectrum():
    p = synthetic.least_squares(50_000, 5, condition=100.0, random_state=0)
    eigenvalues = np.linalg.eigvalsh(p.X.T @ p.X / len(p.X))
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(100, rel=0.1)
    assert eigenvalues[-1] == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_the_least_squares_optimum_has_no_gradient(density, fit_intercept, k):
    p = synthetic.least_squares(
        500, 8, condition=1e4, density=density, n_outputs=k, fit_intercept=fit_intercept, random_state=1
    )
    W, b = p.optimum
    assert W.shape == (k, 8) and b.shape == (k,)
    assert fit_intercept or not b.any()
    s = kd.gradient_stats(p.X, p.y, W, intercept=b, loss=p.loss, fit_intercept=fit_intercept, backend="reference")
    assert np.linalg.norm(s.grad) + np.linalg.norm(s.grad_intercept) < 1e-13 * np.sqrt(s.mean_sq_norm)


def test_noise_and_signal_are_standard_deviations():
    n = 20_000
    p = synthetic.least_squares(n, 6, condition=10, signal=3.0, noise=0.5, random_state=2)
    z = p.X @ p.coef[0]
    assert np.std(z) == pytest.approx(3.0, rel=SIGMAS / np.sqrt(2 * n))
    assert np.std(p.y - z) == pytest.approx(0.5, rel=SIGMAS / np.sqrt(2 * n))


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_the_generating_model_is_the_population_optimum(loss):
    """Its mean gradient over the rows is noise alone; at half the weights it is not."""
    p = MAKERS[loss](50_000, 6, signal=1.5, fit_intercept=True, random_state=3)
    for scale, fits in ((1.0, True), (0.5, False)):
        s = kd.gradient_stats(p.X, p.y, scale * p.coef, intercept=scale * p.intercept, loss=loss, backend="reference")
        norm = np.linalg.norm(np.column_stack([s.grad, s.grad_intercept]))
        assert (norm < 2 * np.sqrt(s.variance / s.n)) == fits


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_label_noise_is_the_share_of_rows_drawn_uniformly(loss):
    n, share, signal = 40_000, 0.4, 1e4  # at such logits a label is the largest one but for the noise
    p = MAKERS[loss](n, 6, signal=signal, label_noise=share, random_state=4)
    z = p.X @ p.coef.T
    k = 3 if loss == "softmax" else 2
    clean = z.argmax(1) if loss == "softmax" else (z[:, 0] > 0)
    wrong = np.mean(p.y != clean)
    assert abs(wrong - share * (k - 1) / k) < 1e-3 + SIGMAS * np.sqrt(0.25 / n)


@pytest.mark.parametrize("loss", list(MAKERS))
def test_the_same_seed_gives_the_same_problem(loss):
    first, again, other = (MAKERS[loss](30, 4, random_state=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.X, again.X) and np.array_equal(first.y, again.y)
    assert not np.array_equal(first.X, other.X)


@pytest.mark.parametrize("loss", list(MAKERS))
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_a_teacher_has_the_quality_asked_for(loss, fit_intercept):
    p = MAKERS[loss](400, 5, fit_intercept=fit_intercept, random_state=5)
    W, b = p.best

    def stats(teacher):
        return kd.gradient_stats(
            p.X, p.y, W, intercept=b, loss=loss, teacher=teacher, fit_intercept=fit_intercept, backend="reference"
        )

    near = synthetic.teacher(p, distance=0.3, random_state=6)
    moved = np.sqrt(((near.source - W) ** 2).sum() + ((near.intercept - b) ** 2).sum())
    assert moved == pytest.approx(0.3 * np.sqrt((W**2).sum() + (b**2).sum()), rel=1e-12)
    assert stats(synthetic.teacher(p, correlation=0.8, random_state=6)).rho_centered == pytest.approx(0.8, abs=2e-6)
    assert stats(synthetic.teacher(p, snr=0.05, random_state=6)).snr == pytest.approx(0.05, abs=2e-6)


def test_bad_input_is_told_apart():
    p = synthetic.least_squares(50, 3, random_state=0)
    for options, message in (
        ({}, "got none"),
        ({"snr": 0.1, "distance": 1.0}, "got distance, snr"),
        ({"snr": 0.999}, "out of reach"),
        ({"correlation": 1.5}, "outside its range"),
    ):
        with pytest.raises(ValueError, match=message):
            synthetic.teacher(p, random_state=0, **options)
    for options, message in (
        ({"condition": 0.5}, "condition"),
        ({"condition": 2, "spectrum": [1, 1, 1]}, "both given"),
        ({"spectrum": [1, 1]}, r"expected \(3,\)"),
        ({"spectrum": [1, -1, 1]}, "not negative"),
        ({"density": 0.0}, "density"),
        ({"signal": 0.0}, "signal"),
        ({"noise": -1.0}, "noise"),
    ):
        with pytest.raises(ValueError, match=message):
            synthetic.least_squares(50, 3, random_state=0, **options)
    with pytest.raises(TypeError, match="float32 or"):
        synthetic.least_squares(50, 3, dtype=np.float16)
    with pytest.raises(ValueError, match="label_noise"):
        synthetic.logistic(50, 3, label_noise=1.5)


def test_wide_sparse_rows_have_no_closed_form_optimum():
    p = synthetic.least_squares(20, 3000, density=0.01, random_state=0)
    assert p.optimum is None and p.best[0] is p.coef
    assert LOSSES[p.loss].name == "squared"


@pytest.mark.parametrize("module", ["problems", "teachers"])
def test_examples_in_docstrings(module):
    assert doctest.testmod(importlib.import_module(f"kdvr_fast.synthetic.{module}")).failed == 0
