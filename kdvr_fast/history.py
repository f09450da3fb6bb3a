"""The history of a run: one row an epoch, columns of float64.

The variance columns come from the epoch's own sums, at no extra read of the data. With r_i, c_i the weighted residuals met on
the way, and pairs of consecutive rows standing for independent draws (they estimate squared norms of mean gradients; where
there are many rows and outputs, one row in up to eight is paired):

    variance = factor [ (xx - 2 lam xt + lam^2 tt) / rows  -  (pair_xx - 2 lam pair_xt + lam^2 pair_tt) / pairs ]

where factor is 1/b for i.i.d. rows or a given order and (n - b) / (b (n - 1)) for shuffled ones, b the batch size. They are
averages over an epoch in which the weights move; `track=("statistics",)` gives exact figures at the epoch's end.
Source: arXiv:2305.17581, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _validation as check
from .backends.base import Sums

if TYPE_CHECKING:
    from .statistics import GradientStats

NAN = float("nan")

COLUMNS: dict[str, str] = {
    "epoch": "number of the epoch, from 1",
    "loss": "mean of s_i loss_i over the rows visited, each before its own update (no penalty)",
    "objective": 'mean of s_i loss_i plus penalty at the weights returned (track "objective")',
    "accuracy": 'share of rows classified as labelled, weighted by s_i (track "accuracy")',
    "grad_evals": "gradient evaluations so far, in units of n rows; full passes of the method counted, tracking not",
    "seconds": "time of training so far; tracking and callbacks not counted",
    "lam": "weight of the control variate in this epoch (0 before the first snapshot)",
    "learning_rate": "of the epoch's last step",
    "grad_norm": 'norm of the objective\'s gradient, with L1 of its smallest subgradient (track "objective")',
    "running_grad_norm": "estimate of |mean of r_i (x) a_i| over the epoch (no penalty)",
    "mean_sq_norm": "mean of |r_i (x) a_i|^2 over the rows visited",
    "teacher_mean_sq_norm": "mean of |c_i (x) a_i|^2",
    "cross": "mean of <r_i (x) a_i, c_i (x) a_i>",
    "variance": "of the batch estimator that ran",
    "sgd_variance": "of the same batches without a control variate (lam = 0)",
    "teacher_distance": "|(W, b) - (theta, b_theta)|, Frobenius; theta the teacher or last snapshot; NaN where unknown",
    "teacher_cosine": "cosine of (W, b) and (theta, b_theta)",
    "form_cosine": "of a DeepLinear model: cosine of the mean gradients of both forms of distillation at this lam, "
    '`LayerStats.similarity` (track "statistics")',
}


def batch_moments(sums: Sums, lam: float, factor: float, has_anchor: bool) -> dict[str, float]:
    """The free second-moment columns of one epoch; NaN where nothing was accumulated, differences cut off at 0."""
    xx, xt, tt = sums.xx / sums.rows, sums.xt / sums.rows, sums.tt / sums.rows
    row = {"mean_sq_norm": xx}
    if has_anchor:
        row |= {"teacher_mean_sq_norm": tt, "cross": xt}
    if not sums.pairs:  # an epoch of one row says nothing about the spread
        return row
    pair_xx, pair_xt, pair_tt = sums.pair_xx / sums.pairs, sums.pair_xt / sums.pairs, sums.pair_tt / sums.pairs
    return row | {
        "running_grad_norm": float(np.sqrt(max(0.0, pair_xx))),
        "sgd_variance": factor * max(0.0, xx - pair_xx),
        "variance": factor * max(0.0, xx - 2 * lam * xt + lam**2 * tt - (pair_xx - 2 * lam * pair_xt + lam**2 * pair_tt)),
    }


def make_row(**values: float) -> dict[str, float]:
    """A full row in the order of `COLUMNS`; what is not given is NaN."""
    return {name: float(values.get(name, NAN)) for name in COLUMNS}


@dataclass(frozen=True, eq=False)
class History:
    """One row an epoch; ``history["loss"]`` is a float64 array, iteration gives rows as dicts, `COLUMNS` says what they hold.

    stats: one exact `GradientStats` an epoch if "statistics" was tracked (of a `DeepLinear` model `LayerStats`), else empty.

    >>> from kdvr_fast.history import History, make_row
    >>> History([make_row(epoch=1, loss=0.5)])["loss"].tolist()
    [0.5]
    """

    rows: Sequence[dict[str, float]] = ()
    stats: Sequence[GradientStats] = field(default=(), repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(COLUMNS)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return (dict(row) for row in self.rows)

    @property
    def singular_values(self) -> NDArray[np.float64]:
        """Of the product of a `DeepLinear` model's layers, (epochs, min(k, d)), falling. Needs track="statistics"."""
        found = [getattr(stats, "singular_values", None) for stats in self.stats]
        if not found or any(values is None for values in found):
            raise AttributeError('singular_values are there for a DeepLinear model and with track="statistics"')
        return np.array(found, np.float64)

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        if column not in COLUMNS:
            raise KeyError(f"{column!r} is no column of the history; there are {', '.join(COLUMNS)}")
        return np.array([row[column] for row in self.rows], np.float64)

    def to_pandas(self) -> Any:
        """A pandas DataFrame, one row an epoch; where `singular_values` are known also singular_value_1, ..

        Raises ImportError if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas") from error
        columns = {name: self[name] for name in COLUMNS}
        if hasattr(self, "singular_values"):
            columns |= {f"singular_value_{i}": values for i, values in enumerate(self.singular_values.T, 1)}
        return pandas.DataFrame(columns)

    def plot(self, x: str = "grad_evals", y: str = "loss", ax: Any = None, **line: Any) -> Any:
        """Draw column y over column x on a matplotlib axes (a new one if None) and return it; `line` goes to ax.plot."""
        check.choice(x, self.columns, "x")
        check.choice(y, self.columns, "y")
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        ax.plot(self[x], self[y], **line)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        return ax
