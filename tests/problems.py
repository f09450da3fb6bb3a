"""Random problems and points that several test files share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kdvr_fast._rows import CsrRows
from kdvr_fast.backends import backend_status
from kdvr_fast.backends.base import ControlVariate, FloatArray, Pass, Problem, Session
from kdvr_fast.losses import LOSSES

LOSS_NAMES = tuple(LOSSES)
OUTPUTS = {"squared": 2, "logistic": 1, "softmax": 4}  # k of a typical problem


def make_targets(loss: str, n: int, k: int, rng: np.random.Generator, dtype: type, dense: bool) -> NDArray[np.generic]:
    """Targets in the loss's domain: labels for softmax unless dense, else floats (n, k) of dtype."""
    if loss == "squared":
        return rng.normal(size=(n, k)).astype(dtype)
    if loss == "logistic":
        return (rng.uniform(size=(n, 1)) if dense else rng.integers(0, 2, (n, 1))).astype(dtype)
    if dense:
        return rng.dirichlet(np.ones(k), n).astype(dtype)
    return rng.integers(0, k, n).astype(np.int64)


def make_problem(
    loss: str,
    n: int = 23,
    d: int = 7,
    k: int | None = None,
    *,
    dtype: type = np.float64,
    seed: int = 0,
    weighted: bool = False,
    fit_intercept: bool = True,
    dense: bool = False,
    scale: float = 1.0,
    density: float = 1.0,
) -> Problem:
    """Gaussian rows times `scale`, that share of them not 0; targets as `make_targets`; weights of mean one if weighted."""
    rng = np.random.default_rng(seed)
    k = OUTPUTS[loss] if k is None else k
    X = (scale * rng.normal(size=(n, d))).astype(dtype)
    if density < 1:
        X *= rng.random((n, d)) < density
    y = make_targets(loss, n, k, rng, dtype, dense)
    s = rng.uniform(0.1, 2.0, n)
    weights = (s / s.mean()).astype(dtype) if weighted else None
    return Problem(X, y, LOSSES[loss], k, weights, fit_intercept)


def to_csr(X: FloatArray, index: type = np.int32) -> CsrRows:
    """The same rows, sparse, with features and offsets of that type."""
    matrix = csr_array(X)
    return CsrRows(matrix.data, matrix.indices.astype(index), matrix.indptr.astype(index), X.shape)


def row_norms(problem: Problem) -> NDArray[np.float64]:
    """|a_i|^2, and 1 for the intercept, float64 (n,)."""
    A = problem.X[:].astype(np.float64)
    return np.asarray((A * A).sum(axis=1)) + problem.fit_intercept


def make_point(problem: Problem, seed: int = 1, scale: float = 0.5) -> tuple[FloatArray, FloatArray]:
    """Random W (k, d) and b (k,), the latter zero without an intercept."""
    rng = np.random.default_rng(seed)
    k, d = problem.n_outputs, problem.X.shape[1]
    W = (scale * rng.normal(size=(k, d))).astype(problem.X.dtype)
    b = (scale * rng.normal(size=k) * problem.fit_intercept).astype(problem.X.dtype)
    return W, b


def relative(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """|a - b| / |b|, Frobenius, in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), np.finfo(float).tiny))


TEMPERATURE = 2.5
VARIATES = {  # every kind of control variate that a step knows
    "none": ControlVariate(),
    "weights": ControlVariate(lam=0.7, source="weights"),
    "weights+mean": ControlVariate(lam=0.6, source="weights", use_mean=True),
    "table": ControlVariate(lam=0.7, source="table"),
    "table+mean": ControlVariate(lam=0.9, source="table", use_mean=True),
    "saga": ControlVariate(lam=1.0, source="table", use_mean=True, update_table=True),
    "tempered-weights": ControlVariate(lam=0.7, source="weights", temperature=TEMPERATURE),
    "tempered-table": ControlVariate(lam=0.7, source="table", temperature=TEMPERATURE),
}


def variates_of(loss: str) -> list[str]:
    """The kinds that make sense for a loss: temperatures are for predictions that are probabilities."""
    return [kind for kind in VARIATES if LOSSES[loss].probabilities or not kind.startswith("tempered")]


def make_table(problem: Problem, variate: ControlVariate, seed: int = 2) -> FloatArray:
    """Rows for `anchor_table`: a random teacher's residuals, or its outputs at the variate's temperature."""
    loss = problem.loss
    W, b = make_point(problem, seed)
    z = problem.X[:] @ W.T + b + np.random.default_rng(seed).normal(size=(problem.n, problem.n_outputs))
    if variate.temperature is not None:
        return loss.link(z / variate.temperature).astype(problem.X.dtype)
    return loss.residual(problem.y, z).astype(problem.X.dtype)


def prepare(session: Session, problem: Problem, variate: ControlVariate, seed: int = 2) -> Pass | None:
    """Set a session's weights to `make_point(problem)` and its anchor to a teacher that fits the variate."""
    session.set_weights(*make_point(problem))
    if variate.source == "weights":
        return session.anchor_at(*make_point(problem, seed), cached=False, mean=variate.use_mean)
    if variate.source == "table":
        return session.anchor_table(make_table(problem, variate, seed), mean=variate.use_mean)
    return None


def backend_params(*without: str) -> list[object]:
    """The registered backends; one that cannot run here is skipped and says why."""
    return [
        pytest.param(name, marks=[] if reason is None else pytest.mark.skip(reason=f"{name}: {reason}"))
        for name, reason in backend_status().items()
        if name not in without
    ]


# Numba and CUDA are compared with the reference in every session method, so that what runs above a session need not run on them
# again; CUDA in suites of its own, tests/cuda (emulated) and tests/gpu.
COMPLETE = backend_params("numba", "cuda")  # those that refuse nothing
every_compiled_backend = pytest.mark.parametrize("backend", backend_params("reference", "cuda"))
every_complete_backend = pytest.mark.parametrize("backend", backend_params("numba", "cuda", "reference"))
