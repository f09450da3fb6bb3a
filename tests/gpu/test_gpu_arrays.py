"""Arrays that other libraries hold on a GPU, and CuPy's streams."""

from __future__ import annotations

import numpy as np
import pytest
from problems import make_problem

import kdvr_fast as kd

OPTIONS = {"loss": "softmax", "alpha": 0.01, "epochs": 2, "random_state": 0, "backend": "cuda"}


@pytest.fixture
def data():
    problem = make_problem("softmax", 400, 30, 4, dtype=np.float32)
    return problem.X, problem.y


def on_the_host(X, y):
    return kd.solve(X, y, **{**OPTIONS, "backend": "reference"})


def test_torch_tensors(data):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    X, y = (torch.from_numpy(v).cuda() for v in data)
    run = kd.solve(X, y, **OPTIONS)
    assert run.coef.device.id == X.device.index
    np.testing.assert_allclose(run.coef.get(), on_the_host(*data).coef, atol=1e-5)


def test_jax_arrays(data):
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("jax has no CUDA here")
    X, y = (jax.numpy.asarray(v) for v in data)
    np.testing.assert_allclose(kd.solve(X, y, **OPTIONS).coef.get(), on_the_host(*data).coef, atol=1e-5)


def test_rows_with_gaps_and_a_stream_of_the_users(data):
    import cupy

    X, y = data
    with cupy.cuda.Stream(non_blocking=True):
        wide = cupy.asarray(np.hstack([X, X]))[:, : X.shape[1]]
        run = kd.solve(wide, cupy.asarray(y), **OPTIONS)
        predicted = run.predict(wide)
    assert isinstance(run.coef, cupy.ndarray) and isinstance(predicted, cupy.ndarray)
    np.testing.assert_allclose(run.coef.get(), on_the_host(X, y).coef, atol=1e-5)


def test_rows_are_not_copied(data):
    import cupy

    X, y = cupy.zeros((1 << 16, 256), cupy.float32), cupy.zeros(1 << 16, cupy.int64)
    before = cupy.get_default_memory_pool().used_bytes()
    kd.gradient_stats(X, y, np.zeros((4, 256)), loss="softmax", backend="cuda")
    pool = cupy.get_default_memory_pool()
    assert pool.total_bytes() - before < X.nbytes / 2
