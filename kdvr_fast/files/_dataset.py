"""A data set whose rows stay in files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validation as check
from ..teachers import Teacher
from ._rows import CsrFileRows, FileRows
from ._stored import Table


@dataclass(frozen=True, eq=False)
class DataSet:
    """Rows that stay in files; made by `open_data`, and taken by `solve` and `gradient_stats` in place of X and y.

    rows: X (n, d); `rows[1000:2000]` reads some as an array or a `csr_array`. y: targets, (n,) or (n, k), likewise; None
    without. teacher: a `Teacher` whose outputs are read beside the rows; None without. feature_names: d names, or None.
    classes: what the labels 0 .. k-1 stand for, or None. categories: of each one-hot encoded column.
    """

    rows: FileRows
    y: Table | None = None
    teacher: Teacher | None = None
    feature_names: Sequence[str] | None = None
    classes: Sequence[Any] | None = None
    categories: dict[str, list[Any]] = field(default_factory=dict)
    _checked: bool = field(default=False, repr=False)  # rows were looked at when they were converted
    _owned: object = field(default=None, repr=False)  # a folder that is removed with the data set

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (n, d)."""
        return self.rows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the weights and of all arithmetic."""
        return self.rows.dtype

    @property
    def sparse(self) -> bool:
        """Whether rows are sparse."""
        return isinstance(self.rows, CsrFileRows)

    def check(self) -> None:
        """Raise ValueError for the first NaN or infinity, by row and column; reads all rows, unless they were converted."""
        if not self._checked:
            check.finite_rows(self.rows)

    def chunks(self, rows: int) -> Iterator[tuple[Any, NDArray[Any] | None]]:
        """All rows in their order, so many at a time: (X, y), X an array or a `csr_array`, y None without targets."""
        for start in range(0, self.shape[0], check.count(rows, "rows", low=1)):
            part = slice(start, start + rows)
            yield self.rows[part], None if self.y is None else self.y[part]
