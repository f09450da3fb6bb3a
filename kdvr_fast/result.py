"""What `solve` gives back: weights, history and how the run ended. Shapes: coef (k, d), intercept (k,), logits (n, k)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _validation as check
from ._rows import beside, is_on_device, lies_on_device
from .backends.base import FloatArray, State
from .history import History
from .losses import Loss

if TYPE_CHECKING:
    from .methods import Method
    from .statistics import GradientStats


class Status(str, Enum):
    """How a run ended. Each has a `message` and a `remedy`."""

    COMPLETED = "completed"
    CONVERGED = "converged"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"

    def __str__(self) -> str:
        return self.value

    @property
    def message(self) -> str:
        """What happened."""
        return _ENDINGS[self.value][0]

    @property
    def remedy(self) -> str:
        """What to do about it, empty if nothing is to be done."""
        return _ENDINGS[self.value][1]


_ENDINGS = {
    "completed": ("all epochs were run", ""),
    "converged": ("the gradient became as small as tol asks", ""),
    "stopped": ("a callback ended the run", ""),
    "interrupted": (
        "an interrupt (Ctrl-C) ended the run; the weights are those of the last finished epoch",
        "to go on, pass the result's weights as coef_init and intercept_init",
    ),
    "diverged": (
        "the loss exploded or became non-finite; the weights are those of the last good epoch",
        "lower learning_rate (learning_rate='auto' takes one from the data's smoothness), or scale the features of X; "
        "with check_input=False also look for NaN in X",
    ),
}


@dataclass(frozen=True, eq=False)
class Result:
    """Outcome of `solve`.

    coef (k, d) and intercept (k,), of X's dtype: the last finished epoch's, averaged if that was asked for. CuPy arrays if X
    lay on a GPU, as are logits and predictions of rows that lie there; all else is on the host.
    history: one row an epoch. status: how the run ended; message: the same in a sentence, with what the criterion of `tol`
    found. backend: name of the engine that ran. epochs: finished ones (iterations of `LBFGS`).
    weights: the layers of a `DeepLinear` model, whose product coef is; None for a linear one.
    stats: the last exact GradientStats if "statistics" was tracked, else None. method, loss: as given.
    walk: with momentum or an average what `solve(walk=)` goes on from: these and the weights; None where weights are all.
    random_state: the seed that replays the sampling (drawn if None was given); None if a Generator was given.
    """

    coef: FloatArray
    intercept: FloatArray
    history: History
    status: Status
    backend: str
    method: Method
    loss: str | Loss
    epochs: int
    message: str
    stats: GradientStats | None = None
    random_state: int | None = field(default=None)
    weights: list[FloatArray] | None = field(default=None, repr=False)
    walk: State | None = field(default=None, repr=False)

    def decision_function(self, X: ArrayLike) -> FloatArray:
        """Logits z = W a + b, (n, k), of X's dtype; for the squared loss these are the predicted values."""
        rows = check.features(X)
        if rows.shape[1] != self.coef.shape[1]:
            raise ValueError(f"X has {rows.shape[1]} features, the weights have {self.coef.shape[1]}")
        A: Any = rows.values if is_on_device(rows) else rows[:]
        coef, intercept = (_beside(rows, w).astype(A.dtype) for w in (self.coef, self.intercept))
        Z: FloatArray = A @ coef.T + intercept
        return beside(Z) if lies_on_device(rows) else Z

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels (n,) as int64 for softmax, logistic and losses like them; else link(z), for squared z: (n,) if k = 1."""
        rows = check.features(X)
        Z: Any = self.decision_function(rows)
        predicted = predictions(Z.get() if lies_on_device(rows) else Z, check.loss(self.loss))
        return beside(predicted) if lies_on_device(rows) else predicted


def _beside(rows: Any, weights: Any) -> Any:
    """Weights of a result where rows lie."""
    if is_on_device(rows):
        return beside(weights)
    return weights if isinstance(weights, np.ndarray) else weights.get()


def predictions(Z: FloatArray, loss: Loss) -> NDArray[Any]:
    """What logits (n, k) predict, see `Result.predict`."""
    if loss.targets == "classes":
        return np.asarray(Z.argmax(axis=1), np.int64)
    if loss.targets == "unit":
        return (Z[:, 0] > 0).astype(np.int64)
    P = loss.link(Z)
    return P[:, 0] if P.shape[1] == 1 else P


class ConvergenceWarning(UserWarning):
    """`tol` was given and not reached; the message says how far the run came and what to do."""


class DivergenceError(ArithmeticError):
    """The loss exploded or became non-finite. epoch: from 1. value: its running loss. learning_rate: of its last step, NaN
    for a method without one.

    result: the `Result` with the weights of the last good epoch, status "diverged".
    """

    def __init__(self, epoch: int, value: float, learning_rate: float) -> None:
        super().__init__(epoch, value, learning_rate)  # the arguments as they are, so that it can be pickled
        self.epoch = epoch
        self.value = value
        self.learning_rate = learning_rate
        self.result: Result | None = None

    def __str__(self) -> str:
        at = "" if isnan(self.learning_rate) else f" at learning_rate={self.learning_rate:.6g}"
        return (
            f"training diverged in epoch {self.epoch}: running loss {self.value:.6g}{at}; {Status.DIVERGED.remedy}. "
            "The weights of the last good epoch are in this error's `result`."
        )
