"""One fit as the engine takes it: rows, targets, weights, and the teacher's outputs beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.base import FloatArray
from ._guide import Guide


@dataclass(frozen=True, eq=False)
class Task:
    """Rows of a fit.

    X: (n, d) array or CSR. y: (n,) int64 codes (softmax), (n,) 0/1 or probabilities (logistic), or (n, k). k: outputs.
    weight: (n,) or None. guide: the teacher's outputs, or None. labelled: (n,) bool, None: all rows.
    """

    X: Any
    y: NDArray[Any]
    loss: str
    k: int
    weight: NDArray[Any] | None = None
    guide: Guide | None = None
    labelled: NDArray[np.bool_] | None = None

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.X.shape[0])

    def rows(self, which: NDArray[Any]) -> Task:
        """Some rows, by number or by mask."""
        labelled = None if self.labelled is None else self.labelled[which]
        return replace(
            self,
            X=self.X[which],
            y=self.y[which],
            weight=None if self.weight is None else self.weight[which],
            guide=None if self.guide is None else self.guide.rows(which),
            labelled=None if labelled is None or labelled.all() else labelled,
        )

    def targets(self) -> NDArray[Any]:
        """y as `solve` takes it: the teacher's predictions in rows without a label; all k columns where labels end below k."""
        codes = self.loss == "softmax" and self.y.ndim == 1
        if self.labelled is None:
            return self._one_hot() if codes and self.y.max() < self.k - 1 else self.y
        if self.guide is None:
            raise ValueError("y = -1 marks rows without a label, which only a teacher can tell; drop them")
        Y = self._one_hot() if codes else self.y.astype(self.X.dtype).reshape(self.n, self.k)
        Y[~self.labelled] = self.guide.rows(~self.labelled).predictions(self.loss)
        return Y

    def _one_hot(self) -> FloatArray:
        Y = np.zeros((self.n, self.k), self.X.dtype)
        rows = np.flatnonzero(self.y >= 0)
        Y[rows, self.y[rows]] = 1
        return Y
