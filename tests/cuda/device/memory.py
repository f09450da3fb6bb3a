"""Device memory: blocks with ends that are known, filled with NaN until they are written.

A block is its own piece of the host's memory, so that a pointer means the same to the interpreter and to compiled code, and an
address sanitizer knows where it ends. Addresses are multiples of 256 bytes, as those of a device are.
"""

from __future__ import annotations

import bisect
import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
_POISON = 0xFF  # NaN in every floating type, -1 in every integer
_libc = ctypes.CDLL(None)  # of this process: the sanitizer's functions where there is one
_libc.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


class Block:
    """Memory of `nbytes` bytes at `address`."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.address, self.nbytes, self.end = address, nbytes, address + nbytes
        self.label = ""
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        self._views: dict[np.dtype[Any], NDArray[Any]] = {}

    def view(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The block as numbers of a type, whole ones only."""
        if dtype not in self._views:
            whole = self.nbytes - self.nbytes % dtype.itemsize
            self._views[dtype] = self.bytes[:whole].view(dtype)
        return self._views[dtype]


@dataclass
class Peak:
    """Bytes that were allocated at most while it was measured, beyond those that were there."""

    nbytes: int = 0


class Memory:
    """All blocks of a device that are alive."""

    def __init__(self) -> None:
        self._alive = 0
        self._peaks: list[tuple[Peak, int]] = []
        self._addresses: list[int] = []
        self._blocks: dict[int, weakref.ref[Block]] = {}

    def allocate(self, nbytes: int) -> Block:
        """A block filled with NaN. It lives as long as something refers to it."""
        pointer = ctypes.c_void_p()
        if _libc.posix_memalign(ctypes.byref(pointer), ALIGNMENT, max(nbytes, 1)) or pointer.value is None:
            raise MemoryError(f"no {nbytes} bytes for the emulated device")
        address = pointer.value
        ctypes.memset(address, _POISON, max(nbytes, 1))
        block = Block(address, nbytes)
        bisect.insort(self._addresses, address)
        self._blocks[address] = weakref.ref(block)
        weakref.finalize(block, self._free, address, nbytes)
        self._alive += nbytes
        for peak, start in self._peaks:
            peak.nbytes = max(peak.nbytes, self._alive - start)
        return block

    @contextmanager
    def measured(self) -> Iterator[Peak]:
        """What is allocated within."""
        peak = Peak()
        self._peaks.append((peak, self._alive))
        yield peak
        self._peaks.pop()

    def _free(self, address: int, nbytes: int) -> None:
        self._alive -= nbytes
        del self._blocks[address]
        self._addresses.remove(address)
        _libc.free(address)

    def at(self, address: int) -> Block | None:
        """The block in which the address lies."""
        i = bisect.bisect_right(self._addresses, address) - 1
        if i < 0:
            return None
        block = self._blocks[self._addresses[i]]()
        return block if block is not None and address < block.end else None
