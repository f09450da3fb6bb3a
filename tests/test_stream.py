"""Rows in files are walked to the bits of the same rows in memory, however they are stored, in bounded memory."""

from __future__ import annotations

import threading
import tracemalloc
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import kdvr_fast as kd
import kdvr_fast._stream as stream
from kdvr_fast.files._stored import FileArray

N, D, K = 517, 11, 3
BLOCKS = kd.Blocks(rows=25, window=120)
RNG = np.random.default_rng(7)
DENSE = RNG.standard_normal((N, D))
SPARSE = sp.csr_matrix(np.where(RNG.random((N, D)) < 0.3, DENSE, 0))
LABELS = (DENSE @ RNG.standard_normal((D, K))).argmax(axis=1)
SOFT = RNG.dirichlet(np.ones(K), N)
LINEAR = kd.Teacher.weights(RNG.standard_normal((K, D)), RNG.standard_normal(K))
OPTIONS: dict[str, Any] = {
    "loss": "softmax",
    "batch_size": 8,
    "epochs": 3,
    "alpha": 1e-3,
    "random_state": 1,
    "learning_rate": 0.1,
    "sampling": BLOCKS,
}
METHODS: dict[str, tuple[kd.Method, str]] = {
    "SGD": (kd.SGD(), ""),
    "KD of weights": (kd.KD(0.5), "weights"),
    "KD of stored": (kd.KD(0.5), "stored"),
    "KD tempered": (kd.KD(0.5, temperature=2.0), "stored"),
    "KD auto": (kd.KD("auto"), "stored"),
    "RepeatedKD": (kd.RepeatedKD(0.5), ""),
    "UnbiasedKD of weights": (kd.UnbiasedKD(0.7), "weights"),
    "UnbiasedKD of stored": (kd.UnbiasedKD(0.7), "stored"),
    "SVRG": (kd.SVRG(start=1), ""),
    "LSVRG": (kd.LSVRG(), ""),
}
EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "nesterov": {"momentum": 0.9, "nesterov": True, "learning_rate": 0.02},
    "average and L1": {"average": 1, "l1_ratio": 0.5},
    "one row": {"batch_size": 1, "learning_rate": kd.Inverse(0.05, decay=0.1)},
    "compressed": {"compress": kd.StochasticRounding(bits=4)},
}
Rows = tuple[kd.DataSet, Any]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """Data sets and the same rows in memory."""
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "y.npy", LABELS)
    np.save(folder / "soft.npy", SOFT)
    beside = {"y": folder / "y.npy", "teacher_proba": folder / "soft.npy"}
    found: dict[str, Rows] = {}
    for dtype in (np.float32, np.float64):
        name = np.dtype(dtype).name
        np.save(folder / f"{name}.npy", DENSE.astype(dtype))
        sp.save_npz(folder / f"{name}.npz", SPARSE.astype(dtype))
        found[f"dense {name}"] = kd.open_data(folder / f"{name}.npy", **beside), DENSE.astype(dtype)
        found[f"sparse {name}"] = kd.open_data(folder / f"{name}.npz", dtype=dtype, **beside), SPARSE.astype(dtype)
    stored = np.clip(np.round(DENSE * 20), -128, 127).astype(np.int8)
    np.save(folder / "int8.npy", stored)
    found["compact"] = kd.open_data(folder / "int8.npy", scale=0.05, **beside), kd.Compact(stored, scale=0.05)
    return found


def both(rows: Rows, teacher: str = "", **options: Any) -> tuple[kd.Result, kd.Result]:
    """The run over files, and the one over memory."""
    data, X = rows
    streamed = {"": None, "weights": LINEAR, "stored": data.teacher}[teacher]
    held = kd.Teacher.probabilities(SOFT) if teacher == "stored" else streamed
    asked = OPTIONS | options
    if teacher != "stored":  # so that both compute the anchor's outputs, as rows in files must
        asked = asked | {"cache_anchor": False}
    return (
        kd.solve(data, teacher=streamed, **{k: v for k, v in asked.items() if k != "cache_anchor"}),
        kd.solve(X, LABELS, teacher=held, **asked),
    )


def assert_same(a: kd.Result, b: kd.Result, *, history: bool = True) -> None:
    assert np.array_equal(a.coef, b.coef) and np.array_equal(a.intercept, b.intercept)
    for name in a.history.columns if history else ():
        if name != "seconds":
            assert np.array_equal(a.history[name], b.history[name], equal_nan=True), name


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["dense float32", "sparse float64"])
def test_the_bits_are_those_of_rows_in_memory(rows: dict[str, Rows], kind: str, method: str, extra: str) -> None:
    how, teacher = METHODS[method]
    streamed, held = both(rows[kind], teacher, method=how, **EXTRAS[extra])
    assert np.abs(held.coef).max() > 0.01
    # a snapshot taken in the middle of a window parts the rows before it from those after it: pairs differ, weights do not
    assert_same(streamed, held, history=method != "LSVRG")


@pytest.mark.parametrize("kind", ["dense float64", "sparse float32", "compact"])
def test_other_kinds_of_rows(rows: dict[str, Rows], kind: str) -> None:
    assert_same(*both(rows[kind], "stored", method=kd.KD(0.3), momentum=0.5))


@pytest.mark.parametrize("kind", ["dense float32", "sparse float64"])
def test_the_reference_streams_too(rows: dict[str, Rows], kind: str) -> None:
    assert_same(*both(rows[kind], "stored", method=kd.UnbiasedKD(0.3), backend="reference", epochs=1))


def test_weights_tracking_and_tolerance(rows: dict[str, Rows]) -> None:
    weights = RNG.random(N)
    asked = {"sample_weight": weights, "track": ("objective", "accuracy"), "tol": 1e-6, "coef_init": np.ones((K, D))}
    with pytest.warns(kd.ConvergenceWarning):
        streamed, held = both(rows["dense float64"], **asked)
    assert_same(streamed, held)
    assert streamed.history["accuracy"][-1] > 0.5


def test_passes_in_chunks_agree_to_rounding(rows: dict[str, Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PASS_ROWS", 100)
    for kind in ("dense float64", "sparse float64"):
        data, X = rows[kind]
        for method, teacher in (("UnbiasedKD of stored", "stored"), ("SVRG", ""), ("LSVRG", "")):
            streamed, held = both(rows[kind], teacher, method=METHODS[method][0])
            np.testing.assert_allclose(streamed.coef, held.coef, rtol=0, atol=1e-12)
        run = held
        for one, other in ((data.teacher, kd.Teacher.probabilities(SOFT)), (LINEAR, LINEAR), (None, None)):
            asked = {"intercept": run.intercept, "loss": "softmax"}
            a = kd.gradient_stats(data, None, run.coef, teacher=one, **asked)
            b = kd.gradient_stats(X, LABELS, run.coef, teacher=other, **asked)
            for name in ("loss", "variance", "rho", "bias_sq", "snr"):
                np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-11, err_msg=name)
            np.testing.assert_allclose(a.grad, b.grad, rtol=0, atol=1e-13)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, N - 1), unique=True, max_size=6), sparse=st.booleans())
def test_the_result_does_not_depend_on_shards(tmp_path_factory: pytest.TempPathFactory, cuts: list[int], sparse: bool) -> None:
    folder = tmp_path_factory.mktemp("shards")
    X = (SPARSE if sparse else DENSE).astype(np.float32)
    ends = [0, *sorted(cuts), N]
    for i, (start, stop) in enumerate(pairwise(ends)):
        if sparse:
            sp.save_npz(folder / f"{i:03d}.npz", X[start:stop])
        else:
            np.save(folder / f"{i:03d}.npy", X[start:stop])
    chunks = [(X[a:b], LABELS[a:b]) for a, b in pairwise(ends)]
    runs = [kd.solve(data, **OPTIONS) for data in (kd.open_data(folder, y=LABELS), kd.open_data(chunks))]
    held = kd.solve(X, LABELS, **OPTIONS)
    for run in runs:
        assert_same(run, held)


def test_rows_that_lie_unevenly(tmp_path: Path) -> None:
    """Windows whose rows hold far more, or far less, than the average; batches that an engine cuts by that average."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(300).astype(np.float32)
    for few, counts in enumerate(([9000] * 48 + [500] * 48, [900] * 20 + [0] * 130 + [1] * 150, [0] * 130 + [1] * 50)):
        parts = [sp.random(1, 10_000, c / 10_000, "csr", random_state=rng, dtype=np.float32) for c in counts]
        X = sp.vstack(parts, format="csr")
        sp.save_npz(tmp_path / f"{few}.npz", X)
        data = kd.open_data(tmp_path / f"{few}.npz", y=y[: len(counts)])
        asked = {"loss": "squared", "batch_size": 48, "epochs": 2, "learning_rate": 1e-4, "random_state": 0, "alpha": 0.1}
        asked["sampling"] = kd.Blocks(rows=48, window=48)
        assert_same(kd.solve(data, **asked), kd.solve(X, y[: len(counts)], **asked))


def test_the_next_window_is_read_by_another_thread(rows: dict[str, Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    read = FileArray.read

    def spy(self: FileArray, start: int, out: Any) -> None:
        threads.append(threading.current_thread().name)
        read(self, start, out)

    data, _ = rows["dense float32"]
    monkeypatch.setattr(FileArray, "read", spy)
    kd.solve(data, **OPTIONS, check_input=False)
    assert sum(name.startswith("kdvr-read") for name in threads) > N // BLOCKS.rows


@pytest.mark.parametrize("kind", ["dense float32", "sparse float64"])
@pytest.mark.parametrize("method", ["SGD", "KD of stored", "UnbiasedKD of weights", "SVRG", "LSVRG", "KD auto"])
def test_a_run_goes_on_from_its_checkpoint(rows: dict[str, Rows], tmp_path: Path, method: str, kind: str) -> None:
    data, how, teacher = rows[kind][0], *METHODS[method]
    asked = OPTIONS | {"method": how, "momentum": 0.5, "average": 1, "epochs": 5, "learning_rate": 0.05}
    asked["teacher"] = {"": None, "weights": LINEAR, "stored": data.teacher}[teacher]
    whole = kd.solve(data, **asked)
    kept = kd.Checkpoint(tmp_path / "run")
    kd.solve(data, checkpoint=kept, callbacks=lambda progress: progress.epoch == 2, **asked)
    resumed = kd.solve(data, checkpoint=kd.Checkpoint(tmp_path / "run", resume=True), **asked)
    assert_same(resumed, whole)
    with pytest.raises(ValueError, match="sampling is Blocks"):
        other = asked | {"sampling": kd.Blocks(rows=5, window=120)}
        kd.solve(data, checkpoint=kd.Checkpoint(tmp_path / "run", resume=True), **other)


def test_memory_is_bounded(tmp_path: Path) -> None:
    n, limit = 40_000, 12_000_000
    file = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (n, 250))
    file[:] = 1
    size = file.nbytes
    del file
    data = kd.open_data(tmp_path / "X.npy", y=np.zeros(n, np.float32), memory_limit=limit)
    asked: dict[str, Any] = {"loss": "squared", "epochs": 1, "batch_size": 50, "track": "objective"}
    with pytest.raises(ValueError, match=r"memory_limit=12000000: use sampling=Blocks\(window=(\d+)\) \(for kdvr") as told:
        kd.solve(data, **asked)
    window = int(str(told.value).split("window=")[1].split(")")[0])
    tracemalloc.start()
    kd.solve(data, sampling=kd.Blocks(window=window), **asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 3 * limit and window > 500
    assert limit / 4 < peak < limit + 1_000_000  # what else a run of this size allocates


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", DENSE)
    data = kd.open_data(tmp_path / "X.npy", y=LABELS)

    def cut(progress: kd.Progress) -> None:
        with open(tmp_path / "X.npy", "r+b") as file:
            file.truncate(1000)

    with pytest.raises(ValueError, match=r"X\.npy: ended at byte \d+ while it was read"):
        kd.solve(data, callbacks=cut, **OPTIONS)


def test_a_bad_number_is_found_by_its_row(tmp_path: Path) -> None:
    X = DENSE.copy()
    X[400, 3] = np.nan
    np.save(tmp_path / "X.npy", X)
    data = kd.open_data(tmp_path / "X.npy", y=LABELS)
    with pytest.raises(ValueError, match="X holds nan in row 400, column 3"):
        kd.solve(data, **OPTIONS)
    np.save(tmp_path / "X.npy", DENSE)
    y = LABELS.copy()
    y[300] = -2
    with pytest.raises(ValueError, match="y holds label -2 in row 300"):
        kd.solve(kd.open_data(tmp_path / "X.npy", y=y), **OPTIONS)
    y[300] = 10**6
    with pytest.raises(ValueError, match="y holds label 1000000 in row 300, which would make"):
        kd.solve(kd.open_data(tmp_path / "X.npy", y=y), **OPTIONS)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": kd.SAGA()}, "SAGA keeps a table of a residual a row"),
        ({"method": kd.LBFGS()}, "LBFGS keeps the logits of all rows"),
        ({"model": kd.DeepLinear(widths=(4,))}, "a DeepLinear model trains on rows in memory"),
        ({"cache_anchor": True}, "cache_anchor=True stores a residual a row"),
        ({"learning_rate": "auto"}, "learning_rate='auto' reads the rows many times"),
        ({"sampling": "replacement"}, "rows in files are walked by Blocks"),
        ({"sampling": "shuffle", "order": np.arange(N)}, "rows in files are walked by sampling=Blocks"),
        ({"y": LABELS}, "X is a data set that has its targets"),
        ({"batch_size": N + 1}, "batch_size=518 is more than the 517 rows"),
        ({"teacher": kd.Teacher.probabilities(SOFT[:-1]), "method": kd.KD()}, "516 rows, X has 517"),
    ],
)
def test_what_rows_in_files_do_not_do(rows: dict[str, Rows], asked: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        kd.solve(rows["dense float32"][0], **(OPTIONS | asked))


def test_teachers_that_are_asked_and_data_without_targets(rows: dict[str, Rows], tmp_path: Path) -> None:
    fitted = kd.Teacher.estimator(SimpleNamespace(predict_proba=lambda A: SOFT, classes_=np.arange(K)))
    with pytest.raises(ValueError, match="a fitted estimator would be asked about all rows again in every epoch"):
        kd.solve(rows["dense float32"][0], method=kd.KD(), teacher=fitted, **OPTIONS)
    np.save(tmp_path / "X.npy", DENSE)
    with pytest.raises(ValueError, match="the data set has no targets"):
        kd.solve(kd.open_data(tmp_path / "X.npy"), **OPTIONS)
    with pytest.raises(TypeError, match="y is missing"):
        kd.solve(DENSE, **OPTIONS)
