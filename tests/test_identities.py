"""Proposition 1: the gradient of an explicit distillation loss is the corrected gradient that the engine forms.

    f_i(x | theta, lam) = (1 - lam) loss(y_i, z_i) + lam loss(teacher's output_i, z_i)
    grad f_i(x | theta, lam) = grad f_i(x) - lam grad f_i(theta)

The left side is differentiated by finite differences and by torch autograd. Source: arXiv:2305.17581, Proposition 1.
"""

from __future__ import annotations

import numpy as np
import pytest
from problems import LOSS_NAMES, TEMPERATURE, make_point, make_problem

from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Step

LAMS = [0.0, 0.3, 0.7, 1.0]
AUTOGRAD = {np.float64: 1e-12, np.float32: 64 * np.finfo(np.float32).eps}  # a few dozen roundings a row, relative


def stacked(W, b):
    return np.column_stack([W, b]).astype(np.float64)


def rows_with_intercept(problem):
    X = problem.X.astype(np.float64)
    return np.hstack([X, np.full((len(X), 1), float(problem.fit_intercept))])


def targets(problem):
    return np.eye(problem.n_outputs)[problem.y] if problem.y.ndim == 1 else problem.y.astype(np.float64)


def engine_gradient(backend, problem, lam, temperature=None):
    """grad f(x) - lam grad f(theta) from one evaluate: (k, d + 1), and the scale that its rounding errors have."""
    session = get_backend(backend).open(problem)
    session.anchor_at(*make_point(problem, 2), cached=False, mean=False)
    read = session.evaluate(*make_point(problem), ControlVariate(lam, "weights", temperature=temperature))
    g, h = stacked(read.grad, read.grad_intercept), stacked(read.anchor_grad, read.anchor_grad_intercept)
    return g - lam * h, np.linalg.norm(g) + lam * np.linalg.norm(h)


def step_gradient(backend, problem, lam, source):
    """The gradient that a step with learning rate one on the full batch really took."""
    session = get_backend(backend).open(problem)
    session.set_weights(*make_point(problem))
    if source == "weights":
        session.anchor_at(*make_point(problem, 2), cached=False, mean=False)
    else:
        session.anchor_table(problem.loss.residual(problem.y, teacher_logits(problem)), mean=False)
    before = stacked(*session.weights())
    n = len(problem.X)
    session.epoch(np.arange(n), np.array([1.0]), Step(batch_size=n, statistics=False), ControlVariate(lam, source))
    return before - stacked(*session.weights())


def teacher_logits(problem):
    W, b = make_point(problem, 2)
    return problem.X @ W.T + b


def log_loss(loss, y, z):
    """The plain losses, written out once more in float64; y (n, k), z (n, k)."""
    if loss == "squared":
        return 0.5 * ((z - y) ** 2).sum(1)
    if loss == "logistic":
        return -(y * np.log(1 / (1 + np.exp(-z))) + (1 - y) * np.log(1 / (1 + np.exp(z)))).sum(1)
    return -(y * (z - np.log(np.exp(z).sum(1, keepdims=True)))).sum(1)


def explicit_loss(problem, V, lam):
    A = rows_with_intercept(problem)
    s = np.ones(len(A)) if problem.weights is None else problem.weights
    z, output = A @ V.T, problem.loss.link(A @ stacked(*make_point(problem, 2)).T)
    values = (1 - lam) * log_loss(problem.loss.name, targets(problem), z) + lam * log_loss(problem.loss.name, output, z)
    return float((s * values).mean())


@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_finite_differences(backend, loss, lam):
    problem = make_problem(loss, weighted=True, dense=lam == 0.3)
    V, h = stacked(*make_point(problem)), np.finfo(float).eps ** (1 / 3)  # balances truncation h^2 and rounding eps / h
    slopes = np.zeros_like(V)
    for index in np.ndindex(V.shape):
        e = np.zeros_like(V)
        e[index] = h
        slopes[index] = (explicit_loss(problem, V + e, lam) - explicit_loss(problem, V - e, lam)) / (2 * h)
    g, scale = engine_gradient(backend, problem, lam)
    assert np.abs(slopes - g).max() < 30 * h**2 * (1 + scale)


def autograd(problem, lam, distillation):
    """Gradient (k, d + 1) of the explicit loss by torch in float64; distillation(teacher z, z) -> (n,) losses."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    A, y = torch.tensor(rows_with_intercept(problem)), torch.tensor(targets(problem))
    s = torch.ones(len(A)) if problem.weights is None else torch.tensor(problem.weights.astype(np.float64))
    V = torch.tensor(stacked(*make_point(problem)), requires_grad=True)
    z, teacher = A @ V.T, A @ torch.tensor(stacked(*make_point(problem, 2))).T
    if problem.loss.name == "squared":
        plain = 0.5 * ((z - y) ** 2).sum(1)
    elif problem.loss.name == "logistic":
        plain = F.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1)
    else:
        plain = F.cross_entropy(z, y, reduction="none")
    (s * ((1 - lam) * plain + lam * distillation(F, teacher, z))).mean().backward()
    g = V.grad.numpy()
    g[:, -1] *= float(problem.fit_intercept)
    return g


def soft_target_loss(loss):
    def distillation(F, teacher, z):
        if loss == "squared":
            return 0.5 * ((z - teacher) ** 2).sum(1)
        if loss == "logistic":
            return F.binary_cross_entropy_with_logits(z, teacher.sigmoid(), reduction="none").sum(1)
        return F.cross_entropy(z, teacher.softmax(1), reduction="none")

    return distillation


def tempered_kl(loss, T):
    """T^2 KL(teacher at T || student at T), for two classes through logits (0, z)."""

    def distillation(F, teacher, z):
        if loss == "logistic":
            teacher, z = F.pad(teacher, (1, 0)), F.pad(z, (1, 0))
        log_p, log_q = (teacher / T).log_softmax(1), (z / T).log_softmax(1)
        return T**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)

    return distillation


@pytest.mark.parametrize("dtype", AUTOGRAD)
@pytest.mark.parametrize("lam", LAMS)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_autograd(backend, loss, lam, dtype):
    for options in ({}, {"weighted": True, "dense": True}, {"fit_intercept": False, "n": 1, "d": 40}):
        problem = make_problem(loss, dtype=dtype, **options)
        g = autograd(problem, lam, soft_target_loss(loss))
        got, scale = engine_gradient(backend, problem, lam)
        assert np.linalg.norm(got - g) < AUTOGRAD[dtype] * scale


@pytest.mark.parametrize("source", ["weights", "table"])
@pytest.mark.parametrize("dtype", AUTOGRAD)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_one_step(backend, loss, dtype, source):
    problem = make_problem(loss, dtype=dtype, weighted=True)
    for lam in LAMS:
        g = autograd(problem, lam, soft_target_loss(loss))
        W0 = np.linalg.norm(stacked(*make_point(problem)))  # W0 - W1 is rounded at the size of W0
        scale = engine_gradient(backend, problem, lam)[1] + W0
        assert np.linalg.norm(step_gradient(backend, problem, lam, source) - g) < AUTOGRAD[dtype] * scale


@pytest.mark.parametrize("dtype", AUTOGRAD)
@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_temperature_is_the_gradient_of_T2_KL(backend, loss, dtype):
    for T in (1.0, TEMPERATURE, 20.0):
        problem = make_problem(loss, dtype=dtype, weighted=True)
        g = autograd(problem, 0.7, tempered_kl(loss, T))
        got, scale = engine_gradient(backend, problem, 0.7, temperature=T)
        # T (link(z/T) - t) cancels numbers of size T: rounding errors grow with it
        assert np.linalg.norm(got - g) < AUTOGRAD[dtype] * T * scale


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_temperature_one_is_the_subtraction(backend, loss):
    problem = make_problem(loss)
    tempered, scale = engine_gradient(backend, problem, 0.7, temperature=1.0)
    assert np.linalg.norm(tempered - engine_gradient(backend, problem, 0.7)[0]) < AUTOGRAD[np.float64] * scale
