"""Virtual rows: a data set that is not stored, whose rows are made where they are read. This file says which; NumPy, not fast.

Random 32-bit words come from Philox4x32 with seven rounds, the fewest that pass BigCrush; its key is the seed and its counter
(block, stream, row), so that row i depends on the seed and i alone. With u(w) = (w + 1/2) / 2^32 and words w0 .. w3 of a block,
lane l = 0 .. 15 of the group of features 32 q .. 32 q + 31 takes block 8 q + l // 2 of stream 0 and the words
p = w_(l % 2), v = w_(2 + l % 2):

    normal    g_(32q + l) = R cos t, g_(32q + 16 + l) = R sin t:  R = sqrt(-2 log u(p)) (-1)^v,  t = pi v / 2^32, v signed
    uniform   g_(32q + l) = sqrt(12) (u(p) - 1/2), g_(32q + 16 + l) = sqrt(12) (u(v) - 1/2)

and x_ij = sqrt(spectrum_j) g_j: independent features of mean 0, the largest normal number being 6.8. Targets of row i follow
from z = W x_i + b of a model and the words w0, w1, w2 of stream 1, output c taking block c where loss is "squared":

    squared            y_c = z_c + noise sqrt(-2 log u(w0)) (-1)^w2 cos(pi w2 / 2^32)
    logistic, softmax  the class that the quantile u(w0) falls to, in the order of classes (logistic: 1 if u(w0) < link(z));
                       where u(w1) <= noise class number floor(w2 k / 2^32) instead

Source: J. Salmon et al., SC 2011 (Philox); Box and Muller (1958).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .backends.base import FloatArray
from .losses import LOSSES

Words = NDArray[np.uint64]  # 32-bit numbers

DISTRIBUTIONS = {"normal": 3.0, "uniform": 1.8}  # and the fourth moment of a number of variance one
GROUP = 32  # features that eight blocks make
_ROUNDS = 7
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: tuple[Words, Words, Words, Words], seed: int) -> list[Words]:
    """Philox4x32-7: four words for each counter of four; the key is the seed, low word first."""
    c0, c1, c2, c3 = counter
    for r in range(_ROUNDS):
        k0 = np.uint64(((seed & 0xFFFFFFFF) + r * 0x9E3779B9) & 0xFFFFFFFF)
        k1 = np.uint64(((seed >> 32) + r * 0xBB67AE85) & 0xFFFFFFFF)
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
    return [c0, c1, c2, c3]


def _row_words(rows: NDArray[np.integer[Any]], block: Words, stream: int, seed: int) -> list[Words]:
    """Words of some blocks of some rows, four times (rows, blocks)."""
    i = np.asarray(rows, np.uint64)[:, None] + np.zeros(block.shape, np.uint64)
    zero = np.zeros_like(i)
    return philox((zero + block, zero + np.uint64(stream), i & _LOW, i >> _HALF), seed)


def _unit(w: Words, dtype: np.dtype[Any]) -> FloatArray:
    return np.asarray(w.astype(np.uint32).astype(dtype) * dtype.type(2.0**-32) + dtype.type(2.0**-33))


def _normals(p: Words, v: Words, dtype: np.dtype[Any]) -> tuple[FloatArray, FloatArray]:
    """R cos t and R sin t."""
    turn = v.astype(np.uint32).view(np.int32)
    t = turn.astype(dtype) * dtype.type(np.pi * 2.0**-32)
    R = np.sqrt(-2 * np.log(_unit(p, dtype))) * (1 - 2 * (turn & 1)).astype(dtype)
    return R * np.cos(t), R * np.sin(t)


@dataclass(frozen=True, eq=False)
class VirtualRows:
    """n rows of d independent features that take no memory: `solve` and `gradient_stats` make them where they read them.

    Row i depends on the seed and i alone, so that a longer data set begins with the rows of a shorter one. Together with
    `VirtualTargets` for y. An index gives rows as an array, `rows[:1000]`.

    n, d: rows and features. seed: 0 .. 2^64 - 1. spectrum: variances of the features, (d,), or None for 1 falling geometrically
    to 1 / condition. distribution: "normal" (Box and Muller from 32-bit words, at most 6.8 in size) or "uniform", of that
    variance, which takes half the time. dtype: of the rows and all arithmetic, float32 or float64.

    >>> from kdvr_fast.synthetic import VirtualRows
    >>> VirtualRows(10**9, 100, seed=1).shape
    (1000000000, 100)
    >>> bool((VirtualRows(50, 3, seed=1)[7] == VirtualRows(90, 3, seed=1)[7]).all())
    True
    """

    n: int
    d: int
    _: KW_ONLY
    seed: int = 0
    spectrum: ArrayLike | None = None
    condition: float = 1.0
    distribution: str = "normal"
    dtype: DTypeLike = np.float32

    def __post_init__(self) -> None:
        from . import _validation as check  # which asks whether rows are of this class

        check.count(self.n, "n", low=1, high=2**62)
        check.count(self.d, "d", low=1, high=2**31)
        check.count(self.seed, "seed", low=0, high=2**64 - 1)
        check.choice(self.distribution, tuple(DISTRIBUTIONS), "distribution")
        object.__setattr__(self, "dtype", check.float_type(self.dtype))
        object.__setattr__(self, "spectrum", check.spectrum(self.spectrum, self.condition, self.d))
        object.__setattr__(self, "condition", 1.0)  # it has become the spectrum

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, d)."""
        return self.n, self.d

    @property
    def variances(self) -> NDArray[np.float64]:
        """The spectrum, (d,)."""
        return np.asarray(self.spectrum, np.float64)

    def __getitem__(self, rows: Any) -> FloatArray:
        """Some rows, of `dtype`."""
        which = row_numbers(self.n, rows)
        dtype: np.dtype[Any] = np.dtype(self.dtype)
        groups = -(-self.d // GROUP)
        lane = np.arange(16)
        x = np.empty((len(which), groups, 2, 16), dtype)
        for q in range(groups):
            words = _row_words(which, np.arange(8, dtype=np.uint64) + np.uint64(8 * q), 0, self.seed)
            p, v = (np.where(lane % 2 == 0, words[h][:, lane // 2], words[h + 1][:, lane // 2]) for h in (0, 2))
            if self.distribution == "normal":
                x[:, q, 0], x[:, q, 1] = _normals(p, v, dtype)
            else:
                root12 = dtype.type(np.sqrt(12.0))
                x[:, q, 0], x[:, q, 1] = ((_unit(w, dtype) - dtype.type(0.5)) * root12 for w in (p, v))
        made = x.reshape(len(which), -1)[:, : self.d] * np.sqrt(self.variances).astype(dtype)
        return np.asarray(made if np.ndim(rows) or isinstance(rows, slice) else made[0])


@dataclass(frozen=True, eq=False)
class VirtualTargets:
    """Targets of virtual rows, drawn from a linear model where the rows are made: z = W a + b, then as `loss` says.

    rows: theirs, passed for X in the same call. coef: W (k, d), or (d,) for one output. intercept: b (k,), zero if None.
    noise: "squared": standard deviation of normal noise. "logistic", "softmax": classes are drawn from link(z), but this share
    of them uniformly.

    >>> import numpy as np
    >>> from kdvr_fast.synthetic import VirtualRows, VirtualTargets
    >>> rows = VirtualRows(10**9, 3, seed=1)
    >>> VirtualTargets(rows, np.ones(3), loss="logistic")[:4].ravel().tolist()
    [1.0, 0.0, 1.0, 1.0]
    """

    rows: VirtualRows
    coef: ArrayLike
    intercept: ArrayLike | None = None
    _: KW_ONLY
    loss: str = "squared"
    noise: float = 0.0

    def __post_init__(self) -> None:
        from . import _validation as check

        if not isinstance(self.rows, VirtualRows):
            raise TypeError(f"VirtualTargets are of VirtualRows, got {type(self.rows).__name__}")
        rule = check.loss(self.loss)
        if not isinstance(self.loss, str):
            raise ValueError(f"VirtualTargets are drawn for a built-in loss by its name, not for the custom loss {rule.name!r}")
        W = check.matrix(self.coef, "coef")
        k, dtype = len(W), np.dtype(self.rows.dtype)
        if (rule.targets == "unit" and k != 1) or (rule.targets == "classes" and k < 2):
            raise ValueError(f"coef has {k} row(s); loss='logistic' has one output, loss='softmax' two or more")
        W = check.initial(W, (k, self.rows.d), dtype, "coef", "(outputs, features)")
        b = check.initial(self.intercept, (k,), dtype, "intercept", "one number an output")
        check.number(self.noise, "noise", low=0.0, high=np.inf if self.loss == "squared" else 1.0)
        object.__setattr__(self, "coef", W)
        object.__setattr__(self, "intercept", b)

    @property
    def model(self) -> tuple[FloatArray, FloatArray]:
        """W (k, d) and b (k,) of the rows' dtype."""
        return np.asarray(self.coef), np.asarray(self.intercept)

    @property
    def n_outputs(self) -> int:
        """The number k of outputs."""
        return len(self.model[0])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Targets of some rows: int64 labels (rows,) for softmax, else (rows, k) of the rows' dtype."""
        which = row_numbers(self.rows.n, rows)
        dtype: np.dtype[Any] = np.dtype(self.rows.dtype)
        k = self.n_outputs
        W, b = self.model
        z = self.rows[which] @ W.T + b
        w0, w1, w2, _ = _row_words(which, np.arange(k if self.loss == "squared" else 1, dtype=np.uint64), 1, self.rows.seed)
        if self.loss == "squared":
            return np.asarray(z + dtype.type(self.noise) * _normals(w0, w2, dtype)[0])
        classes = k if self.loss == "softmax" else 2
        u, P = _unit(w0, dtype), LOSSES[self.loss].link(z)
        drawn = (u < P)[:, 0] if k == 1 else np.minimum((np.cumsum(P, axis=1) <= u).sum(axis=1), k - 1)
        anew = (w2[:, 0] * np.uint64(classes)) >> _HALF
        drawn = np.where(_unit(w1, dtype)[:, 0] <= dtype.type(self.noise), anew.astype(np.int64), drawn.astype(np.int64))
        return drawn if self.loss == "softmax" else drawn.astype(dtype)[:, None]


def row_numbers(n: int, rows: Any) -> NDArray[np.int64]:
    """The numbers of the rows that an index names, (rows,)."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n), dtype=np.int64)
    which = np.atleast_1d(np.asarray(rows))
    which = np.where(which < 0, which + n, which).astype(np.int64)
    if len(which) and not (which.min() >= 0 and which.max() < n):
        raise IndexError(f"there are rows 0 .. {n - 1}")
    return which


def is_virtual(X: Any) -> TypeGuard[VirtualRows]:
    """Whether rows are made where they are read."""
    return isinstance(X, VirtualRows)
