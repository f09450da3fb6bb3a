"""CSR rows that lie on an emulated device: read there without a copy, and refused as those on the host are."""

from __future__ import annotations

import numpy as np
import pytest
from device.array import DeviceArray
from device.backend import cuda_on
from device.engines import ShimEngine
from problems import make_problem
from scipy.sparse import csr_array

import kdvr_fast as kd
from kdvr_fast import _validation as check

N, D = 60, 13
ROWS = csr_array(make_problem("softmax", N, D, 3, density=0.3).X)
LABELS = np.arange(N) % 3
OPTIONS = {"loss": "softmax", "random_state": 0, "epochs": 2, "batch_size": 7, "backend": "cuda", "alpha": 0.01}


@pytest.fixture(scope="module")
def cp(compiler):
    with cuda_on(ShimEngine(compiler)) as module:
        yield module


class CupyCsr:
    """The attributes of `cupyx.scipy.sparse.csr_matrix` that are looked at."""

    format = "csr"

    def __init__(self, cp, A, index=np.int32):
        self.data, self.shape = cp.asarray(A.data), A.shape
        self.indices, self.indptr = cp.asarray(A.indices.astype(index)), cp.asarray(A.indptr.astype(index))

    def toarray(self):
        raise AssertionError("rows are read as they are")


class Foreign:
    def __init__(self, values):
        self.__cuda_array_interface__ = values.__cuda_array_interface__


class TorchCsr:
    """Those of a CUDA tensor of torch's layout sparse_csr, which has no interface of its own but says where it lies."""

    def __init__(self, cp, A, layout="torch.sparse_csr"):
        self._of, self.shape, self.layout = CupyCsr(cp, A, np.int64), A.shape, layout

    def __dlpack_device__(self):
        return 2, 0

    def values(self):
        return Foreign(self._of.data)

    def col_indices(self):
        return Foreign(self._of.indices)

    def crow_indices(self):
        return Foreign(self._of.indptr)


def solve(X, y=LABELS, **options):
    return kd.solve(X, y, **{**OPTIONS, **options})


def changed(**parts):
    """ROWS with some of its arrays replaced, which SciPy would not let through."""
    A = ROWS.copy()
    for name, values in parts.items():
        setattr(A, name, values)
    return A


def swapped(values, i, j):
    values = values.copy()
    values[[i, j]] = values[[j, i]]
    return values


def put(values, at, value):
    values = values.copy()
    values[at] = value
    return values


@pytest.mark.parametrize("make", [CupyCsr, TorchCsr])
def test_the_run_is_that_of_the_rows_on_the_host(cp, make):
    wanted, run = solve(ROWS, backend="reference"), solve(make(cp, ROWS), cp.asarray(LABELS), track=("objective", "accuracy"))
    assert isinstance(run.coef, DeviceArray)
    np.testing.assert_allclose(run.coef.get(), wanted.coef, rtol=0, atol=1e-12)
    assert run.history["accuracy"][-1] == pytest.approx(np.mean(wanted.predict(ROWS) == LABELS))
    for there, here in (
        (run.predict(make(cp, ROWS)), wanted.predict(ROWS)),
        (run.decision_function(make(cp, ROWS)), wanted.decision_function(ROWS)),
    ):
        assert isinstance(there, DeviceArray)
        np.testing.assert_allclose(there.get(), here, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", [CupyCsr, TorchCsr])
def test_nothing_is_copied_that_has_the_types_of_the_kernels(cp, make):
    given = make(cp, ROWS)
    rows = check.features(given)
    of = given if make is CupyCsr else given._of
    for name in ("data", "indices", "indptr"):
        assert getattr(rows, name).pointer == getattr(of, name).pointer
    wide = csr_array(np.ones((500, 400), np.float32))
    X, y = CupyCsr(cp, wide), cp.asarray(np.arange(500) % 2)
    with cp.memory.measured() as peak:
        solve(X, y, epochs=1)
    assert peak.nbytes < wide.data.nbytes / 2


def test_blocks_on_the_host(cp):
    rows = check.features(CupyCsr(cp, ROWS))
    for some in (slice(3, 9), slice(None), slice(0, 0), slice(None, None, 2), np.array([5, 1, 1, 59])):
        np.testing.assert_array_equal(rows[some].toarray(), ROWS[np.arange(N)[some]].toarray())


def test_statistics_and_a_checkpoint(cp, tmp_path):
    W = np.random.default_rng(1).normal(size=(3, D))
    got, wanted = (
        kd.gradient_stats(X, LABELS, W, loss="softmax", backend=backend)
        for X, backend in ((CupyCsr(cp, ROWS), "cuda"), (ROWS, "reference"))
    )
    assert got.variance == pytest.approx(wanted.variance, rel=1e-9)
    path = tmp_path / "run"
    solve(CupyCsr(cp, ROWS), checkpoint=kd.Checkpoint(path))
    with pytest.raises(ValueError, match="X is sparse"):
        solve(CupyCsr(cp, 2 * ROWS), checkpoint=kd.Checkpoint(path, resume=True))
    solve(CupyCsr(cp, ROWS), epochs=3, checkpoint=kd.Checkpoint(path, resume=True))


FIRST = int(np.flatnonzero(np.diff(ROWS.indptr) > 1)[0])  # a row of two numbers or more
AT = int(ROWS.indptr[FIRST])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (changed(data=put(ROWS.data, 5, np.nan)), ValueError, "X holds nan in row"),
        (changed(data=ROWS.data.astype(np.float16)), TypeError, "X has dtype float16"),
        (changed(indices=put(ROWS.indices, AT, -1)), ValueError, f"X has feature -1 in row {FIRST}"),
        (changed(indices=put(ROWS.indices, AT + 1, D)), ValueError, f"X has feature {D} in row {FIRST}"),
        (changed(indices=swapped(ROWS.indices, AT, AT + 1)), ValueError, f"in row {FIRST}, and they must rise"),
        (changed(indptr=put(ROWS.indptr, 2, 999)), ValueError, "X.indptr does not rise from 0 in 61 steps"),
        (changed(indptr=ROWS.indptr + np.arange(N + 1, dtype=np.int32)), ValueError, "X.indptr ends at .* build it anew"),
    ],
)
def test_bad_rows_are_refused_as_those_on_the_host(cp, rows, error, message):
    before = len(cp.launched)
    with pytest.raises(error, match=message):
        solve(CupyCsr(cp, rows))
    assert len(cp.launched) == before


def test_large_numbers_are_no_infinities(cp):
    large = csr_array(np.full((3, 4), 1e38, np.float32))
    assert check.features(CupyCsr(cp, large)).shape == (3, 4)


@pytest.mark.parametrize("A", [csr_array((4, 3)), csr_array(np.array([[0.0, 1.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]))])
def test_empty_rows_are_rows(cp, A):
    y = np.arange(4) % 2
    run = solve(CupyCsr(cp, A), y, batch_size=3)
    np.testing.assert_allclose(run.coef.get(), solve(A, y, batch_size=3, backend="reference").coef, atol=1e-12)


def test_other_formats_and_backends_are_refused(cp):
    columns = CupyCsr(cp, ROWS)
    columns.format = "csc"
    with pytest.raises(TypeError, match="sparse matrix of format csc on a GPU; rows are read from CSR"):
        solve(columns)
    with pytest.raises(TypeError, match=r"format torch.sparse_coo on a GPU; rows are read from CSR: .*to_sparse_csr"):
        solve(TorchCsr(cp, ROWS, "torch.sparse_coo"))
    with pytest.raises(ValueError, match="X lies on a GPU, which it does not read; use backend='cuda'"):
        solve(CupyCsr(cp, ROWS), backend="native")
    with pytest.raises(ValueError, match="reads some rows on the processor, so that X must lie there"):
        solve(CupyCsr(cp, ROWS), method=kd.LBFGS())
