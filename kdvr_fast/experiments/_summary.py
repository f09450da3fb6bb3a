"""Means over seeds, and how one setting compares with another, in words."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from ._experiment import Row
from ._figures import distinct, interval

_SAME = 1e-3  # relative: below what a figure shows


def finals(rows: Sequence[Row], column: str, /, **where: Any) -> list[float]:
    """A column at the end of the runs with these settings, by seed."""
    found = [row for row in rows if row.get("final") and all(row.get(c) == v for c, v in where.items())]
    return [float(row[column]) for row in sorted(found, key=lambda row: int(row["seed"]))]


def best_lam(rows: Sequence[Row], column: str, /, **where: Any) -> float:
    """The weight whose mean over the seeds is smallest."""
    lams = distinct([row["lam"] for row in rows if row.get("final") and all(row.get(c) == v for c, v in where.items())])
    return float(min(lams, key=lambda lam: np.mean(finals(rows, column, lam=lam, **where))))


def with_interval(values: Sequence[float], digits: int = 3) -> str:
    """Mean and the half-width of its interval, such as "0.412 +- 0.013"."""
    mean, half = interval(values)
    return f"{mean:.{digits}g}" + (f" +- {half:.1g}" if isfinite(half) else "")


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Quotients of runs with the same seed."""
    return [value / other for value, other in zip(values, base, strict=True)]


def versus(values: Sequence[float], base: Sequence[float]) -> str:
    """How values lie to those of the same seeds: "below", "above", "the same as" or "not to be told from", by the interval."""
    mean, half = interval(np.subtract(values, base).tolist())
    if abs(mean) <= _SAME * abs(np.mean(base)):
        return "the same as"
    if not isfinite(half):
        return f"{'below' if mean < 0 else 'above'} (of one seed)"
    return "not to be told from" if abs(mean) <= half else "below" if mean < 0 else "above"
