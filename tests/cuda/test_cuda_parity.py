"""The CUDA backend against the reference, emulated: the source compiled for the CPU, and the PTX that NVRTC makes of it.

Nothing here has run on a GPU; tests/gpu holds the same comparison for one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import test_parity as parity
from device import nvrtc
from device.backend import cuda_on
from device.engines import PtxEngine, ShimEngine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from problems import LOSS_NAMES, variates_of
from test_parity import EXAMPLES, Case, cases, compare
from test_parity_methods import compare_method, dtypes, table

from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import LARGEST, Step
from kdvr_fast.backends.cuda_device import Kind, Tuning

KINDS = [(loss, kind) for loss in LOSS_NAMES for kind in variates_of(loss)]
OUTPUTS = {"squared": 3, "logistic": 1, "softmax": 11}
STEP = Step(batch_size=4, l2=0.01, l1=0.001, momentum=0.5, average=True)
WAYS = {  # each way a step and a pass can go, whatever the size of the case
    "alone": Tuning(walk_work=2**62),
    "launches": Tuning(walk_work=0),
    "products": Tuning(walk_work=0, fused_outputs=1),
}
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def compile_all():
    """Starts to compile what the tables need, two kinds at a time."""
    device = get_backend("cuda").device
    for loss, k in OUTPUTS.items():
        for dtype in (np.float32, np.float64):
            for sparse in (False, True):
                device.kernels(Kind(np.dtype(dtype), sparse, loss, k == 1))
    return device


@pytest.fixture(scope="module")
def compiled(compiler):
    with cuda_on(ShimEngine(compiler)):
        yield compile_all()


@pytest.fixture
def on_the_cpu(compiled):
    """The device, which takes small problems in one block unless a test says otherwise."""
    compiled.tuning = Tuning()
    return compiled


@pytest.fixture(scope="module")
def in_ptx():
    if nvrtc.unavailable() is not None:
        pytest.skip(str(nvrtc.unavailable()))
    with cuda_on(PtxEngine()):
        yield compile_all()


@both
@pytest.mark.parametrize(("loss", "kind"), KINDS)
def test_every_kind_on_the_cpu(on_the_cpu, loss, kind, dtype):
    case = Case(loss, kind, 19, 37, OUTPUTS[loss], STEP, dtype, weighted=True, refresh=True, seed=7)
    sparse = replace(case, layout="csr", density=0.2, step=replace(STEP, batch_size=1, momentum=0.0))
    compare("cuda", case)
    compare("cuda", sparse)
    compare("cuda", replace(sparse, layout="csr, 64 bits"))
    on_the_cpu.tuning = WAYS["launches"]
    compare("cuda", case)
    compare("cuda", replace(sparse, step=replace(STEP, momentum=0.0)))
    on_the_cpu.tuning = WAYS["products"]
    if OUTPUTS[loss] > 1:
        compare("cuda", case)


@dtypes
@table
def test_every_method_on_the_cpu(on_the_cpu, loss, name, dtype):
    for sparse in (False, True):
        compare_method("cuda", loss, name, dtype, sparse)


@both
@pytest.mark.parametrize("layout", ["plain", "csr"])
@pytest.mark.parametrize(("loss", "kind"), KINDS)
def test_every_kind_in_ptx(in_ptx, loss, kind, layout, dtype):
    compare("cuda", Case(loss, kind, 9, 5, OUTPUTS[loss], STEP, dtype, layout, weighted=True, refresh=True, seed=7))


@settings(max_examples=EXAMPLES // 12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), way=st.sampled_from(sorted(WAYS)))
def test_random_sessions_on_the_cpu(on_the_cpu, case, way):
    on_the_cpu.tuning = WAYS[way]
    compare("cuda", case)


@pytest.mark.parametrize(("k", "dtype"), [(k, (np.float32, np.float64)[k % 3 == 0]) for k in (1, 2, 3, 7, 8, 9, 32, 33, 65)])
def test_every_number_of_outputs_on_the_cpu(on_the_cpu, k, dtype):
    for layout, density in (("plain", 1.0), ("csr", 0.3)):
        compare("cuda", Case("squared", "weights+mean", 40, 33, k, Step(batch_size=9), dtype, layout, density=density))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_extreme_logits_on_the_cpu(on_the_cpu, loss, way):
    on_the_cpu.tuning = WAYS[way]
    parity.test_extreme_logits("cuda", loss, np.float32)


@pytest.mark.parametrize("kind", ["none", "weights+mean", "saga"])
def test_a_session_starts_afresh_on_the_cpu(on_the_cpu, kind):
    parity.test_a_session_starts_afresh_with_set_weights("cuda", kind)


@pytest.mark.parametrize(
    ("way", "rate", "limit"), [("alone", 1e-9, LARGEST), ("launches", 1e4, 50.0), ("alone", 1e300, LARGEST)]
)
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_explosions_are_seen_on_the_cpu(on_the_cpu, loss, way, rate, limit):
    on_the_cpu.tuning = WAYS[way]
    parity.test_explosions_are_seen("cuda", loss, rate, limit)
