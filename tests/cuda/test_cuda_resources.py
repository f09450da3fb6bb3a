"""What the assembler says of the kernels for three architectures, and the bytes that the emulated PTX moves and must move."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device import nvrtc
from resources import ARCHITECTURES, KINDS, README, SHARED, SLACK, WORKLOADS, Use, all_uses, excess, label, measure, read_log
from shim import Patch

from kdvr_fast.backends.cuda_device import Kind, source_folder

NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
needs_nvrtc = pytest.mark.skipif(nvrtc.unavailable() is not None, reason=str(nvrtc.unavailable()))


@needs_nvrtc
def test_no_kernel_spills_or_asks_for_more_than_there_is():
    """Of the kinds with the most numbers in registers; `resources.py` looks at all."""
    largest = [Kind(np.dtype(dtype), False, "softmax", False) for dtype in (np.float32, np.float64)]
    for (kind, architecture), uses in all_uses(largest).items():
        assert {use.kernel for use in uses} >= {"kdvr_walk", "kdvr_forward", "kdvr_step", "kdvr_pass", "kdvr_reduce"}
        for use in uses:
            assert excess(use) is None, (kind, architecture, excess(use))


def test_the_table_names_every_kind_and_kernel_without_a_spill():
    """Of csrc/cuda/README.md; its numbers are checked by `resources.py --check`, in minutes."""
    rows = [line.split(" | ") for line in README.read_text().splitlines() if line.startswith("| kdvr_")]
    kernels = {"kdvr_walk", "kdvr_forward", "kdvr_step", "kdvr_rows", "kdvr_reduce"}
    own = {False: {"kdvr_pass", "kdvr_finish"}, True: {"kdvr_columns"}}
    wanted = {(name, label(kind)) for kind in KINDS for name in kernels | own[kind.sparse]}
    assert {(name.strip("| "), kind) for name, kind, *_ in rows} == wanted
    assert all(row[-1].strip(" |") == "0" and len(row) == 4 + len(ARCHITECTURES) for row in rows)


def test_what_is_not_there_would_be_seen():
    fine = Use("kdvr_walk", 170, SHARED, 0)
    assert excess(fine) is None
    assert "spills 8 bytes" in excess(replace(fine, spills=8))
    assert "171 registers in each of 384" in excess(replace(fine, registers=171))
    assert "bytes of shared memory" in excess(replace(fine, shared=SHARED + 1))


@needs_nvrtc
def test_a_spill_would_be_seen():
    """The reading of the assembler's log, on a kernel that cannot keep its numbers."""
    code = """extern "C" __global__ void __launch_bounds__(1024, 2) hungry(float* x, int n) {
        float v[96];
        for (int i = 0; i < 96; ++i) v[i] = x[i * n];
        __syncthreads();
        for (int r = 0; r < n; ++r)
            for (int i = 0; i < 96; ++i) v[i] = v[i] * v[(i + 7) % 96] + v[(i + 31) % 96];
        for (int i = 0; i < 96; ++i) x[i * n] = v[i];
    }"""
    (use,) = read_log(nvrtc.compile_log(code, ("-default-device",), "sm_90"))
    assert use.kernel == "hungry" and use.spills > 0 and use.registers <= 32


@pytest.mark.skipif(NVCC is None, reason="nvcc is not installed: see the CUDA toolkit")
def test_nvcc_has_nothing_to_warn_of(tmp_path):
    """One kind for each architecture, warnings and spills as errors."""
    folder = source_folder()
    kinds = [KINDS[0], next(k for k in KINDS if k.dtype == np.float64), next(k for k in reversed(KINDS) if k.loss == "softmax")]

    def build(kind, architecture):
        options = [
            "-Werror",
            "all-warnings",
            "-Xptxas",
            "-warn-spills,-Werror",
            f"-I{folder}",
            f"-I{folder / 'cuda'}",
            *kind.options(),
        ]
        out = tmp_path / f"{architecture}.cubin"
        source = str(folder / "cuda" / "kernels.cu")
        command = [str(NVCC), "-std=c++17", "-cubin", f"-arch={architecture}", *options, source, "-o", str(out)]
        return subprocess.run(command, capture_output=True, text=True).stderr, out

    with ThreadPoolExecutor(2) as pool:
        for messages, out in pool.map(build, kinds, ARCHITECTURES):
            assert out.exists() and "warning" not in messages, messages


@needs_nvrtc
@pytest.mark.parametrize("work", WORKLOADS, ids=lambda work: work.name)
def test_rows_move_once_and_side_by_side(work):
    """What must come from memory is the floor: no row is read in part, none twice from far away, and lanes read neighbours."""
    found = measure(work)
    assert found.floor <= found.touched <= SLACK * found.floor
    assert found.coalesced > (0.6 if work.sparse else 0.99)
    groups, sides = -(-work.k // 8), 1 if work.stored else 2
    assert found.rows <= (groups * (sides + 1) + 4) * found.floor  # logits of each side, gradient, norm, pair: from the cache


@needs_nvrtc
def test_strided_reads_would_be_seen(tmp_path):
    """Planted in the fused pass: each lane reads a piece of its own, so that a warp asks for many sectors."""
    patch = Patch("pass.cuh", "const T* row = a + f;", "const T* row = a + (f % 32) * (job.d / 32) + f / 32;")
    work = next(work for work in WORKLOADS if work.way == "pass" and not work.sparse)
    assert measure(work, ([patch], Path(tmp_path))).coalesced < 0.8 < measure(work).coalesced
