"""Problems whose answer is known, drawn in memory or virtual.

    rows      a_ij = sqrt(s_j) g_ij, g_ij independent N(0, 1); density < 1: 0 but for that share, N(0, s_j / density)
    logits    z_i = W a_i + b, W random, scaled so that the mean of Var(z_ic) over c is signal^2
    targets   least_squares: y_i = z_i + noise e_i, e_i ~ N(0, 1)
              logistic, softmax: a class drawn from link(z_i); a share `label_noise` of rows draws it uniformly instead

virtual=True draws W and b alone: X and y are `VirtualRows` and `VirtualTargets`, made where they are read, by the same law from
another generator. s is the spectrum of the rows' covariance: given, or falling geometrically from 1 to 1 / condition. The
generating W and b minimise the expected loss where there is no label noise. Shapes: X (n, d), W (k, d), b (k,).
Source: the synthetic regression of arXiv:2305.17581, with the choices its noise floor depends on made explicit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _validation as check
from .._rows import blocks, dense
from .._virtual import VirtualRows, VirtualTargets
from ..backends.base import FloatArray
from ..losses import LOSSES

_OPTIMUM_FEATURES = 2048  # up to which the d x d normal equations are formed
_BLOCK_NUMBERS = 1 << 20

Weights = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class SyntheticProblem:
    """Data and what is known of them.

    X: (n, d), an array, a SciPy CSR matrix or `VirtualRows`. y: targets as `solve` takes them. loss: its name.
    coef (k, d), intercept (k,): the generating model, float64; the intercept is zero where it is not fitted.
    optimum: weights and intercept of the exact minimiser of the mean loss over these rows, without a penalty; None where it has
        no closed form (every loss but the squared one; virtual rows; more than 2048 features).
    fit_intercept: whether the model has an intercept; for `solve`.
    """

    X: Any
    y: Any
    loss: str
    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    optimum: Weights | None
    fit_intercept: bool

    @property
    def best(self) -> Weights:
        """The optimum where it is known, else the generating model."""
        return (self.coef, self.intercept) if self.optimum is None else self.optimum


def least_squares(
    n: int,
    d: int,
    *,
    condition: float = 1.0,
    spectrum: ArrayLike | None = None,
    signal: float = 1.0,
    noise: float = 1.0,
    density: float = 1.0,
    n_outputs: int = 1,
    fit_intercept: bool = False,
    random_state: int | np.random.Generator | None = None,
    dtype: DTypeLike = np.float64,
    virtual: bool = False,
) -> SyntheticProblem:
    """Linear regression with Gaussian noise, and its exact minimiser.

    Args:
        n, d: rows and features. spectrum: (d,) variances of the features; None: from 1 to 1 / condition.
        signal: standard deviation of z. noise: standard deviation of y about z.
        density: share of entries that are not zero; below 1 the rows are a CSR matrix.
        n_outputs: k. fit_intercept: whether the model has an intercept. dtype: of the rows, float32 or float64.
        random_state: a seed, or a Generator for rows in memory. virtual: rows that take no memory; needs a seed and density=1.

    Example:
        >>> from kdvr_fast import solve, synthetic
        >>> p = synthetic.least_squares(200, 3, condition=10, noise=0.1, random_state=0)
        >>> run = solve(p.X, p.y, loss=p.loss, fit_intercept=False, batch_size=200, learning_rate=0.5, epochs=300,
        ...             backend="reference", random_state=0)
        >>> bool(abs(run.coef - p.optimum[0]).max() < 1e-6)
        True
    """
    k = check.count(n_outputs, "n_outputs", low=1)
    rows = _Rows(n, d, spectrum, condition, density, dtype)
    model = _Model("squared", k, signal, check.non_negative(noise, "noise"), fit_intercept)
    return _make(rows, model, random_state, virtual)


def logistic(
    n: int,
    d: int,
    *,
    condition: float = 1.0,
    spectrum: ArrayLike | None = None,
    signal: float = 2.0,
    label_noise: float = 0.0,
    density: float = 1.0,
    fit_intercept: bool = False,
    random_state: int | np.random.Generator | None = None,
    dtype: DTypeLike = np.float64,
    virtual: bool = False,
) -> SyntheticProblem:
    """Two classes drawn from a logistic model; arguments as in `least_squares`.

    signal: standard deviation of the logits: the larger, the easier. label_noise: share of rows that toss a coin instead.

    >>> from kdvr_fast import synthetic
    >>> sorted(set(synthetic.logistic(50, 3, random_state=0).y.tolist()))
    [0.0, 1.0]
    """
    share = check.number(label_noise, "label_noise", low=0.0, high=1.0)
    rows = _Rows(n, d, spectrum, condition, density, dtype)
    return _make(rows, _Model("logistic", 1, signal, share, fit_intercept), random_state, virtual)


def softmax(
    n: int,
    d: int,
    *,
    n_classes: int,
    condition: float = 1.0,
    spectrum: ArrayLike | None = None,
    signal: float = 2.0,
    label_noise: float = 0.0,
    density: float = 1.0,
    fit_intercept: bool = False,
    random_state: int | np.random.Generator | None = None,
    dtype: DTypeLike = np.float64,
    virtual: bool = False,
) -> SyntheticProblem:
    """Classes drawn from a softmax model; arguments as in `logistic`.

    >>> from kdvr_fast import synthetic
    >>> p = synthetic.softmax(50, 3, n_classes=4, random_state=0)
    >>> p.coef.shape, int(p.y.max())
    ((4, 3), 3)
    """
    k = check.count(n_classes, "n_classes", low=2)
    share = check.number(label_noise, "label_noise", low=0.0, high=1.0)
    rows = _Rows(n, d, spectrum, condition, density, dtype)
    return _make(rows, _Model("softmax", k, signal, share, fit_intercept), random_state, virtual)


def _make(rows: _Rows, model: _Model, random_state: Any, virtual: bool) -> SyntheticProblem:
    if check.flag(virtual, "virtual"):
        return _virtual(rows, model, random_state)
    rng = np.random.default_rng(random_state)
    X = rows.draw(rng)
    W, b = model.draw(rng, rows.spectrum)
    y = model.targets(rng, np.concatenate([A @ W.T + b for _, A in blocks(X, _BLOCK_NUMBERS)]), rows.dtype)
    exact = model.loss == "squared" and rows.d <= _OPTIMUM_FEATURES
    optimum = _least_squares_optimum(X, y.reshape(rows.n, -1), model.fit_intercept) if exact else None
    return SyntheticProblem(X, y, model.loss, W, b, optimum, model.fit_intercept)


def _virtual(rows: _Rows, model: _Model, seed: object) -> SyntheticProblem:
    if rows.density != 1:
        raise ValueError(f"virtual rows are dense: density={rows.density:g} must be 1, or virtual=False")
    seed = check.count(seed, "random_state", also=", which virtual rows are made from")
    X = VirtualRows(rows.n, rows.d, seed=seed, spectrum=rows.spectrum, dtype=rows.dtype)
    y = VirtualTargets(X, *model.draw(np.random.default_rng(seed), rows.spectrum), loss=model.loss, noise=model.noise)
    W, b = (a.astype(np.float64) for a in y.model)  # as rounded to the rows' dtype
    return SyntheticProblem(X, y, model.loss, W, b, None, model.fit_intercept)


@dataclass(frozen=True)
class _Model:
    """A random linear model of k outputs. noise: of the targets about it, or the share of labels that are drawn anew."""

    loss: str
    k: int
    signal: float
    noise: float
    fit_intercept: bool

    def draw(self, rng: np.random.Generator, spectrum: NDArray[np.float64]) -> Weights:
        """Random weights with mean Var(z) = signal^2, and an intercept of that size if there is one."""
        check.positive(self.signal, "signal")
        W = rng.standard_normal((self.k, len(spectrum)))
        W *= self.signal / np.sqrt((W * W * spectrum).sum() / self.k)
        free = check.flag(self.fit_intercept, "fit_intercept")
        return W, self.signal * rng.standard_normal(self.k) if free else np.zeros(self.k)

    def targets(self, rng: np.random.Generator, Z: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Targets of rows with the logits Z (n, k)."""
        n = len(Z)
        if self.loss == "squared":
            y = Z + self.noise * rng.standard_normal(Z.shape)
            return np.asarray(y[:, 0] if self.k == 1 else y, dtype)
        P = LOSSES[self.loss].link(Z)
        P = P if self.loss == "softmax" else np.hstack([1 - P, P])
        classes = P.shape[1]
        drawn = (P.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
        labels = np.where(rng.random(n) < self.noise, rng.integers(classes, size=n), np.minimum(drawn, classes - 1))
        return labels.astype(np.int64 if self.loss == "softmax" else dtype)


class _Rows:
    """The shape and law of the rows, checked."""

    def __init__(self, n: int, d: int, spectrum: ArrayLike | None, condition: float, density: float, dtype: DTypeLike) -> None:
        self.n, self.d = check.count(n, "n", low=1), check.count(d, "d", low=1)
        self.spectrum = check.spectrum(spectrum, condition, self.d)
        self.density = check.number(density, "density", above=0.0, high=1.0)
        self.dtype = check.float_type(dtype)

    def draw(self, rng: np.random.Generator) -> Any:
        scale = np.sqrt(self.spectrum / self.density).astype(self.dtype)
        if self.density == 1.0:
            X: FloatArray = rng.standard_normal((self.n, self.d), self.dtype)
            X *= scale
            return X
        from scipy.sparse import csr_array

        at = _bernoulli(rng, self.n * self.d, self.density)
        columns = at % self.d
        values = rng.standard_normal(len(at), self.dtype) * scale[columns]
        starts = np.searchsorted(at, np.arange(self.n + 1) * self.d)
        index = np.int32 if max(len(at), self.d) < 2**31 else np.int64
        return csr_array((values, columns.astype(index), starts.astype(index)), shape=(self.n, self.d))


def _bernoulli(rng: np.random.Generator, size: int, p: float) -> NDArray[np.int64]:
    """The places out of 0 .. size - 1 where independent trials succeed, rising: the gaps are geometric."""
    places, last = [], -1
    while last < size:
        rest = (size - last) * p
        gaps = rng.geometric(p, int(rest + 5 * np.sqrt(rest) + 5))
        places.append(last + np.cumsum(gaps))
        last = int(places[-1][-1])
    all_places = np.concatenate(places)
    return all_places[: np.searchsorted(all_places, size)]


def _least_squares_optimum(X: Any, y: FloatArray, fit_intercept: bool) -> Weights:
    """The normal equations, in float64; of least norm where X has no full rank."""
    d, k = X.shape[1], y.shape[1]
    H, c = np.zeros((d + 1, d + 1)), np.zeros((d + 1, k))
    for rows, block in blocks(X, _BLOCK_NUMBERS):
        A = np.column_stack([dense(block), np.full(block.shape[0], float(fit_intercept))])
        H, c = H + A.T @ A, c + A.T @ y[rows].astype(np.float64)
    P = np.linalg.lstsq(H, c, rcond=None)[0]
    return P[:d].T.copy(), P[d].copy()
