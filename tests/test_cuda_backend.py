"""The CUDA backend without a device: what it refuses and says, and what it hands to the kernels. Kernels run in tests/cuda."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import make_problem, to_csr

import kdvr_fast as kd
from kdvr_fast._layers import Network
from kdvr_fast.backends.base import Compression, Problem, Step, Work
from kdvr_fast.backends.cuda import CudaBackend, _mark_repeats
from kdvr_fast.backends.cuda_device import NUMBERS, POINTERS, SUMS, Kind, find_device, source_folder
from kdvr_fast.synthetic import VirtualRows

C_TYPES = {"Index": np.int64, "int": np.int32, "double": np.float64}
SOURCE = source_folder() / "cuda"


def test_the_kernels_take_the_arguments_in_this_order_and_of_these_types():
    text = (SOURCE / "job.cuh").read_text()
    listed = re.search(r"#define KDVR_PARAMETERS\(T\)(.*?)\n\n", text, re.DOTALL)[1].replace("\\\n", " ")
    found = [re.fullmatch(r"(?:const )?(\w+) ?(\*?)(\w+)", part.strip()).groups() for part in listed.split(",")]
    assert tuple(name for _, star, name in found if star) == POINTERS
    assert [name for _, star, name in found if star] + list(NUMBERS) == [name for *_, name in found]
    assert {name: C_TYPES[kind] for kind, star, name in found if not star} == NUMBERS
    assert f"kSums = {SUMS}" in text


def test_a_module_is_compiled_for_one_kind_of_problem():
    kind = Kind(np.dtype(np.float32), True, "softmax", False)
    assert kind.options() == ("-DKDVR_REAL=float", "-DKDVR_SPARSE=1", "-DKDVR_LOSS=Softmax", "-DKDVR_ONE=0")
    used = set(re.findall(r"KDVR_(?:REAL|SPARSE|LOSS|ONE)\b", "".join(p.read_text() for p in SOURCE.iterdir())))
    assert used == {option[2:].split("=")[0] for option in kind.options()}


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 12))
def test_a_row_that_its_batch_has_met_is_marked(rows, batch_size):
    marked = _mark_repeats(np.array(rows, np.int64), batch_size)
    for start in range(0, len(rows), batch_size):
        met = set()
        for row, entry in zip(rows[start : start + batch_size], marked[start : start + batch_size].tolist(), strict=True):
            assert entry == (-1 - row if row in met else row)
            met.add(row)


def _refused() -> dict[str, tuple[Problem, Work, str]]:
    plain = make_problem("softmax")
    rows = VirtualRows(50, 3)
    custom = kd.Loss.custom(lambda y, z: (z - y) ** 2 / 2, lambda y, z: z - y, name="half")
    huge = SimpleNamespace(shape=(10, 2**30), dtype=np.dtype(np.float32))
    stored = kd.Compact(np.ones((23, 7), np.uint8), dtype=np.float64)

    def like(**changes):
        return Problem(**{**vars(plain), **changes})

    return {
        "deep": (plain, Work(network=Network((7, 4))), "no deep ones"),
        "custom loss": (like(y=np.zeros((23, 1)), loss=custom, n_outputs=1), Work(), "no loss but the built-in ones"),
        "compact": (like(X=stored), Work(), "neither compact nor virtual"),
        "virtual": (like(X=rows), Work(), "neither compact nor virtual"),
        "compression": (plain, Work(step=Step(compression=Compression("top", kept=3))), "compresses no weights"),
        "too many weights": (like(X=huge), Work(), "counts rows, weights and residuals"),
        "too large a batch": (plain, Work(step=Step(batch_size=2**30)), "counts rows, weights and residuals"),
    }


@pytest.mark.parametrize(("problem", "work", "message"), _refused().values(), ids=_refused())
def test_what_it_does_not_do_is_refused_without_a_device(problem, work, message):
    assert message in CudaBackend().refusal(problem, work)


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
def test_all_else_is_taken(loss):
    problem = make_problem(loss, density=0.5)
    step = Step(batch_size=9, l2=0.1, l1=0.1, momentum=0.9, nesterov=True, average=True)
    for X in (problem.X, to_csr(problem.X), to_csr(problem.X, np.int64)):
        assert CudaBackend().refusal(Problem(**{**vars(problem), "X": X}), Work(step=step, full_batch=True)) is None


class _NoDriver(RuntimeError):
    pass


def _cupy(count):
    def devices():
        if isinstance(count, Exception):
            raise count
        return count

    return SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=devices, CUDARuntimeError=_NoDriver)))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, r"CuPy cannot be imported .*: pip install \"kdvr_fast\[cuda12\]\" or \"kdvr_fast\[cuda13\]\""),
        (
            _cupy(_NoDriver("driver is too old")),
            r"CUDA finds no device \(driver is too old\): it needs an NVIDIA GPU and a driver",
        ),
        (_cupy(0), "CUDA finds no device: it needs an NVIDIA GPU"),
    ],
)
def test_why_it_cannot_run(monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert re.match(message, find_device())
    with pytest.raises(RuntimeError, match=f"backend='cuda' cannot run here: {message}"):
        kd.get_backend("cuda")


class _Tensor:
    """An array that says it lies on a GPU."""

    shape = (3, 2)
    __cuda_array_interface__ = {"shape": (3, 2)}  # noqa: RUF012


def test_an_array_on_a_gpu_without_cupy_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match="X lies on a GPU and is read with CuPy, which cannot be imported"):
        kd.solve(_Tensor(), np.zeros(3), loss="squared")
    for name in ("sample_weight", "coef_init"):
        with pytest.raises(TypeError, match=f"{name} lies on a GPU, where X and y alone are read"):
            kd.solve(np.ones((3, 2)), np.zeros(3), loss="squared", **{name: _Tensor()})
