"""Readings of all rows in parts: passes, logits and Gram matrices of compiled backends, on more rows than one block."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from problems import LOSS_NAMES, make_point, make_problem, prepare, relative, to_csr

from kdvr_fast import Compact
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate

STORAGES = ("dense", "csr32", "csr64", "compact")


def stored(storage, dtype, loss="softmax", n=3000, fit_intercept=True):
    """A problem of enough rows to be read in parts, in that storage, and the same with dense rows."""
    problem = make_problem(loss, n=n, d=9, dtype=dtype, weighted=True, fit_intercept=fit_intercept, density=0.5)
    X = np.round(20 * problem.X).astype(np.int8)
    compact = Compact(X, scale=1 / 16, dtype=dtype)
    dense = dataclasses.replace(problem, X=compact[:])
    rows = {"dense": dense.X, "compact": compact}
    rows |= {f"csr{bits}": to_csr(dense.X, dtype_) for bits, dtype_ in ((32, np.int32), (64, np.int64))}
    return dataclasses.replace(problem, X=rows[storage]), dense


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSS_NAMES)
@pytest.mark.parametrize("source", ["none", "weights", "table"])
def test_passes_in_parts(source, loss, dtype, storage, backend):
    problem, dense = stored(storage, dtype, loss)
    variate = ControlVariate(lam=0.7, source=source)
    sessions = [get_backend(backend).open(problem, threads) for threads in (1, 2, 3)]
    reference = get_backend("reference").open(dense)
    for session in (*sessions, reference):
        prepare(session, dense, variate)
    expected = reference.evaluate(*make_point(dense), variate)
    tolerance = 300 * float(np.finfo(dtype).eps)  # block sums of 256 rows in X's dtype
    reads = [session.evaluate(*make_point(dense), variate) for session in (*sessions, sessions[1])]
    for read in reads:
        assert read.sums.rows == problem.n and read.sums.loss == pytest.approx(expected.sums.loss, rel=tolerance)
        for name in ("grad", "grad_intercept", *(() if source == "none" else ("anchor_grad", "anchor_grad_intercept"))):
            assert relative(getattr(read, name), getattr(expected, name)) < tolerance, name
            assert np.array_equal(getattr(read, name), getattr(reads[0], name)), name
        assert vars(read.sums) == vars(reads[0].sums)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("n", [1, 300, 3000])
@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_logits(loss, n, storage, backend):
    problem, dense = stored(storage, np.float64, loss, n)
    W, b = make_point(dense)
    for threads in (1, 3):
        session = get_backend(backend).open(problem, threads)
        session.evaluate(2 * W, b, ControlVariate())  # leaves nothing behind
        assert relative(session.logits(W, b), dense.X @ W.T + b) < 1e-14


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gram(dtype, fit_intercept, storage, backend):
    problem, dense = stored(storage, dtype, fit_intercept=fit_intercept)
    rng = np.random.default_rng(0)
    rows, t = rng.integers(0, problem.n, 700), rng.random(700)
    A = dense.X[rows].astype(np.float64)
    A = np.column_stack([A, np.ones(700)]) if fit_intercept else A
    found = [get_backend(backend).open(problem, threads).gram(rows, t) for threads in (1, 2, 5, 64)]
    assert relative(found[0], A.T @ (t[:, None] * A)) < 100 * np.finfo(dtype).eps
    assert all(np.array_equal(G, found[0]) for G in found) and np.array_equal(found[0], found[0].T)


def test_gram_of_empty_rows_is_the_intercept_s(backend):
    problem = make_problem("logistic", n=5, d=3)
    problem = dataclasses.replace(problem, X=to_csr(np.zeros((5, 3))))
    G = get_backend(backend).open(problem, 2).gram(np.arange(5), np.arange(5.0))
    assert np.array_equal(G, 10.0 * np.diag([0, 0, 0, 1]))


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_products_with_the_transpose(k, dtype, index, backend):
    """Weights of numbers of the rows and their images; some rows and some features are empty."""
    problem = make_problem("squared", n=700, d=900, k=k, dtype=dtype, density=0.02)
    problem.X[::50] = 0
    problem.X[:, ::70] = 0
    A = problem.X.astype(np.float64)
    C = np.random.default_rng(1).normal(size=(k, 700)).astype(dtype)
    thin = dataclasses.replace(problem, X=to_csr(problem.X, index))
    sessions = [get_backend(backend).open(thin, threads) for threads in (1, 2, 3, 200)]
    for name, expected in (("combine", C @ A), ("images", C @ A @ A.T)):
        found = [getattr(session, name)(C) for session in (*sessions, sessions[0])]
        assert found[0].dtype == dtype and relative(found[0], expected) < 30 * np.finfo(dtype).eps, name
        assert all(np.array_equal(values, found[0]) for values in found), name
