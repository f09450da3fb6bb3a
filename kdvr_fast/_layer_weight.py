"""An automatic distillation weight for layers: `_weight` on the moments of a sample of the rows.

Steps through the product show no row's gradient norms, so the moments come from a read of a sample of the rows through all
layers (`backends.layer_pass`), at the weights that some batches led to. Over m rows with gradients x_i, t_i, of all layers,

    pairs of different rows:  <x_i, t_j> on average  =  (m <mean x, mean t> - mean <x_i, t_i>) / (m - 1)

stand for the products of neighbours in a walk. The loss is that of the batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._weight import Anchor, Weight
from .backends.base import Pass, Sums

_ROWS = 4096  # they give second moments to some hundredths, at a small part of an epoch on more rows


def sample_rows(n: int) -> NDArray[np.int64]:
    """All rows, or one from each of `_ROWS` parts, since rows are often sorted; the same in every epoch of a run."""
    if n <= _ROWS:
        return np.arange(n)
    at = (np.arange(_ROWS) + np.random.default_rng(0).random(_ROWS)) * (n / _ROWS)
    return np.minimum(at, n - 1).astype(np.int64)


def sums_of_sample(read: Pass, walked: Sums) -> Sums:
    """The sums of the rows walked, with moments and pairs as a read of m sampled rows shows them; no pairs of one row."""
    m, rows = read.sums.rows, walked.rows
    sums = Sums(rows=rows, loss=walked.loss)
    for name in ("xx", "xt", "tt"):
        setattr(sums, name, getattr(read.sums, name) / m * rows)
    if m < 2:
        return sums
    x, t = (read.grad, read.grad_intercept), (read.anchor_grad, read.anchor_grad_intercept)
    sums.pairs = rows
    for name, u, v in (("xx", x, x), ("xt", x, t), ("tt", t, t)):
        apart = (m * _inner(u, v) - getattr(read.sums, name) / m) / (m - 1)
        setattr(sums, f"pair_{name}", apart * rows)
    return sums


def _inner(u: tuple[Any, Any], v: tuple[Any, Any]) -> float:
    """Over weights and intercept; 0 where there is no anchor."""
    return sum(float(np.vdot(a, b)) for a, b in zip(u, v, strict=True) if a is not None and b is not None)


@dataclass
class LayerWeight(Weight):
    """layered: whether anchors have the student's layers, so that their penalties compare."""

    layered: bool = True

    def anchored(self, anchor: Anchor) -> None:
        """What goes through the student's layers moves with them: |grad f(theta)|^2 comes from the pairs."""
        super().anchored(replace(anchor, mean_sq=None, penalty=anchor.penalty if self.layered else None))
