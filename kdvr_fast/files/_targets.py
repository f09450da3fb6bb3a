"""Targets and teacher outputs that stay in files and are checked and converted where they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _validation as check
from ..backends.base import FloatArray
from ..losses import Loss
from ._stored import Table

if TYPE_CHECKING:
    from ..teachers import Teacher

_CHECK_ROWS = 1 << 18  # looked at at once


class FileTargets:
    """Targets as a backend takes them, by slices: int64 labels (rows,), or (rows, k) of the rows' dtype."""

    def __init__(self, stored: Table, loss: Loss, n_outputs: int, dtype: np.dtype[Any]) -> None:
        self._stored, self._loss, self._k, self._dtype = stored, loss, n_outputs, dtype
        self.labels = loss.targets == "classes" and len(stored.shape) == 1

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        y = self._stored[rows]
        return y.astype(np.int64) if self.labels else y.reshape(len(y), self._k).astype(self._dtype)


def outputs_of(stored: Table, loss: Loss, others: list[tuple[str, int]]) -> int:
    """The number k of outputs; every target is read and checked on the way. Raises as `check.targets` does."""
    n, largest, row = len(stored), 0, 0
    for start in range(0, n, _CHECK_ROWS):
        y = stored[start : start + _CHECK_ROWS]
        targets = check.targets(y, loss, len(y), first_row=start)
        if loss.targets == "classes" and y.ndim == 1 and targets.max() > largest:
            largest, row = int(targets.max()), start + int(targets.argmax())
    if loss.targets != "classes" or len(stored.shape) == 2:
        return check.n_outputs(stored[:1], loss, others)
    return check.label_outputs(largest, row, n, loss, others)


class FileOutputs:
    """What is subtracted of a teacher whose outputs are stored: residuals, or tempered outputs, of some rows, (rows, k)."""

    def __init__(self, teacher: Teacher, targets: FileTargets, loss: Loss, k: int, temperature: float, scan: bool) -> None:
        self._teacher, self._targets, self._loss = teacher, targets, loss
        self._k, self._temperature, self._scan = k, temperature, scan

    def of(self, rows: slice, y: NDArray[Any]) -> FloatArray:
        """Those of rows with the targets y, of their dtype in the backend's arithmetic."""
        dtype = self._targets._dtype
        made = self._teacher.block(None, y, rows, self._loss, self._k, temperature=self._temperature, scan=self._scan)
        return made.astype(dtype)

    def __getitem__(self, rows: slice) -> FloatArray:
        return self.of(rows, self._targets[rows])
