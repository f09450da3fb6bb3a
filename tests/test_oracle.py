"""Long i.i.d. runs on least squares settle at the exact stationary error, for every weight, biased and unbiased, two teachers.

|x_t - x*|^2 is sampled after every epoch of 50 steps, which is longer than its correlation time 1 / (2 gamma mu) ~ 16 steps;
3,000 samples of a relative spread of at most 0.52 then give a standard error of one percent, a fifth of the tolerance. Seeds
are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from problems import every_complete_backend

import kdvr_fast as kd
from kdvr_fast.theory import LeastSquaresOracle

N, D, GAMMA, EPOCHS, STEPS, BURN_IN = 200, 10, 0.05, 3000, 50, 20


def make_case(teacher):
    """Rows, targets with noise, and a teacher near the optimum or far from it."""
    rng = np.random.default_rng(11)
    A = rng.normal(size=(N, D))
    b = A @ rng.normal(size=D) + rng.normal(size=N)
    x_star = np.linalg.lstsq(A, b, rcond=None)[0]
    return A, b, x_star, x_star + {"near": 0.05, "far": 0.5}[teacher] * rng.normal(size=D)


def run(backend, A, b, theta, method, start, order, callback=(), learning_rate=GAMMA):
    return kd.solve(
        A,
        b,
        loss="squared",
        method=method,
        teacher=kd.Teacher.weights(theta) if isinstance(method, kd.KD | kd.UnbiasedKD) else None,
        learning_rate=learning_rate,
        batch_size=1,
        epochs=len(order),
        fit_intercept=False,
        order=order,
        coef_init=start[None],
        statistics=False,
        callbacks=callback,
        backend=backend,
    )


@every_complete_backend
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("teacher", ["near", "far"])
def test_time_average_is_the_trace_of_the_second_moment(backend, teacher, lam, unbiased):
    A, b, x_star, theta = make_case(teacher)
    oracle = LeastSquaresOracle.solve(A, b, lam=lam, learning_rate=GAMMA, theta=theta, unbiased=unbiased)
    errors, offsets = [], []

    def sample(progress):
        if progress.epoch > BURN_IN:
            offsets.append(progress.coef[0] - x_star)
            errors.append(offsets[-1] @ offsets[-1])

    order = np.random.default_rng(12).integers(0, N, (BURN_IN + EPOCHS, STEPS))
    method = kd.UnbiasedKD(lam) if unbiased else kd.KD(lam)
    run(backend, A, b, theta, method, x_star + oracle.mean_offset, order, sample)
    assert len(errors) == EPOCHS
    assert np.mean(errors) == pytest.approx(oracle.error, rel=0.05)
    # the mean offset as well, to five standard errors of each coordinate
    variance = np.diag(oracle.second_moment) - oracle.mean_offset**2  # zero for lam = 1, biased: x_t tends to theta itself
    spread = np.sqrt(np.maximum(variance, 0) / EPOCHS)
    assert np.all(np.abs(np.mean(offsets, axis=0) - oracle.mean_offset) < 5 * spread + 1e-12)


@every_complete_backend
@pytest.mark.parametrize("method", [kd.UnbiasedKD(1.0), kd.SVRG(refresh=2), kd.SAGA()], ids=lambda m: type(m).__name__)
def test_perfect_anchors_reach_the_optimum(backend, method):
    """Unbiased distillation from x* itself has S = 0 and converges linearly; SVRG and SAGA find such an anchor on their own."""
    A, b, x_star, _ = make_case("near")
    order = np.random.default_rng(12).integers(0, N, (60, 5 * N))
    result = run(backend, A, b, x_star, method, np.zeros(D), order, learning_rate=0.02)  # gamma L_max = 0.5
    assert np.linalg.norm(result.coef[0] - x_star) < 1e-12 * np.linalg.norm(x_star)


@every_complete_backend
def test_the_teacher_moves_the_noise_as_the_oracle_says(backend):
    """The ordering itself, on one case: unbiased near teacher below SGD, biased far teacher at lam = 1 above it."""
    A, b, _, near = make_case("near")
    far = make_case("far")[3]
    sgd = LeastSquaresOracle.solve(A, b, lam=0, learning_rate=GAMMA, theta=near).error
    good = LeastSquaresOracle.solve(A, b, lam=1, learning_rate=GAMMA, theta=near, unbiased=True).error
    bad = LeastSquaresOracle.solve(A, b, lam=1, learning_rate=GAMMA, theta=far).error
    assert good < 0.1 * sgd < sgd < bad
