"""When a run has converged: the gradient's norm, relative to that of the initial weights.

With the gradient G (k, d) of the smooth part at W and a penalty l1 |W|_1 it is the norm of the proximal gradient mapping at the
rate eta, (W - soft_threshold(W - eta G, eta l1)) / eta, which is G where l1 = 0; the intercept's gradient is included.
Source: Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm", 2009; arXiv:1403.4699 (proximal SVRG).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from .backends.base import FloatArray, Step


@dataclass
class Criterion:
    """Met once a norm is at most `tol` times the first one. epoch: finished ones at the last."""

    tol: float
    first: float = nan
    last: float = nan
    epoch: int = 0

    @property
    def met(self) -> bool:
        """Whether the last norm was small enough; False before the first."""
        return self.last <= self.tol * self.first

    def check(self, norm: float, epoch: int) -> None:
        """Take the norm at the weights of that many finished epochs; the first is the measure of all others."""
        self.first = norm if isnan(self.first) else self.first
        self.last, self.epoch = norm, epoch

    def message(self, unit: str) -> str:
        """What the last check found, for the result; unit: what an epoch is called."""
        share = self.last / self.first if self.first > 0 else 0.0
        return (
            f"the gradient's norm was {self.last:.3g} after {self.epoch} {unit}, {share:.3g} times the {self.first:.3g} of the "
            f"initial weights; tol={self.tol:g}"
        )


def residual_norm(
    grad: NDArray[np.float64], grad_intercept: NDArray[np.float64], W: FloatArray, step: Step, rate: float
) -> float:
    """The norm that the criterion looks at, from the gradient without any penalty at W."""
    V = W.astype(np.float64)
    G = grad + step.l2 * V
    if step.l1:
        moved = V - rate * G
        G = (V - np.sign(moved) * np.maximum(np.abs(moved) - rate * step.l1, 0)) / rate
    return float(np.sqrt((G * G).sum() + (grad_intercept**2).sum()))
