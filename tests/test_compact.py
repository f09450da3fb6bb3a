"""Compact rows: stored in one or two bytes, decoded on the way; the result is that of the decoded rows."""

from __future__ import annotations

import numpy as np
import pytest

import kdvr_fast as kd
from kdvr_fast.backends import backend_status, get_backend
from kdvr_fast.backends.base import ControlVariate, Problem, Step
from kdvr_fast.losses import LOSSES

SMALL = {"uint8": np.uint8, "int8": np.int8, "float16": np.float16}
METHODS = [kd.SGD(), kd.KD(0.7), kd.UnbiasedKD(), kd.SVRG(), kd.SAGA()]


def stored(kind, n, d, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "float16":
        return rng.standard_normal((n, d)).astype(np.float16)
    info = np.iinfo(SMALL[kind])
    return rng.integers(info.min, info.max + 1, (n, d)).astype(SMALL[kind])


def scaled(kind):
    """A scale that brings the values to about [-1, 1], and an offset."""
    return (1.0, 0.0) if kind == "float16" else (1 / 128, -0.25)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(("n", "d", "batch"), [(61, 37, 7), (700, 130, 600), (1, 3, 1), (40, 16, 40)])
def test_the_result_is_that_of_the_decoded_rows(kind, dtype, method, n, d, batch, backend):
    values, (scale, offset) = stored(kind, n, d), scaled(kind)
    X = kd.Compact(values, scale, offset, dtype)
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, n)
    needs_teacher = isinstance(method, kd.KD | kd.UnbiasedKD)
    teacher = kd.Teacher.weights(rng.standard_normal((5, d)), np.zeros(5)) if needs_teacher else None
    coef = np.zeros((5, d))
    options = dict(
        loss="softmax", method=method, teacher=teacher, batch_size=batch, epochs=2, learning_rate=1e-3, random_state=0
    )
    runs = [kd.solve(rows, y, coef_init=coef, backend=backend, **options) for rows in (X, X[:])]
    assert runs[0].coef.dtype == dtype
    scale_of = np.abs(runs[1].coef).max()
    np.testing.assert_allclose(runs[0].coef, runs[1].coef, rtol=0, atol=1e3 * np.finfo(dtype).eps * scale_of)
    np.testing.assert_allclose(runs[0].history["loss"], runs[1].history["loss"], rtol=1e3 * np.finfo(dtype).eps)


@pytest.mark.skipif(backend_status()["native"] is not None, reason="the compiled extension is not there")
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_that_can_be_stored_is_decoded_exactly(kind, dtype):
    """One row, whose gradient at residual 1 is the row itself; every value of the type once, in rows of every tail."""
    every = np.arange(256, dtype=np.uint8).view(SMALL[kind]) if kind != "float16" else None
    if every is None:
        every = np.arange(65536, dtype=np.uint16).view(np.float16)
        every = every[np.isfinite(every)]
    for d in (len(every), 1, 5, 17, 63):
        values = every[:d].reshape(1, d)
        session = get_backend("native").open(
            Problem(kd.Compact(values, dtype=dtype), -np.ones((1, 1), dtype), LOSSES["squared"], 1, fit_intercept=False)
        )
        read = session.evaluate(np.zeros((1, d)), np.zeros(1), ControlVariate())
        np.testing.assert_array_equal(read.grad, values.astype(np.float64))


@pytest.mark.skipif(backend_status()["native"] is not None, reason="the compiled extension is not there")
def test_bfloat16_is_the_upper_half_of_a_float():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays come from ml_dtypes")
    values = np.random.default_rng(0).standard_normal((50, 19)).astype(ml_dtypes.bfloat16)
    y = np.arange(50) % 2
    options = dict(loss="logistic", learning_rate=0.1, epochs=2, random_state=0)
    compact, plain = kd.solve(values, y, **options), kd.solve(values.astype(np.float32), y, **options)
    np.testing.assert_array_equal(compact.coef, plain.coef)


@pytest.mark.skipif(backend_status()["native"] is not None, reason="the compiled extension is not there")
def test_threads_and_views_do_not_change_a_bit():
    values = stored("uint8", 800, 300)
    wide = np.zeros((1600, 340), np.uint8)
    wide[::2, 7:307] = values
    y = np.arange(800) % 3
    sessions = []
    for X, threads in ((values, 1), (values, 2), (values, 3), (wide[::2, 7:307], 2)):
        session = get_backend("native").open(Problem(kd.Compact(X, 1 / 255), y, LOSSES["softmax"], 3), threads)
        session.anchor_at(np.zeros((3, 300)), np.zeros(3), cached=True, mean=True)
        variate = ControlVariate(lam=1.0, source="table", use_mean=True, update_table=True)
        session.epoch(np.random.default_rng(0).integers(0, 800, 1600), np.array([1e-3]), Step(batch_size=600), variate)
        sessions.append(session.weights()[0].tobytes())
    assert len(set(sessions)) == 1


FACTORS = ("none", "one scale", "one a feature")


def compact_rows(kind, n, d, factors, dtype):
    """Compact rows and the same rows decoded in float64."""
    values = stored(kind, n, d, seed=d)
    rng = np.random.default_rng(d + 1)
    if factors == "none":
        return kd.Compact(values, dtype=dtype), values.astype(np.float64)
    if factors == "one scale":
        return kd.Compact(values, 1 / 128, dtype=dtype), values.astype(np.float64) * dtype(1 / 128)
    scale, offset = rng.uniform(0.001, 0.01, d).astype(dtype), rng.standard_normal(d).astype(dtype)
    return kd.Compact(values, scale, offset, dtype), values.astype(np.float64) * scale + offset


@pytest.mark.skipif(backend_status()["native"] is not None, reason="the compiled extension is not there")
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize(("n", "d"), [(1, 1), (1, 15), (3, 16), (70, 17), (129, 63), (200, 64), (65, 97), (40, 785)])
@pytest.mark.parametrize("teacher", [False, True])
def test_a_pass_with_one_output_is_the_references(kind, dtype, factors, n, d, teacher):
    X, decoded = compact_rows(kind, n, d, factors, dtype)
    rng = np.random.default_rng(n)
    y, weights = rng.integers(0, 2, (n, 1)), rng.uniform(0, 2, n)
    weights /= weights.mean()
    size = 1 / (1 + np.abs(decoded).max() * np.sqrt(d))
    coef, anchor = (size * rng.standard_normal((1, d)) for _ in range(2))
    variate = ControlVariate(source="weights" if teacher else "none")
    reads = []
    for backend, rows, kind_of in (("native", X, dtype), ("reference", decoded, np.float64)):
        problem = Problem(rows, y.astype(kind_of), LOSSES["logistic"], 1, weights=weights.astype(kind_of))
        session = get_backend(backend).open(problem)
        session.anchor_at(anchor.astype(kind_of), np.full(1, 0.2, kind_of), cached=False, mean=False)
        read = session.evaluate(coef.astype(kind_of), np.full(1, -0.1, kind_of), variate)
        sums = [read.sums.loss, read.sums.xx, read.sums.xt, read.sums.tt]
        reads.append([read.grad, read.grad_intercept, sums, *([read.anchor_grad] if teacher else [])])
    for got, expected in zip(*reads, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e3 * np.finfo(dtype).eps * np.abs(expected).max())


@pytest.mark.skipif(backend_status()["native"] is not None, reason="the compiled extension is not there")
@pytest.mark.parametrize("n", [300, 20_000])
def test_threads_and_views_do_not_change_a_bit_of_a_pass_with_one_output(n):
    wide = np.zeros((2 * n, 210), np.uint8)
    wide[::2, 7:207] = stored("uint8", n, 200)
    y, coef = (np.arange(n) % 2)[:, None].astype(np.float32), np.full((1, 200), 1e-3, np.float32)
    reads = []
    for X, threads in ((wide[::2, 7:207].copy(), 1), (wide[::2, 7:207], 2), (wide[::2, 7:207], 3)):
        session = get_backend("native").open(Problem(kd.Compact(X, 1 / 255, -0.5), y, LOSSES["logistic"], 1), threads)
        session.anchor_at(-coef, np.zeros(1, np.float32), cached=False, mean=False)
        read = session.evaluate(coef, np.zeros(1, np.float32), ControlVariate(source="weights"))
        reads.append((read.grad.tobytes(), read.anchor_grad.tobytes(), read.sums))
    assert reads[0] == reads[1] == reads[2]


def test_one_factor_a_feature_and_a_bare_array(backend):
    values = stored("uint8", 60, 8)
    y = np.arange(60) % 2
    options = dict(loss="logistic", learning_rate=1e-3, epochs=2, random_state=0, backend=backend)
    scale, offset = np.linspace(0.001, 0.01, 8), np.linspace(-1, 1, 8)
    for X, rows in (
        (kd.Compact(values, scale, offset), (values * scale + offset).astype(np.float32)),
        (values, values.astype(np.float32)),
        (values.astype(np.float16), values.astype(np.float32)),
    ):
        compact, plain = kd.solve(X, y, **options), kd.solve(rows, y, **options)
        np.testing.assert_allclose(compact.coef, plain.coef, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(compact.decision_function(X), plain.decision_function(rows), rtol=1e-4, atol=1e-5)
        a, b = (kd.gradient_stats(r, y, plain.coef, loss="logistic", backend=backend) for r in (X, rows))
        assert a.variance == pytest.approx(b.variance, rel=1e-4)
        assert kd.smoothness(X, "logistic").L_max == pytest.approx(kd.smoothness(rows, "logistic").L_max, rel=1e-4)


def test_a_memory_map_is_read_in_place(tmp_path):
    np.save(tmp_path / "x.npy", stored("uint8", 50, 6))
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert kd.solve(X, np.arange(50) % 2, loss="softmax", epochs=1, learning_rate=1e-4).coef.dtype == np.float32


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (kd.Compact(np.ones((4, 2), np.int32)), TypeError, "Compact holds int32; rows are stored as one of uint8"),
        (kd.Compact(np.ones((4, 2), np.uint8), dtype=np.float16), TypeError, "read as float16; choose dtype=np.float32"),
        (kd.Compact(np.ones(4, np.uint8)), ValueError, r"must be 2-D .* got shape \(4,\)"),
        (kd.Compact(np.ones((0, 2), np.uint8)), ValueError, "not empty"),
        (kd.Compact(np.ones((4, 2), np.uint8, order="F")), ValueError, r"read in place: pass np\.ascontiguousarray\(X\)"),
        (kd.Compact(np.ones((4, 2), np.uint8), scale=np.ones(3)), ValueError, r"scale has shape \(3,\); expected \(2,\)"),
        (kd.Compact(np.ones((4, 2), np.uint8), offset=np.nan), ValueError, "offset holds nan"),
        (np.array([[1, 2], [3, np.inf]], np.float16), ValueError, "X holds inf in row 1, column 1"),
    ],
)
def test_what_cannot_be_read_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        kd.solve(X, [0, 1, 0, 1][: len(X.values) if isinstance(X, kd.Compact) else len(X)], loss="softmax", batch_size=1)
