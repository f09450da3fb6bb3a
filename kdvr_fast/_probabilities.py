"""A teacher's table that stays as it was given: probabilities in float16, from which residuals are made where they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends.base import FloatArray

_CHUNK_NUMBERS = 1 << 20  # widened at once


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The table c_i = p_i - y_i (n, k), checked. A block is made when it is asked for, as an array of `dtype`.

    values: p, (n, k) float16, memory maps too. y: labels (n,) or targets (n, k), as in `Problem`. The subtraction rounds once.
    """

    values: NDArray[np.float16]
    y: Any
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, k)."""
        n, k = self.values.shape
        return n, k

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> FloatArray:
        """The residuals of some rows."""
        made: FloatArray = minus_target(self.values[rows].astype(np.float64), self.y[rows]).astype(self.dtype)
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The whole table, for a backend that reads no float16."""
        if copy is False:
            raise ValueError("a table of float16 probabilities becomes an array by a copy")
        n, k = self.shape
        out = np.empty((n, k), self.dtype if dtype is None else dtype)
        size = max(1, _CHUNK_NUMBERS // k)
        for start in range(0, n, size):
            out[start : start + size] = self[start : start + size]
        return out


def minus_target(p: NDArray[np.float64], y: NDArray[Any]) -> NDArray[np.float64]:
    """p - y of some rows, p (rows, k): y (rows, k), or labels (rows,), of which 1 is taken off the class's own."""
    if y.ndim == 2:
        return np.asarray(p - y, np.float64)
    r = p.copy()
    r[np.arange(len(y)), y] -= 1.0
    return r
