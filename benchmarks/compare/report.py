"""Results as a Markdown table, a picture, and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from measuring import Entry


def _groups(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Entries of one table, fastest first, those without a figure last."""

    def title(entry: Entry) -> str:
        accuracy = "" if entry.accuracy is None else f", relative suboptimality {entry.accuracy:g}"
        return f"{entry.comparison}: {entry.task}{accuracy}"

    order = list(dict.fromkeys(map(title, entries)))
    grouped = groupby(sorted(entries, key=lambda e: order.index(title(e))), key=title)
    return [(name, sorted(group, key=lambda e: (not e.seconds, e.median if e.seconds else 0))) for name, group in grouped]


def markdown(entries: Sequence[Entry], facts: dict[str, Any]) -> str:
    """One table a task. "ours = 1": the rival's median over that of our fastest entry."""
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items())
    lines = [f"{facts['processor']}, {facts['cores']} cores, Python {facts['python']}, {versions}. Medians.", ""]
    for name, group in _groups(entries):
        mine = [e.median for e in group if e.ours and e.seconds]
        lines += [f"### {name}", "", "| | seconds | least .. most | rounds | ours = 1 |", "|---|---:|---:|---:|---:|"]
        for e in group:
            label = f"**{e.rival}**" if e.ours else e.rival
            if not e.seconds:
                lines.append(f"| {label} | {e.note} | | | |")
                continue
            ratio = f"{e.median / min(mine):.2f}" if mine else ""
            spread = f"{min(e.seconds):.4g} .. {max(e.seconds):.4g}"
            lines.append(f"| {label} | {e.median:.4g} | {spread} | {len(e.seconds)} | {ratio} |")
        lines.append("")
    return "\n".join(lines)


def picture(entries: Sequence[Entry], path: Path) -> None:
    """Bars of the medians on a log scale, a panel a task."""
    from matplotlib.figure import Figure

    groups = [(name, shown) for name, group in _groups(entries) if (shown := [e for e in group if e.seconds])]
    if not groups:
        return
    heights = [len(group) + 2 for _, group in groups]
    figure = Figure(figsize=(9, 0.24 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (name, group) in zip(panels, groups, strict=True):
        colors = ["tab:red" if e.ours else "tab:gray" for e in group]
        bars = axes.barh([e.rival for e in group], [e.median for e in group], color=colors)
        axes.bar_label(bars, [f"{e.median:.3g}" for e in group], padding=3, fontsize=7)
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.set_title(name, fontsize=9, loc="left")
        axes.tick_params(which="both", labelsize=7)
        axes.margins(x=0.1)
    figure.supxlabel("seconds, median (an epoch, or to the accuracy)", fontsize=8)
    figure.savefig(path, dpi=130)


def write(entries: Sequence[Entry], facts: dict[str, Any], folder: Path) -> str:
    """Write results.json, results.md and results.png; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(entries, facts)
    plain = {"machine": facts, "results": [e.plain() for e in entries]}
    (folder / "results.json").write_text(json.dumps(plain, indent=2) + "\n")
    (folder / "results.md").write_text(text)
    picture(entries, folder / "results.png")
    return text
