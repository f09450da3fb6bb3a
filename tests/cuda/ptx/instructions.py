"""Each PTX instruction as an operation on lanes; one that is not known is a PTXError where it is built, before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import arithmetic as math
from .errors import PTXError
from .lanes import Lanes, State
from .memory import LOCAL_WINDOW, SHARED_WINDOW, Access, Accessor
from .parser import DTYPES, Instruction
from .warps import Warps

Operation = Callable[[Lanes], None]
_TERMINATORS = {"bra", "ret", "exit", "bar", "barrier"}


class Builder:
    """Turns the instructions of one launch into operations."""

    def __init__(self, state: State, access: Access) -> None:
        self.state, self.memory, self.warps = state, Accessor(state, access), Warps(state)

    def build(self, i: Instruction) -> Operation:
        maker = _MAKERS.get(i.op[0])
        run = None if maker is None else maker(self, i)
        if run is None:
            raise PTXError(
                f"kernel {self.state.entry.name!r}: the interpreter does not know `{i}` ({i.line}); "
                "add it to tests/cuda/ptx/instructions.py"
            )
        return run if i.guard is None else self._guarded(i, run)

    def _guarded(self, i: Instruction, run: Operation) -> Operation:
        taken = self.taken(i)

        def guarded(lanes: Lanes) -> None:
            chosen = taken(lanes)
            if chosen is None or len(chosen):
                run(chosen)

        return guarded

    def taken(self, i: Instruction) -> Callable[[Lanes], Lanes]:
        """Of some lanes those that the guard lets through."""
        predicate, negated, n = self.state.registers[str(i.guard)], i.negated, self.state.n

        def through(lanes: Lanes) -> Lanes:
            found = np.flatnonzero(predicate ^ negated) if lanes is None else lanes[predicate[lanes] ^ negated]
            return None if len(found) == n else found

        return through

    def apply(self, i: Instruction, function: Callable[..., Any], sources: list[str], target: str) -> Operation:
        """target = function(sources), of given types."""
        write = self.state.writer(i.operands[0], target)
        reads = [self.state.reader(o, kind) for o, kind in zip(i.operands[1:], sources, strict=True)]
        if len(reads) == 1:
            (one,) = reads
            return lambda lanes: write(lanes, function(one(lanes)))
        if len(reads) == 2:
            one, two = reads
            return lambda lanes: write(lanes, function(one(lanes), two(lanes)))
        return lambda lanes: write(lanes, function(*[read(lanes) for read in reads]))


Maker = Callable[[Builder, Instruction], Operation | None]


def _flushing(i: Instruction, function: Callable[..., Any]) -> Callable[..., Any]:
    """With .ftz subnormal numbers go in and come out as 0."""
    return (lambda *v: math.flush(function(*map(math.flush, v)))) if {"ftz", "f32"} <= set(i.op) else function


def _same(function: Callable[..., Any], *, floats: bool = True, integers: bool = True, count: int = 2) -> Maker:
    """Operands and result of the type that the instruction ends with."""

    def make(b: Builder, i: Instruction) -> Operation | None:
        kind = i.op[-1]
        if not (floats if DTYPES[kind].kind == "f" else integers) or {"cc", "sat", "rp"} & set(i.op):
            return None
        return b.apply(i, _flushing(i, function), [kind] * count, kind)

    return make


def _multiply(plus: bool) -> Maker:
    def make(b: Builder, i: Instruction) -> Operation | None:
        kind = i.op[-1]
        if DTYPES[kind].kind == "f":
            return None if plus else _same(lambda x, y: x * y)(b, i)
        wide = f"{kind[0]}{16 * DTYPES[kind].itemsize}"
        if "wide" in i.op:
            dtype = DTYPES[wide].type
            product = lambda x, y: np.asarray(x).astype(dtype) * np.asarray(y).astype(dtype)  # noqa: E731
            target = wide
        elif "hi" in i.op:
            product, target = math.high_product, kind
        elif "lo" in i.op:
            product, target = np.multiply, kind
        else:
            return None
        if not plus:
            return b.apply(i, product, [kind, kind], target)
        return b.apply(i, lambda x, y, z: product(x, y) + z, [kind, kind, target], target)

    return make


def _fma(b: Builder, i: Instruction) -> Operation | None:
    kind = i.op[-1]
    if kind not in ("f32", "f64"):
        return None
    if "rn" not in i.op:
        return b.apply(i, _flushing(i, math.fma_down), [kind] * 3, kind) if "rm" in i.op and kind == "f32" else None
    return b.apply(i, _flushing(i, math.fma), [kind] * 3, kind)


def _shift(function: Callable[..., Any]) -> Maker:
    return lambda b, i: b.apply(i, function, [i.op[-1], "u32"], i.op[-1])


def _funnel(b: Builder, i: Instruction) -> Operation | None:
    left, wrap = "l" in i.op, "wrap" in i.op
    return b.apply(i, lambda x, y, by: math.funnel(x, y, by, left=left, wrap=wrap), ["b32", "b32", "u32"], "b32")


def _lookup(b: Builder, i: Instruction) -> Operation | None:
    table = int(i.operands[4], 0)
    short = Instruction(i.op, i.operands[:4], i.guard, i.negated, i.line)
    return b.apply(short, lambda x, y, z: math.lookup3(x, y, z, table), ["b32"] * 3, "b32")


def _permute(b: Builder, i: Instruction) -> Operation | None:
    return b.apply(i, math.permute_bytes, ["b32"] * 3, "b32") if i.op == ("prmt", "b32") else None


def _to_word(function: Callable[..., Any]) -> Maker:
    """Of any width, with a 32-bit result."""
    return lambda b, i: b.apply(i, function, [i.op[-1]], "u32")


def _compare(b: Builder, i: Instruction) -> Operation | None:
    """setp: p | q = compare(a, b), joined by and, or, xor with a predicate where there is one."""
    compare, join = math.COMPARE.get(i.op[1]), next((m for m in i.op[2:] if m in ("and", "or", "xor")), None)
    if compare is None:
        return None
    s, names = b.state, [name.strip() for name in i.operands[0].split("|")]
    write, write_other = s.writer(names[0], "pred"), s.writer(names[1] if len(names) > 1 else "_", "pred")
    one, two = s.reader(i.operands[1], i.op[-1]), s.reader(i.operands[2], i.op[-1])
    negated = join is not None and i.operands[3].startswith("!")
    third = s.reader(i.operands[3].lstrip("!"), "pred") if join is not None else None
    joined = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}.get(str(join))

    def run(lanes: Lanes) -> None:
        found = compare(one(lanes), two(lanes))
        other = ~np.asarray(found)
        if third is not None and joined is not None:
            by = third(lanes) ^ negated
            found, other = joined(found, by), joined(other, by)
        write(lanes, found)
        write_other(lanes, other)

    return run


def _select(b: Builder, i: Instruction) -> Operation | None:
    kind = i.op[-1]
    return b.apply(i, lambda x, y, p: np.where(p, x, y), [kind, kind, "pred"], kind)


def _move(b: Builder, i: Instruction) -> Operation | None:
    """mov; with braces it packs registers into a wider one or unpacks it, the lowest first."""
    kind, (target, source) = i.op[-1], i.operands
    if "{" not in target + source:
        return b.apply(i, lambda x: x, [kind], kind)
    parts = [part.strip() for part in (target if "{" in target else source).strip("{}").split(",")]
    size = DTYPES[kind].itemsize // len(parts)
    narrow, wide, bits = f"b{8 * size}", np.dtype(f"u{DTYPES[kind].itemsize}"), 8 * size
    if "{" in target:
        read, writes = b.state.reader(source, f"b{8 * DTYPES[kind].itemsize}"), [b.state.writer(p, narrow) for p in parts]

        def unpack(lanes: Lanes) -> None:
            values = np.asarray(read(lanes)).view(wide)
            for j, write in enumerate(writes):
                write(lanes, (values >> wide.type(bits * j)).astype(DTYPES[narrow]))

        return unpack
    write, reads = b.state.writer(target, f"b{8 * DTYPES[kind].itemsize}"), [b.state.reader(p, narrow) for p in parts]

    def pack(lanes: Lanes) -> None:
        value = np.zeros((), wide)
        for j, one in enumerate(reads):
            value = value | np.asarray(one(lanes)).astype(wide) << wide.type(bits * j)
        write(lanes, value)

    return pack


def _address(b: Builder, i: Instruction) -> Operation | None:
    """cvta: global addresses are generic ones, shared and local ones lie in windows of them."""
    kind = i.op[-1]
    base = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW}.get(next((p for p in i.op if p in ("shared", "local")), ""), 0)
    step = DTYPES[kind].type(base)
    return b.apply(i, (lambda x: x - step) if "to" in i.op else (lambda x: x + step), [kind], kind)


def _convert(b: Builder, i: Instruction) -> Operation | None:
    to, source = i.op[-2:]
    if to not in DTYPES or source not in DTYPES or {"rz", "rm", "rp"} & set(i.op):
        return None
    return b.apply(i, lambda x: math.convert(x, i.op, to, source), [source], to)


def _trap(b: Builder, i: Instruction) -> Operation | None:
    def run(lanes: Lanes) -> None:
        raise PTXError(f"{b.state.entry.name}: trap, {i.line}")

    return run


def _nothing(b: Builder, i: Instruction) -> Operation | None:
    return lambda lanes: None


_MAKERS: dict[str, Maker] = {
    "add": _same(lambda x, y: x + y),
    "sub": _same(lambda x, y: x - y),
    "mul": _multiply(plus=False),
    "mad": _multiply(plus=True),
    "fma": _fma,
    "div": _same(math.divide),
    "rem": _same(math.remainder, floats=False),
    "min": _same(np.fmin),
    "max": _same(np.fmax),
    "neg": _same(lambda x: -x, count=1),
    "abs": _same(np.abs, count=1),
    "rcp": _same(lambda x: x.dtype.type(1) / x, integers=False, count=1),
    "sqrt": _same(np.sqrt, integers=False, count=1),
    "rsqrt": _same(lambda x: x.dtype.type(1) / np.sqrt(x), integers=False, count=1),
    "ex2": _same(np.exp2, integers=False, count=1),
    "lg2": _same(np.log2, integers=False, count=1),
    "copysign": _same(lambda sign, x: np.copysign(x, sign), integers=False),
    "and": _same(np.bitwise_and, floats=False),
    "or": _same(np.bitwise_or, floats=False),
    "xor": _same(np.bitwise_xor, floats=False),
    "not": _same(np.invert, floats=False, count=1),
    "shl": _shift(math.shift_left),
    "shr": _shift(math.shift_right),
    "shf": _funnel,
    "lop3": _lookup,
    "prmt": _permute,
    "popc": _to_word(math.count_bits),
    "clz": _to_word(math.leading_zeros),
    "brev": _same(math.reverse_bits, floats=False, count=1),
    "setp": _compare,
    "selp": _select,
    "mov": _move,
    "cvta": _address,
    "cvt": _convert,
    "ld": lambda b, i: b.memory.load(i),
    "st": lambda b, i: b.memory.store(i),
    "atom": lambda b, i: b.memory.atomic(i),
    "red": lambda b, i: b.memory.atomic(i),
    "shfl": lambda b, i: b.warps.shuffle(i),
    "vote": lambda b, i: b.warps.vote(i),
    "activemask": lambda b, i: b.warps.active(i),
    "trap": _trap,
    "membar": _nothing,
    "fence": _nothing,
    "prefetch": _nothing,
}


def is_terminator(i: Instruction) -> bool:
    """Whether lanes may part, wait or end there. A barrier of a warp is none: its lanes walk together."""
    return i.op[0] in _TERMINATORS and "warp" not in i.op


for _name in ("bar", "barrier"):
    _MAKERS[_name] = lambda b, i: b.warps.barrier(i)
