"""One epoch of MNIST, 6,000 steps of batch 10 in a given order, replayed: torch autograd, and the reference backend.

Needs the four MNIST IDX files in `mnist/` of the directory KDVR_DATA (default `../shared/data`, beside the checkout).
Tolerances are relative to the trained weights; rounding errors of 6,000 steps stay near eps x sqrt(6000) x a few.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from problems import every_complete_backend, relative

import kdvr_fast as kd
from kdvr_fast.data import load_mnist

MNIST = Path(os.environ.get("KDVR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "mnist"
BATCH, RATE, LAM = 10, 0.05, 0.7
TOLERANCES = {np.float32: 1e-5, np.float64: 1e-10}
METHODS = {"KD": kd.KD(LAM), "UnbiasedKD": kd.UnbiasedKD(LAM), "SVRG": kd.SVRG(), "SAGA": kd.SAGA()}


@pytest.fixture(scope="module", params=TOLERANCES, ids=lambda dtype: dtype.__name__)
def mnist(request):
    """X (60000, 784) in [0, 1], y, the order of one epoch, and a linear teacher: a ridge fit of the one-hot labels."""
    try:
        split = load_mnist(MNIST, request.param)
    except FileNotFoundError as error:
        pytest.skip(f"no MNIST: {error}; set KDVR_DATA")
    X, y = split.X, split.y
    order = np.random.default_rng(1).permutation(len(X)).astype(np.int64)
    head = X[:10_000].astype(np.float64)
    gram, moment = head.T @ head + 100 * np.eye(784), head.T @ (np.eye(10)[y[:10_000]] - 0.1)
    return X, y, order, 5 * np.linalg.solve(gram, moment).T


def solve(backend, mnist, method, rows=None):
    X, y, order, theta = mnist
    return kd.solve(
        X,
        y,
        loss="softmax",
        method=method,
        teacher=kd.Teacher.weights(theta) if isinstance(method, kd.KD | kd.UnbiasedKD) else None,
        learning_rate=RATE,
        batch_size=BATCH,
        epochs=1,
        order=order[:rows],
        backend=backend,
    )


def replay_in_torch(mnist):
    """(1 - lam) CE + lam KL by autograd, plain SGD; weights (10, 785) with the intercept last."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    X, y, order, theta = mnist
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        dtype = torch.float32 if X.dtype == np.float32 else torch.float64
        tX, ty, teacher = torch.from_numpy(X), torch.from_numpy(y), torch.tensor(theta, dtype=dtype)
        W, b = torch.zeros(10, 784, dtype=dtype, requires_grad=True), torch.zeros(10, dtype=dtype, requires_grad=True)
        optimizer = torch.optim.SGD([W, b], lr=RATE)
        for start in range(0, len(order), BATCH):
            rows = torch.from_numpy(order[start : start + BATCH])
            A = tX[rows]
            z, soft = A @ W.T + b, F.softmax(A @ teacher.T, 1)
            loss = (1 - LAM) * F.cross_entropy(z, ty[rows]) + LAM * F.kl_div(F.log_softmax(z, 1), soft, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return np.column_stack([W.detach().numpy(), b.detach().numpy()])
    finally:
        torch.set_num_threads(threads)


@every_complete_backend
def test_torch_autograd(backend, mnist):
    expected = replay_in_torch(mnist)
    result = solve(backend, mnist, kd.KD(LAM))
    assert result.coef.dtype == mnist[0].dtype
    assert relative(np.column_stack([result.coef, result.intercept]), expected) < TOLERANCES[mnist[0].dtype.type]
    # and the epoch did train: far from where it started, and the teacher left its mark
    assert result.history["loss"][0] < 0.7 and np.linalg.norm(expected) > 1
    plain = solve(backend, mnist, kd.SGD())
    assert relative(plain.coef, result.coef) > 1e-2


@every_complete_backend
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_reference_backend(backend, mnist, method):
    expected, got = solve("reference", mnist, method), solve(backend, mnist, method)
    tolerance = TOLERANCES[mnist[0].dtype.type]
    assert relative(got.coef, expected.coef) < tolerance
    assert relative(got.intercept, expected.intercept) < tolerance
    for column in ("loss", "mean_sq_norm", "cross", "teacher_mean_sq_norm", "variance", "grad_evals"):
        np.testing.assert_allclose(got.history[column], expected.history[column], rtol=10 * tolerance, err_msg=column)
