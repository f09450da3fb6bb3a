"""Shuffling by blocks: an order of rows in which a window of it comes from few places of the data.

Blocks of consecutive rows are put in a random order; what that gives is cut into windows, and the rows of a window are
shuffled. A window is all that has to be in memory. Blocks and windows are counted in rows of the data, so that the order does
not depend on how the data is stored. n rows; a window holds a whole number of batches, but for the last.
Source: Xu et al., "Stochastic Gradient Descent without Full Data Shuffle", arXiv:2206.05830.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ._order import shuffled_rows


@dataclass(frozen=True)
class Blocks:
    """Sampling for data larger than memory: every epoch walks each row once, blocks and then rows in random order.

    rows: rows of a block, read in one piece. window: rows that are shuffled together and in memory together, rounded down to a
    multiple of the batch size. Rows that lie close in the file are often alike, and a window of many blocks mixes them; it
    costs two windows of memory. Also takes rows in memory: the walk is the same.

    >>> from kdvr_fast import Blocks
    >>> Blocks(rows=2, window=4).order(8, batch_size=2, epochs=1, random_state=0).tolist()
    [[7, 0, 1, 6, 5, 2, 3, 4]]
    """

    rows: int = 1024
    window: int = 65536

    def __post_init__(self) -> None:
        from . import _validation as check  # which takes a Blocks for a sampling

        check.count(self.rows, "rows of Blocks", low=1)
        check.count(self.window, "window of Blocks", low=1)

    def window_rows(self, n: int, batch_size: int) -> int:
        """Rows of a window of n: a multiple of the batch size, at least one batch."""
        return max(min(self.window, n) // batch_size, 1) * batch_size

    def walk(self, rng: np.random.Generator, n: int, batch_size: int) -> BlockWalk:
        """The walk of one epoch."""
        starts = shuffled_rows(rng, -(-n // self.rows)) * self.rows
        return BlockWalk(n, self.window_rows(n, batch_size), starts, self.rows, int(rng.integers(0, 2**63)))

    def order(self, n: int, *, batch_size: int, epochs: int, random_state: int) -> NDArray[np.int64]:
        """The rows that a run with these numbers walks, (epochs, n): what `solve` takes for `order`."""
        from . import _validation as check

        n, size = check.count(n, "n", low=1), check.batch_size(batch_size, n)
        rng = np.random.default_rng(check.count(random_state, "random_state"))
        walks = [self.walk(rng, n, size) for _ in range(check.count(epochs, "epochs", low=1))]
        return np.stack([np.concatenate([walk.part(w).rows for w in range(walk.windows)]) for walk in walks])


@dataclass(frozen=True, eq=False)
class Stretch:
    """Some rows of a window: `places` among its rows, as they lie in `ranges` of the data one behind the other."""

    walk: BlockWalk
    window: int
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of the rows in the data."""
        found = [np.arange(start, stop) for start, stop in self.walk.ranges(self.window)]
        return np.asarray(np.concatenate(found)[self.places], np.int64)


@dataclass(frozen=True, eq=False)
class BlockWalk:
    """One epoch's order, made window by window. starts: first rows of the blocks, in the order in which they are read."""

    n: int
    size: int
    starts: NDArray[np.int64]
    block: int
    seed: int

    def __len__(self) -> int:
        return self.n

    @property
    def windows(self) -> int:
        """The number of windows."""
        return -(-self.n // self.size)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Places of the walk where blocks end."""
        return np.cumsum(np.minimum(self.block, self.n - self.starts))

    def ranges(self, window: int) -> list[tuple[int, int]]:
        """The rows of a window as (start, stop) of the data; one may begin or end within a block."""
        first, last = window * self.size, min(self.n, (window + 1) * self.size)
        found, b = [], int(np.searchsorted(self._ends, first, side="right"))
        while first < last:
            stop = min(int(self.starts[b]) + self.block, self.n)
            start = stop - int(self._ends[b]) + first
            stop = min(stop, start + last - first)
            found.append((start, stop))
            first, b = first + stop - start, b + 1
        return found

    def part(self, window: int, start: int = 0, stop: int | None = None) -> Stretch:
        """Rows start .. stop - 1 of a window, in walking order."""
        rows = min(self.n, (window + 1) * self.size) - window * self.size
        return Stretch(self, window, shuffled_rows(np.random.default_rng((self.seed, window)), rows)[start:stop])

    def parts(self, first: int, last: int) -> Iterator[tuple[int, Stretch]]:
        """Rows first .. last - 1 of the walk as (place of the first, part), cut where a window ends."""
        while first < last:
            window = first // self.size
            end = min(last, (window + 1) * self.size)
            yield first, self.part(window, first - window * self.size, end - window * self.size)
            first = end
