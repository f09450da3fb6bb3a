"""Points of a full-batch method: weights and what is known there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ._measuring import Weights
from ._precondition import Floats
from .backends.base import Pass, Sums


class Point(Protocol):
    """A point and what is known there: weights of X's dtype, sums over the rows, value of the minimised function, gradient."""

    @property
    def weights(self) -> Weights: ...
    @property
    def read(self) -> Pass: ...
    @property
    def sums(self) -> Sums: ...
    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Any: ...
    @property
    def norm(self) -> float: ...


@dataclass(frozen=True)
class PassPoint:
    """A `Point` from a pass at its weights; gradient (k, p)."""

    weights: Weights
    read: Pass
    value: float
    gradient: Floats
    norm: float

    @property
    def sums(self) -> Sums:
        return self.read.sums
