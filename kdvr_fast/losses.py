"""Losses as data: name, formula, link, smoothness; NumPy implementations are the specification of the compiled ones.

Arguments are always (y, z). z: (n, k) logits. y: (n, k) targets, or (n,) integer labels for losses of classes.
`value` gives (n,) losses, `residual` the (n, k) derivatives dloss/dz, `link` maps logits to predictions.
The three built-in losses have residual = link(z) - y, linear in the target; that is what makes distillation a subtraction
(arXiv:2305.17581, Proposition 1). What code asks of a loss are its fields, never its name. `Loss.custom` makes one of a user's
functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._custom import Custom, Function, Link, Rows, identity, verify

Array = NDArray[Any]
Targets = Literal["real", "unit", "classes"]
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Loss:
    """One loss: `LOSSES` holds the built-in ones, `Loss.custom` makes others.

    targets: "real" numbers, one an output; "unit": one output and a number in [0, 1], 1 being the class of z > 0; "classes":
        labels 0 .. k-1, or for a built-in loss rows of probabilities, the class of the largest logit being predicted.
    smoothness: the largest eigenvalue of d2loss/dz2 over all z, None if unknown: L_i = smoothness * |a_i|^2 + alpha.
    curvature: (u, v), (n, k) each, with d2loss/dz2 = diag(u_i) - v_i v_i^T, from the predictions link(z); None if unknown.
    linear_in_target: residual = link(z) - y, so that soft targets equal a difference of residuals.
    quadratic: the curvature is the same everywhere.
    logits: of predictions, the inverse of link, where it is known. Predictions 0 and 1 are clipped.
    probabilities: link(z) are probabilities, the same for logits z + log of a constant: a temperature has a meaning.
    functions: of a custom loss, as they were given.
    """

    name: str
    formula: str
    domain: str
    targets: Targets
    smoothness: float | None
    value: Callable[[Array, Array], Array]
    residual: Callable[[Array, Array], Array]
    link: Callable[[Array], Array] = identity
    curvature: Callable[[Array], tuple[Array, Array]] | None = None
    linear_in_target: bool = True
    quadratic: bool = False
    logits: Callable[[Array], Array] | None = None
    probabilities: bool = False
    functions: Custom | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A built-in loss is pickled by its name, a custom one by its functions, which must be found in a module."""
        if self.functions is None:
            return _built_in, (self.name,)
        return Loss, tuple(getattr(self, f.name) for f in fields(self))

    @property
    def known(self) -> str | Loss:
        """What finds the loss again: the name of a built-in one, else the loss."""
        return self if self.functions is not None else self.name

    def bends(self, predictions: Array) -> tuple[Array, Array]:
        """`curvature` at predictions. Raises ValueError where it is not known."""
        if self.curvature is None:
            raise ValueError(f"loss {self.name!r} is custom and its second derivatives are not known; use a built-in loss")
        return self.curvature(predictions)

    @classmethod
    def custom(
        cls,
        value: Function,
        residual: Function,
        *,
        name: str | None = None,
        targets: Targets = "real",
        joint: bool = False,
        link: Function | None = None,
        linear_in_target: bool = False,
        smoothness: float | None = None,
        domain: Function | None = None,
    ) -> Loss:
        """A loss of your own, for `loss=` of `solve` and `gradient_stats` in the backends "numba" (compiled) and "reference".

        Args:
            value, residual: loss(y, z) and its derivative in z. Of two floats, the target and the logit of one output, in plain
                Python that numba compiles (`if`, loops, `math`, NumPy's functions of numbers); the loss of a row is the sum
                over its outputs. They must not raise. residual is compared with finite differences of value here.
            name: for messages and results; the name of the function `value` if None.
            targets: "real": any number of outputs, y (n,) or (n, k). "unit": one output and y in [0, 1], class 1 where z > 0.
                "classes": labels 0 .. k-1.
            joint: the functions take a whole row: z (k,), y (k,) or with targets="classes", which implies it, an integer label;
                value gives a number, residual (k,) numbers.
            link: predictions from a logit (with joint from a row of them), for `Result.predict`; None: they are the logits.
            linear_in_target: residual(y, z) = link(z) - y, which is checked. Then `KD` means soft targets; without it a
                difference of residuals alone, `KD(form="shift")`.
            smoothness: a bound of d2loss/dz2 for all y and z, which learning_rate="auto" needs; checked at some points.
            domain: of a target, as the functions take it: whether it is one. Every target of a fit is asked.

        Teachers are `Teacher.weights` and `Teacher.logits`: what is subtracted is residual(y, teacher's logit). There is no
        temperature. A loss that is to be pickled, as for other processes, must be made of functions that stand in a module.

        Raises:
            TypeError: what is no function. ValueError: a name that is taken; functions that disagree, with the y and z where.

        Example:
            >>> import numpy as np, kdvr_fast as kd
            >>> def huber(y, z):
            ...     e = abs(z - y)
            ...     return e * e / 2 if e < 1.0 else e - 0.5
            >>> def huber_residual(y, z):
            ...     return min(max(z - y, -1.0), 1.0)
            >>> loss = kd.Loss.custom(huber, huber_residual, smoothness=1.0)
            >>> X, y = np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 60.0])
            >>> options = dict(fit_intercept=False, learning_rate=0.1, batch_size=3, epochs=500, backend="reference")
            >>> kd.solve(X, y, loss=loss, **options).coef.round(6).tolist()  # the last row counts as if its error were 1
            [[3.0]]
        """
        functions = {"value": value, "residual": residual, "link": link, "domain": domain}
        for what, function in functions.items():
            if not callable(function) and (function is not None or what in ("value", "residual")):
                raise TypeError(f"{what} of Loss.custom must be a function, got {function!r}")
        if targets not in ("real", "unit", "classes"):
            raise ValueError(f"targets={targets!r} is unknown; choose one of 'real', 'unit', 'classes'")
        called = getattr(value, "__name__", "custom") if name is None else name
        if not isinstance(called, str) or called in LOSSES:
            raise ValueError(f"name={called!r} of Loss.custom must be text and not that of a built-in loss")
        if linear_in_target and targets == "classes":
            raise ValueError("linear_in_target=True is for targets that can be subtracted, not for labels; leave it out")
        if smoothness is not None and not (np.isfinite(smoothness) and smoothness > 0):
            raise ValueError(f"smoothness={smoothness!r} must be a number above 0, or None")
        row = joint or targets == "classes"
        made = Custom(value, residual, link, domain, row)
        verify(made, called, targets, linear_in_target=linear_in_target, smoothness=smoothness)
        return cls(
            name=called,
            formula=called,
            domain="custom",
            targets=targets,
            smoothness=smoothness,
            value=Rows(value, row, sums=True),
            residual=Rows(residual, row, sums=False),
            link=identity if link is None else Link(link, row),
            linear_in_target=linear_in_target,
            functions=made,
        )


def _sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)) without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e)).astype(z.dtype, copy=False)


def _softmax(z: Array) -> Array:
    e: Array = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


def _log_sum_exp(z: Array) -> Array:
    top: Array = z.max(axis=1)
    top = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return top


def _softmax_value(y: Array, z: Array) -> Array:
    y_dot_z: Array = z[np.arange(len(z)), y] if y.ndim == 1 else (y * z).sum(axis=1)
    return _log_sum_exp(z) - y_dot_z


def _softmax_residual(y: Array, z: Array) -> Array:
    r = _softmax(z)
    if y.ndim == 1:
        r[np.arange(len(z)), y] -= 1
        return r
    return r - y


def _log(p: Array) -> Array:
    clipped: Array = np.log(np.maximum(p, _LEAST_PROBABILITY))  # a clipped probability is as good as 0 or 1
    return clipped


def _built_in(name: str) -> Loss:
    return LOSSES[name]


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            name="squared",
            formula="|z - y|^2 / 2",
            domain="y real, (n,) or (n, k)",
            targets="real",
            smoothness=1.0,
            value=lambda y, z: 0.5 * ((z - y) ** 2).sum(axis=1),
            residual=lambda y, z: z - y,
            curvature=lambda p: (np.ones_like(p), np.zeros_like(p)),
            quadratic=True,
            logits=identity,
        ),
        Loss(
            name="logistic",
            formula="log(1 + exp(z)) - y z",
            domain="y in [0, 1], (n,); k = 1",
            targets="unit",
            smoothness=0.25,
            value=lambda y, z: (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z).sum(axis=1),
            residual=lambda y, z: _sigmoid(z) - y,
            link=_sigmoid,
            curvature=lambda p: (p, p),
            logits=lambda p: _log(p) - _log(1 - p),
            probabilities=True,
        ),
        Loss(
            name="softmax",
            formula="log(sum_c exp(z_c)) - z_y",
            domain="y labels 0 .. k-1, (n,), or rows of probabilities, (n, k); k >= 2",
            targets="classes",
            smoothness=0.5,
            value=_softmax_value,
            residual=_softmax_residual,
            link=_softmax,
            curvature=lambda p: (p, p),
            logits=_log,
            probabilities=True,
        ),
    )
}
