"""The HTML of a report. All that comes from files is escaped; the figures' numbers go along as JSON for `page.js` to draw."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from .._version import __version__
from ._figures import prepare, value_of, words
from ._read import Experiment, Table

SCRIPTS = ("axes.js", "plot.js", "page.js")
STATUS = {
    "completed": ("completed", ""),
    "running": ("no end recorded", "It was still running when this page was made, or it was killed."),
    "interrupted": ("interrupted", "It was stopped before its end."),
    "failed": ("failed", "It ended with an error."),
}


def render(experiments: Sequence[Experiment]) -> str:
    """The whole page."""
    figures: list[dict[str, Any]] = []
    up = '<p class="up"><a href="#top">All experiments</a></p>' if len(experiments) > 1 else ""
    articles = [_article(at, experiment, figures) + up for at, experiment in enumerate(experiments)]
    style, scripts = _resource("page.css"), [_resource(name) for name in SCRIPTS]
    digests = " ".join(f"'{_digest(script)}'" for script in scripts)
    titles = [experiment.facts["title"] for experiment in experiments]
    parts = {
        "policy": f"default-src 'none'; style-src '{_digest(style)}'; script-src {digests}",
        "title": escape(titles[0] if len(titles) == 1 else f"{len(titles)} experiments"),
        "style": style,
        "contents": _contents(experiments) if len(experiments) > 1 else "",
        "articles": "\n".join(articles),
        "version": escape(__version__),
        "data": _embedded(figures),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _resource("page.html"))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a content security policy calls this very style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _contents(experiments: Sequence[Experiment]) -> str:
    items = "".join(
        f'<li><a href="#e{at}">{escape(experiment.facts["title"])}</a> {_badge(experiment)}'
        + "".join(f"<p>{escape(str(sentence))}</p>" for sentence in experiment.facts["reading"][:1])
        + "</li>"
        for at, experiment in enumerate(experiments)
    )
    return f'<nav aria-label="Experiments"><ol>{items}</ol></nav>'


def _article(at: int, experiment: Experiment, figures: list[dict[str, Any]]) -> str:
    facts = experiment.facts
    status, hint = STATUS[facts["status"]]
    notices = ([f"{status.capitalize()}. {hint} This page shows what it had by then."] if hint else []) + list(
        experiment.warnings
    )
    reading = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in facts["reading"])
    parts = [
        f'<article id="e{at}" aria-labelledby="t{at}">',
        f'<header><p class="eyebrow">{escape(facts["name"])} {_badge(experiment)}</p>'
        f'<h2 id="t{at}">{escape(facts["title"])}</h2><p class="question">{escape(facts["question"])}</p></header>',
        "".join(f'<p class="notice" role="note">{escape(notice)}</p>' for notice in notices),
        '<section class="reading"><h3>What came out</h3>'
        + (f"<ul>{reading}</ul>" if reading else "<p>No reading was written: it is the last thing an experiment does.</p>")
        + "</section>",
        f'<section class="claim"><h3>What the paper claims</h3><p>{escape(facts["claim"])}</p></section>',
    ]
    for figure in experiment.figures:
        prepared = prepare(figure, experiment)
        parts.append(_figure(len(figures), prepared, figure.note))
        figures.append(prepared)
    parts += [_table(table) for table in experiment.tables]
    parts += [_method(experiment), "</article>"]
    return "\n".join(parts)


def _badge(experiment: Experiment) -> str:
    status = experiment.facts["status"]
    quick = '<span class="badge">quick: reduced size</span>' if experiment.facts["quick"] else ""
    return f'<span class="badge {status}">{STATUS[status][0]}</span>{quick}'


def _figure(at: int, prepared: dict[str, Any], note: str) -> str:
    """Title and notes in words; `page.js` adds legend, panels and the table of values where the data-figure attribute is."""
    most, fewest = prepared["seeds"], prepared["fewest"]
    of = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds (the values say how many)"
    spread = {0: "", 1: "One seed, so there is no confidence band."}.get(
        most, f"Mean of {of} with its 95 % confidence band (Student's t)."
    )
    base = "Dotted: the value at lam 0, which is SGD's." if prepared["ratio"] else ""
    notes = "".join(f"<p>{escape(text)}</p>" for text in (note, f"{spread} {base}".strip()) if text)
    warnings = "".join(f'<p class="notice" role="note">{escape(text)}</p>' for text in prepared["warnings"])
    drawing = f'<div class="drawing" data-figure="{at}"></div>' if prepared["panels"] else ""
    return f"<figure><figcaption><h3>{escape(prepared['title'])}</h3>{notes}</figcaption>{warnings}{drawing}</figure>"


def _table(table: Table) -> str:
    numeric = [all(_is_number(row[at]) for row in table.rows) for at in range(len(table.columns))]
    aligned = [' class="number"' if number else "" for number in numeric]
    head = "".join(f"<th scope=col{how}>{escape(str(name))}</th>" for name, how in zip(table.columns, aligned, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{how}>{escape(_cell(cell))}</td>' for cell, how in zip(row, aligned, strict=True))}</tr>"
        for row in table.rows
    )
    title = escape(table.title)
    return (
        f'<section><h3>{title}</h3><div class="scroll" tabindex=0 role="region" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else value_of(value)


def _method(experiment: Experiment) -> str:
    """How it was run: command, settings, seeds, time, versions, machine."""
    facts = experiment.facts
    runs = {row["run"] for row in experiment.rows}
    ended = {row["run"] for row in experiment.rows if row.get("final") is True}
    run = {
        "seeds": value_of(facts["seeds"]),
        "runs": f"{len(ended)} ended" + (f", {len(runs - ended)} did not" if runs - ended else ""),
        "started": facts["started"].replace("T", " "),
        "took": _duration(facts["seconds"]),
    }
    shown = {str(value) for value in facts["versions"].values()}
    machine = {key: value for key, value in facts["machine"].items() if str(value) not in shown}
    if isinstance(machine.get("backends"), dict):
        machine["backends"] = {name: reason or "available" for name, reason in machine["backends"].items()}
    return (
        '<section class="method"><h3>How to run it again</h3>'
        f'<div class="command"><pre tabindex=0><code>{escape(facts["command"])}</code></pre>'
        '<button type="button" class="copy">Copy</button></div>'
        f"<div class=facts>{_facts('Settings', facts['settings'])}{_facts('Run', run)}"
        f"{_facts('Versions', facts['versions'])}{_facts('Machine', machine)}</div></section>"
    )


def _facts(title: str, facts: dict[str, Any]) -> str:
    rows: Iterable[str] = (
        f"<div><dt>{escape(words(str(key)))}</dt><dd>{escape(value_of(value))}</dd></div>" for key, value in facts.items()
    )
    return f"<section><h4>{title}</h4><dl>{''.join(rows)}</dl></section>"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
