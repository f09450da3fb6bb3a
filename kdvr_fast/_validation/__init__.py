"""The only place where user input is checked; what comes out is what `backends.base.Problem` promises.

An error says what was wrong, where (row, column, value) and what to do. Rows X are never copied: only a view is made.
n rows, d features, k outputs; TypeError for a thing of the wrong kind, ValueError for a wrong value.
"""

from .arrays import cast_finite, finite, initial, layers, matrix, order, real_array, sample_weight, shape, walk
from .rows import COMPACT, features, finite_rows
from .targets import label_outputs, n_outputs, probabilities, problem_targets, targets, virtual_targets
from .values import (
    batch_size,
    choice,
    count,
    flag,
    float_type,
    loss,
    momentum,
    non_negative,
    number,
    positive,
    sampling,
    spectrum,
    walking,
)

__all__ = [
    "COMPACT",
    "batch_size",
    "cast_finite",
    "choice",
    "count",
    "features",
    "finite",
    "finite_rows",
    "flag",
    "float_type",
    "initial",
    "label_outputs",
    "layers",
    "loss",
    "matrix",
    "momentum",
    "n_outputs",
    "non_negative",
    "number",
    "order",
    "positive",
    "probabilities",
    "problem_targets",
    "real_array",
    "sample_weight",
    "sampling",
    "shape",
    "spectrum",
    "targets",
    "virtual_targets",
    "walk",
    "walking",
]
