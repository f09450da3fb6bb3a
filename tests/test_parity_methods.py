"""Every method of `solve` on every compiled backend against the reference: loss x method x dtype x rows, from end to end.

Sessions are compared, with all their options, in tests/test_parity.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from problems import LOSS_NAMES, OUTPUTS, every_compiled_backend, make_point, make_problem
from scipy.sparse import csr_array

import kdvr_fast as kd
from kdvr_fast.losses import LOSSES

METHODS = {
    "sgd": kd.SGD(),
    "kd": kd.KD(0.7),
    "kd, temperature": kd.KD(0.7, temperature=2.0),
    "kd, stored logits": kd.KD(0.7),
    "kd, stored logits, temperature": kd.KD(0.7, temperature=2.0),
    "kd, stored float16 probabilities": kd.KD(0.7),
    "kd, lam='auto'": kd.KD("auto"),
    "repeated kd": kd.RepeatedKD(0.5, refresh=1),
    "unbiased kd": kd.UnbiasedKD(0.8),
    "svrg": kd.SVRG(),
    "lsvrg": kd.LSVRG(0.2),
    "saga": kd.SAGA(),
    "lbfgs": kd.LBFGS(),
}
OPTIONS = {"alpha": 0.01, "learning_rate": 0.05, "batch_size": 8, "epochs": 2, "random_state": 0, "momentum": 0.5}
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-11}  # of weights and figures of about 1: two epochs of three steps
PROBABILISTIC = {name for name in METHODS if "temperature" in name or "probabilities" in name}
TABLE = [(loss, name) for loss in LOSS_NAMES for name in METHODS if LOSSES[loss].probabilities or name not in PROBABILISTIC]
table = pytest.mark.parametrize(("loss", "name"), TABLE)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def teacher_of(name, problem):
    if not isinstance(METHODS[name], kd.KD | kd.UnbiasedKD):
        return None
    W, b = make_point(problem, 2)
    if "stored" not in name:
        return kd.Teacher.weights(W, b)
    Z = (problem.X @ W.T + b).astype(np.float64)
    if "logits" in name:
        return kd.Teacher.logits(Z)
    return kd.Teacher.probabilities(problem.loss.link(Z).astype(np.float16))


def compare_method(backend, loss, name, dtype, sparse):
    """A short run on the backend and on the reference."""
    problem = make_problem(loss, 24, 6, OUTPUTS[loss], dtype=dtype, density=0.5 if sparse else 1.0)
    X = csr_array(problem.X) if sparse else problem.X
    y = problem.y[:, 0] if problem.n_outputs == 1 else problem.y
    method, teacher = METHODS[name], teacher_of(name, problem)
    options = {"alpha": 0.1, "epochs": 50} if name == "lbfgs" else {**OPTIONS, "track": ("statistics",)}
    runs = [kd.solve(X, y, loss=loss, method=method, teacher=teacher, backend=who, **options) for who in (backend, "reference")]
    got, wanted = runs
    assert got.backend == backend and got.coef.dtype == dtype
    bound = TOLERANCE[dtype]
    np.testing.assert_allclose(got.coef, wanted.coef, rtol=0, atol=bound)
    np.testing.assert_allclose(got.intercept, wanted.intercept, rtol=0, atol=bound)
    rows = slice(-1, None) if name == "lbfgs" else slice(None)  # at the limit of the dtype one step more or less is no matter
    for column in ("loss", "variance", "grad_norm"):
        a, b = (run.history[column][rows] for run in runs)
        np.testing.assert_allclose(a, b, rtol=100 * bound, atol=bound, err_msg=column)


@every_compiled_backend
@dtypes
@table
def test_every_method(backend, loss, name, dtype):
    for sparse in (False, True):
        compare_method(backend, loss, name, dtype, sparse)
