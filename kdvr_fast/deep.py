"""Deep linear models z = W_L ... W_1 a + b: what `solve(model=)` takes, and how their layers begin.

Initial layers are random, (h_l, h_{l-1}) each, times `scale`:

    gaussian    entries of variance 1 / h_{l-1}, so that a layer keeps the size of what passes through it
    orthogonal  Q of the QR of a Gaussian matrix: rows or columns orthonormal (Saxe, McClelland and Ganguli, arXiv:1312.6120)
    balanced    W_{l+1}^T W_{l+1} = W_l W_l^T: W_l = Q_l S^(1/L) Q_{l-1}^T with the singular values S of a Gaussian P (k, d) of
                variance 1 / d, Q_0 and Q_L its singular vectors, the other Q_l orthonormal and random
                (Arora, Cohen, Golowich and Hu, arXiv:1810.02281)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation as check
from ._layers import Network, join
from ._virtual import is_virtual
from .backends.base import FloatArray, Problem
from .methods import Method, Plan
from .teachers import Teacher

INITS = ("balanced", "orthogonal", "gaussian")


@dataclass(frozen=True, eq=False)
class DeepLinear:
    """A deep linear model for `solve`: z = W_L ... W_1 a + b, trained through its layers.

    widths: h_1 .. h_{L-1} of the hidden layers, so that L = len(widths) + 1; () is one layer. init, scale: how layers begin,
    drawn from `random_state` (`kdvr_fast.deep` has the formulas). weights: W_1 .. W_L to start from, in place of these three.

    The penalty is alpha / 2 times the sum of all |W_l|^2. A step either takes its rows through all layers, three times, or is
    made through the product at the cost of k rows: `solve` takes the cheaper way, and both are exact.

    >>> import numpy as np
    >>> from kdvr_fast import DeepLinear, solve
    >>> X, y = np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 6.0])
    >>> model = DeepLinear(weights=[[[1.0], [0.5]], [[1.0, 1.0]]])  # 1-2-1
    >>> options = {"epochs": 100, "batch_size": 1, "fit_intercept": False, "random_state": 0, "backend": "reference"}
    >>> run = solve(X, y, loss="squared", model=model, **options)
    >>> [W.shape for W in run.weights], round(float(run.coef[0, 0]), 6)
    ([(2, 1), (1, 2)], 2.0)
    """

    widths: Sequence[int] | None = None
    weights: Sequence[ArrayLike] | None = None
    init: Literal["balanced", "orthogonal", "gaussian"] = "balanced"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if (self.widths is None) == (self.weights is None):
            raise ValueError(
                "DeepLinear takes the widths of hidden layers or weights=[W_1, .., W_L] to start from: one of the two"
            )
        check.choice(self.init, INITS, "init")
        check.positive(self.scale, "scale")
        if self.widths is not None:
            given = self.widths
            if not isinstance(given, list | tuple):
                raise TypeError(f"widths must be a sequence of integers such as (512, 512), got {given!r}")
            object.__setattr__(self, "widths", tuple(check.count(h, f"widths[{i}]", low=1) for i, h in enumerate(given)))
        else:
            object.__setattr__(self, "weights", check.layers(self.weights, "weights"))

    @property
    def last(self) -> NDArray[Any] | None:
        """W_L where the layers are given: it knows the number of outputs."""
        return None if self.weights is None else np.asarray(self.weights[-1])

    def start(self, d: int, k: int, dtype: np.dtype[Any], rng: np.random.Generator) -> tuple[tuple[int, ...], FloatArray]:
        """All widths d, h_1, .., k, and the initial layers as one array."""
        if self.weights is not None:
            layers = [np.asarray(W) for W in self.weights]
            if layers[0].shape[1] != d:
                raise ValueError(f"weights[0] has {layers[0].shape[1]} features, X has {d}")
            widths = (d, *(len(W) for W in layers))
            return widths, join([check.cast_finite(W, dtype, "weights") for W in layers], dtype)
        widths = (d, *(self.widths or ()), k)
        draw = {"balanced": _balanced, "orthogonal": _orthogonal, "gaussian": _gaussian}[self.init]
        return widths, join([self.scale * W for W in draw(widths, rng)], dtype)


def _gaussian(widths: tuple[int, ...], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    return [rng.normal(size=(out, into)) / np.sqrt(into) for out, into in Network(widths).shapes]


def _orthonormal(rows: int, columns: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Orthonormal columns, uniformly random; columns <= rows."""
    Q, R = np.linalg.qr(rng.normal(size=(rows, columns)))
    return np.asarray(Q * np.sign(np.diag(R)), np.float64)


def _orthogonal(widths: tuple[int, ...], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    return [
        _orthonormal(out, into, rng) if out >= into else _orthonormal(into, out, rng).T for out, into in Network(widths).shapes
    ]


def _balanced(widths: tuple[int, ...], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    d, k, L, r = widths[0], widths[-1], len(widths) - 1, min(widths)
    U, S, Vt = np.linalg.svd(rng.normal(size=(k, d)) / np.sqrt(d), full_matrices=False)
    bases = [Vt[:r].T, *(_orthonormal(h, r, rng) for h in widths[1:-1]), U[:, :r]]
    root = S[:r] ** (1 / L)
    return [(above * root) @ below.T for below, above in pairwise(bases)]


def make_network(
    model: DeepLinear, method: Method, plan: Plan, teacher: Teacher | None, problem: Problem, rng: np.random.Generator
) -> tuple[Network, FloatArray]:
    """The network of a run and its initial layers; raises for a method or a teacher that deep models do not take."""
    name = type(method).__name__
    if is_virtual(problem.X):
        raise ValueError("a DeepLinear model reads stored rows; make some of the virtual ones, X[:n], and pass these")
    if plan.full_batch is not None or plan.update_table:
        why = "is made for convex problems" if plan.full_batch else "would need a table of every layer's gradients"
        raise ValueError(f"{name} {why}: a DeepLinear model takes SGD, KD, RepeatedKD, UnbiasedKD, SVRG or LSVRG")
    widths, flat = model.start(problem.X.shape[1], problem.n_outputs, problem.X.dtype, rng)
    own = plan.jacobian == "anchor"
    if own and plan.anchor == "teacher" and not same_shape(teacher, widths):
        if not plan.centered:
            raise ValueError(
                f"form='parameter' subtracts the gradient of a teacher with layers {'-'.join(map(str, widths))}: pass "
                "Teacher.layers([W_1, ..], b) of these widths, or use form='logit'"
            )
        own = False
    if plan.teacher_alpha and not own:
        raise ValueError("teacher_alpha is the L2 term of the teacher's own layers, which only form='parameter' subtracts")
    return Network(widths, own), flat


def teacher_point(teacher: Teacher, network: Network, dtype: np.dtype[Any]) -> tuple[FloatArray, FloatArray]:
    """A teacher that has weights, as the session takes it: its layers (p,) if they are like the student's, or their product
    (k, d); and b (k,).
    """
    P, b = teacher.theta(dtype)
    if teacher.factors is None or not same_shape(teacher, network.widths):
        return P, b
    return join([check.cast_finite(W, dtype, "teacher layers") for W in teacher.factors], dtype), b


def same_shape(teacher: Teacher | None, widths: tuple[int, ...]) -> bool:
    """Whether a teacher has layers of these widths."""
    if teacher is None or teacher.factors is None:
        return False
    return [W.shape for W in teacher.factors] == Network(widths).shapes
