"""Arrays on an emulated device: how they are checked there, what is said of bad ones, and where results lie."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from device.array import DeviceArray
from device.backend import cuda_on
from device.engines import ShimEngine
from problems import make_problem

import kdvr_fast as kd
from kdvr_fast import _validation as check

N, D = 30, 6
X, LABELS = make_problem("softmax", N, D, 3).X, np.arange(N) % 3
OPTIONS = {"random_state": 0, "epochs": 2, "batch_size": 7, "backend": "cuda"}


@pytest.fixture(scope="module")
def cp(compiler):
    with cuda_on(ShimEngine(compiler)) as module:
        yield module


def solve(X, y, loss="softmax", **options):
    return kd.solve(X, y, loss=loss, **{**OPTIONS, **options})


def close(run, wanted):
    np.testing.assert_allclose(run.coef.get(), wanted.coef, rtol=0, atol=1e-12)


def changed(values, place, value):
    values = np.array(values, np.result_type(np.asarray(values), value))
    values[place] = value
    return values


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("softmax", LABELS),
        ("softmax", LABELS.astype(np.int32)),
        ("softmax", LABELS.astype(np.uint8)),
        ("softmax", LABELS.astype(np.float64)),
        ("softmax", np.random.default_rng(0).dirichlet(np.ones(3), N)),
        ("logistic", LABELS % 2),
        ("logistic", np.linspace(0, 1, N)[:, None]),
        ("squared", np.linspace(-1, 2, N)),
        ("squared", np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)),
        ("squared", np.asfortranarray(np.random.default_rng(0).normal(size=(N, 2)))),
    ],
)
def test_targets_of_every_type(cp, loss, y):
    wanted = solve(X, y, loss, backend="reference")
    close(solve(cp.asarray(X), cp.asarray(y), loss), wanted)
    close(solve(cp.asarray(X), y, loss), wanted)  # rows there, targets here


@pytest.mark.parametrize("rows", [slice(None), slice(None, None, 2), slice(None, None, -1)])
def test_rows_with_gaps_between_them_are_read_in_place(cp, rows):
    wide = cp.asarray(np.hstack([X, X]))[rows, :D]
    assert not wide.flags.c_contiguous
    problem_rows = check.features(wide)
    assert problem_rows.values is wide
    close(solve(wide, cp.asarray(LABELS[rows].copy())), solve(X[rows].copy(), LABELS[rows], backend="reference"))


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (changed(X, (4, 2), np.nan), ValueError, "X holds nan in row 4, column 2; drop or fill"),
        (changed(X, (9, 5), -np.inf), ValueError, "X holds -inf in row 9, column 5"),
        (X.astype(np.int32), TypeError, "X has dtype int32; rows are read in place as float32 or float64"),
        (X.astype(np.float16), TypeError, "X has dtype float16"),
        (X[0], ValueError, r"X must be 2-D \(rows, features\) and not empty, got shape \(6,\)"),
        (X[:0], ValueError, r"got shape \(0, 6\)"),
    ],
)
def test_bad_rows_are_refused(cp, rows, error, message):
    before = len(cp.launched)
    with pytest.raises(error, match=message):
        solve(cp.asarray(rows), cp.asarray(LABELS))
    assert len(cp.launched) == before


def test_rows_by_columns_are_refused(cp):
    with pytest.raises(ValueError, match="X is not stored row by row; rows are read in place: pass a contiguous copy"):
        solve(cp.asarray(np.ascontiguousarray(X.T)).T, LABELS)


def test_large_rows_are_no_infinities(cp):
    """A sum that overflows is looked at number by number."""
    large = np.full((3, 4), 1e38, np.float32)
    assert check.features(cp.asarray(large)).shape == (3, 4)


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("softmax", changed(LABELS, 3, -1), "y holds label -1 in row 3"),
        ("softmax", changed(LABELS, 3, 0.5), "y holds 0.5 in row 3; loss='softmax' takes integer labels"),
        ("softmax", changed(np.full((N, 2), 0.5), (2, 0), 0.7), r"row 2 sums to 1.2; probabilities sum to 1"),
        ("softmax", np.ones((N, 1)), "labels are 1-D: pass y.ravel"),
        ("logistic", changed(LABELS % 2, 8, 2), "y holds 2 in row 8, column 0, outside"),
        ("logistic", np.zeros((N, 2)), r"y has shape \(30, 2\); loss='logistic' has one output"),
        ("squared", changed(np.zeros(N), 11, np.nan), "y holds nan in row 11"),
        ("squared", np.zeros(N - 1), r"y has shape \(29,\); expected 30 rows as in X"),
        ("squared", np.zeros((N, 0)), r"y has shape \(30, 0\)"),
    ],
)
def test_bad_targets_are_refused_as_those_on_the_host(cp, loss, y, message):
    for given in (y, cp.asarray(y)):
        with pytest.raises(ValueError, match=message):
            solve(cp.asarray(X), given, loss)


def test_a_label_beyond_the_weights_and_a_target_too_large_for_float32(cp):
    with pytest.raises(ValueError, match="y holds label 2 in row 2; the teacher or initial weights have 2 outputs"):
        solve(cp.asarray(X), cp.asarray(LABELS), coef_init=np.zeros((2, D)))
    with pytest.raises(ValueError, match=r"y holds 1e\+300 at .* too large for float32"):
        solve(cp.asarray(X.astype(np.float32)), cp.asarray(changed(np.zeros(N), 4, 1e300)), "squared")


def test_a_gpu_too_many(cp):
    """Rows on another device than the current one would be read through a pointer that means nothing here."""
    rows = cp.asarray(X)
    rows.number = 1
    with pytest.raises(ValueError, match=r"X lies on GPU 1 and the current one is 0: use `with cupy.cuda.Device\(1\)`"):
        solve(rows, LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "native"}, "X lies on a GPU, which it does not read; use backend='cuda'"),
        ({"backend": "reference"}, "X lies on a GPU, which it does not read; use backend='cuda'"),
        ({"learning_rate": "auto"}, "learning_rate='auto' looks at rows on the processor and X lies on a GPU"),
        ({"method": kd.LBFGS()}, "full-batch method reads some rows on the processor, so that X must lie there$"),
    ],
)
def test_what_needs_rows_on_the_host_is_refused(cp, options, message):
    with pytest.raises(ValueError, match=message):
        solve(cp.asarray(X), LABELS, **options)


def test_targets_alone_on_the_device_are_refused(cp):
    with pytest.raises(TypeError, match="y lies on a GPU, where X and y alone are read, and y only with X"):
        solve(X, cp.asarray(LABELS))


def test_auto_follows_the_rows(cp):
    assert solve(cp.asarray(X), LABELS, backend="auto").backend == "cuda"


@pytest.mark.parametrize("loss", ["softmax", "logistic", "squared"])
def test_predictions_lie_where_the_rows_do(cp, loss):
    y = LABELS if loss == "softmax" else LABELS % 2
    here, there = solve(X, y, loss), solve(cp.asarray(X), cp.asarray(y), loss, track="accuracy" if loss != "squared" else ())
    assert isinstance(here.coef, np.ndarray) and isinstance(there.coef, DeviceArray)
    for run in (here, there):
        np.testing.assert_allclose(run.predict(cp.asarray(X)).get(), run.predict(X), rtol=1e-12)
        assert isinstance(run.decision_function(X), np.ndarray)
        assert isinstance(run.decision_function(cp.asarray(X)), DeviceArray)
    if loss != "squared":
        assert there.history["accuracy"][-1] == pytest.approx(np.mean(there.predict(X) == y))


def test_what_a_checkpoint_knows_of_arrays_on_the_device(cp, tmp_path):
    """A run goes on from its file, and not with other rows."""
    path, y = tmp_path / "run", cp.asarray(LABELS)
    whole = solve(cp.asarray(X), y, epochs=4)
    solve(cp.asarray(X), y, epochs=4, callbacks=lambda p: p.epoch == 2, checkpoint=kd.Checkpoint(path))
    with pytest.raises(ValueError, match="X"):
        solve(cp.asarray(2 * X), y, epochs=4, checkpoint=kd.Checkpoint(path, resume=True))
    again = solve(cp.asarray(X), y, epochs=4, checkpoint=kd.Checkpoint(path, resume=True))
    np.testing.assert_array_equal(whole.coef.get(), again.coef.get())


def test_another_gpu_is_a_warning(cp, tmp_path, monkeypatch):
    path, call = tmp_path / "run", {"X": X, "y": LABELS}
    solve(**call, checkpoint=kd.Checkpoint(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(**call, epochs=3, checkpoint=kd.Checkpoint(path, resume=True))
    other = {"name": b"another GPU", "multiProcessorCount": 7}
    monkeypatch.setattr(cp.cuda.runtime, "getDeviceProperties", lambda index: other)
    message = r"processor is another GPU \(7 multiproc.* here and an emulated GPU \(3 multiproc.* there; .* same up to rounding"
    with pytest.warns(UserWarning, match=message):
        solve(**call, epochs=4, checkpoint=kd.Checkpoint(path, resume=True))
