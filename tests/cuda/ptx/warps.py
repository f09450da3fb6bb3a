"""Instructions that lanes of a warp execute together. Lanes wait for all that the mask names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import Apart, PTXError
from .lanes import WARP, Lanes, State, chosen
from .parser import Instruction

_FULL = 0xFFFFFFFF


class Warps:
    """Builds the operations of one launch that exchange between lanes."""

    def __init__(self, state: State) -> None:
        self.state = state

    def _bits(self, lanes: Lanes, which: NDArray[np.bool_] | None = None) -> NDArray[np.uint32]:
        """A word a warp: the lanes of the set (of them those for which `which` holds)."""
        warp, lane = chosen(self.state.warp, lanes), chosen(self.state.lane, lanes)
        bits = np.uint32(1) << lane.astype(np.uint32)
        words = np.zeros(self.state.blocks * self.state.warps_of_block, np.uint32)
        np.bitwise_or.at(words, warp, bits if which is None else np.where(which, bits, np.uint32(0)))
        return words

    def check(self, i: Instruction, lanes: Lanes, mask: Any) -> None:
        if lanes is None and self.state.whole_warps and (np.asarray(mask) == _FULL).all():
            return
        warp, lane = chosen(self.state.warp, lanes), chosen(self.state.lane, lanes)
        mask = np.broadcast_to(np.asarray(mask, np.uint32), warp.shape)
        whole = np.arange(self.state.n) if lanes is None else lanes
        outside = (mask >> lane.astype(np.uint32) & np.uint32(1)) == 0
        if outside.any():
            raise self._error("the lane is not in its own mask", i, whole[outside][0])
        absent = (self._bits(lanes)[warp] & mask) != mask
        if absent.any():
            raise Apart(whole[absent], self._error("a lane that the mask names does not come", i, whole[absent][0]))

    def _error(self, what: str, i: Instruction, lane: int) -> PTXError:
        s = self.state
        place = f"{i.line}, block {s.block[lane]}, thread {s.tid[lane]}, in {'.'.join(i.op)}"
        return PTXError(f"{s.entry.name}: {what}: {place}")

    def shuffle(self, i: Instruction) -> Callable[[Lanes], None]:
        """shfl.sync: a lane takes the number of another; from outside its segment it keeps its own."""
        s, mode = self.state, next(m for m in ("bfly", "down", "up", "idx") if m in i.op)
        names = [name.strip() for name in i.operands[0].split("|")]
        write, predicate = s.writer(names[0], "b32"), s.writer(names[1] if len(names) > 1 else "_", "pred")
        source, offset, control, mask = (
            s.reader(o, kind) for o, kind in zip(i.operands[1:], ("b32", "u32", "u32", "u32"), strict=True)
        )
        table = np.zeros((s.blocks * s.warps_of_block, WARP), np.uint32)

        def run(lanes: Lanes) -> None:
            members = mask(lanes)
            self.check(i, lanes, members)
            warp, lane = chosen(s.warp, lanes), chosen(s.lane, lanes)
            table[warp, lane] = source(lanes)
            by, c = np.asarray(offset(lanes), np.int64), np.asarray(control(lanes), np.int64)
            segment, clamp = c >> 8 & 31, c & 31
            top, bottom = (lane & segment) | (clamp & ~segment), lane & segment
            if mode == "idx":
                other = bottom | (by & ~segment & 31)
            else:
                other = lane ^ by if mode == "bfly" else lane + by if mode == "down" else lane - by
            inside = other >= top if mode == "up" else other <= top
            other = np.where(inside, other, lane)
            named = np.broadcast_to(np.asarray(members, np.uint32), lane.shape) >> other.astype(np.uint32) & np.uint32(1)
            if not named.all():
                raise PTXError(f"{s.entry.name}: a shuffle reads a lane outside its mask: {i.line}, in {'.'.join(i.op)}")
            write(lanes, table[warp, other])
            predicate(lanes, inside)

        return run

    def vote(self, i: Instruction) -> Callable[[Lanes], None]:
        s, ballot = self.state, "ballot" in i.op
        write = s.writer(i.operands[0], "b32" if ballot else "pred")
        negated, operand = i.operands[1].startswith("!"), i.operands[1].lstrip("!")
        read, mask = s.reader(operand, "pred"), s.reader(i.operands[2], "u32")

        def run(lanes: Lanes) -> None:
            members = mask(lanes)
            self.check(i, lanes, members)
            warp = chosen(s.warp, lanes)
            words = self._bits(lanes, np.broadcast_to(read(lanes), warp.shape) ^ negated)[warp]
            write(lanes, words if ballot else words != 0 if "any" in i.op else words == np.asarray(members, np.uint32))

        return run

    def active(self, i: Instruction) -> Callable[[Lanes], None]:
        write = self.state.writer(i.operands[0], "b32")
        return lambda lanes: write(lanes, self._bits(lanes)[chosen(self.state.warp, lanes)])

    def barrier(self, i: Instruction) -> Callable[[Lanes], None]:
        """bar.warp.sync: lanes walk together here anyway, so it only checks that they do."""
        mask = self.state.reader(i.operands[0], "u32")
        return lambda lanes: self.check(i, lanes, mask(lanes))
