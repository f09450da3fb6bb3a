"""Exact figures at given weights for the history; nothing here touches a run. W (k, d), b (k,), logits z (n, k)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows import product
from .backends.base import FloatArray, Pass, Problem, Step
from .files._rows import in_files
from .history import NAN
from .losses import Loss
from .result import predictions

_BLOCK_NUMBERS = 1 << 20  # of logits held at once

Weights = tuple[FloatArray, FloatArray]


def _blocks(p: Problem) -> Iterator[slice]:
    held = max(p.n_outputs, p.X.row_bytes // p.X.dtype.itemsize) if in_files(p.X) else p.n_outputs
    rows = max(1, _BLOCK_NUMBERS // held)
    for start in range(0, p.n, rows):
        yield slice(start, start + rows)


def _weight_of(p: Problem, rows: slice, values: NDArray[Any]) -> float:
    """Sum of s_i values_i over some rows."""
    s = 1.0 if p.weights is None else p.weights[rows].astype(np.float64)
    return float(np.sum(s * values))


def square(*parts: Any) -> float:
    """|.|^2 of all parts together, in float64."""
    return sum(float(np.vdot(a, a)) for a in (np.asarray(part, np.float64) for part in parts))


def null_loss(p: Problem) -> float:
    """Mean of s_i loss_i at z = 0."""
    value = p.loss.value
    if p.loss.probabilities:  # -y z vanishes, and targets with it; weights have mean one
        return float(value(p.y[:1], np.zeros((1, p.n_outputs)))[0])
    return sum(_weight_of(p, rows, value(p.y[rows], np.zeros((len(p.y[rows]), p.n_outputs)))) for rows in _blocks(p)) / p.n


def table_loss(p: Problem, table: FloatArray) -> float:
    """Mean of s_i loss_i of a teacher whose residuals link(z_i) - y_i are stored, (n, k)."""
    total, logits = 0.0, p.loss.logits
    assert logits is not None  # `solve` refuses what needs it
    for rows in _blocks(p):
        y, P = p.y[rows], table[rows].astype(np.float64)
        if y.ndim == 1:
            P[np.arange(len(P)), y] += 1
        else:
            P = P + y.astype(np.float64)
        total += _weight_of(p, rows, p.loss.value(y, logits(P)))
    return total / p.n


def accuracy(p: Problem, weights: Weights) -> float:
    """Share of rows, weighted by s_i, whose predicted label is the target's (the likelier class of a soft target)."""
    W, b = weights
    logits = ((rows, product(p.X, rows, W) + b) for rows in _blocks(p))
    return sum(_weight_of(p, rows, predictions(z, p.loss) == _labels(p.y[rows], p.loss)) for rows, z in logits) / p.n


def _labels(y: NDArray[Any], loss: Loss) -> NDArray[np.int64]:
    if y.ndim == 1:
        return y
    return np.asarray(y.argmax(axis=1) if loss.targets == "classes" else y[:, 0] > 0.5, np.int64)


def objective(read: Pass, W: FloatArray, step: Step) -> dict[str, float]:
    """Columns "objective" and "grad_norm" from a full pass at W; with L1 the norm is that of the smallest subgradient."""
    V = W.astype(np.float64)
    penalty = step.l2 / 2 * float((V * V).sum()) + step.l1 * float(np.abs(V).sum())
    G = read.grad + step.l2 * V
    # at 0 the subgradient of |w| is [-1, 1], which cancels as much of G as it can
    G = np.where(V != 0, G + step.l1 * np.sign(V), np.sign(G) * np.maximum(np.abs(G) - step.l1, 0))
    norm = float(np.sqrt((G * G).sum() + (read.grad_intercept**2).sum()))
    return {"objective": read.sums.loss / read.sums.rows + penalty, "grad_norm": norm}


def compare(weights: Weights, anchor: Weights) -> dict[str, float]:
    """Columns "teacher_distance" and "teacher_cosine", intercept included."""
    w, t = (np.column_stack([W.astype(np.float64), b.astype(np.float64)]) for W, b in (weights, anchor))
    norms = float(np.linalg.norm(w) * np.linalg.norm(t))
    cosine = float(np.vdot(w, t)) / norms if norms > 0 else NAN
    return {"teacher_distance": float(np.linalg.norm(w - t)), "teacher_cosine": cosine}
