"""Gradient statistics of a deep linear model, of each layer and of all together, by one read of the data.

For z = W_L ... W_1 a + b the gradient of f_i in layer l is (A_l^T r_i) (x) h_{l-1,i} with A_l = W_L ... W_{l+1} and
h_l = W_l ... W_1 a: rank one, so that second moments need two short products a row and layer. A teacher's residuals c_i are
subtracted through

    logit       A_l^T c_i (x) h_{l-1,i}                   the student's layers, as the gradient of a distillation loss has it
    parameter   A_l(theta)^T c_i (x) h_{l-1,i}(theta)     the teacher's own: grad f_i(x) - lam grad f_i(theta)

Source: arXiv:2305.17581, section 4, for layers; the two forms are those of its appendix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation as check
from ._layers import Network, join
from ._problem import make_problem
from ._virtual import is_virtual
from .backends.base import ControlVariate, FloatArray
from .backends.deep import DeepSession
from .backends.layer_pass import LayerPass
from .backends.reference_deep import ReferenceDeepSession
from .deep import same_shape, teacher_point
from .losses import Loss
from .statistics import GradientStats, stats_from_pass
from .teachers import Teacher

FORMS = ("logit", "parameter")


@dataclass(frozen=True)
class LayerStats(GradientStats):
    """`GradientStats` of all layers and the intercept together, and what a deep linear model has besides.

    grad, teacher_grad: (p,), those of all layers one behind the other, W_1 first, row by row.
    layers: the statistics of each layer by itself, `grad` (h_l, h_{l-1}); the last one's include the intercept, the others'
        `grad_intercept` is 0. Their moments sum to those of the whole. `optimal_lambda` takes each, as it does the whole.
    singular_values: of the product W_L ... W_1, falling, (min(k, d),).
    logit_grad, parameter_grad: (p,), the teacher's mean gradient in either form; `teacher_grad` is one of them, and holds its
        penalty. None without a teacher; parameter_grad also where the teacher has not the student's layers.
    """

    layers: tuple[GradientStats, ...]
    singular_values: NDArray[np.float64]
    logit_grad: NDArray[np.float64] | None
    parameter_grad: NDArray[np.float64] | None

    def similarity(self, lam: float) -> float:
        """Cosine of ``grad f(x) - lam logit_grad`` and ``grad f(x) - lam parameter_grad``, intercepts included.

        NaN where one of them is zero or not known.
        """
        check.number(lam, "lam", low=0.0, high=1.0)
        if self.logit_grad is None or self.parameter_grad is None or self.teacher_grad_intercept is None:
            return float("nan")
        free = self.grad_intercept - lam * self.teacher_grad_intercept
        logit, parameter = (np.concatenate([self.grad - lam * t, free]) for t in (self.logit_grad, self.parameter_grad))
        norms = float(np.linalg.norm(logit) * np.linalg.norm(parameter))
        return float(logit @ parameter) / norms if norms > 0 else float("nan")


def stats_from_layers(
    read: LayerPass, session: DeepSession, flat: FloatArray, theta: FloatArray | None, stats: Callable[..., GradientStats]
) -> LayerStats:
    """Statistics from one pass through the layers `flat` (p,) of a session.

    theta: the layers (p,) whose penalty is subtracted, if any. stats: `stats_from_pass` with all of its options but theta.
    """
    network, split = session.network, session.network.split(flat)
    guide = [None] * len(split) if theta is None else network.split(theta)
    logit = parameter = None
    C = read.product.anchor_grad
    if C is not None:
        logit = network.pull(flat, C)
        parameter = None if session.anchor_layers is None else network.pull(session.anchor_layers, C)
    whole = stats(read.whole, flat, theta=theta)
    layers = tuple(stats(layer, W, theta=t) for layer, W, t in zip(read.layers, split, guide, strict=True))
    return LayerStats(
        **{f.name: getattr(whole, f.name) for f in fields(GradientStats)},
        layers=layers,
        singular_values=np.linalg.svd(network.product(flat).astype(np.float64), compute_uv=False),
        logit_grad=logit,
        parameter_grad=parameter,
    )


def layer_stats(
    X: ArrayLike,
    y: ArrayLike,
    weights: Sequence[ArrayLike],
    *,
    intercept: ArrayLike | None = None,
    loss: str | Loss,
    teacher: Teacher | None = None,
    form: Literal["logit", "parameter"] = "logit",
    sample_weight: ArrayLike | None = None,
    alpha: float = 0.0,
    batch_size: int = 1,
    sampling: str = "replacement",
    fit_intercept: bool | None = None,
    n_threads: int | None = None,
) -> LayerStats:
    """Statistics of the stochastic gradient of a deep linear model at fixed layers: `gradient_stats` layer by layer.

    Args:
        X: (n, d) as in `gradient_stats`, but no virtual rows; read once, in blocks. y: targets as in `solve`.
        weights: W_1 .. W_L, (h_l, h_{l-1}) each. intercept: (k,), zero if None.
        loss: "squared", "logistic", "softmax" or one of your own, `Loss.custom`.
        teacher: any `Teacher`. form: the layers that its residuals go through: "logit", the student's, or "parameter", its own,
            which must have the student's shape (`Teacher.layers`).
        sample_weight, batch_size, sampling, fit_intercept: as in `gradient_stats`. alpha: adds ``alpha W_l`` to each gradient.
        n_threads: as in `solve`.

    Returns:
        `LayerStats`. Rows pass through all layers in NumPy, in X's dtype; sums over blocks of rows are in float64.

    Raises:
        ValueError, TypeError: input that does not fit.

    Example:
        >>> import numpy as np, kdvr_fast as kd
        >>> X, y = np.array([[1.0], [2.0]]), np.array([1.0, 0.0])
        >>> s = kd.layer_stats(X, y, [[[0.0]], [[2.0]]], loss="squared")  # z = 2 * 0 * a
        >>> s.loss, s.mean_sq_norm, [layer.mean_sq_norm for layer in s.layers]  # W_1's gradients are -2 and 0, W_2's 0
        (0.25, 2.0, [2.0, 0.0])

    Source: arXiv:2305.17581, section 4.
    """
    check.non_negative(alpha, "alpha")
    check.sampling(sampling)
    check.choice(form, FORMS, "form")
    layers = check.layers(weights, "weights")
    free = intercept is not None if fit_intercept is None else check.flag(fit_intercept, "fit_intercept")
    coef = (f"weights[{len(layers) - 1}]", layers[-1])
    problem = make_problem(X, y, loss, coef=coef, teacher=teacher, sample_weight=sample_weight, fit_intercept=free, scan=False)
    if is_virtual(problem.X):
        raise ValueError("layer_stats reads stored rows; make some of the virtual ones, X[:n], and pass these")
    d, dtype = problem.X.shape[1], problem.X.dtype
    if layers[0].shape[1] != d:
        raise ValueError(f"weights[0] has {layers[0].shape[1]} features, X has {d}")
    b = check.batch_size(batch_size, problem.n)
    network = Network((d, *(len(W) for W in layers)), own_jacobian=form == "parameter")
    if network.own_jacobian and (teacher is None or not same_shape(teacher, network.widths)):
        raise ValueError(
            f"form='parameter' takes the gradient of a teacher with layers {'-'.join(map(str, network.widths))}: pass "
            "Teacher.layers([W_1, ..], b) of these widths, or use form='logit'"
        )
    flat = join([check.cast_finite(W, dtype, "weights") for W in layers], dtype)
    point = check.initial(intercept, (problem.n_outputs,), dtype, "intercept", "one number an output")
    if n_threads is not None:
        check.count(n_threads, "n_threads", low=1)
    session, variate = ReferenceDeepSession(problem, network, n_threads), ControlVariate()
    if teacher is not None and teacher.linear:
        session.anchor_at(*teacher_point(teacher, network, dtype), cached=False, mean=False)
        variate = ControlVariate(source="weights")
    elif teacher is not None:
        session.anchor_table(teacher.table(problem.X, problem.y, problem.loss, problem.n_outputs), mean=False)
        variate = ControlVariate(source="table")
    read = session.layers(flat, point, variate)
    if not np.isfinite(read.product.grad).all():
        check.finite_rows(problem.X)
    stats = partial(stats_from_pass, alpha=alpha, batch_size=b, sampling=sampling)
    return stats_from_layers(read, session, flat, None, stats)
