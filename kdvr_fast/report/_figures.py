"""A figure's numbers and styles, ready to be drawn: means over the seeds with a confidence band, panel by panel.

A point is [x, mean, half, n]: the mean over n seeds and mean +- half its 95 % confidence interval, half = t_{0.975, n-1} s /
sqrt(n) with the seeds' standard deviation s; half is None for one seed. Everything returned is plain JSON data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ._read import Experiment, Figure, Line

_FEW = 4  # series up to which an ordered quantity needs no ramp of colours
_HUES = 7  # colours of the palette
_DIGITS = 7  # significant digits of what is embedded

Key = tuple[Any, ...]  # the values of the columns that name a series
Points = dict[Any, dict[int, list[float]]]  # x -> seed -> values


def prepare(figure: Figure, experiment: Experiment) -> dict[str, Any]:
    """The figure as JSON data: its axes, its legend (in drawing order) and its panels with their points."""
    rows = [row for row in experiment.rows if _belongs(row, figure)]
    drawn, left_out = _collect(rows, figure)
    keys = _baseline_first({key for points in drawn.values() for key in points}, figure.series)
    lines = [line for line in experiment.lines if line.figure == figure.id]
    categories = _categories(drawn, lines)
    labels = [_label(key, figure) for key in keys]
    line_labels = list(dict.fromkeys(line.label for line in lines))
    kinds = list(dict.fromkeys(label.partition(", ")[0] for label in line_labels))
    panels = [
        {
            "title": "" if figure.panels is None else label_of(figure.panels, value),
            "series": [
                {"at": at, "points": _points(drawn[value][key], categories)}
                for at, key in enumerate(keys)
                if key in drawn[value]
            ],
            "lines": [
                {"at": line_labels.index(line.label), "points": _line_points(line, categories)}
                for line in lines
                if line.panel is None or line.panel == value
            ],
        }
        for value in sorted(drawn, key=natural)
    ]
    counts = [len(seeds) for points in drawn.values() for xs in points.values() for seeds in xs.values()]
    return {
        "id": figure.id,
        "title": figure.title,
        "kind": figure.kind,
        "x": words(figure.x),
        "y": words(figure.y),
        "log_x": figure.log_x and categories is None,
        "log_y": figure.log_y,
        "categories": categories,
        "ratio": figure.kind == "sweep" and figure.x == "lam",
        "seeds": max(counts, default=0),
        "fewest": min(counts, default=0),
        "series": [
            {"label": f"{label} (SGD)" if label == "lam 0" else label} | style
            for label, style in zip(labels, _styles(keys, figure.series), strict=True)
        ],
        "lines": [
            {"label": label, "kind": kinds.index(label.partition(", ")[0]), "about": _about(label, labels)}
            for label in line_labels
        ],
        "panels": panels,
        "warnings": _warnings(figure, rows, drawn, left_out),
    }


def words(column: str) -> str:
    """A column's name for people."""
    return column.replace("_", " ")


def value_of(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{words(key)}: {value_of(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(value_of(item) for item in value)
    return "none" if value is None else str(value)


def label_of(column: str, value: Any) -> str:
    """A name for a value of a column: text speaks for itself, a number needs its column's name."""
    return value if isinstance(value, str) else f"{words(column)} {value_of(value)}"


def natural(value: Any) -> tuple[Any, ...]:
    """A sort key: nothing, then numbers by size, then text with the numbers in it by size."""
    if value is None:
        return (0,)
    if isinstance(value, int | float):
        return (1, value)
    parts = re.split(r"(\d+(?:\.\d+)?)", str(value))  # every other one is a number
    return (2, *((0, float(part), "") if at % 2 else (1, 0, part) for at, part in enumerate(parts) if part))


def _belongs(row: dict[str, Any], figure: Figure) -> bool:
    of_kind = (row.get("final") is True) == (figure.kind == "sweep")
    return of_kind and all(row.get(column) == value for column, value in figure.where.items())


def _collect(rows: Iterable[dict[str, Any]], figure: Figure) -> tuple[dict[Any, dict[Key, Points]], int]:
    """panel -> series -> x -> seed -> values, and the number of values that are no finite numbers."""
    drawn: dict[Any, dict[Key, Points]] = {}
    left_out = 0
    for row in rows:
        x, y = _scalar(row.get(figure.x)), row.get(figure.y)
        if x is None or figure.y not in row:
            continue
        if not isinstance(y, int | float) or not math.isfinite(y) or (isinstance(x, float) and not math.isfinite(x)):
            left_out += 1
            continue
        panel = None if figure.panels is None else _scalar(row.get(figure.panels))
        series = drawn.setdefault(panel, {}).setdefault(tuple(_scalar(row.get(column)) for column in figure.series), {})
        series.setdefault(x, {}).setdefault(row["seed"], []).append(float(y))
    return drawn, left_out


def _scalar(value: Any) -> Any:
    return value_of(value) if isinstance(value, list | dict) else value


def _points(points: Points, categories: list[str] | None) -> list[list[float | None]]:
    out: list[list[float | None]] = []
    for x in sorted(points, key=natural):
        values = np.array([np.mean(seed) for seed in points[x].values()])
        half = None
        if len(values) > 1:
            half = _round(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values)))
        out.append([_place(x, categories), _round(values.mean()), half, len(values)])
    return out


def _line_points(line: Line, categories: list[str] | None) -> list[list[float]]:
    finite = [(_place(x, categories), y) for x, y in line.points if math.isfinite(y)]
    return [[x, _round(y)] for x, y in sorted(finite)]


def _categories(drawn: dict[Any, dict[Key, Points]], lines: list[Line]) -> list[str] | None:
    """The places along an x axis of text, in order; None if x is a number."""
    xs = {x for panel in drawn.values() for points in panel.values() for x in points}
    xs |= {x for line in lines for x, _ in line.points}
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in xs):
        return None
    return [value_of(x) for x in sorted(xs, key=natural)]


def _place(x: Any, categories: list[str] | None) -> float:
    return _round(x) if categories is None else float(categories.index(value_of(x)))


def _round(value: float) -> float:
    return float(f"{float(value):.{_DIGITS}g}")


# -- names and styles of series -------------------------------------------------------------------------------------


def _label(key: Key, figure: Figure) -> str:
    parts = [label_of(column, value) for column, value in zip(figure.series, key, strict=True) if value is not None]
    return ", ".join(parts) or words(figure.y)


def _about(label: str, labels: list[str]) -> int | None:
    """The series that a line "KIND, SERIES" is about; None where it is about all of them."""
    series = label.partition(", ")[2]
    return labels.index(series) if series in labels else None


def _is_baseline(key: Key, columns: tuple[str, ...]) -> bool:
    """Plain SGD: no weight on the teacher, or that name."""
    weight = dict(zip(columns, key, strict=True)).get("lam")
    return bool(weight == 0) if weight is not None else "SGD" in key


def _baseline_first(keys: set[Key], columns: tuple[str, ...]) -> list[Key]:
    return sorted(keys, key=lambda key: (not _is_baseline(key, columns), [natural(value) for value in key]))


def _styles(keys: list[Key], columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """hue: a colour of the palette, None for the baseline; ramp: a place on the ramp instead; fade: towards the background.

    Values of one quantity take the ramp when they are many; of two, the first sets the hue and the second how far it fades.
    """
    plain = [key for key in keys if not _is_baseline(key, columns)]
    varying = [at for at in range(len(columns)) if len({key[at] for key in plain}) > 1]
    numeric = len(varying) == 1 and all(isinstance(key[varying[0]], int | float) for key in plain)
    styles: dict[Key, dict[str, Any]] = {}
    for at, key in enumerate(plain):
        style: dict[str, Any] = {"hue": at % _HUES, "ramp": None, "fade": 0.0}
        if numeric and len(plain) > _FEW:
            style["ramp"] = round(at / (len(plain) - 1), 3)
        elif len(varying) > 1 and len(plain) > _HUES:
            groups = list(dict.fromkeys(other[varying[0]] for other in plain))
            group = [other for other in plain if other[varying[0]] == key[varying[0]]]
            style["hue"] = groups.index(key[varying[0]]) % _HUES
            style["fade"] = round(0.6 * group.index(key) / max(1, len(group) - 1), 3)
        styles[key] = style
    return [styles.get(key, {"hue": None, "ramp": None, "fade": 0.0}) for key in keys]


def _warnings(figure: Figure, rows: list[dict[str, Any]], drawn: dict[Any, dict[Key, Points]], left_out: int) -> list[str]:
    kind = "epoch" if figure.kind == "curve" else "ended run"
    if not rows:
        return [f"Nothing to draw: there is no {kind} of this figure yet."]
    known = {column for row in rows for column in row}
    missing = [column for column in (figure.x, figure.y) if column not in known]
    if missing:
        return [f"Nothing to draw: no {kind} has the column {', '.join(missing)}."]
    out = []
    if left_out:
        out.append(
            f"{left_out} of {len(rows)} values of {words(figure.y)} are no finite numbers (not measured, or diverged); "
            "they are left out, so that some means are over fewer seeds."
        )
    without = sum(row.get(figure.x) is None for row in rows)
    if without:
        out.append(f"{without} of {len(rows)} results have no {words(figure.x)} and are not drawn.")
    if any(len(v) > 1 for panel in drawn.values() for xs in panel.values() for seeds in xs.values() for v in seeds.values()):
        out.append("Some points have several runs a seed, which are averaged first: the series do not tell them apart.")
    return out
