"""Figures of an experiment: mean over the seeds with a band of mean +- t_0.975 s / sqrt(seeds), one SVG each.

On a log axis, where mean - half may have no place, the band goes by the same factor down as up.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf, nan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._experiment import Figure, Row

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6D00")  # Okabe and Ito's, without black
_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_BASELINE = "#000000"
_ROOM = 100


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 percent confidence interval, NaN for a single value."""
    from scipy.special import stdtrit

    x = np.asarray(values, np.float64)
    half = float(stdtrit(len(x) - 1, 0.975) * x.std(ddof=1) / sqrt(len(x))) if len(x) > 1 else nan
    return float(x.mean()), half


def distinct(values: Sequence[Any]) -> list[Any]:
    """Every value once: numbers by size, words as they come."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(v, int | float) for v in found) else found


def draw(record: dict[str, Any], rows: Sequence[Row], folder: Path) -> None:
    """Write FOLDER/ID.svg for every figure that has rows."""
    import matplotlib

    for plain in record["figures"]:
        figure = Figure(**plain)
        shown = figure.rows(rows)
        if shown:
            lines = [line for line in record["lines"] if line["figure"] == figure.id]
            with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": figure.id, "font.size": 9}):
                _canvas(figure, shown, lines).savefig(folder / f"{figure.id}.svg", metadata={"Date": None})


def _canvas(figure: Figure, rows: Sequence[Row], lines: Sequence[Row]) -> Any:
    from matplotlib.figure import Figure as Canvas

    column = figure.panels
    panels = [None] if column is None else distinct([row[column] for row in rows])
    across = 2 if len(panels) == 4 else min(3, len(panels))
    down = ceil(len(panels) / across)
    canvas = Canvas(figsize=(1.6 + 3.4 * max(across, 1.7), 1.1 + 2.6 * max(down, 1.3)), layout="constrained")
    grid = canvas.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    colours = _colours(figure, rows)
    grid[0].set_yscale("log" if figure.log_y else "linear")
    grid[0].set_ylim(*_heights(figure, rows, lines))
    for axes, panel in zip(grid, panels, strict=False):
        inside = [row for row in rows if column is None or row[column] == panel]
        _panel(axes, figure, inside, [line for line in lines if line["panel"] in (None, panel)], colours)
        if column is not None:
            axes.set_title(_words(column, panel) if isinstance(panel, int | float) else f"{column}: {panel}", fontsize=9)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    canvas.suptitle(figure.title, fontsize=10)
    canvas.supxlabel(figure.x.replace("_", " "), fontsize=9)
    canvas.supylabel(figure.y.replace("_", " "), fontsize=9)
    entries = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    canvas.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize=8, frameon=False)
    return canvas


def _heights(figure: Figure, rows: Sequence[Row], lines: Sequence[Row]) -> tuple[float, float]:
    """Limits of y, set by the runs: bands and theory may leave the picture, and so may a linear curve in its first tenth.

    A log axis has room for a bound that is not more than a hundred times what was measured.
    """
    if figure.log_y:
        positive = [row[figure.y] for row in rows if row[figure.y] > 0]
        top = max(positive, default=1.0)
        bounds = [y for line in lines for _, y in line["points"] if y is not None]
        return min(positive, default=1.0) / 1.5, 1.5 * max(top, min(max(bounds, default=0.0), _ROOM * top))
    late = max(row[figure.x] for row in rows) / 10 if figure.kind == "curve" else -inf
    shown = [row[figure.y] for row in rows if row[figure.x] >= late]
    margin = 0.05 * (max(shown) - min(shown)) or 0.05 * abs(shown[0]) or 1.0
    return min(shown) - margin, max(shown) + margin


def _panel(axes: Any, figure: Figure, rows: Sequence[Row], lines: Sequence[Row], colours: dict[str, str]) -> None:
    axes.set_xscale("log" if figure.log_x else "linear")
    for label, colour in colours.items():
        inside = [row for row in rows if _label(figure, row) == label]
        if not inside:
            continue
        x, mean, half = _means(figure, inside)
        marker = "o" if figure.kind == "sweep" else ""
        axes.plot(x, mean, color=colour, marker=marker, markersize=3, linewidth=1.4, label=label)
        with np.errstate(divide="ignore", invalid="ignore"):  # a mean of 0 or less has no place on a log axis anyway
            low = mean / (1 + half / mean) if figure.log_y else mean - half
        axes.fill_between(x, low, mean + half, color=colour, alpha=0.15, linewidth=0)
        if figure.kind == "sweep" and figure.x == "lam" and x[0] == 0:
            axes.axhline(mean[0], color=_BASELINE, linewidth=0.8, linestyle=":", label="lam = 0")
    kinds = list(dict.fromkeys(line["label"].partition(", ")[0] for line in lines))
    for line in lines:
        kind, _, series = line["label"].partition(", ")
        x, y = np.array(line["points"], np.float64).T
        dash = _DASHES[kinds.index(kind) % len(_DASHES)]
        axes.plot(
            x, y, color=colours.get(series, _COLOURS[1 + kinds.index(kind)]), linestyle=dash, linewidth=1.2, label=line["label"]
        )
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _means(figure: Figure, rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    by_x: dict[float, list[float]] = {}
    for row in rows:
        by_x.setdefault(row[figure.x], []).append(row[figure.y])
    x = sorted(by_x)
    mean, half = np.array([interval(by_x[value]) for value in x]).T
    return np.array(x, np.float64), mean, half


def _colours(figure: Figure, rows: Sequence[Row]) -> dict[str, str]:
    """A colour for every series: by its size where it is a number, black for SGD."""
    first = {_label(figure, row): row for row in rows}
    labels = list(first)
    if len(figure.series) == 1 and all(isinstance(first[label][figure.series[0]], int | float) for label in labels):
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        labels.sort(key=lambda label: float(first[label][figure.series[0]]))
        shades = colormaps["viridis"](np.linspace(0, 0.9, len(labels)))
        found = {label: to_hex(shade) for label, shade in zip(labels, shades, strict=True)}
    else:
        found = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    return {label: _BASELINE if label in ("SGD", "lam 0") else colour for label, colour in found.items()}


def _label(figure: Figure, row: Row) -> str:
    return ", ".join(_words(column, row[column]) for column in figure.series)


def _words(column: str, value: Any) -> str:
    return f"{column.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else str(value)
