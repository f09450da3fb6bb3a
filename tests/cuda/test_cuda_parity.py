"""The CUDA backend against the reference, emulated: the source compiled for the CPU, and the PTX that NVRTC makes of it.

Nothing here has run on a GPU; tests/gpu holds the same comparison for one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from device import nvrtc
from device.backend import cuda_on
from device.engines import PtxEngine, ShimEngine
from hypothesis import given, settings
from problems import LOSS_NAMES, variates_of
from test_parity import SPARSE, Case, cases, compare

from kdvr_fast.backends.base import Step

KINDS = [(loss, kind) for loss in LOSS_NAMES for kind in variates_of(loss)]
OUTPUTS = {"squared": 3, "logistic": 1, "softmax": 11}
STEP = Step(batch_size=4, l2=0.01, l1=0.001, momentum=0.5, average=True)
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture(scope="module")
def on_the_cpu(compiler):
    with cuda_on(ShimEngine(compiler)):
        yield


@pytest.fixture(scope="module")
def in_ptx():
    if nvrtc.unavailable() is not None:
        pytest.skip(str(nvrtc.unavailable()))
    with cuda_on(PtxEngine()):
        yield


@both
@pytest.mark.parametrize(("loss", "kind"), KINDS)
def test_every_kind_on_the_cpu(on_the_cpu, loss, kind, dtype):
    case = Case(loss, kind, 29, 37, OUTPUTS[loss], STEP, dtype, weighted=True, refresh=True, seed=7)
    compare("cuda", case)
    for index, layout in enumerate(SPARSE):
        lazy = replace(STEP, batch_size=1 + 3 * index, momentum=0.0)
        compare("cuda", replace(case, layout=layout, density=0.2, step=lazy))


@both
@pytest.mark.parametrize("layout", ["plain", "csr"])
@pytest.mark.parametrize(("loss", "kind"), KINDS)
def test_every_kind_in_ptx(in_ptx, loss, kind, layout, dtype):
    compare("cuda", Case(loss, kind, 9, 5, OUTPUTS[loss], STEP, dtype, layout, weighted=True, refresh=True, seed=7))


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_random_sessions_on_the_cpu(on_the_cpu, case):
    compare("cuda", case)
