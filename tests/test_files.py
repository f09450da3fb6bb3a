"""open_data on files of numbers and text: what comes out is what went in, stores are made anew when a source changes."""

from __future__ import annotations

import doctest
import gzip
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import dump_svmlight_file, load_svmlight_file
from test_data import idx_bytes

import kdvr_fast as kd
import kdvr_fast.files._text as text
from kdvr_fast.files import _store

SHARED = Path(os.environ.get("KDVR_DATA", Path(__file__).parents[2] / "shared" / "data"))


def dense(data: kd.DataSet) -> Any:
    """All rows as an array."""
    rows = data.rows[:]
    return rows.toarray() if data.sparse else rows


def sparse_rows(rng: np.random.Generator, n: int = 40, d: int = 9) -> sp.csr_matrix:
    return sp.csr_matrix(np.where(rng.random((n, d)) < 0.4, rng.standard_normal((n, d)), 0).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64", "float16", "uint8", "int8"]), parts=st.integers(1, 4))
def test_npy_in_shards(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: str, parts: int) -> None:
    folder = tmp_path_factory.mktemp("npy")
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("f") else {}
    d = data.draw(st.integers(1, 4))
    shards = [data.draw(hnp.arrays(dtype, (data.draw(st.integers(1, 9)), d), elements=finite)) for _ in range(parts)]
    for i, shard in enumerate(shards):
        np.save(folder / f"part-{i}.npy", shard)
    X = np.concatenate(shards)
    opened = kd.open_data(folder, dtype=np.float64)
    assert opened.shape == X.shape and not opened.sparse
    np.testing.assert_array_equal(opened.rows[:], X.astype(opened.dtype))
    a, b = sorted(data.draw(st.tuples(st.integers(0, len(X)), st.integers(0, len(X)))))
    np.testing.assert_array_equal(opened.rows[a:b], X[a:b].astype(opened.dtype))


@pytest.mark.parametrize("packed", [False, True])
def test_idx_images_and_labels(tmp_path: Path, packed: bool) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 4, 3), np.uint8), rng.integers(0, 3, 30).astype(np.uint8)
    for name, values in (("images", images), ("labels", labels)):
        raw = idx_bytes(values)
        (tmp_path / name).write_bytes(gzip.compress(raw) if packed else raw)
    data = kd.open_data(tmp_path / "images", y=tmp_path / "labels", scale=1 / 255)
    assert data.shape == (30, 12) and bool(list(tmp_path.glob("*.kdvr"))) == packed  # plain bytes are read in place
    X = kd.Compact(images.reshape(30, -1), scale=1 / 255)
    options: dict[str, Any] = {"loss": "softmax", "epochs": 2, "random_state": 0, "sampling": kd.Blocks(window=20)}
    assert np.array_equal(kd.solve(data, **options).coef, kd.solve(X, labels.astype(int), **options).coef)


def test_npz_keeps_its_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shards = [sparse_rows(rng, n) for n in (5, 1, 30)]
    (tmp_path / "s").mkdir()
    for i, shard in enumerate(shards):
        sp.save_npz(tmp_path / "s" / f"{i}.npz", shard, compressed=i % 2 == 0)
    data = kd.open_data(tmp_path / "s", y=np.zeros(36))
    assert data.sparse and data.shape == (36, 9)
    assert (data.rows[:] != sp.vstack(shards)).nnz == 0


@settings(max_examples=20, deadline=None)
@given(block=st.integers(16, 4000), packed=st.booleans(), zero_based=st.booleans(), seed=st.integers(0, 9))
def test_libsvm_text_whatever_is_read_at_once(
    tmp_path_factory: pytest.TempPathFactory, block: int, packed: bool, zero_based: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("svm")
    X, y = sparse_rows(np.random.default_rng(seed)), np.random.default_rng(seed).choice([-1.0, 1.0], 40)
    X = sp.vstack([np.ones((1, 9), np.float32), X[1:]], format="csr")  # the last feature says how many there are
    dump_svmlight_file(X, y, str(folder / "rows"), zero_based=zero_based)
    if packed:
        (folder / "rows").write_bytes(gzip.compress((folder / "rows").read_bytes()))
    before, text._BLOCK_BYTES = text._BLOCK_BYTES, block
    try:
        data = kd.open_data(folder / "rows", classes="fit", dtype=np.float64)
    finally:
        text._BLOCK_BYTES = before
    assert data.shape == (40, 9) and data.classes == [-1, 1]
    expected, labels = load_svmlight_file(str(folder / "rows")) if not packed else (X, y)
    np.testing.assert_allclose(dense(data), expected.toarray(), rtol=1e-6)
    np.testing.assert_array_equal(data.y[:], (labels > 0).astype(float))


def test_a_store_is_kept_until_its_source_changes(tmp_path: Path) -> None:
    path = tmp_path / "rows.svm"
    path.write_text("0 1:1 2:3\n1 2:5\n")
    (store,) = [kd.open_data(path).rows.data.path.parent]
    made = (store / "data.bin").stat().st_mtime_ns
    assert store.parent == tmp_path and (store / "data.bin").stat().st_mtime_ns == made
    kd.open_data(path)
    assert (store / "data.bin").stat().st_mtime_ns == made  # not written again
    path.write_text("0 1:1 2:3\n1 2:7\n")  # of the same size
    os.utime(path, ns=(1, 1))
    assert dense(kd.open_data(path)).tolist() == [[1, 3], [0, 7]]
    path.write_text("0 1:1 2:3\n1 2:7 3:1\n")
    assert kd.open_data(path).shape == (2, 3)
    assert kd.open_data(path, dtype=np.float64).dtype == np.float64  # another way of converting, another store
    assert kd.open_data(path).dtype == np.float32
    elsewhere = kd.open_data(path, cache=tmp_path / "there")
    assert elsewhere.rows.data.path.parent.parent == tmp_path / "there"
    assert not list(tmp_path.glob("*.tmp"))


def test_of_processes_that_convert_a_file_at_once_one_store_is_left(tmp_path: Path) -> None:
    path = tmp_path / "rows.svm"
    code = "import sys, kdvr_fast as kd; sys.stdin.read(1); print(kd.open_data(sys.argv[1]).rows[:].sum())"
    for lines in ("0 1:1 2:3\n" * 20000, "0 1:2 2:3\n" * 20000):  # the second time a store of the first is there
        path.write_text(lines)
        command = [sys.executable, "-c", code, str(path)]
        many = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        for process in many:
            assert process.stdin is not None
            process.stdin.write("x")
            process.stdin.close()
        total = {float(process.stdout.read()) for process in many if process.stdout is not None}
        assert total == {80000.0 if "1:1" in lines else 100000.0}
        assert [process.wait() for process in many] == [0] * 4
        assert len(list(tmp_path.glob("*.kdvr"))) == 1 and not list(tmp_path.glob("*.tmp"))


def test_a_store_that_another_process_was_first_to_put_there_stays(tmp_path: Path) -> None:
    def store(fill: Any) -> _store.Store:
        return _store.stored(tmp_path / "rows.kdvr", (), np.dtype(np.float32), fill)

    def fill(writer: _store.Writer) -> dict[str, Any]:
        writer.add(np.ones((2, 2), np.float32))
        return {}

    def late(writer: _store.Writer) -> dict[str, Any]:
        store(fill)
        (tmp_path / "rows.kdvr" / "theirs").touch()
        return fill(writer)

    assert (store(late).folder / "theirs").exists() and [p.name for p in tmp_path.iterdir()] == ["rows.kdvr"]


def test_others_may_read_a_store_as_the_umask_lets_them(tmp_path: Path) -> None:
    (tmp_path / "rows.svm").write_text("0 1:1\n")
    before = os.umask(0o027)
    try:
        store = kd.open_data(tmp_path / "rows.svm").rows.data.path.parent
    finally:
        os.umask(before)
    assert store.stat().st_mode & 0o777 == 0o750 and (store / "data.bin").stat().st_mode & 0o777 == 0o640


def test_what_fails_leaves_no_store(tmp_path: Path) -> None:
    path = tmp_path / "rows.svm"
    path.write_text("0 1:1\n" * 50 + "0 1:nan\n")
    with pytest.raises(ValueError, match="X holds nan in row 50, column 1"):
        kd.open_data(path)
    path.write_text("0 1:1\n" * 50 + "0 1:x\n")
    with pytest.raises(ValueError, match=r"rows\.svm: not LIBSVM text somewhere in lines 1 \.\. 51"):
        kd.open_data(path)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.svm"]


def test_a_damaged_store_is_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.svm"
    path.write_text("0 1:1 2:3\n1 2:5\n")
    folder = kd.open_data(path).rows.data.path.parent
    (folder / "indices.bin").write_bytes(np.array([0, 1, 77], np.int32).tobytes())
    with pytest.raises(ValueError, match="X has feature 77 in row 1; with 2 features"):
        kd.open_data(path)
    (folder / "indices.bin").write_bytes(b"1234")
    with pytest.raises(ValueError, match=r"indices\.bin: truncated"):
        kd.open_data(path)


def test_chunks_are_read_once_and_kept_while_they_are_used() -> None:
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    calls = []

    def chunks() -> Any:
        calls.append(1)
        yield from ((X[a : a + 20], y[a : a + 20]) for a in range(0, 50, 20))

    data = kd.open_data(chunks, dtype=np.float64)
    one_shot = kd.open_data(chunks(), dtype=np.float64)
    for found in (data, one_shot):
        options: dict[str, Any] = {"loss": "squared", "epochs": 3, "random_state": 0, "sampling": kd.Blocks()}
        assert np.array_equal(kd.solve(found, **options).coef, kd.solve(X, y, **options).coef)
    assert len(calls) == 2
    folder = data.rows.values.path.parent
    assert folder.exists()
    del data, found
    assert not folder.exists()
    assert [X.shape for X, _ in one_shot.chunks(30)] == [(30, 3), (20, 3)]


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([], "the chunks: there are no rows"),
        ([np.ones((2, 2))], "chunk 0 is ndarray; chunks are pairs"),
        ([(np.ones((2, 2)), np.ones(3))], r"chunk 0 has X of shape \(2, 2\) and y of shape \(3,\)"),
        ([(np.ones((2, 2)), np.ones(2)), (np.ones((2, 3)), np.ones(2))], "rows 2 and following have .3. columns in 'values'"),
        ([(np.ones((2, 2)), np.ones(2)), (sp.eye(2, format="csr"), np.ones(2))], "rows 2 and following are sparse"),
        ([(np.ones((2, 1)), np.ones(2)), ([[np.inf], [1.0]], np.ones(2))], "X holds inf in row 2, column 0"),
        (7, "source must be a path, chunks"),
    ],
)
def test_bad_chunks(chunks: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        kd.open_data(chunks)


@pytest.mark.parametrize(
    ("name", "raw", "options", "message"),
    [
        ("a.bin", b"\x00\x01\x02rubbish", {}, r"a\.bin: not a known kind of file: it starts with b'\\x00\\x01\\x02rubbish'"),
        ("a", gzip.compress(b"1 1:1\n" * 100, mtime=0)[:-30], {}, "a: damaged gzip archive"),
        ("a.svm", b"1 1:1\n", {"columns": kd.Columns()}, "is libsvm and has no named columns"),
        ("a.svm", b"1 1:1\n", {"scale": 2.0}, "scale=2 is for rows of one or two bytes"),
        ("a.svm", b"1 1:1\n", {"y": np.ones(1)}, "the rows bring their targets: leave it out"),
        ("a.svm", b"1 0:1\n", {"zero_based": False}, "a feature is numbered 0 and zero_based=False counts from 1"),
        ("a.svm", b"1 1:1\n", {"classes": [2, 3]}, "y holds 1.0 in row 0, which is none of the classes"),
        ("a.svm", b"1 1:1\n", {"classes": "all"}, "classes='all': pass 'fit'"),
        ("a.svm", b"1 1:1\n", {"memory_limit": 0}, "memory_limit=0 must be at least 1"),
        ("a.svm", b"1 1:1\n", {"teacher_logits": np.ones((1, 2)), "teacher_proba": np.ones((1, 2))}, "both given"),
    ],
)
def test_bad_files_and_options(tmp_path: Path, name: str, raw: bytes, options: dict[str, Any], message: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        kd.open_data(tmp_path / name, **options)


def test_arrays_that_are_no_rows(tmp_path: Path) -> None:
    def saved(name: str, values: Any) -> Path:
        np.save(tmp_path / name, values)
        return tmp_path / name

    for values, message in (
        (np.asfortranarray(np.ones((2, 3))), "Fortran-ordered"),
        (np.ones((2, 3), np.int64), r"holds int64; rows are read as float32 or float64: save X\.astype"),
        (np.ones((2, 3), ">f8"), "byte order"),
        (np.ones(3), r"has shape \(3,\); rows are 2-D"),
        (np.float64(1), "a single number"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            kd.open_data(saved("X.npy", values))
    X = saved("X.npy", np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"y has shape \(3,\); expected 2 rows"):
        kd.open_data(X, y=saved("y.npy", np.ones(3)))
    with pytest.raises(ValueError, match="scale=2 is for rows of one or two bytes"):
        kd.open_data(X, scale=2.0)
    with pytest.raises(ValueError, match="zero_based is for LIBSVM text"):
        kd.open_data(X, zero_based=True)
    (tmp_path / "y.svm").write_text("1 1:1\n")
    with pytest.raises(ValueError, match=r"targets and teacher outputs beside rows are \.npy or IDX"):
        kd.open_data(X, y=tmp_path / "y.svm")
    sp.save_npz(tmp_path / "X.npz", sp.eye(3, format="csc"))
    with pytest.raises(ValueError, match=r"of format b'csc': save X\.tocsr"):
        kd.open_data(tmp_path / "X.npz")
    np.savez(tmp_path / "X.npz", X=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"not a CSR matrix in a \.npz file"):
        kd.open_data(tmp_path / "X.npz")


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        kd.open_data(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="the folder holds no files"):
        kd.open_data(tmp_path)
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    np.save(tmp_path / "b.npy", np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"b\.npy has 3 features of float64, a\.npy has 2"):
        kd.open_data(tmp_path)
    (tmp_path / "b.npy").write_text("1 1:1\n")
    with pytest.raises(ValueError, match=r"b\.npy is libsvm and a\.npy is npy"):
        kd.open_data(tmp_path)


@pytest.mark.skipif(not (SHARED / "libsvm" / "a9a").exists(), reason="no data in ../shared/data or KDVR_DATA")
def test_a9a(tmp_path: Path) -> None:
    X, y = load_svmlight_file(str(SHARED / "libsvm" / "a9a"), dtype=np.float32)
    data = kd.open_data(SHARED / "libsvm" / "a9a", classes=[-1, 1], cache=tmp_path)
    assert (data.rows[:] != X).nnz == 0
    options: dict[str, Any] = {"loss": "logistic", "batch_size": 1, "epochs": 2, "random_state": 0, "alpha": 1e-4}
    options["sampling"] = kd.Blocks(rows=256, window=4096)
    held = kd.solve(X, (y > 0).astype(np.float32), **options)
    assert np.array_equal(kd.solve(data, **options).coef, held.coef)


@pytest.mark.parametrize("module", ["_blocks", "files._open", "files._columns"])
def test_examples_of_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"kdvr_fast.{module}")).failed == 0
