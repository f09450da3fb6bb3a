"""Kernels on the CPU: small ones against NumPy, and planted faults that the sanitizers and the race detector must find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device.cupy import EmulatedCupy
from device.engines import ShimEngine
from shim import Patch, Recorder, ShimError, replay, replay_sanitized
from shim.build import BuildError

SOURCE = (Path(__file__).parent / "fixtures" / "small.cu").read_text()
OPTIONS = ("-DREAL=float", "-std=c++17")


def kernel(cp, name):
    return cp.RawModule(code=SOURCE, options=OPTIONS, backend="nvrtc").get_function(name)


def numbers(n, seed=0):
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def recorded(compiler, name, grid, block, *arguments, shared_mem=0):
    """The tape of one launch; "empty" numbers are allocated for an integer, arrays are copied."""
    recorder = Recorder(ShimEngine(compiler))
    cp = EmulatedCupy(recorder)
    values = [cp.asarray(a) if isinstance(a, np.ndarray) and a.ndim else a for a in arguments]
    kernel(cp, name)((grid,), (block,), tuple(values), shared_mem=shared_mem)
    return recorder.tape


@pytest.fixture
def sums(compiler):
    x = numbers(1000)
    return recorded(compiler, "sums", 3, 128, x, np.full(3, np.nan, np.float32), np.int64(1000))


@pytest.fixture
def turned(compiler):
    return recorded(compiler, "reversed", 3, 32, numbers(96), np.full(96, np.nan, np.float32), np.int32(96))


@pytest.mark.parametrize("flavour", ["plain", "race"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_small_kernels_are_right_under_any_schedule(compiler, flavour, seed):
    cp, x = EmulatedCupy(ShimEngine(compiler, flavour, seed)), numbers(1000)
    partial, turned, swapped = cp.empty(3, np.float32), cp.empty(96, np.float32), cp.empty(48, np.float32)
    kernel(cp, "sums")((3,), (128,), (cp.asarray(x), partial, np.int64(1000)))
    assert float(partial.sum()) == pytest.approx(x.astype(np.float64).sum(), abs=1e-4)
    kernel(cp, "reversed")((3,), (32,), (cp.asarray(x[:96]), turned, np.int32(96)))
    np.testing.assert_array_equal(turned.get(), x[:96].reshape(3, 32)[:, ::-1].ravel())
    kernel(cp, "dynamic")((1,), (48,), (cp.asarray(x[:48]), swapped), shared_mem=192)
    np.testing.assert_array_equal(swapped.get(), x[:48][::-1])


def test_votes_and_local_arrays(compiler):
    turns = np.random.default_rng(3).integers(0, 9, 50).astype(np.int32)
    cp = EmulatedCupy(ShimEngine(compiler))
    out = cp.empty(50, np.float32)
    kernel(cp, "parted")((1,), (64,), (cp.asarray(turns), out, np.int32(50)))
    many = (np.append(turns, np.zeros(14)).reshape(2, 32) > 2).sum(1)
    three = (np.append(turns, np.zeros(14)).reshape(2, 32) == 3).any(1)
    rest = out.get() - np.repeat(1000 * three + many, 32)[:50]
    assert np.isfinite(rest).all() and len(set(rest[:32])) == len(set(rest[32:])) == 1


def test_a_tape_plays_the_same_on_every_build(compiler, sums, turned, tmp_path):
    for tape in (sums, turned):
        for flavour in ("plain", "race"):
            library = compiler.build(SOURCE, OPTIONS, flavour)
            assert [replay(library, tape, seed) for seed in range(3)] == [[], [], []]
        assert replay_sanitized(compiler.build(SOURCE, OPTIONS, "sanitized"), tape, tmp_path) == []


def mutated(compiler, flavour, old, new):
    return compiler.build(SOURCE, OPTIONS, flavour, [Patch("", old, new)])


def test_a_missing_barrier_is_a_race(compiler, turned, sums):
    library = mutated(compiler, "race", "    __syncthreads();\n    const int from", "    const int from")
    assert any("race of a" in finding for finding in replay(library, turned))
    library = mutated(compiler, "race", "    __syncthreads();\n    if (threadIdx.x == 0)", "    if (threadIdx.x == 0)")
    assert any("race of a" in finding for finding in replay(library, sums))


def test_a_barrier_that_not_all_reach_is_refused(compiler, turned):
    library = mutated(
        compiler,
        "plain",
        "    __syncthreads();\n    const int from",
        "    if (threadIdx.x < 5) __syncthreads();\n    const int from",
    )
    assert any(
        "a barrier is waited for after threads of the block have ended" in finding for finding in replay(library, turned)
    )


def test_one_past_the_end_is_found_by_the_address_sanitizer(compiler, sums, turned, tmp_path):
    library = mutated(compiler, "sanitized", "i < n; i += (i64)", "i <= n; i += (i64)")
    assert any("heap-buffer-overflow" in finding for finding in replay_sanitized(library, sums, tmp_path))
    library = mutated(compiler, "sanitized", "tile[threadIdx.x] = x[i]", "*(tile + threadIdx.x + 1) = x[i]")
    findings = replay_sanitized(library, turned, tmp_path)
    assert any("global-buffer-overflow" in finding or "insufficient space" in finding for finding in findings)


def test_undefined_behaviour_is_found(compiler, turned, tmp_path):
    library = mutated(
        compiler,
        "sanitized",
        "const int from = blockIdx.x * 32 + 31",
        "const int from = (1 << (n - 64)) * 0 + blockIdx.x * 32 + 31",
    )
    assert any("shift exponent 32 is too large" in finding for finding in replay_sanitized(library, turned, tmp_path))


def test_shared_memory_of_a_launch_ends_where_it_says(compiler, tmp_path):
    tape = recorded(compiler, "dynamic", 1, 48, numbers(48), numbers(48), shared_mem=192)
    library = compiler.build(SOURCE, OPTIONS, "sanitized")
    assert replay_sanitized(library, tape, tmp_path) == []
    less = [replace(launch, shared=160) for launch in tape]
    assert any("heap-buffer-overflow" in finding for finding in replay_sanitized(library, less, tmp_path))


def test_a_shuffle_of_half_a_warp_is_refused(compiler, sums):
    library = mutated(compiler, "plain", "mine = warp_sum(mine);", "if (lane < 16) mine = warp_sum(mine);")
    assert any("does not come" in finding or "has ended" in finding for finding in replay(library, sums))


def test_shared_memory_that_was_not_written_is_found(compiler, sums):
    library = mutated(compiler, "race", "if (lane == 0) warps[warp] = mine;", "if (lane == 0 && warp != 2) warps[warp] = mine;")
    assert any("read before it is written" in finding for finding in replay(library, sums))
    library = mutated(
        compiler, "plain", "if (lane == 0) warps[warp] = mine;", "if (lane == 0 && warp != 2) warps[warp] = mine;"
    )
    assert any("other bits" in finding for finding in replay(library, sums))  # it is NaN


def test_a_sum_in_the_order_of_arrival_has_other_bits(compiler):
    tape = recorded(compiler, "arrival", 4, 128, numbers(500), np.zeros(1, np.float32), np.int32(500))
    library = compiler.build(SOURCE, OPTIONS)
    assert replay(library, tape, 0) == []
    assert any(replay(library, tape, seed) for seed in (1, 2, 3))


def test_atomic_updates_do_not_race_but_a_store_among_them_does(compiler):
    tape = recorded(compiler, "arrival", 2, 64, numbers(100), np.zeros(1, np.float32), np.int32(100))
    assert not any("race" in finding for finding in replay(compiler.build(SOURCE, OPTIONS, "race"), tape))
    library = mutated(compiler, "race", "atomicAdd(out, x[i])", "*out = *out + x[i]")
    assert any("race" in finding and "global memory" in finding for finding in replay(library, tape))


def test_a_barrier_of_the_warp_orders_its_lanes(compiler):
    """Lanes exchange through shared memory: __syncwarp suffices within a warp, not between two."""
    code = """
        extern "C" __global__ void swap(const float* x, float* out) {
            __shared__ float tile[64];
            tile[threadIdx.x] = x[threadIdx.x];
            __syncwarp();
            out[threadIdx.x] = tile[threadIdx.x ^ OTHER];
        }"""
    for other, fine in ((1, True), (32, False)):
        cp = EmulatedCupy(ShimEngine(compiler, "race"))
        run = cp.RawModule(code=code, options=(f"-DOTHER={other}",)).get_function("swap")
        arguments = cp.asarray(numbers(64)), cp.empty(64, np.float32)
        if fine:
            run((1,), (64,), arguments)
        else:
            with pytest.raises(ShimError, match="race of a"):
                run((1,), (64,), arguments)


def test_a_planted_fault_that_no_longer_fits_says_so(compiler):
    with pytest.raises(BuildError, match="stands 0 times in the source"):
        compiler.build(SOURCE, OPTIONS, "plain", [Patch("", "no such text", "")])


def test_what_does_not_compile_shows_the_messages(compiler):
    with pytest.raises(BuildError, match="'nothing' was not declared"):
        compiler.build('extern "C" __global__ void k() { nothing(); }', ())
