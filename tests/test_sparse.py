"""Sparse rows: every method and option gives what the same rows give dense; what steps a feature misses; input that is refused.

Comparisons of backends over random cases, sparse layouts among them, are in test_parity.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from problems import LOSS_NAMES, every_compiled_backend, make_point, make_problem, relative, to_csr
from scipy import sparse

import kdvr_fast as kd
from kdvr_fast._rows import CsrRows
from kdvr_fast._validation import features
from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import ControlVariate, Problem, Step
from kdvr_fast.losses import LOSSES

EPS = np.finfo(float).eps
N, D = 60, 25


def make_data(loss="softmax", k=4, seed=0, density=0.2):
    """Rows with some of them empty and some features nowhere, dense and as a SciPy matrix; targets."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, D)) * (rng.random((N, D)) < density)
    X[::7] = 0
    X[:, ::6] = 0
    y = {"softmax": rng.integers(0, k, N), "logistic": rng.integers(0, 2, N), "squared": rng.normal(size=(N, k))}[loss]
    return X, sparse.csr_matrix(X), y


METHODS = {
    "SGD": kd.SGD(),
    "KD": kd.KD(0.7),
    "KD, tempered": kd.KD(0.7, temperature=3.0),
    "KD, teacher_alpha": kd.KD(0.7, teacher_alpha=0.01),
    "RepeatedKD": kd.RepeatedKD(0.7),
    "UnbiasedKD": kd.UnbiasedKD(0.8),
    "SVRG": kd.SVRG(),
    "LSVRG": kd.LSVRG(0.05),
    "SAGA": kd.SAGA(),
}
OPTIONS = {
    "plain": {},
    "l2": {"alpha": 0.05},
    "l1": {"alpha": 0.02, "l1_ratio": 1.0},
    "elastic net": {"alpha": 0.02, "l1_ratio": 0.5, "average": 1},
    "average": {"average": True},
    "momentum": {"momentum": 0.8, "nesterov": True},
    "momentum, l1": {"momentum": 0.8, "alpha": 0.02, "l1_ratio": 0.5, "average": True},
    "batches": {"batch_size": 7, "alpha": 0.01, "sample_weight": np.linspace(0.5, 2.0, N)},
    "all rows": {"batch_size": N, "alpha": 0.02, "l1_ratio": 0.5},
    "no intercept": {"fit_intercept": False, "statistics": False},
    "schedule": {"learning_rate": kd.Inverse(0.1, decay=0.1), "sampling": "replacement"},
}


def fit(X, y, loss, method, backend, **options):
    k = 1 if loss == "logistic" else 4
    takes_teacher = method.plan().teacher == "required"
    theta = np.random.default_rng(5).normal(size=(k, D))
    defaults = {"batch_size": 1, "learning_rate": 0.05, "epochs": 3, "random_state": 1, "track": ("objective", "statistics")}
    return kd.solve(
        X,
        y,
        loss=loss,
        method=method,
        teacher=kd.Teacher.weights(theta) if takes_teacher else None,
        backend=backend,
        **{**defaults, **options},
    )


every_loss_of_every_method = pytest.mark.parametrize(
    ("loss", "method"),
    [
        pytest.param(loss, method, id=f"{loss}-{name}")
        for loss in LOSS_NAMES
        for name, method in METHODS.items()
        if loss != "squared" or method.plan().temperature == 1.0
    ],
)


def check_sparse_against_dense(backend, loss, method, options):
    X, S, y = make_data(loss)
    dense, thin = (fit(A, y, loss, method, backend, **options) for A in (X, S))
    # 180 steps, contractions all, each with the errors of a dozen terms of size 1
    tolerance = 180 * 16 * EPS * max(1.0, np.abs(dense.coef).max())
    np.testing.assert_allclose(thin.coef, dense.coef, rtol=0, atol=tolerance)
    np.testing.assert_allclose(thin.intercept, dense.intercept, rtol=0, atol=tolerance)
    for column in set(dense.history.columns) - {"seconds"}:
        np.testing.assert_allclose(thin.history[column], dense.history[column], rtol=1e-9, atol=1e-11, err_msg=column)


@every_compiled_backend
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@every_loss_of_every_method
def test_sparse_rows_give_what_dense_rows_give(backend, loss, method, options):
    check_sparse_against_dense(backend, loss, method, options)


@every_loss_of_every_method
def test_in_the_reference_too(loss, method):
    check_sparse_against_dense("reference", loss, method, OPTIONS["batches"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array])
def test_every_type_of_csr_is_read_in_place(backend, kind, index, dtype):
    _, S, y = make_data()
    S = kind(S.astype(dtype))
    S.indices, S.indptr = S.indices.astype(index), S.indptr.astype(index)
    rows = features(S)
    assert isinstance(rows, CsrRows) and rows.shape == (N, D) and rows.dtype == dtype
    assert np.shares_memory(rows.data, S.data)
    assert rows.indices.dtype == index and np.shares_memory(rows.indices, S.indices)
    result = kd.solve(S, y, loss="softmax", epochs=1, random_state=0, backend=backend)
    assert result.coef.dtype == dtype and result.coef.any()
    np.testing.assert_array_equal(result.predict(S), result.predict(S.toarray()))


@every_compiled_backend
def test_the_session_sees_the_callers_memory(backend):
    problem = make_problem("squared", 20, 9, 1, density=0.3)
    rows = to_csr(problem.X, np.int64)
    session = get_backend(backend).open(Problem(rows, np.zeros((20, 1)), LOSSES["squared"], 1))
    at = np.ones((1, 9)), np.zeros(1)
    before = session.evaluate(*at, ControlVariate()).sums.loss
    rows.data[:] *= 2
    assert session.evaluate(*at, ControlVariate()).sums.loss == pytest.approx(4 * before)


# -- steps that a feature misses -------------------------------------------------------------------------------------------


def walk_both(backend, problem, step, variate, rates, order, start=None, refresh_at=()):
    """Weights and averages of a backend on sparse rows and of the reference on the same rows dense."""
    results = []
    for name, X in (("reference", problem.X), (backend, to_csr(problem.X))):
        session = get_backend(name).open(Problem(X, problem.y, problem.loss, problem.n_outputs, None, problem.fit_intercept))
        W, b = make_point(problem) if start is None else start
        session.anchor_at(*make_point(problem, 2), cached=False, mean=variate.use_mean)
        session.set_weights(W, b)
        session.epoch(order, rates, step, variate, refresh_at=list(refresh_at))
        results.append((*session.weights(), *session.average()))
    return results


VARIATE = ControlVariate(lam=0.6, source="weights", use_mean=True)


@every_compiled_backend
@pytest.mark.parametrize("batch_size", [1, 3, 300])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("l1", [0.0, 1e-3, 0.05, 2.0])
@pytest.mark.parametrize("k", [1, 3])
def test_long_absences(backend, k, l1, average, batch_size):
    """Features met once in 400 steps on average drift, shrink, pass 0 and stay there; rates vary, some are 0.

    Weights start near 1 and move by about 1, so that every sign of weight and drift occurs, with and without a passage.
    """
    rng = np.random.default_rng(3)
    problem = make_problem("squared", 2000, 40, k, density=0.0025, seed=3)
    order = rng.permutation(2000)
    n_steps = -(-2000 // batch_size)
    rates = rng.uniform(0, 4 / n_steps, n_steps) * (rng.random(n_steps) < 0.9)
    problem.X[0] = rng.normal(size=40)  # so that m is not 0 for any feature
    step = Step(batch_size=batch_size, l1=l1, l2=0.3, average=average)
    # m is multiplied to matter over a walk in which the rates add up to about 2
    start = (rng.choice([-1.0, 0.0, 1.0], (k, 40)) * rng.random((k, 40)), np.zeros(k))
    results = []
    for name, X in (("reference", problem.X), (backend, to_csr(problem.X))):
        session = get_backend(name).open(Problem(X, problem.y, LOSSES["squared"], k))
        session.anchor_at(*make_point(problem, 2), cached=False, mean=False)
        session.set_mean(np.random.default_rng(4).normal(size=(k, 40)), np.zeros(k))
        session.set_weights(*start)
        session.epoch(order, rates, step, VARIATE)
        results.append((*session.weights(), *session.average()))
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2000 * EPS)
    W = results[0][0]
    if l1 in (1e-3, 0.05):
        crossed = (np.sign(W) * np.sign(start[0])) < 0
        assert crossed.any()  # the case that is worth a search did occur
    if l1:
        np.testing.assert_array_equal(results[1][0] == 0, W == 0)
        assert l1 < 0.05 or (W == 0).any()


@every_compiled_backend
@pytest.mark.parametrize("l2", [0.5, 1.0, 1.5, 1.999999])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("l1", [0.0, 0.01])
def test_decay_of_any_size(backend, l1, batch_size, l2):
    """rate l2 near, at and above 1: the weights are folded into a scale that must not reach 0, change sign or get too small."""
    problem = make_problem("squared", 300, 12, 1, density=0.2, scale=0.1)
    order, rate = np.arange(300), np.array([1.0])
    step = Step(batch_size=batch_size, l2=l2, l1=l1, average=True)
    expected, got = walk_both(backend, problem, step, VARIATE, rate, order)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=300 * EPS * max(1, np.abs(a).max()))


@every_compiled_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scale_that_gets_small(backend, dtype):
    """2000 steps that each take a percent away shrink the scale by e^-20."""
    problem = make_problem("logistic", 2000, 30, dtype=dtype, density=0.1)
    order, rate = np.arange(2000), np.array([0.1])
    expected, got = walk_both(backend, problem, Step(l2=0.1), VARIATE, rate, order)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=100 * 16 * np.finfo(dtype).eps)  # 100 steps are remembered


@every_compiled_backend
@pytest.mark.parametrize("kind", ["average", "l1", "drift"])
def test_a_refresh_in_the_middle_settles_every_feature(backend, kind):
    problem = make_problem("softmax", 200, 30, 3, density=0.05)
    step = Step(l2=0.1, l1=0.01 * (kind == "l1"), average=kind == "average")
    variate = VARIATE if kind == "drift" else ControlVariate()
    expected, got = walk_both(backend, problem, step, variate, np.array([0.1]), np.arange(200), refresh_at=(50, 51, 120))
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=200 * 4 * EPS)


# -- products of neighbours --------------------------------------------------------------------------------------------------


@every_compiled_backend
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_of_every_length(backend, dtype, index):
    """Rows with 0 to 40 of 50 features: each meets each. Whole numbers, and a rate of 0, so that the sums are exact."""
    rng = np.random.default_rng(0)
    lengths = np.append(np.arange(20), [31, 32, 33, 40])
    n, k = len(lengths), 3
    X = np.zeros((n, 50), dtype)
    for row, length in zip(X, lengths, strict=True):
        row[rng.choice(50, length, replace=False)] = rng.integers(1, 9, length)
    S = sparse.csr_array(X)
    S.indices, S.indptr = S.indices.astype(index), S.indptr.astype(index)
    session = get_backend(backend).open(Problem(S, np.ones((n, k), dtype), LOSSES["squared"], k, None, True))
    session.set_weights(np.zeros((k, 50), dtype), np.zeros(k, dtype))
    rates, step, expected = np.zeros(1), Step(), X @ X.T + 1
    got = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            sums = session.epoch(np.array([i, j]), rates, step, ControlVariate()).sums
            got[i, j] = sums.pair_xx / k
            assert sums.xx == k * (expected[i, i] + expected[j, j])
    np.testing.assert_array_equal(got, expected)


# -- size, threads, long walks ---------------------------------------------------------------------------------------------


@every_compiled_backend
def test_a_million_features(backend):
    """2,000 rows would be 16 GB dense; only features that a row has move."""
    rng = np.random.default_rng(0)
    n, d, k = 2000, 1_000_000, 20
    indices = np.sort(
        rng.integers(0, d // 10, (n, 10)) * 10 + np.arange(10)[rng.permuted(np.tile(np.arange(10), (n, 1)), axis=1)]
    )
    X = sparse.csr_array((np.ones(n * 10, np.float32), indices.ravel(), np.arange(0, n * 10 + 1, 10)), shape=(n, d))
    result = kd.solve(
        X, rng.integers(0, k, n), loss="softmax", epochs=1, batch_size=1, random_state=0, statistics=False, backend=backend
    )
    moved = np.flatnonzero(result.coef.any(axis=0))
    assert np.array_equal(moved, np.unique(indices))


@every_compiled_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch_size", [64, 1000])
def test_the_same_bits_at_any_thread_count(backend, batch_size, dtype):
    problem = make_problem("softmax", 1000, 400, 20, dtype=dtype, weighted=True, density=0.3)
    rows, results = to_csr(problem.X), []
    for n_threads in (1, 2, 5):
        session = get_backend(backend).open(Problem(rows, problem.y, LOSSES["softmax"], 20, problem.weights), n_threads)
        session.anchor_at(*make_point(problem, 2), cached=False, mean=True)
        session.set_weights(*make_point(problem))
        walk = session.epoch(np.arange(1000), np.array([1e-3]), Step(batch_size=batch_size, l1=1e-4), VARIATE)
        read = session.evaluate(*make_point(problem), VARIATE)
        sums = np.array([read.sums.xt, walk.sums.xt, walk.sums.pair_xt])
        results.append([*session.weights(), read.grad, read.anchor_grad, sums])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@every_compiled_backend
@pytest.mark.parametrize("batch_size", [1, 10])
def test_an_explosion_stops_a_long_epoch_early(backend, batch_size):
    problem = make_problem("squared", 100, 64, 1, density=0.9)
    session = get_backend(backend).open(Problem(to_csr(problem.X), problem.y, LOSSES["squared"], 1))
    order = np.random.default_rng(0).integers(0, 100, 8_000_000)
    walk = session.epoch(order, np.array([1.0]), Step(batch_size=batch_size, statistics=False), ControlVariate())
    assert walk.exploded and walk.steps * batch_size < 4_000_000


# -- what surrounds a fit --------------------------------------------------------------------------------------------------


def test_statistics_and_theory_read_sparse_rows(backend):
    X, S, y = make_data()
    W = np.random.default_rng(1).normal(size=(4, D))
    for teacher in (kd.Teacher.weights(W[::-1]), kd.Teacher.logits(X @ W[::-1].T)):
        options = {"loss": "softmax", "teacher": teacher, "intercept": np.ones(4), "alpha": 0.1, "backend": backend}
        dense, thin = (kd.gradient_stats(A, y, W, **options) for A in (X, S))
        assert thin.rho_centered == pytest.approx(dense.rho_centered, rel=1e-12)
        assert relative(thin.grad, dense.grad) < 1e-13
    weights = np.linspace(0.1, 1, N)
    for fit_intercept in (True, False):
        dense, thin = (kd.smoothness(A, "logistic", fit_intercept=fit_intercept, sample_weight=weights) for A in (X, S))
        assert [thin.L_max, thin.L_mean, thin.L_full] == pytest.approx([dense.L_max, dense.L_mean, dense.L_full], rel=1e-12)
    assert kd.auto_learning_rate(S, "softmax", batch_size=5) == pytest.approx(kd.auto_learning_rate(X, "softmax", batch_size=5))


@pytest.mark.parametrize("precondition", ["none", "diagonal", "gram"])
def test_full_batch_steps_on_sparse_rows(backend, precondition):
    X, S, y = make_data()
    options = {"loss": "softmax", "method": kd.LBFGS(max_iter=100, precondition=precondition), "alpha": 0.01, "tol": 1e-6}
    dense, thin = (kd.solve(A, y, backend=backend, **options) for A in (X, S))
    assert str(dense.status) == str(thin.status) == "converged"
    assert relative(thin.coef, dense.coef) < 1e-4  # of a gradient a millionth of the first, where the curvature is 0.01


def test_many_features_find_their_smoothness_by_iteration():
    X = sparse.random_array((80, 900), density=0.05, format="csr", rng=np.random.default_rng(0))
    assert kd.smoothness(X, "squared").L_full == pytest.approx(kd.smoothness(X.toarray(), "squared").L_full, rel=1e-5)


def test_a_fitted_estimator_is_asked_with_sparse_rows(backend):
    from sklearn.linear_model import LogisticRegression

    X, S, y = make_data()
    teacher = kd.Teacher.estimator(LogisticRegression().fit(S, y))
    options = {"loss": "softmax", "method": kd.KD(0.5), "teacher": teacher, "random_state": 0, "epochs": 2, "backend": backend}
    dense, thin = (kd.solve(A, y, track="accuracy", **options) for A in (X, S))
    np.testing.assert_allclose(thin.coef, dense.coef, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(thin.history["accuracy"], dense.history["accuracy"])


# -- input that is refused -------------------------------------------------------------------------------------------------


def broken(**arrays):
    """A 3 x 4 matrix with the arrays replaced, SciPy's own checks passed by."""
    S = sparse.csr_array(([1.0, 2.0, 3.0], ([0, 0, 2], [1, 3, 0])), shape=(3, 4))
    for name, values in arrays.items():
        setattr(S, name, values)
    return S


ints = np.array
REFUSED = {
    "coo": (sparse.coo_array(np.eye(3)), TypeError, r"X is a sparse coo_array; .* from CSR: pass X.tocsr\(\)"),
    "csc": (sparse.csc_matrix(np.eye(3)), TypeError, r"X is a sparse csc_matrix; .* pass X.tocsr\(\)"),
    "integers": (sparse.csr_array(np.eye(3, dtype=int)), TypeError, r"X has dtype int64; .* pass X.astype\(np.float32\)"),
    "no rows": (sparse.csr_array((0, 3)), ValueError, r"X is empty: shape \(0, 3\) has no rows"),
    "nan": (broken(data=ints([1.0, np.nan, 3.0])), ValueError, "X holds nan in row 0, column 3; drop or fill"),
    "infinite": (broken(data=ints([1.0, 2.0, -np.inf])), ValueError, "X holds -inf in row 2, column 0"),
    "twice": (broken(indices=ints([3, 3, 0])), ValueError, r"feature 3 twice in row 0; call X.sum_duplicates\(\)"),
    "unsorted": (broken(indices=ints([3, 1, 0])), ValueError, r"feature 1 after 3 in row 0, .* call X.sort_indices\(\)"),
    "too large": (broken(indices=ints([1, 3, 4])), ValueError, r"feature 4 in row 2; with 4 features they are 0 .. 3"),
    "negative": (broken(indices=ints([-1, 3, 0])), ValueError, "feature -1 in row 0"),
    "index type": (
        broken(indices=ints([1, 3, 0], np.int16)),
        TypeError,
        r"X.indices has dtype int16; .* X.indices.astype\(np.int64\)",
    ),
    "falling": (broken(indptr=ints([0, 3, 2, 3])), ValueError, "X.indptr does not rise from 0 in 4 steps"),
    "too far": (broken(indptr=ints([0, 2, 2, 9])), ValueError, "X.indptr ends at 9, but X has 3 values"),
    "strided": (broken(data=np.ones(6)[::2]), ValueError, r"X.data is strided; .* pass X.copy\(\)"),
}


@pytest.mark.parametrize("compiled", [True, False], ids=["", "no extension"])
@pytest.mark.parametrize(("X", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(X, error, message, compiled, monkeypatch):
    """Without the extension the same messages come from NumPy alone."""
    options = {}
    if not compiled:
        monkeypatch.setattr("kdvr_fast.backends.native._core", None)
        options["backend"] = "reference"
    with pytest.raises(error, match=message):
        kd.solve(X, np.zeros(max(X.shape[0], 1), int), loss="softmax", coef_init=np.zeros((2, X.shape[1])), **options)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_compiled_check_knows_sound_rows(index, dtype):
    """Rows, empty ones first, last and between; every way in which one entry can be wrong; values at the ends of the range."""
    core = pytest.importorskip("kdvr_fast._core")
    indptr = ints([0, 0, 3, 3, 4, 4, 70, 71, 71], index)
    lengths = np.diff(indptr)
    indices = np.concatenate([np.arange(m) + 70 - m for m in lengths]).astype(index)  # each row ends at the last feature
    data = np.resize(np.array([0, -0.0, np.finfo(dtype).max, np.finfo(dtype).tiny / 4, -1], dtype), 71)

    def sound(data=data, indices=indices, finite=True, d=70):
        return core.csr_sound((data, indices, indptr, d), finite)

    assert sound()
    for at in range(71):
        for bad in (np.nan, np.inf, -np.inf):
            wrong = data.copy()
            wrong[at] = bad
            assert not sound(data=wrong) and sound(data=wrong, finite=False)
        for bad in (70, -1, np.iinfo(index).max, np.iinfo(index).min):
            wrong = indices.copy()
            wrong[at] = bad
            with pytest.raises(ValueError, match="feature out of range"):
                sound(indices=wrong)
        if at not in indptr:
            wrong = indices.copy()
            wrong[at] = wrong[at - 1]
            assert not sound(indices=wrong)


def test_trouble_deep_inside_is_found_in_its_row():
    """Beyond the first block of a scan, at the border of two blocks, and first in a row, where a fall means nothing."""
    n = (1 << 18) + 5
    X = sparse.csr_array(np.ones((n, 5)))
    assert features(X).shape == (n, 5)
    X.indices[5 * (n - 2) + 3] = 2
    with pytest.raises(ValueError, match=f"feature 2 twice in row {n - 2}"):
        features(X)
    at = 1 << 20  # where the second block starts; row at // 5 holds it as its second
    assert at % 5
    X = sparse.csr_array(np.ones((n, 5)))
    X.indices[at] = X.indices[at - 1]
    with pytest.raises(ValueError, match=f"twice in row {at // 5}"):
        features(X)
    X = sparse.csr_array(np.ones((n, 5)))
    X.data[at + 2] = np.inf
    with pytest.raises(ValueError, match=f"inf in row {(at + 2) // 5}, column {(at + 2) % 5}"):
        features(X)


def test_values_beyond_the_last_row_are_not_read(backend):
    X, S, y = make_data()
    S.data, S.indices = np.append(S.data, np.nan), np.append(S.indices, 0).astype(np.int32)
    options = {"loss": "softmax", "epochs": 1, "random_state": 0, "backend": backend}
    np.testing.assert_allclose(kd.solve(S, y, **options).coef, kd.solve(X, y, **options).coef, rtol=0, atol=1e-13)


def test_wrong_calls_from_inside_the_package_are_refused():
    core = pytest.importorskip("kdvr_fast._core")
    good = (np.ones(2), ints([0, 2]), ints([0, 1, 2]), 3)
    y = np.zeros((2, 1))

    def open_with(at, value):
        core.SessionFloat64((*good[:at], value, *good[at + 1 :]), y, "squared", 1, None, True, 1)

    open_with(0, np.zeros(2))
    for at, value, message in (
        (0, np.ones(2, np.float32), "X: wrong dtype"),
        (1, ints([0, 3]), "X: feature out of range"),
        (1, ints([0.0, 1.0]), "features: wrong dtype"),
        (1, ints([0]), "features: 2 elements"),
        (2, ints([0, 3, 2]), "offsets must rise"),
        (2, ints([0, 1, 3]), "offsets must rise"),
        (2, ints([0, 2]), "y: "),
    ):
        with pytest.raises(ValueError, match=message):
            open_with(at, value)
