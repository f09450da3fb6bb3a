"""Windows of rows in files, read into memory by a thread, one ahead of the walk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ._blocks import BlockWalk, Stretch
from .backends.base import FloatArray, Problem
from .files._targets import FileOutputs

Window = tuple[Problem, FloatArray | None]  # some rows, and a teacher's stored outputs of them


class _Memory:
    """Memory for one window: its rows and what goes with them. Rows that are never walked may follow."""

    def __init__(self, problem: Problem, block: int, window: int) -> None:
        self._source = problem
        self._rows = problem.X.window(window, block)

    def read(self, ranges: list[tuple[int, int]], outputs: FileOutputs | None) -> Window:
        """The window as a problem, and the teacher's stored outputs."""
        source = self._source
        X = self._rows.read(ranges)
        n, k, dtype = X.shape[0], source.n_outputs, source.X.dtype
        y = np.zeros(n, np.int64) if source.y.labels else np.zeros((n, k), dtype)
        weights = None if source.weights is None else np.ones(n, dtype)
        table = None if outputs is None else np.zeros((n, k), dtype)
        at = 0
        for start, stop in ranges:
            rows, there = slice(start, stop), slice(at, at + stop - start)
            y[there] = source.y[rows]
            if weights is not None and source.weights is not None:
                weights[there] = source.weights[rows]
            if table is not None and outputs is not None:
                table[there] = outputs.of(rows, y[there])
            at = there.stop
        return replace(source, X=X, y=y, weights=weights), table


class Windows:
    """The windows of a walk in their order, each read while the one before is walked."""

    def __init__(self, problem: Problem, block: int, window: int, reader: ThreadPoolExecutor) -> None:
        self._reader = reader
        self._memories = [_Memory(problem, block, window) for _ in range(2)]
        self._outputs: FileOutputs | None = None
        self._coming: tuple[BlockWalk, int, Future[Window]] | None = None

    def set_outputs(self, outputs: FileOutputs) -> None:
        """Read these beside the rows from now on."""
        if self._coming is not None:
            self._coming[2].result()
        self._outputs, self._coming = outputs, None

    def get(self, part: Stretch) -> Window:
        """The window of a part, when it is read; begins to read the one after it, over the one before."""
        walk, window = part.walk, part.window
        if self._coming is None or self._coming[0] is not walk or self._coming[1] != window:
            self._start(walk, window)
        assert self._coming is not None
        made = self._coming[2].result()
        self._coming = None
        if window + 1 < walk.windows:
            self._start(walk, window + 1)
        return made

    def _start(self, walk: BlockWalk, window: int) -> None:
        # one thread reads: a window that is no longer wanted is read before this one, not beside it
        self._memories.reverse()
        self._coming = walk, window, self._reader.submit(self._memories[0].read, walk.ranges(window), self._outputs)
