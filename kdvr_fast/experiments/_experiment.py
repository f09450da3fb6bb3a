"""What an experiment is: what is varied, how a run is made, how the result is read. Data and plain functions, no framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

Row = dict[str, Any]  # flat; values as JSON has them
Settings = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """y over x, one line for each combination of the `series` columns, mean and confidence band over the seeds.

    kind: "curve" is over epochs and drawn from rows with "epoch"; "sweep" is over a setting, from rows with "final".
    panels: the column whose values get axes of their own. where: the rows shown, by column and value.
    """

    id: str
    title: str
    kind: Literal["curve", "sweep"]
    x: str
    y: str
    series: tuple[str, ...]
    panels: str | None = None
    where: Row = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    note: str = ""

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """The rows shown."""
        mark = "epoch" if self.kind == "curve" else "final"
        return [row for row in rows if mark in row and all(row.get(c) == v for c, v in self.where.items())]


@dataclass(frozen=True)
class Line:
    """What theory or an oracle says, for a figure. A label that ends in ", LABEL OF A SERIES" goes with that series."""

    figure: str
    label: str
    points: list[list[float]]
    panel: Any = None


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers below a title."""

    title: str
    columns: list[str]
    rows: list[list[str | float]]


@dataclass(frozen=True)
class Reading:
    """What came out: sentences in plain language, tables, lines for the figures.

    A number that is not finite has no place in JSON: it is written as null, shown as a dash, and left out of a line.
    """

    sentences: list[str]
    tables: list[Table] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As experiment.json has it."""
        plain: dict[str, Any] = _finite(asdict(self))
        return {"reading": plain.pop("sentences")} | plain


def _finite(value: Any) -> Any:
    """The same with null for numbers that are not."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


@dataclass(frozen=True)
class Experiment:
    """One question and how it is put.

    question, claim: what is asked, and what the paper says. figures: fixed beforehand.
    configure(quick, data): the settings, checked; raises if the data are not there. runs(settings): the settings of every run,
    seeds aside; they are columns of all its rows. work(settings, run, seed): makes a run, in any process: the functions are
    named at the top of a module. It gives rows with "epoch" and one with "final". read(settings, rows): needs all rows.
    unavailable(): why it cannot run here, None if it can.
    """

    name: str
    title: str
    question: str
    claim: str
    figures: tuple[Figure, ...]
    configure: Callable[[bool, Path | None], Settings]
    runs: Callable[[Settings], list[Row]]
    work: Callable[[Settings, Row, int], Iterable[Row]]
    read: Callable[[Settings, Sequence[Row]], Reading]
    unavailable: Callable[[], str | None] = lambda: None
