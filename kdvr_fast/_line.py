"""The least value along a line of weights, from logits alone: no rows are read while the best step is looked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .backends.base import FloatArray, Problem

_TRIALS, _FLAT, _LONGEST = 6, 0.03, 32.0  # steps to a minimum along a line, its slope, its length


@dataclass(frozen=True)
class Line:
    """F(P + t D), whose slope rises with t. z, dz (n, k): logits of P, and what D adds to them without an offset.

    slope: at t = 0. bend: what the penalty adds to the slope with each t.
    """

    problem: Problem
    z: FloatArray
    dz: FloatArray
    slope: float
    bend: float

    def least(self) -> float:
        """About the t > 0 at which F is least: Newton's method on the slope, from t = 1."""
        t, low, high = 1.0, 0.0, _LONGEST
        start = self.problem.loss.link(self.z)
        for _ in range(_TRIALS):
            link = self.problem.loss.link(self.z + self.z.dtype.type(t) * self.dz)
            # losses whose curvature is known: residual = link - y, so that y drops out of differences
            slope = self.slope + self._mean((link - start) * self.dz) + t * self.bend
            if abs(slope) <= _FLAT * abs(self.slope):
                break
            low, high = (t, high) if slope < 0 else (low, t)
            curvature = self.curvature(link)
            root = t - slope / curvature if curvature > 0 else np.inf
            t = root if low < root < high else (low + min(high, 4 * t + low)) / 2
        return t

    def curvature(self, link: FloatArray) -> float:
        """Of F in t where the predictions are `link` (n, k)."""
        u, v = self.problem.loss.bends(link)
        across = (v * self.dz).sum(axis=1, keepdims=True)
        return self._mean(u * self.dz * self.dz) - self._mean(across * across) + self.bend

    def _mean(self, values: FloatArray) -> float:
        """Over rows, of s_i times the sum of the numbers of each."""
        s = self.problem.weights
        return float(np.sum(values if s is None else values * s[:, None], dtype=np.float64)) / self.problem.n
