"""The PTX interpreter: small kernels, compiled by NVRTC, against NumPy; and the faults that it must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from device import nvrtc
from device.cupy import EmulatedCupy
from device.engines import PtxEngine
from device.memory import Memory
from hypothesis import given
from hypothesis import strategies as st
from ptx import Program, PTXError, Traffic, parse
from ptx import arithmetic as math
from ptx.parser import Instruction

SOURCE = (Path(__file__).parent / "fixtures" / "small.cu").read_text()
NAMES = {np.float32: "float", np.float64: "double"}
needs_nvrtc = pytest.mark.skipif(nvrtc.unavailable() is not None, reason=str(nvrtc.unavailable()))
both = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def device(**settings):
    return EmulatedCupy(PtxEngine(**settings))


def kernel(cp, name, dtype):
    module = cp.RawModule(code=SOURCE, options=(f"-DREAL={NAMES[dtype]}", "-std=c++17"), backend="nvrtc")
    return module.get_function(name)


def numbers(n, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=n).astype(dtype)


@needs_nvrtc
@both
@pytest.mark.parametrize("n", [0, 1, 127, 128, 1000])
def test_a_reduction_over_blocks_and_warps(dtype, n):
    cp, x = device(), numbers(n, dtype)
    partial = cp.empty(3, dtype)
    kernel(cp, "sums", dtype)((3,), (128,), (cp.asarray(x), partial, np.int64(n)))
    assert partial.get().sum() == pytest.approx(
        x.astype(np.float64).sum(), abs=float(64 * np.finfo(dtype).eps * (1 + np.abs(x).sum()))
    )


@needs_nvrtc
@pytest.mark.parametrize("formula", ["x[i] * 1e30f", "fmaf(x[i], 1e30f, x[0])", "x[i] + x[i]", "x[i + 1] * 1e-30f"])
def test_subnormal_floats_count_as_zero_before_and_after(formula):
    """CuPy compiles with -ftz=true. x[0] = 0, x[1] is subnormal, x[2] is not but its product is."""
    code = f'extern "C" __global__ void f(const float* x, float* out) {{ int i = 1 + threadIdx.x; *out = {formula}; }}'
    cp = device()
    out = cp.full(1, 7, np.float32)
    run = cp.RawModule(code=code).get_function("f")
    run((1,), (1,), (cp.asarray(np.array([0, 1e-40, 1e-14], np.float32)), out))
    assert out.get() == 0


@needs_nvrtc
@both
def test_shared_memory_within_a_block_of_fewer_than_all_lanes(dtype):
    cp, x = device(), numbers(70, dtype)
    out = cp.empty(96, dtype)
    kernel(cp, "reversed", dtype)((3,), (32,), (cp.asarray(x), out, np.int32(70)))
    wanted = np.full(96, np.nan, dtype)
    wanted[:64] = x[:64].reshape(2, 32)[:, ::-1].ravel()
    wanted[90:] = x[64:][::-1]  # of the last block, whose tile is not full
    np.testing.assert_array_equal(out.get(), wanted)


@needs_nvrtc
@both
def test_dynamic_shared_memory_has_the_size_of_the_launch(dtype):
    cp, x = device(), numbers(48, dtype)
    out = cp.empty(48, dtype)
    run = kernel(cp, "dynamic", dtype)
    run((1,), (48,), (cp.asarray(x), out), shared_mem=48 * x.itemsize)
    np.testing.assert_array_equal(out.get(), x[::-1])
    with pytest.raises(PTXError, match="shared access out of bounds"):
        run((1,), (48,), (cp.asarray(x), out), shared_mem=47 * x.itemsize)


@needs_nvrtc
@both
def test_functions(dtype):
    x = np.concatenate([numbers(40, dtype), numbers(20, dtype, 1) * 40, np.array([1e-30, 0.5, 1, 3], dtype)])
    cp, n = device(), len(x)
    out = cp.empty((8, n), dtype)
    kernel(cp, "functions", dtype)((2,), (64,), (cp.asarray(x), out, np.int32(n)))
    size = np.abs(x)
    with np.errstate(over="ignore"):
        exact = [np.exp(x), np.log(size), np.log1p(size), 1 / x, np.sqrt(size), np.maximum(x, 1), x * x - x, np.tanh(x)]
    for got, wanted in zip(out.get(), exact, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=8 * np.finfo(dtype).eps, atol=16 * np.finfo(dtype).eps)


@needs_nvrtc
def test_integers():
    rng, dtype = np.random.default_rng(0), np.float64
    a = np.concatenate([rng.integers(-(2**62), 2**62, 60), [7, -7, 7, -7, 0]])
    b = np.concatenate([rng.integers(1, 2**40, 60) * rng.choice([-1, 1], 60), [2, 2, -2, -2, 5]])
    cp, n = device(), len(a)
    out = cp.empty((12, n), np.int64)
    kernel(cp, "integers", dtype)((3,), (32,), (cp.asarray(a), cp.asarray(b), out, np.int32(n)))
    s, t = a.astype(np.int32), b.astype(np.int32)
    shift, unsigned = b & 63, a.view(np.uint64)
    with np.errstate(over="ignore"):
        product = a * b
    wanted = [
        [int(abs(x) // abs(y)) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a.tolist(), b.tolist(), strict=True)],
        np.fmod(a, b),
        (s - np.fmod(s, t)) // t,
        np.fmod(s, t),
        product,
        a >> shift,
        [bin(int(x)).count("1") for x in unsigned],
        (unsigned >> shift.astype(np.uint64)).view(np.int64),
        s << (t & 31),
        (s ^ t) & ~s | (t & 7),
        [32 - int(x).bit_length() for x in s.view(np.uint32)],
        a.astype(dtype).astype(np.int64),
    ]
    for row, (got, expected) in enumerate(zip(out.get(), wanted, strict=True)):
        np.testing.assert_array_equal(got, np.asarray(expected, np.int64), err_msg=f"row {row}")


@needs_nvrtc
@both
def test_lanes_part_and_meet_again(dtype):
    turns = np.random.default_rng(3).integers(0, 9, 50).astype(np.int32)
    cp = device()
    out = cp.empty(50, dtype)
    kernel(cp, "parted", dtype)((1,), (64,), (cp.asarray(turns), out, np.int32(50)))
    padded, found = np.append(turns, np.zeros(14, np.int32)), np.zeros(64)
    for i, mine in enumerate(padded):
        local = np.zeros(5)
        for j in range(mine):
            local[(j * j) % 5] += j if j % 2 else -1
        found[i] = local[mine % 5]
    warps, per_lane = padded.reshape(2, 32), found.reshape(2, 32).sum(1)
    wanted = per_lane + 1000 * (warps == 3).any(1) + (warps > 2).sum(1)
    np.testing.assert_allclose(out.get(), np.repeat(wanted, 32)[:50])


@needs_nvrtc
@both
def test_atomics(dtype):
    x, cp = numbers(100, dtype), device()
    out = cp.zeros(1, dtype)
    kernel(cp, "arrival", dtype)((2,), (64,), (cp.asarray(x), out, np.int32(100)))
    assert out.get()[0] == pytest.approx(x.sum(), abs=float(1e3 * np.finfo(dtype).eps))


@needs_nvrtc
@both
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (0, "global access out of bounds: kernels.cu:LINE"),
        (1, "shared memory is read before it is written: kernels.cu:LINE"),
        (2, "a barrier is waited for after threads of the block have ended: kernels.cu:LINE"),
        (3, "a lane that the mask names does not come"),
        (4, r"shared access out of bounds \(there are \d+ bytes\): kernels.cu:LINE, block 0, thread 63"),
    ],
)
def test_faults_are_refused(dtype, fault, message):
    cp, lines = device(), SOURCE.splitlines()
    line = next(j for j, text in enumerate(lines, 1) if f"fault == {fault}" in text)
    x, out = cp.asarray(numbers(64, dtype)), cp.zeros(64, dtype)
    with pytest.raises(PTXError, match=message.replace("LINE", str(line))):
        kernel(cp, "faults", dtype)((1,), (64,), (x, out, np.int32(fault)))


@needs_nvrtc
def test_memory_that_was_given_back_is_out_of_bounds():
    cp = device()
    run = kernel(cp, "sums", np.float32)
    x = cp.zeros(128, np.float32)
    address = np.uint64(x.pointer)
    del x
    with pytest.raises(PTXError, match="global access out of bounds"):
        run((1,), (128,), (address, cp.empty(1, np.float32), np.int64(128)))


@needs_nvrtc
def test_memory_that_was_not_written_is_nan():
    cp = device()
    out = cp.empty(1, np.float32)
    kernel(cp, "sums", np.float32)((1,), (128,), (cp.empty(10, np.float32), out, np.int64(10)))
    assert np.isnan(out.get()[0])


@needs_nvrtc
def test_a_launch_is_checked_against_the_parameters():
    cp = device()
    run, x, out = kernel(cp, "sums", np.float32), cp.zeros(4, np.float32), cp.empty(1, np.float32)
    for arguments, message in [
        ((x, out), "takes 3 arguments, got 2"),
        ((x, out, 4), "argument 2 is int"),
        ((x, out, np.int32(4)), "argument 2 is int32"),
        ((x, out, np.float64(4)), "argument 2 is float64"),
        ((x.get(), out, np.int64(4)), "argument 0 is ndarray"),
        ((cp.zeros((4, 2), np.float32)[:, 0], out, np.int64(4)), "argument 0 is an array with gaps"),
    ]:
        with pytest.raises(TypeError, match=message):
            run((1,), (128,), arguments)
    with pytest.raises(ValueError, match="one-dimensional"):
        run((1, 2), (128,), (x, out, np.int64(4)))
    with pytest.raises(PTXError, match="no device takes"):
        run((1,), (2048,), (x, out, np.int64(4)))
    with pytest.raises(PTXError, match="no kernel 'sum' in this module; it has sums, reversed"):
        kernel(cp, "sum", np.float32)


@needs_nvrtc
def test_bytes_are_counted_by_sectors():
    traffic = Traffic()
    cp = device(traffic=traffic)
    x, out = cp.zeros(256, np.float32), cp.empty(2, np.float32)
    x.block.label, out.block.label = "x", "out"
    kernel(cp, "sums", np.float32)((2,), (128,), (x, out, np.int64(256)))
    assert traffic.moved("x") == 1024 and traffic.counters["x", False].requests == 8
    assert traffic.counters["out", True].useful == 8 and traffic.moved("out", writes=True) == 64


@needs_nvrtc
def test_what_does_not_compile_shows_the_log():
    with pytest.raises(nvrtc.CompileError, match='identifier "nothing" is undefined'):
        device().RawModule(code='extern "C" __global__ void k() { nothing(); }').get_function("k")


PTX = """.version 9.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 k_param_0)
{
    .reg .pred %p<2>; .reg .b32 %r<3>; .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [k_param_0];
    BODY
    st.global.u32 [%rd1], %r1;
    ret;
}
"""


def run_ptx(body, threads=1):
    memory = Memory()
    block = memory.allocate(4)
    Program(parse(PTX.replace("BODY", body), "k"), 1, threads, memory).run([np.uint64(block.address)])
    return int(block.view(np.dtype("u4"))[0])


def test_an_unknown_instruction_is_named_before_it_runs():
    with pytest.raises(PTXError, match=r"does not know `tex\.1d %r1, %r2` .*instructions\.py"):
        run_ptx("tex.1d %r1, %r2;")


def test_an_unknown_operand_and_an_unknown_label_are_named():
    with pytest.raises(PTXError, match="operand 'nowhere'"):
        run_ptx("mov.u32 %r1, nowhere;")
    with pytest.raises(PTXError, match="jumps to 'there'"):
        run_ptx("bra there;")


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("mov.u32 %r1, -1;", 0xFFFFFFFF),
        ("mov.b32 %r1, 0f3F800000;", 0x3F800000),
        ("{ .reg .b32 %t; mov.u32 %t, 7; add.u32 %r1, %t, 1; }", 8),
        ("mov.u32 %r2, 0x12345678; prmt.b32 %r1, %r2, 0, 0x0123;", 0x78563412),
        ("mov.u32 %r2, 0x80000001; shf.l.wrap.b32 %r1, %r2, %r2, 4;", 0x00000018),
        ("mov.u32 %r2, 0x0F; lop3.b32 %r1, %r2, 0x3C, 0x01, 0x6A;", (0x0F & 0x3C) ^ 0x01),
        ("mov.u32 %r2, 0xFFFFFFF0; shr.s32 %r1, %r2, 40;", 0xFFFFFFFF),
        ("mov.u32 %r2, 0xFFFFFFF0; shr.u32 %r1, %r2, 40;", 0),
        ("mov.u32 %r2, 5; mul.hi.u32 %r1, %r2, 0x80000000;", 2),
        ("mov.u32 %r2, 6; brev.b32 %r1, %r2;", 0x60000000),
    ],
)
def test_instructions_by_hand(body, wanted):
    assert run_ptx(body) == wanted


def test_lanes_of_a_warp_wait_for_those_that_take_the_long_way():
    """The long way lies behind the place where both meet, so that who comes first cannot be told from the addresses."""
    body = """
        mov.u32 %r1, %laneid; setp.gt.u32 %p1, %r1, 15; @%p1 bra $far;
        $meet: shfl.sync.bfly.b32 %r1, %r1, 16, 31, -1; bra $end;
        $far: add.u32 %r1, %r1, 100; bra $meet;
        $end: mov.u32 %r2, %laneid; setp.eq.u32 %p1, %r2, 0; @!%p1 ret;
    """
    assert run_ptx(body, threads=32) == 116
    with pytest.raises(PTXError, match="a lane that the mask names does not come"):
        run_ptx(body.replace("bra $meet;", "ret;"), threads=32)


@given(a=st.integers(-(2**63), 2**63 - 1), b=st.integers(-(2**63), 2**63 - 1))
def test_upper_halves_of_products(a, b):
    assert int(math.high_product(np.array([a]), np.array([b]))[0]) == a * b >> 64
    ua, ub = a % 2**64, b % 2**64
    assert int(math.high_product(np.array([ua], np.uint64), np.array([ub], np.uint64))[0]) == ua * ub >> 64


@given(x=st.floats(width=32), kind=st.sampled_from(["s32", "u32", "s64", "u64", "u8"]))
def test_floats_become_integers_within_their_range(x, kind):
    got, info = (
        int(math.convert(np.array([x], np.float32), ("cvt", "rzi"), kind, "f32")[0]),
        np.iinfo(f"{kind[0].replace('s', 'i')}{int(kind[1:]) // 8}"),
    )
    if np.isnan(x):
        wanted = 0
    elif np.isinf(x):
        wanted = info.max if x > 0 else info.min
    else:
        wanted = min(max(int(x), info.min), info.max)
    assert got == wanted


def test_a_fused_multiply_add_keeps_what_a_product_would_lose():
    """Of float32 all of it; of float64 enough for the reductions in exp and log, where one factor has few bits."""
    for dtype, factor in ((np.float32, 1 + np.finfo(np.float32).eps), (np.float64, 1025.0)):
        x, y = np.array([1 + np.finfo(dtype).eps], dtype), np.array([factor], dtype)
        product = (x.astype(np.longdouble) * y).astype(np.longdouble)
        assert math.fma(x, y, -(x * y))[0] == (product - x * y)[0] != 0


def test_an_instruction_reads_as_it_is_written():
    assert str(Instruction(("add", "u32"), ("%r1", "%r2", "1"), "%p1", True)) == "@!%p1 add.u32 %r1, %r2, 1"
