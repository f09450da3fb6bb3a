"""The lanes of a launch: where each stands in its warp, block and grid, its registers, its shared and local memory.

All lanes of all blocks are one axis of length N = blocks x threads. A set of them is an ascending index array, or None for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PTXError
from .parser import DTYPES, Entry

Lanes = NDArray[np.int64] | None
Read = Callable[[Lanes], Any]
Write = Callable[[Lanes, Any], None]
WARP = 32
_FLOATS = {"0f": ("u4", "f4"), "0d": ("u8", "f8")}


def chosen(values: NDArray[Any], lanes: Lanes) -> NDArray[Any]:
    """The values of some lanes."""
    return values if lanes is None else values[lanes]


class State:
    """Registers and memory of all lanes. Everything starts as NaN or -1, and the launch is one-dimensional."""

    def __init__(self, entry: Entry, blocks: int, threads: int, dynamic: int) -> None:
        self.entry, self.blocks, self.threads, self.n = entry, blocks, threads, blocks * threads
        self.warps_of_block = -(-threads // WARP)
        lane = np.arange(self.n)
        self.tid, self.block = lane % threads, lane // threads
        self.warp, self.lane = self.block * self.warps_of_block + self.tid // WARP, self.tid % WARP
        self.whole_warps = threads % WARP == 0
        self.shared_bytes = entry.shared.nbytes
        self.shared_offsets = dict(entry.shared.offsets)
        if entry.shared.dynamic is not None:
            self.shared_bytes = -(-self.shared_bytes // 16) * 16
            self.shared_offsets[entry.shared.dynamic] = self.shared_bytes
            self.shared_bytes += dynamic
        self.shared_stride = -(-self.shared_bytes // 16) * 16
        self.local_stride = -(-entry.local.nbytes // 16) * 16
        size = sum(p.nbytes for p in entry.parameters[-1:]) + (entry.parameters[-1].offset if entry.parameters else 0)
        self.parameters = np.zeros(max(size, 1), np.uint8)
        self.registers = {name: np.empty(self.n, DTYPES[kind]) for name, kind in entry.registers.items()}
        constant = {"tid.x": self.tid, "ctaid.x": self.block, "laneid": self.lane, "warpid": self.tid // WARP}
        sizes = {"ntid.x": threads, "nctaid.x": blocks, "WARP_SZ": WARP}
        sizes |= {
            f"{name}.{axis}": value for name, value in (("tid", 0), ("ctaid", 0), ("ntid", 1), ("nctaid", 1)) for axis in "yz"
        }
        self.special = {f"%{k}": v.astype(np.uint32) for k, v in constant.items()}
        self.special |= {f"%{k}": np.full(self.n, v, np.uint32) for k, v in sizes.items()}
        self.special["WARP_SZ"] = self.special.pop("%WARP_SZ")
        self.reset()

    def reset(self) -> None:
        """As at the start of a launch."""
        self.shared = np.full(self.blocks * self.shared_stride, 0xFF, np.uint8)
        self.written = np.zeros(len(self.shared), bool)
        self.local = np.full(self.n * self.local_stride, 0xFF, np.uint8)
        for values in self.registers.values():
            values.view(np.uint8).fill(0 if values.dtype.kind == "b" else 0xFF)

    def reader(self, operand: str, kind: str) -> Read:
        """How to read an operand as a type: a register of the same size or wider, a special one, a variable, a number."""
        dtype = DTYPES[kind]
        values = self.registers.get(operand, self.special.get(operand))
        if values is None:
            constant = self._constant(operand, dtype)
            return lambda lanes: constant
        if values.dtype.itemsize == dtype.itemsize and (values.dtype.kind == "b") is (dtype.kind == "b"):
            same = values.view(dtype)
            return lambda lanes: same if lanes is None else same[lanes]
        if operand in self.registers and values.dtype.itemsize < dtype.itemsize:
            raise PTXError(f"kernel {self.entry.name!r} reads register {operand} as .{kind}, which is wider than it is")
        return lambda lanes: (values if lanes is None else values[lanes]).astype(dtype)

    def writer(self, operand: str, kind: str) -> Write:
        """How to write a register; one that is wider than the type takes the zero or sign extension. "_" takes nothing."""
        if operand == "_":
            return lambda lanes, value: None
        values = self.registers.get(operand)
        if values is None:
            raise PTXError(f"kernel {self.entry.name!r} writes {operand!r}, which is no register")
        dtype = DTYPES[kind]
        if values.dtype.kind != "b":
            values = values.view(dtype if values.dtype.itemsize == dtype.itemsize else f"{dtype.kind}{values.dtype.itemsize}")

        def write(lanes: Lanes, value: Any) -> None:
            if lanes is None:
                values[...] = value
            else:
                values[lanes] = value

        return write

    def _constant(self, operand: str, dtype: np.dtype[Any]) -> Any:
        if operand[:2].lower() in _FLOATS and len(operand) > 3:
            bits, number = _FLOATS[operand[:2].lower()]
            value = np.array(int(operand[2:], 16), bits).view(number)
            return value.astype(dtype)[()] if dtype.kind == "f" else value.view(dtype)[()]
        for offsets in (self.shared_offsets, self.entry.local.offsets):
            if operand in offsets:
                return dtype.type(offsets[operand])
        try:
            number = int(operand.rstrip("U"), 0)
        except ValueError:
            raise PTXError(f"kernel {self.entry.name!r}: the interpreter does not know the operand {operand!r}") from None
        if dtype.kind == "b":
            return np.bool_(number)
        bits = 8 * dtype.itemsize
        return np.array(number % (1 << bits), f"u{dtype.itemsize}").view(dtype)[()]
