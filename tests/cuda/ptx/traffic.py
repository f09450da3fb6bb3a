"""Bytes that warps ask global memory for, by buffer: what the emulation moves before any cache, and what it touches."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SECTOR = 32  # bytes: the unit in which a device moves global memory


@dataclass
class Counter:
    """requests: of warps. sectors: of 32 bytes, each counted once a request. useful: bytes that lanes want, once a request.
    touched: the sectors that were asked for at all, which must come from memory however large a cache is.
    """

    requests: int = 0
    sectors: int = 0
    useful: int = 0
    touched: set[int] = field(default_factory=set)


class Traffic:
    """Counters by (label of the buffer, whether it is written)."""

    def __init__(self) -> None:
        self.counters: dict[tuple[str, bool], Counter] = defaultdict(Counter)

    def count(self, label: str, addresses: NDArray[Any], nbytes: int, warps: NDArray[Any], writes: bool) -> None:
        """One instruction: each warp is one request for what its lanes name."""
        counter = self.counters[label, writes]
        pieces = (addresses[:, None] + np.arange(0, nbytes, min(nbytes, 4))).ravel()
        keys = np.repeat(warps.astype(np.int64), len(pieces) // len(addresses))
        counter.touched.update(np.unique(pieces // SECTOR).tolist())
        counter.requests += len(np.unique(warps))
        counter.sectors += _distinct(keys, pieces // SECTOR)
        counter.useful += min(nbytes, 4) * _distinct(keys, pieces)

    def moved(self, label: str, writes: bool = False) -> int:
        """Bytes of all sectors asked for."""
        return SECTOR * self.counters[label, writes].sectors

    def touched(self, label: str, writes: bool = False) -> int:
        """Bytes of the sectors that were asked for, each once."""
        return SECTOR * len(self.counters[label, writes].touched)

    def coalesced(self, label: str, writes: bool = False) -> float:
        """The share of the moved bytes that lanes asked for: 1 where neighbours read neighbours."""
        counter = self.counters[label, writes]
        return counter.useful / (SECTOR * counter.sectors)


def _distinct(keys: NDArray[Any], values: NDArray[Any]) -> int:
    """Different pairs."""
    return len(np.unique(np.stack([keys, values]), axis=1).T)
