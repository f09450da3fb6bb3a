"""Executes a kernel: lanes that stand at the same instruction go on together, those that lag behind first.

So lanes that parted meet again where their paths join, as on a device, and lanes that come too early to an instruction of
their warp wait there. A barrier of the block is passed when all its lanes wait at the same one. Blocks run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from device.memory import Memory
from numpy.typing import NDArray

from .errors import Apart, PTXError
from .instructions import Builder, Operation, is_terminator
from .lanes import Lanes, State
from .memory import Access
from .parser import Entry, Instruction
from .traffic import Traffic

MOST_THREADS, MOST_SHARED = 1024, 48 << 10  # of a block, without opting in to more


@dataclass
class _Block:
    """Instructions from one label or terminator to the next; `end` is the terminator, None where the next block follows."""

    operations: list[Operation]
    end: Instruction | None
    next: int


class Program:
    """A kernel for one shape of launch; it can run many times."""

    def __init__(self, entry: Entry, blocks: int, threads: int, memory: Memory, dynamic_shared: int = 0) -> None:
        if not (1 <= threads <= MOST_THREADS and blocks >= 1):
            raise PTXError(f"{entry.name}: no device takes {blocks} blocks of {threads} threads")
        self.entry, self.access = entry, Access(memory)
        self.state = State(entry, blocks, threads, dynamic_shared)
        if self.state.shared_bytes > MOST_SHARED:
            raise PTXError(
                f"{entry.name}: {self.state.shared_bytes} bytes of shared memory in a block; there are {MOST_SHARED}"
            )
        self.builder = Builder(self.state, self.access)
        self.blocks: dict[int, _Block] = {}
        self.instructions = 0  # executed, of a whole grid at once: what a run cost

    def run(self, arguments: Sequence[np.generic], traffic: Traffic | None = None) -> None:
        """One launch. `arguments` are scalars of the parameters' sizes, addresses as uint64."""
        for parameter, value in zip(self.entry.parameters, arguments, strict=True):
            raw = np.frombuffer(value.tobytes(), np.uint8)
            self.state.parameters[parameter.offset : parameter.offset + parameter.nbytes] = raw
        self.access.traffic = traffic
        self.state.reset()
        with np.errstate(all="ignore"):
            self._run()

    # -- scheduling ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self.groups: dict[int, Lanes] = {0: None}
        self.stuck: dict[int, tuple[int, ...]] = {}
        self.alone = PTXError()
        self.waiting: dict[int, NDArray[np.int64]] = {}
        self.parked: dict[int, NDArray[np.int64]] = {}
        self.ended = np.zeros(self.state.n, bool)
        while True:
            while self.groups:
                at = min(self.groups)
                self._execute(at, self.groups.pop(at))
            if self.parked:
                self._unpark()
            elif self.waiting:
                self._release()
            else:
                return

    def _execute(self, at: int, lanes: Lanes) -> None:
        block = self.blocks.get(at) or self._build(at)
        for j, operation in enumerate(block.operations):
            try:
                operation(lanes)
            except Apart as apart:
                self._park(at + j, lanes, apart)
                return
        self.instructions += len(block.operations) + 1
        self._leave(block, lanes)

    def _park(self, at: int, lanes: Lanes, apart: Apart) -> None:
        """Lanes that wait for others of their warp stay at this instruction, the rest go on from it."""
        before = self.parked.get(at, np.empty(0, np.int64))
        self.parked[at] = np.union1d(before, apart.lanes)
        self.alone = apart.error
        rest = _without(lanes, apart.lanes, self.state.n)
        if rest is not None and len(rest):
            self._join(at, rest)

    def _unpark(self) -> None:
        """All others have gone as far as they can: those that wait in a warp try again, together with who came since."""
        parked = {at: tuple(lanes) for at, lanes in self.parked.items()}
        if parked == self.stuck:
            raise self.alone
        self.stuck = parked
        for at, lanes in self.parked.items():
            self._join(at, None if len(lanes) == self.state.n else lanes)
        self.parked = {}

    def _build(self, at: int) -> _Block:
        heads, operations, i = set(self.entry.labels.values()), list[Operation](), at
        while i < len(self.entry.instructions):
            instruction = self.entry.instructions[i]
            if is_terminator(instruction):
                self.blocks[at] = _Block(operations, instruction, i + 1)
                return self.blocks[at]
            operations.append(self.builder.build(instruction))
            i += 1
            if i in heads:
                break
        self.blocks[at] = _Block(operations, None, i)
        return self.blocks[at]

    def _leave(self, block: _Block, lanes: Lanes) -> None:
        end = block.end
        if end is None and block.next >= len(self.entry.instructions):
            self._end(lanes)
        elif end is None:
            self._join(block.next, lanes)
        else:
            taken = lanes if end.guard is None else self.builder.taken(end)(lanes)
            rest = _without(lanes, taken, self.state.n)
            if rest is None or len(rest):
                self._join(block.next, rest)
            if taken is None or len(taken):
                self._take(end, block.next, taken)

    def _take(self, end: Instruction, after: int, lanes: Lanes) -> None:
        if end.op[0] == "bra":
            self._join(self.entry.labels[end.operands[0]], lanes)
        elif end.op[0] in ("ret", "exit"):
            self._end(lanes)
        elif end.op[:2] in (("bar", "sync"), ("barrier", "sync")) and end.operands in (("0",), ()):
            whole = np.arange(self.state.n) if lanes is None else lanes
            self.waiting[after] = np.union1d(self.waiting[after], whole) if after in self.waiting else whole
        else:
            raise PTXError(f"{self.entry.name}: the interpreter does not know `{end}` ({end.line})")

    def _join(self, at: int, lanes: Lanes) -> None:
        there: Any = self.groups.get(at, ())
        if lanes is None or there is None or len(there) == 0:
            self.groups[at] = lanes
            return
        both = np.union1d(there, lanes)
        self.groups[at] = None if len(both) == self.state.n else both

    def _end(self, lanes: Lanes) -> None:
        self.ended[slice(None) if lanes is None else lanes] = True

    def _release(self) -> None:
        """Blocks pass their barrier together. In each all lanes must be at one barrier, and none may have ended."""
        s = self.state
        where = np.zeros((s.blocks, s.threads), np.int64)
        for at, lanes in self.waiting.items():
            where.ravel()[lanes] = at
        at_work = (where > 0).any(axis=1)
        gone = self.ended.reshape(where.shape)[at_work].any(axis=1)
        apart = (where[at_work] != where[at_work].max(axis=1, keepdims=True)).any(axis=1)
        for bad, what in ((gone, "a barrier is waited for after threads of the block have ended"),
                          (apart, "threads of a block wait at different barriers")):  # fmt: skip
            if bad.any():
                block = int(np.flatnonzero(at_work)[np.argmax(bad)])
                line = self.entry.instructions[where[block].max() - 1].line
                raise PTXError(f"{self.entry.name}: {what}: {line}, block {block}")
        for at, lanes in self.waiting.items():
            self._join(at, None if len(lanes) == s.n else lanes)
        self.waiting = {}


def _without(lanes: Lanes, taken: Lanes, n: int) -> Lanes:
    """Those of `lanes` that are not in `taken`."""
    if taken is None or (lanes is not None and len(taken) == len(lanes)):
        return np.empty(0, np.int64)
    if len(taken) == 0:
        return lanes
    left = np.ones(n, bool) if lanes is None else np.zeros(n, bool)
    if lanes is not None:
        left[lanes] = True
    left[taken] = False
    return np.flatnonzero(left)
