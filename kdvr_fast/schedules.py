"""Schedules as data: learning rates by step and distillation weights by epoch.

Learning rate: `values(epoch, n_steps, epochs)` gives float64 rates for one epoch (0-based) of `n_steps` steps, one for each
step or a single one for all. Time t is counted in epochs: step j of epoch e is at t = e + j / n_steps.
Distillation weight: `Geometric.value(epoch)`; a plain number means the same weight throughout, "auto" one that is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from . import _validation as check

Rates = NDArray[np.float64]


@runtime_checkable
class LearningRate(Protocol):
    """A learning-rate schedule: anything with this method, a user's own included; `solve` checks what it gives."""

    def values(self, epoch: int, n_steps: int, epochs: int) -> Rates:
        """Rates of the steps of one epoch (from 0) of `epochs`: float64, finite, not negative, of length n_steps or 1."""


def _times(epoch: int, n_steps: int) -> Rates:
    return epoch + np.arange(n_steps, dtype=np.float64) / n_steps


@dataclass(frozen=True)
class Constant:
    """The same rate at every step: lr(t) = value, value > 0."""

    value: float

    def __post_init__(self) -> None:
        check.number(self.value, "learning_rate", above=0.0)

    def values(self, epoch: int, n_steps: int, epochs: int) -> Rates:
        """Rates of one epoch, see the module."""
        return np.full(1, self.value, np.float64)


@dataclass(frozen=True)
class Inverse:
    """lr(t) = initial / (1 + decay t)^power, t in epochs (fractional, so the rate falls within an epoch too).

    initial > 0, decay >= 0, power > 0. power = 1 is Robbins and Monro's choice.

    >>> from kdvr_fast import Inverse
    >>> Inverse(0.1, decay=1.0).values(epoch=1, n_steps=2, epochs=5).round(4).tolist()
    [0.05, 0.04]
    """

    initial: float
    decay: float
    power: float = 1.0

    def __post_init__(self) -> None:
        check.number(self.initial, "initial", above=0.0)
        check.number(self.decay, "decay", low=0.0)
        check.number(self.power, "power", above=0.0)

    def values(self, epoch: int, n_steps: int, epochs: int) -> Rates:
        """Rates of one epoch, see the module."""
        return np.asarray(self.initial / (1.0 + self.decay * _times(epoch, n_steps)) ** self.power, np.float64)


@dataclass(frozen=True)
class Cosine:
    """lr(t) = final + (initial - final) (1 + cos(pi (t - warmup) / (epochs - warmup))) / 2, after a linear warmup.

    initial > 0, final >= 0, warmup >= 0 in epochs. While t < warmup, step j of the run has initial (j + 1) / (warmup steps).
    Source: Loshchilov and Hutter, arXiv:1608.03983.

    >>> from kdvr_fast import Cosine
    >>> Cosine(0.2).values(epoch=1, n_steps=2, epochs=2).round(4).tolist()
    [0.1, 0.0293]
    """

    initial: float
    final: float = 0.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        check.number(self.initial, "initial", above=0.0)
        check.number(self.final, "final", low=0.0)
        check.number(self.warmup, "warmup", low=0.0)

    def values(self, epoch: int, n_steps: int, epochs: int) -> Rates:
        """Rates of one epoch, see the module."""
        t = _times(epoch, n_steps)
        done = np.clip((t - self.warmup) / max(epochs - self.warmup, 1.0 / n_steps), 0.0, 1.0)
        rates = self.final + (self.initial - self.final) * (1.0 + np.cos(np.pi * done)) / 2.0
        if self.warmup > epoch:
            rates = np.where(t < self.warmup, self.initial * np.minimum((t + 1.0 / n_steps) / self.warmup, 1.0), rates)
        return np.asarray(rates, np.float64)


@dataclass(frozen=True)
class Exponential:
    """lr = initial * factor^epoch, constant within an epoch. initial > 0, factor > 0.

    >>> from kdvr_fast import Exponential
    >>> Exponential(0.05, factor=0.96).values(epoch=1, n_steps=6000, epochs=100).tolist()
    [0.048]
    """

    initial: float
    factor: float

    def __post_init__(self) -> None:
        check.number(self.initial, "initial", above=0.0)
        check.number(self.factor, "factor", above=0.0)

    def values(self, epoch: int, n_steps: int, epochs: int) -> Rates:
        """Rates of one epoch, see the module."""
        return np.full(1, self.initial * self.factor**epoch, np.float64)


@dataclass(frozen=True)
class Geometric:
    """A distillation weight that changes by a factor an epoch: lam(epoch) = min(cap, initial * factor^epoch).

    initial and cap in [0, 1], factor > 0. The paper decays with 0.9 and grows with 1.047.
    Source: arXiv:2305.17581, experiments.

    >>> from kdvr_fast import Geometric
    >>> Geometric(0.8, factor=0.5).value(2)
    0.2
    """

    initial: float
    factor: float
    cap: float = 1.0

    def __post_init__(self) -> None:
        check.number(self.initial, "initial of Geometric", low=0.0, high=1.0)
        check.number(self.factor, "factor of Geometric", above=0.0)
        check.number(self.cap, "cap of Geometric", low=0.0, high=1.0)

    def value(self, epoch: int) -> float:
        """The weight of an epoch, counted from 0."""
        # in logarithms: factor^epoch alone may overflow where the cap makes the answer plain
        if self.initial == 0.0 or self.cap == 0.0:
            return 0.0
        log = np.log(self.initial) + epoch * np.log(self.factor)
        return self.cap if log >= np.log(self.cap) else float(self.initial * self.factor**epoch)


Lam = float | Geometric | Literal["auto"]
