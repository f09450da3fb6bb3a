"""Loads, stores and atomics of every state space, each checked: bounds, alignment, whether shared memory was written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from device.memory import Block, Memory
from numpy.typing import NDArray

from .errors import PTXError
from .lanes import Lanes, State, chosen
from .parser import DTYPES, Instruction
from .traffic import Traffic

_ADDRESS = re.compile(r"\[\s*([%\w$@]+)\s*(?:\+\s*(-?\d+))?\s*\]")
SPACES = ("global", "shared", "local", "param", "const")
SHARED_WINDOW, LOCAL_WINDOW = 1 << 24, 1 << 25  # generic addresses of the two; no block of the host lies so low
_WINDOW = 1 << 24
Operation = Callable[[Lanes], None]


@dataclass
class Access:
    """The device's memory, and what counts the bytes (None for no counting)."""

    memory: Memory
    traffic: Traffic | None = None


class Accessor:
    """Builds the operations of one launch that touch memory."""

    def __init__(self, state: State, access: Access) -> None:
        self.state, self.access = state, access

    # -- addresses -----------------------------------------------------------------------------------------------------

    def address(self, operand: str) -> Callable[[Lanes], NDArray[np.int64]]:
        match = _ADDRESS.fullmatch(operand)
        if match is None:
            raise PTXError(f"kernel {self.state.entry.name!r}: not an address: {operand!r}")
        wide = DTYPES[self.state.entry.registers.get(match[1], "u64")].itemsize == 8
        read, offset, n = self.state.reader(match[1], "u64" if wide else "u32"), int(match[2] or 0), self.state.n

        def addresses(lanes: Lanes) -> NDArray[np.int64]:
            base = np.asarray(read(lanes))
            if base.ndim == 0:
                base = np.full(n if lanes is None else len(lanes), base)
            return base.astype(np.int64) + offset

        return addresses

    def _fail(self, what: str, i: Instruction, lanes: Lanes, bad: NDArray[np.bool_], addresses: NDArray[np.int64]) -> PTXError:
        j = int(np.argmax(bad))
        lane = j if lanes is None else int(lanes[j])
        s = self.state
        return PTXError(
            f"{s.entry.name}: {what}: {i.line}, block {s.block[lane]}, thread {s.tid[lane]}, "
            f"address {addresses[j]:#x}, in {'.'.join(i.op)}"
        )

    # -- where the numbers are: an array and the index of each lane's number ---------------------------------------------

    def _global(self, i: Instruction, lanes: Lanes, at: NDArray[np.int64], nbytes: int) -> list[tuple[Any, Block]]:
        """Selections of lanes, each in one block."""
        first, last = int(at.min()), int(at.max())
        block = self.access.memory.at(first)
        if block is not None and last + nbytes <= block.end:
            return [(slice(None), block)]
        found, left = list[tuple[Any, Block]](), np.ones(len(at), bool)
        while left.any():
            address = int(at[left].min())
            block = self.access.memory.at(address)
            inside = left & (at + nbytes <= (block.end if block is not None else 0))
            if block is None or not inside[at == address].all():
                raise self._fail("global access out of bounds", i, lanes, at == address, at)
            found.append((np.flatnonzero(inside), block))
            left &= ~inside
        return found

    def _check_alignment(self, i: Instruction, lanes: Lanes, at: NDArray[np.int64], nbytes: int) -> None:
        bad = (at & (nbytes - 1)) != 0
        if bad.any():
            raise self._fail(f"address is no multiple of {nbytes}", i, lanes, bad, at)

    def _private(
        self, i: Instruction, space: str, lanes: Lanes, at: NDArray[np.int64], nbytes: int
    ) -> tuple[Any, NDArray[np.int64]]:
        s = self.state
        if space == "shared":
            memory, limit, owner, stride = s.shared, s.shared_bytes, s.block, s.shared_stride
        else:
            memory, limit, owner, stride = s.local, s.entry.local.nbytes, np.arange(s.n), s.local_stride
        bad = (at < 0) | (at + nbytes > limit)
        if bad.any():
            raise self._fail(f"{space} access out of bounds (there are {limit} bytes)", i, lanes, bad, at)
        return memory, at + chosen(owner, lanes) * stride

    # -- load, store -----------------------------------------------------------------------------------------------------

    def _space(self, i: Instruction) -> str | None:
        """The state space an instruction names; None: a generic address."""
        return next((part.split("::")[0] for part in i.op[1:] if part.split("::")[0] in SPACES), None)

    def _by_space(self, i: Instruction, lanes: Lanes, at: NDArray[np.int64]) -> list[tuple[str, Any, NDArray[np.int64]]]:
        space = self._space(i)
        if space is not None:
            return [(space, slice(None), at)]
        found, left = [], np.ones(len(at), bool)
        for name, base in (("shared", SHARED_WINDOW), ("local", LOCAL_WINDOW)):
            inside = (at >= base) & (at < base + _WINDOW)
            if inside.any():
                found.append((name, np.flatnonzero(inside), at[inside] - base))
                left &= ~inside
        if left.all():
            return [("global", slice(None), at)]
        return [*found, ("global", np.flatnonzero(left), at[left])] if left.any() else found

    def gather(
        self, i: Instruction, lanes: Lanes, at: NDArray[np.int64], dtype: np.dtype[Any], count: int
    ) -> list[NDArray[Any]]:
        """`count` numbers from each lane's address on."""
        size = dtype.itemsize
        self._check_alignment(i, lanes, at, size * count)
        out = [np.empty(len(at), dtype) for _ in range(count)]
        for space, where, addresses in self._by_space(i, lanes, at):
            inner = _subset(lanes, where)
            if space == "global":
                for part, block in self._global(i, inner, addresses, size * count):
                    self._count(block, inner, part, addresses, size * count, False)
                    index, numbers = (addresses[part] - block.address) // size, block.view(dtype)
                    for j in range(count):
                        out[j][_compose(where, part)] = numbers[index + j]
                continue
            memory, flat = self._private(i, space, inner, addresses, size * count)
            if space == "shared" and not all(self.state.written[flat + b].all() for b in range(0, size * count, min(size, 4))):
                bad = ~self.state.written[flat]
                raise self._fail("shared memory is read before it is written", i, inner, bad, addresses)
            for j in range(count):
                out[j][where] = memory.view(dtype)[flat // size + j]
        return out

    def scatter(self, i: Instruction, lanes: Lanes, at: NDArray[np.int64], values: list[Any], dtype: np.dtype[Any]) -> None:
        """Numbers to each lane's address; of lanes that name the same one the last stays."""
        size, count = dtype.itemsize, len(values)
        self._check_alignment(i, lanes, at, size * count)
        values = [np.broadcast_to(v, len(at)) for v in values]
        for space, where, addresses in self._by_space(i, lanes, at):
            inner = _subset(lanes, where)
            if space == "global":
                for part, block in self._global(i, inner, addresses, size * count):
                    self._count(block, inner, part, addresses, size * count, True)
                    index, numbers = (addresses[part] - block.address) // size, block.view(dtype)
                    for j in range(count):
                        numbers[index + j] = values[j][where][part]
                continue
            memory, flat = self._private(i, space, inner, addresses, size * count)
            for j in range(count):
                memory.view(dtype)[flat // size + j] = values[j][where]
            if space == "shared":
                for b in range(size * count):
                    self.state.written[flat + b] = True

    def _count(self, block: Block, lanes: Lanes, part: Any, at: NDArray[np.int64], nbytes: int, writes: bool) -> None:
        if self.access.traffic is not None:
            self.access.traffic.count(block.label, at[part], nbytes, chosen(self.state.warp, lanes)[part], writes)

    # -- operations ------------------------------------------------------------------------------------------------------

    def load(self, i: Instruction) -> Operation:
        kind, count = i.op[-1], _vector(i)
        writers = [self.state.writer(name, kind) for name in _names(i.operands[0])]
        if self._space(i) == "param":
            return self._load_parameter(i, writers)
        addresses, dtype = self.address(i.operands[1]), DTYPES[kind]

        def run(lanes: Lanes) -> None:
            for write, values in zip(writers, self.gather(i, lanes, addresses(lanes), dtype, count), strict=True):
                write(lanes, values)

        return run

    def _load_parameter(self, i: Instruction, writers: list[Any]) -> Operation:
        match = _ADDRESS.fullmatch(i.operands[1])
        parameter = next((p for p in self.state.entry.parameters if match is not None and p.name == match[1]), None)
        if match is None or parameter is None:
            raise PTXError(f"kernel {self.state.entry.name!r}: no parameter {i.operands[1]!r}")
        dtype, offset = DTYPES[i.op[-1]], parameter.offset + int(match[2] or 0)
        where = slice(offset, offset + dtype.itemsize * len(writers))

        def run(lanes: Lanes) -> None:
            for write, value in zip(writers, self.state.parameters[where].view(dtype), strict=True):
                write(lanes, value)

        return run

    def store(self, i: Instruction) -> Operation:
        kind = i.op[-1]
        readers = [self.state.reader(name, kind) for name in _names(i.operands[1])]
        addresses, dtype = self.address(i.operands[0]), DTYPES[kind]

        def run(lanes: Lanes) -> None:
            self.scatter(i, lanes, addresses(lanes), [read(lanes) for read in readers], dtype)

        return run

    def atomic(self, i: Instruction) -> Operation:
        """One lane after the other, in an order that nothing fixes: that of a generator."""
        kind, returns = i.op[-1], i.op[0] == "atom"
        operands = i.operands if returns else ("_", *i.operands)
        write, addresses, dtype = self.state.writer(operands[0], kind), self.address(operands[1]), DTYPES[kind]
        readers = [self.state.reader(o, kind) for o in operands[2:]]
        name = next((part for part in i.op if part in _UPDATES), None)
        if name is None:
            raise PTXError(f"{self.state.entry.name}: the interpreter does not know {i} ({i.line})")
        update, generator = _UPDATES[name], np.random.default_rng(0)

        def run(lanes: Lanes) -> None:
            at, old = addresses(lanes), np.empty(self.state.n if lanes is None else len(lanes), dtype)
            values = [np.broadcast_to(read(lanes), len(at)) for read in readers]
            for j in generator.permutation(len(at)):
                one = np.array([j if lanes is None else lanes[j]])
                old[j] = self.gather(i, one, at[j : j + 1], dtype, 1)[0][0]
                self.scatter(i, one, at[j : j + 1], [update(old[j], *(v[j] for v in values))], dtype)
            write(lanes, old)

        return run


_UPDATES: dict[str, Callable[..., Any]] = {
    "add": lambda old, x: old + x,
    "min": np.fmin,
    "max": np.fmax,
    "exch": lambda old, x: x,
    "cas": lambda old, expected, x: x if old == expected else old,
    "or": lambda old, x: old | x,
    "and": lambda old, x: old & x,
}


def _names(operand: str) -> list[str]:
    return [part.strip() for part in operand.strip("{}").split(",")]


def _vector(i: Instruction) -> int:
    return next((int(part[1]) for part in i.op if part in ("v2", "v4")), 1)


def _subset(lanes: Lanes, where: Any) -> Lanes:
    if isinstance(where, slice):
        return lanes
    return where if lanes is None else lanes[where]


def _compose(where: Any, part: Any) -> Any:
    """The index of `part` of what `where` selects."""
    if isinstance(where, slice):
        return part
    return where[part]
