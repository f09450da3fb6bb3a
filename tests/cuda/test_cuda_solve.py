"""`backend="cuda"` from end to end on an emulated device: its PTX, arrays that lie on the device, and what is refused.

Every method: test_cuda_parity.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from device import nvrtc
from device.array import DeviceArray
from device.backend import cuda_on
from device.engines import PtxEngine, ShimEngine
from problems import make_point, make_problem

import kdvr_fast as kd
from kdvr_fast._validation.device import on_device
from kdvr_fast.backends import backend_status

METHODS = {"sgd": kd.SGD(), "unbiased": kd.UnbiasedKD(0.8), "svrg": kd.SVRG()}
OPTIONS = {"loss": "softmax", "alpha": 0.01, "learning_rate": 0.1, "batch_size": 8, "epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def cp(compiler):
    with cuda_on(ShimEngine(compiler)) as module:
        yield module


@pytest.fixture(scope="module")
def problem():
    return make_problem("softmax", 60, 13, 4)


def solve(problem, method, backend, **options):
    teacher = kd.Teacher.weights(*make_point(problem, 2)) if isinstance(method, kd.KD | kd.UnbiasedKD) else None
    given = {**OPTIONS, "X": problem.X, "y": problem.y, **options}
    return kd.solve(given.pop("X"), given.pop("y"), method=method, teacher=teacher, backend=backend, **given)


def same(got, wanted):
    coef = got.coef.get() if isinstance(got.coef, DeviceArray) else got.coef
    np.testing.assert_allclose(coef, wanted.coef, rtol=0, atol=1e-12)
    for column in ("loss", "variance", "grad_norm"):
        np.testing.assert_allclose(got.history[column], wanted.history[column], rtol=1e-9, err_msg=column)


def test_in_ptx(problem):
    """The Python path, NVRTC, and what it emits."""
    if nvrtc.unavailable() is not None:
        pytest.skip(str(nvrtc.unavailable()))
    with cuda_on(PtxEngine()):
        same(solve(problem, METHODS["svrg"], "cuda"), solve(problem, METHODS["svrg"], "reference"))


def test_arrays_on_the_device_stay_there(cp, problem):
    X, y = cp.asarray(problem.X), cp.asarray(problem.y)
    run = solve(problem, METHODS["unbiased"], "cuda", X=X, y=y)
    assert isinstance(run.coef, DeviceArray) and isinstance(run.intercept, DeviceArray)
    same(run, solve(problem, METHODS["unbiased"], "reference"))


class Foreign:
    """Another library's array on the device: it has an interface and nothing else."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape
        self.__cuda_array_interface__ = values.__cuda_array_interface__


class ByDlpack:
    """An array of a library that speaks DLPack alone, as JAX does. `streams`: those that it was asked to be ready for."""

    def __init__(self, values, kind=2):
        self.values, self.shape, self.kind, self.streams = values, values.shape, kind, []

    def __dlpack_device__(self):
        return self.kind, 0

    def __dlpack__(self, *, stream, max_version=None, dl_device=None, copy=None):
        self.streams.append(stream)
        return self.values._host.__dlpack__()


class FirstDlpack(ByDlpack):
    """The same before the protocol had versions."""

    def __dlpack__(self, *, stream):
        return super().__dlpack__(stream=stream)


def test_dlpack_arrays_give_the_run_of_their_numbers(cp, problem):
    X, y = ByDlpack(cp.asarray(problem.X)), FirstDlpack(cp.asarray(problem.y))
    same(solve(problem, METHODS["svrg"], "cuda", X=X, y=y), solve(problem, METHODS["svrg"], "reference"))
    assert set(X.streams) == set(y.streams) == {1}


def test_dlpack_arrays_of_the_host_are_no_device_arrays(cp, problem):
    """They go the way of NumPy's, which says what is wrong with them."""
    assert not on_device(ByDlpack(cp.asarray(problem.X), kind=1))
    assert on_device(ByDlpack(cp.asarray(problem.X), kind=13))


@pytest.mark.parametrize("Foreign", [Foreign, ByDlpack, FirstDlpack])
def test_arrays_of_other_libraries_are_read_in_place(cp, Foreign):
    """Rows are not copied: the most that is allocated at a time is less than they take."""
    problem = make_problem("softmax", 4000, 64, 3, dtype=np.float32)
    X, y, W = cp.asarray(problem.X), cp.asarray(problem.y), np.zeros((3, 64), np.float32)
    with cp.memory.measured() as peak:
        stats = kd.gradient_stats(Foreign(X), Foreign(y), W, loss="softmax", backend="cuda")
    wanted = kd.gradient_stats(problem.X, problem.y, W, loss="softmax", backend="reference")
    assert stats.variance == pytest.approx(wanted.variance, rel=1e-5)
    assert peak.nbytes < problem.X.nbytes / 2


def test_statistics(cp, problem):
    W, b = make_point(problem)
    options = {"intercept": b, "loss": "softmax", "teacher": kd.Teacher.weights(*make_point(problem, 2))}
    got, wanted = (kd.gradient_stats(problem.X, problem.y, W, **options, backend=name) for name in ("cuda", "reference"))
    for name in ("loss", "variance", "rho", "rho_centered", "snr"):
        assert getattr(got, name) == pytest.approx(getattr(wanted, name), rel=1e-9), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compress": kd.TopK(0.5)}, "compresses no weights"),
        ({"model": kd.DeepLinear(widths=(5,))}, "no deep ones"),
    ],
)
def test_what_it_cannot_do_is_refused_before_work_starts(cp, problem, options, message):
    before = len(cp.launched)
    with pytest.raises(ValueError, match=message):
        solve(problem, METHODS["sgd"], "cuda", **options)
    assert len(cp.launched) == before


def test_without_cupy_the_reason_says_what_to_install():
    reason = backend_status()["cuda"]
    assert reason is None or "pip install" in reason or "NVIDIA GPU" in reason
