"""Compressed students: operators that all weights go through after each step, W <- Q(W - lr p); the intercept does not.

| operator               | Q                                                   | unbiased | E|Q(v) - v|^2 <= omega |v|^2  |
|------------------------|-----------------------------------------------------|----------|-------------------------------|
| Mask(keep)             | the same numbers are 0 throughout                    | no       | -                             |
| TopK(keep)             | the largest in size stay                             | no       | omega = 1 - keep              |
| RandomK(keep)          | a random part stays, times 1 / keep                  | yes      | omega = 1 / keep - 1          |
| StochasticRounding(q)  | 2^q - 1 levels from -max |W| to max |W|, at random   | yes      | N / (4 (2^(q-1) - 1)^2)       |

N = k d. `keep` is a share of the N weights, rounded to a whole number of them, at least one. What is random follows from the
`random_state` of the run and can be replayed. `backends.base.Compression` says what each does to the last bit.
Source: arXiv:2305.17581, section on compressed students; the operators as in Khirirat et al., arXiv:1806.06573.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _validation as check
from .backends.base import Compression, FloatArray


class Compressor(Protocol):
    """What `solve` asks of an operator."""

    def plan(self, W: FloatArray, rng: np.random.Generator) -> Compression:
        """The operator as data, for weights like W (k, d), which say what is large at the start."""


def _kept(keep: float, W: FloatArray) -> int:
    return max(1, round(keep * W.size))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(0, 2**64, dtype=np.uint64))


def _check_keep(keep: object, owner: object) -> None:
    check.number(keep, f"keep of {type(owner).__name__}", above=0.0, high=1.0)


@dataclass(frozen=True)
class Mask:
    """A fixed mask: the same weights are 0 throughout.

    keep: share of the weights that stay, in (0, 1]. by: "random", or "magnitude", the largest of the initial weights or, where
    these are zero, of the teacher's.

    >>> import numpy as np
    >>> from kdvr_fast import Mask
    >>> Mask(0.5, by="magnitude").plan(np.array([[3.0, -1.0, 2.0, -4.0]]), np.random.default_rng(0)).mask.tolist()
    [[True, False, False, True]]
    """

    keep: float = 0.5
    by: Literal["random", "magnitude"] = "random"

    def __post_init__(self) -> None:
        _check_keep(self.keep, self)
        check.choice(self.by, ("random", "magnitude"), "by")

    def plan(self, W: FloatArray, rng: np.random.Generator) -> Compression:
        """The operator as data."""
        if self.by == "magnitude" and not W.any():
            raise ValueError("Mask(by='magnitude') needs weights that differ: pass coef_init or a teacher with weights")
        key = -np.abs(W.ravel()) if self.by == "magnitude" else rng.random(W.size)
        mask: NDArray[np.bool_] = np.zeros(W.size, bool)
        mask[np.argsort(key, kind="stable")[: _kept(self.keep, W)]] = True
        return Compression("mask", mask=mask.reshape(W.shape))


@dataclass(frozen=True)
class TopK:
    """After each step the largest weights stay and the others become 0. keep: their share, in (0, 1]."""

    keep: float = 0.5

    def __post_init__(self) -> None:
        _check_keep(self.keep, self)

    def plan(self, W: FloatArray, rng: np.random.Generator) -> Compression:
        """The operator as data."""
        return Compression("top", kept=_kept(self.keep, W))


@dataclass(frozen=True)
class RandomK:
    """After each step a random part of the weights stays, times 1 / keep; the others become 0. keep: its share, in (0, 1]."""

    keep: float = 0.5

    def __post_init__(self) -> None:
        _check_keep(self.keep, self)

    def plan(self, W: FloatArray, rng: np.random.Generator) -> Compression:
        """The operator as data."""
        return Compression("random", kept=_kept(self.keep, W), seed=_seed(rng))


@dataclass(frozen=True)
class StochasticRounding:
    """After each step each weight goes to one of its two neighbours among 2^bits - 1 levels, so that its mean stays.

    bits: 2 .. 24. The levels are evenly spaced from -max |W| to max |W|, 0 among them.
    """

    bits: int = 8

    def __post_init__(self) -> None:
        check.count(self.bits, "bits", low=2, high=24)

    def plan(self, W: FloatArray, rng: np.random.Generator) -> Compression:
        """The operator as data."""
        return Compression("rounding", levels=2 ** (self.bits - 1) - 1, seed=_seed(rng))


COMPRESSORS: tuple[type[Compressor], ...] = (Mask, TopK, RandomK, StochasticRounding)
