"""Folders of experiments as data, checked: `experiment.json` and `runs.jsonl`, format 1.

`experiment.json` says what was asked, how it was run and what its figures show; `runs.jsonl` has one JSON object a line, either
a run's epoch ("epoch" and the history's columns) or its end ("final": true), each with the run's settings as flat columns.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

FORMAT = 1
SETTINGS, RUNS = "experiment.json", "runs.jsonl"
KINDS = ("curve", "sweep")
STATUSES = ("running", "completed", "interrupted", "failed")

_LONGEST = 308  # digits of a number that a float holds

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """What a figure shows: y over x, a line for each combination of the `series` columns, a panel for each value of `panels`.

    kind: "curve" draws lines of epochs, "sweep" ends of runs. where: only lines of `runs.jsonl` with these values.
    """

    id: str
    title: str
    kind: str
    x: str
    y: str
    log_x: bool
    log_y: bool
    series: tuple[str, ...]
    panels: str | None
    where: dict[str, Any]
    note: str


@dataclass(frozen=True)
class Line:
    """A line of a theory or an oracle in figure `figure`; panel: the value whose panel it belongs to, None for all."""

    figure: str
    label: str
    panel: Any
    points: tuple[tuple[Any, float], ...]


@dataclass(frozen=True)
class Table:
    """A table as it was written: cells are strings or numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Experiment:
    """One folder. facts: the fields of `experiment.json` that are shown as they are. rows: the lines of `runs.jsonl`.

    warnings: what is wrong with the folder and yet leaves something to show.
    """

    facts: dict[str, Any]
    figures: tuple[Figure, ...]
    lines: tuple[Line, ...]
    tables: tuple[Table, ...]
    rows: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]


def find(out_dir: Path) -> list[Path]:
    """The experiments' folders: `out_dir` itself, or those in it, by name."""
    if not out_dir.is_dir():
        raise FileNotFoundError(f"{out_dir} is no directory")
    if (out_dir / SETTINGS).is_file():
        return [out_dir]
    found = sorted(path.parent for path in out_dir.glob(f"*/{SETTINGS}"))
    if not found:
        raise FileNotFoundError(
            f"no {SETTINGS} in {out_dir} or in a folder in it: run `kdvr experiment run NAME --out {out_dir}` first"
        )
    return found


def read(folder: Path) -> Experiment:
    """Read and check one folder.

    Raises:
        ValueError: what is wrong, and in which file, line or field.
    """
    record, where = _settings(folder / SETTINGS), str(folder / SETTINGS)
    facts = {
        key: _take(record, key, kind, where)
        for keys, kind in (
            (("name", "title", "question", "claim", "command", "started"), str),
            (("settings", "machine", "versions"), dict),
            (("seeds", "reading"), list),
            (("quick",), bool),
        )
        for key in keys
    }
    facts["seconds"] = _take(record, "seconds", (int, float, type(None)), where)
    facts["status"] = _choice(record, "status", STATUSES, where)
    figures = tuple(_figure(item, at) for item, at in _items(record, "figures", where))
    for at, figure in enumerate(figures):
        if figure.id in {other.id for other in figures[:at]}:
            raise ValueError(f"{where}, figures[{at}]: there are two figures with the id {figure.id!r}")
    rows, warnings = _runs(folder / RUNS)
    return Experiment(
        facts=facts,
        figures=figures,
        lines=tuple(_line(item, {figure.id for figure in figures}, at) for item, at in _items(record, "lines", where)),
        tables=tuple(_table(item, at) for item, at in _items(record, "tables", where)),
        rows=rows,
        warnings=warnings,
    )


def _settings(path: Path) -> dict[str, Any]:
    try:
        record = _json(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path}: no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path}: must be a JSON object, is {record!r:.60}")
    if record.get("format") != FORMAT:
        found = record.get("format")
        raise ValueError(f"{path}: format is {found!r}, this kdvr_fast reads format {FORMAT}; use the one that wrote it")
    return record


def _json(text: str) -> Any:
    """Whole numbers that no float holds become infinite, as others of that size do."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < _LONGEST else float(digits))


def _runs(path: Path) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """The lines and the warnings. A last line cut short is what an interrupt leaves; any other bad line is an error."""
    if not path.is_file():
        return (), (f"There is no {RUNS}: no run had got anywhere when this page was made.",)
    rows: list[dict[str, Any]] = []
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), 1) if line.strip()]
    for number, line in lines:
        where = f"{path}, line {number}"
        try:
            row = _json(line.decode())
        except ValueError as error:
            if number == lines[-1][0]:
                return tuple(rows), (f"{RUNS}, line {number}: the last line is cut short and was skipped.",)
            raise ValueError(f"{where}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: must be a JSON object, is {row!r:.60}")
        _take(row, "run", str, where)
        _take(row, "seed", int, where)
        if row.get("final") is not True:
            _take(row, "epoch", (int, float), where)
        rows.append(row)
    return tuple(rows), () if rows else (f"{RUNS} is empty: no run had got anywhere when this page was made.",)


def _figure(item: dict[str, Any], where: str) -> Figure:
    return Figure(
        kind=_choice(item, "kind", KINDS, where),
        series=tuple(_take(item, "series", list, where)),
        panels=_take(item, "panels", (str, type(None)), where),
        where=_take(item, "where", dict, where),
        **{key: _take(item, key, str, where) for key in ("id", "title", "x", "y", "note")},
        **{key: _take(item, key, bool, where) for key in ("log_x", "log_y")},
    )


def _line(item: dict[str, Any], figures: set[str], where: str) -> Line:
    figure = _take(item, "figure", str, where)
    if figure not in figures:
        raise ValueError(f"{where}: there is no figure {figure!r}, only {', '.join(sorted(figures)) or 'none'}")
    points = _take(item, "points", list, where)
    for at, point in enumerate(points):
        pair = isinstance(point, list) and len(point) == 2 and isinstance(point[0], int | float | str)
        if not pair or not isinstance(point[1], int | float | type(None)):
            raise ValueError(f"{where}: points[{at}] must be [x, y], is {point!r:.60}")
        if isinstance(point[0], float) and not math.isfinite(point[0]):
            raise ValueError(f"{where}: points[{at}] has no place: x is {point[0]}")
    pairs = tuple((x, float("nan") if y is None else float(y)) for x, y in points)
    return Line(figure, _take(item, "label", str, where), item.get("panel"), pairs)


def _table(item: dict[str, Any], where: str) -> Table:
    columns, rows = _take(item, "columns", list, where), _take(item, "rows", list, where)
    for at, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise ValueError(f"{where}: rows[{at}] must be a list of {len(columns)} cells, is {row!r:.60}")
    return Table(_take(item, "title", str, where), tuple(columns), tuple(tuple(row) for row in rows))


def _items(record: dict[str, Any], key: str, where: str) -> list[tuple[dict[str, Any], str]]:
    """The objects of a list, each with the words that name its place."""
    items = _take(record, key, list, where)
    for at, item in enumerate(items):
        if not isinstance(item, dict):
            raise ValueError(f"{where}: {key}[{at}] must be an object, is {item!r:.60}")
    return [(item, f"{where}, {key}[{at}]") for at, item in enumerate(items)]


def _choice(record: dict[str, Any], key: str, choices: tuple[str, ...], where: str) -> str:
    value: str = _take(record, key, str, where)
    if value not in choices:
        raise ValueError(f"{where}: {key!r} must be one of {', '.join(choices)}, is {value!r}")
    return value


def _take(record: dict[str, Any], key: str, kind: type[T] | tuple[type, ...], where: str) -> Any:
    """record[key], of that type; true and false are no numbers."""
    if key not in record:
        raise ValueError(f"{where}: {key!r} is missing")
    value, kinds = record[key], kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = {str: "text", dict: "an object", list: "a list", bool: "true or false", int: "a number", type(None): "null"}
        wanted = " or ".join(names[k] for k in kinds if k in names)
        raise ValueError(f"{where}: {key!r} must be {wanted}, is {value!r:.60}")
    return value
