"""The backend's kernels on tape: clean on every build and under every schedule, and never so with a fault planted in them.

A fault is a change of the kernels' own text, so that it cannot grow stale: it has to fit. Emulated on the CPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pytest
from device import nvrtc
from device.backend import cuda_on
from device.engines import PtxEngine, ShimEngine
from problems import VARIATES, make_point
from ptx import PTXError
from shim import Patch, Recorder, Tape, replay, replay_sanitized
from test_parity import Case, learning_rate, make_case_problem, start

from kdvr_fast.backends import get_backend
from kdvr_fast.backends.base import Step

CASES = {
    "dense": Case("softmax", "weights+mean", 37, 35, 11, Step(batch_size=5, l2=0.01, momentum=0.5), np.float32, weighted=True),
    "saga": Case("softmax", "saga", 23, 9, 3, Step(batch_size=4, average=True), np.float64, "csr", density=0.4, weighted=True),
    "one": Case("logistic", "table+mean", 41, 33, 1, Step(batch_size=6, l1=1e-3), np.float64, cached=True),
    "many": Case("softmax", "weights", 64, 70, 40, Step(batch_size=64), np.float32),  # launch by launch, and cuBLAS's place
}
KERNELS = {  # that must be on a tape, so that all are
    "dense": {"walk", "pass", "reduce"},
    "saga": {"walk", "rows", "columns", "reduce"},
    "one": {"walk", "rows", "pass", "reduce"},
    "many": {"forward", "step", "finish", "reduce"},
}


@dataclass
class Recording:
    code: str
    options: tuple[str, ...]
    tape: Tape


def record(compiler, case, patches=()) -> Recording:
    """What a session launches."""
    recorder = Recorder(ShimEngine(compiler, patches=patches))
    run_session(recorder, case)
    return Recording(recorder.code, recorder.options, recorder.tape)


def run_session(engine, case):
    """An anchor, an epoch, a pass."""
    problem = make_case_problem(case)
    with cuda_on(engine):
        session = get_backend("cuda").open(problem)
        start(session, problem, case)
        order = np.random.default_rng(case.seed).integers(0, case.n, case.n + 3)
        session.epoch(order, np.array([learning_rate(problem, case.step)]), case.step, VARIATES[case.kind])
        session.evaluate(*make_point(problem, 5), VARIATES[case.kind])


@pytest.fixture(scope="module")
def recorded(compiler):
    """Recordings by name, each made once."""
    made = dict[str, Recording]()

    def get(name) -> Recording:
        if name not in made:
            made[name] = record(compiler, CASES[name])
        return made[name]

    return get


def build(compiler, recording, flavour, *patches):
    return compiler.build(recording.code, recording.options, flavour, patches)


@pytest.mark.parametrize("name", CASES)
def test_the_tapes_hold_every_kernel(recorded, name):
    assert {launch.name.removeprefix("kdvr_") for launch in recorded(name).tape} == KERNELS[name]


@pytest.mark.parametrize("name", CASES)
def test_same_bits_and_no_race_under_any_schedule(compiler, recorded, name):
    recording = recorded(name)
    for flavour, seeds in (("plain", range(1, 4)), ("race", range(2))):
        library = build(compiler, recording, flavour)
        assert [replay(library, recording.tape, seed) for seed in seeds] == [[]] * len(seeds)


@pytest.mark.parametrize("name", CASES)
def test_nothing_for_the_sanitizers(compiler, recorded, name, tmp_path):
    recording = recorded(name)
    assert replay_sanitized(build(compiler, recording, "sanitized"), recording.tape, tmp_path) == []


@dataclass(frozen=True)
class Fault:
    """A change of one file, the tape and the build that show it, and words of what must be found."""

    tape: str
    flavour: str
    file: str
    old: str
    new: str
    found: str


FAULTS = {
    "no barrier before the weights move": Fault(
        "dense",
        "race",
        "",
        "        forward<Rows>(job, step, warp, warps, sums);\n        __syncthreads();",
        "        forward<Rows>(job, step, warp, warps, sums);",
        "race of a",
    ),
    "no barrier before a tile's gradient": Fault(
        "one",
        "race",
        "pass.cuh",
        "        __syncthreads();\n        if (parts == 2) {",
        "        if (parts == 2) {",
        "race of a",
    ),
    "no barrier of the warp": Fault(
        "many",
        "race",
        "step.cuh",
        "        __syncwarp();  // before the next row's logits",
        "        // before the next",
        "race of a",
    ),
    "no barrier between two rows of a sparse batch": Fault(
        "saga",
        "race",
        "step.cuh",
        "            }\n            __syncthreads();\n        }\n    };",
        "            }\n        }\n    };",
        "race of",
    ),
    "one number too many": Fault(
        "one",
        "sanitized",
        "rows.cuh",
        "i < job.d; i += 32) f(i, a[i]);",
        "i <= job.d; i += 32) f(i, a[i]);",
        "heap-buffer-overflow",
    ),
    "one row too many": Fault(
        "many",
        "sanitized",
        "step.cuh",
        "i < last; ++i) {\n        const T a",
        "i <= last; ++i) {\n        const T a",
        "heap-buffer-overflow",
    ),
    "too little shared memory": Fault(
        "dense", "sanitized", "residual.cuh", "lines[32 * kSums]", "lines[5 * kSums]", "global-buffer-overflow"
    ),
    "a shuffle of half a warp": Fault(
        "dense",
        "plain",
        "step.cuh",
        "        xx = sum<T>(xx), xt =",
        "        if (lane() < 16) continue;\n        xx = sum<T>(xx), xt =",
        "lanes of a warp wait at different|does not come|has ended",
    ),
    "a sum that starts anywhere": Fault(
        "dense",
        "race",
        "residual.cuh",
        "if (lane() < kSums) values",
        "if (lane() < kSums - 2) values",
        "read before it is written",
    ),
    "the same, seen by its result": Fault(
        "dense", "plain", "residual.cuh", "if (lane() < kSums) values", "if (lane() < kSums - 2) values", "leaves other bits"
    ),
    "a barrier that a warp does not reach": Fault(
        "dense",
        "plain",
        "residual.cuh",
        "        __syncthreads();\n        if (threadIdx.x >= kSums) return;",
        "        if (threadIdx.x >= 32) return;\n        __syncthreads();\n        if (threadIdx.x >= kSums) return;",
        "a barrier is waited for after threads",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(compiler, recorded, name, tmp_path):
    fault = FAULTS[name]
    recording = recorded(fault.tape)
    library = build(compiler, recording, fault.flavour, Patch(fault.file, fault.old, fault.new))
    if fault.flavour == "sanitized":
        findings = replay_sanitized(library, recording.tape, tmp_path, seed=1)
    else:
        findings = replay(library, recording.tape, seed=1)
    assert any(re.search(fault.found, finding) for finding in findings), findings


def test_a_sum_over_blocks_in_the_order_of_arrival_is_found(compiler):
    """All else is right: only the order in which blocks come to add decides the last bits."""
    ordered = "sums[static_cast<Index>(blockIdx.x) * kSums + threadIdx.x] += total;"
    patch = Patch("residual.cuh", ordered, "atomicAdd(sums + threadIdx.x, total);")
    recording = record(compiler, CASES["many"], [patch])
    library = build(compiler, recording, "plain", patch)
    assert replay(library, recording.tape, 0) == []
    assert any("leaves other bits" in finding for seed in range(1, 4) for finding in replay(library, recording.tape, seed))


@pytest.mark.skipif(nvrtc.unavailable() is not None, reason=str(nvrtc.unavailable()))
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one number too many", "global access out of bounds"),
        ("a sum that starts anywhere", "shared memory is read before it is written: residual.cuh"),
        ("a shuffle of half a warp", "a lane that the mask names does not come"),
    ],
)
def test_a_planted_fault_is_found_in_ptx(name, message, tmp_path):
    """The same changes, through NVRTC, in the interpreter."""
    fault = FAULTS[name]
    engine = PtxEngine(planted=([Patch(fault.file, fault.old, fault.new)], tmp_path))
    with pytest.raises(PTXError, match=message):
        run_session(engine, CASES["one"])
    run_session(PtxEngine(), CASES["one"])
