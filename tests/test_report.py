"""The report's page: what it says, that it says no more than text, and what it does with damaged folders."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from experiment_folder import LAMS, SEEDS, figure, record, write
from scipy.stats import t
from typer.testing import CliRunner

import kdvr_fast as kd
from kdvr_fast import cli, report

Row = dict[str, Any]


def embedded(page: Path) -> list[Any]:
    """The figures' numbers in a page."""
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert block is not None
    data: list[Any] = json.loads(block[1])
    return data


def drawn(tmp_path: Path, rows: list[Row], **fields: Any) -> Any:
    """The one figure of an experiment with these rows."""
    kind = fields.pop("kind", "sweep")
    shown = figure("f", kind, fields.pop("x", "lam"), fields.pop("y", "error"), **fields.pop("figure", {}))
    return embedded(report.write(write(tmp_path / "e", record("e", figures=[shown], **fields), rows)))[0]


def ended(seed: int, **columns: Any) -> Row:
    return {"run": f"{seed}-{columns}", "seed": seed, "final": True} | columns


# -- what it says ----------------------------------------------------------------------------------------------------


def test_the_page_says_all_that_the_files_say(experiments: Path, tmp_path: Path) -> None:
    text = report.write(experiments, tmp_path / "page.html").read_text()
    for name in ("digits", "oracle"):
        facts = json.loads((experiments / name / "experiment.json").read_text())
        words = [facts[key] for key in ("name", "title", "question", "claim", "command")] + facts["reading"]
        words += [shown["title"] for shown in facts["figures"]] + [table["title"] for table in facts["tables"]]
        words += [
            *facts["versions"].values(),
            facts["machine"]["platform"],
            "batch size",
            "12.3 s",
            "24 ended",
            "quick: reduced size",
        ]
        for word in words:
            assert escape(word) in text, word
    assert text.index("What came out") < text.index("What the paper claims") < text.index("Objective along training")


def test_a_folder_of_one_experiment_is_enough_and_the_output_can_be_anywhere(experiments: Path, tmp_path: Path) -> None:
    page = report.write(str(experiments / "oracle"), str(tmp_path / "page.html"))
    assert page == tmp_path / "page.html" and list(tmp_path.iterdir()) == [page]
    text = page.read_text()
    assert "The stationary error against the exact one" in text and "A linear classifier" not in text and "<nav" not in text


def test_the_page_asks_for_nothing_from_elsewhere(experiments: Path, tmp_path: Path) -> None:
    text = report.write(experiments, tmp_path / "page.html").read_text()
    assert re.findall(r"\b(?:src|href)=[\"'](?!#)[^\"']*", text) == []
    assert "default-src 'none'; style-src 'sha256-" in text and "unsafe" not in text
    assert not re.search(r"url\((?!#)|@import|\bfetch\(|XMLHttpRequest|\bimport\b[ (]", text)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("interrupted", "stopped before its end"),
        ("failed", "ended with an error"),
        ("running", "No end recorded"),
        ("completed", None),
    ],
)
def test_an_experiment_without_its_end_says_so(tmp_path: Path, status: str, words: str | None) -> None:
    rows = [ended(0, lam=0.0, error=1.0), {"run": "cut", "seed": 0, "lam": 0.5, "epoch": 1, "error": 2.0}]
    text = report.write(write(tmp_path / "e", record("e", status=status, seconds=None), rows)).read_text()
    notices = re.findall(r'role="note">(.*?)</p>', text)
    assert len(notices) == (words is not None) and all(str(words) in notice for notice in notices)
    assert "1 ended, 1 did not" in text and "not recorded" in text


def test_table_cells(tmp_path: Path) -> None:
    rows = [["a & b", 0.123456789, 7, None], ["c", 1e-9, -3, 2.0]]
    table = {"title": "T", "columns": ["name", "x", "n", "m"], "rows": rows}
    text = report.write(write(tmp_path / "e", record("e", tables=[table]), [])).read_text()
    cells = re.findall(r"<td( class=\"number\")?>(.*?)</td>", text)
    assert [cell for _, cell in cells] == ["a &amp; b", "0.1235", "7", "–", "c", "1e-09", "-3", "2"]
    assert [bool(number) for number, _ in cells[:4]] == [False, True, True, True]


# -- figures ---------------------------------------------------------------------------------------------------------


def test_points_are_means_with_students_band(experiments: Path, tmp_path: Path) -> None:
    curves, ends = embedded(report.write(experiments / "digits", tmp_path / "page.html"))
    rows = [json.loads(line) for line in (experiments / "digits" / "runs.jsonl").read_text().splitlines()]
    factor = t.ppf(0.975, len(SEEDS) - 1) / np.sqrt(len(SEEDS))
    checked = 0
    for shown, x in ((curves, "epoch"), (ends, "lam")):
        for panel in shown["panels"]:
            for series in panel["series"]:
                label = shown["series"][series["at"]]["label"]
                for place, value, half, n in series["points"]:
                    wanted = [
                        row["objective"]
                        for row in rows
                        if row.get("final", False) == (x == "lam")
                        and row[x] == place
                        and (
                            row["teacher"] == panel["title"] and f"lam {row['lam']:g}" == label.split(" (")[0]
                            if x == "epoch"
                            else row["teacher"] == label
                        )
                    ]
                    assert n == len(wanted) == len(SEEDS)
                    assert value == pytest.approx(mean(wanted), rel=1e-6) and half == pytest.approx(
                        factor * stdev(wanted), rel=1e-6
                    )
                    checked += 1
    assert checked == 2 * len(LAMS) * 15 + 2 * len(LAMS)


def test_panels_series_and_filter(tmp_path: Path) -> None:
    rows = [
        ended(0, method=method, lam=lam, epochs=f"after {epochs}", keep=keep, error=lam + epochs)
        for method, lam in (("KD", 0.5), ("KD", 1), ("SGD", 0.0), ("SVRG", 0.5))
        for epochs in (20, 5.1, 5.03, 100, 5)
        for keep in (True, False)
    ]
    shown = drawn(tmp_path, rows, figure={"series": ["method", "lam"], "panels": "epochs", "where": {"keep": True}})
    assert [panel["title"] for panel in shown["panels"]] == ["after 5", "after 5.03", "after 5.1", "after 20", "after 100"]
    assert [series["label"] for series in shown["series"]] == ["SGD, lam 0", "KD, lam 0.5", "KD, lam 1", "SVRG, lam 0.5"]
    assert [series["hue"] for series in shown["series"]] == [None, 0, 1, 2]
    assert shown["panels"][0]["series"][1]["points"] == [[0.5, 5.5, None, 1]] and shown["warnings"] == []


def test_many_values_of_a_quantity_take_a_ramp_and_the_baseline_none(tmp_path: Path) -> None:
    rows = [{"run": str(lam), "seed": 0, "lam": lam / 10, "epoch": 1, "error": 1.0} for lam in range(11)]
    shown = drawn(tmp_path, rows, kind="curve", x="epoch", figure={"series": ["lam"]})
    styles = shown["series"]
    assert styles[0] == {"label": "lam 0 (SGD)", "hue": None, "ramp": None, "fade": 0.0}
    ramp = [style["ramp"] for style in styles[1:]]
    assert ramp == sorted(ramp) and ramp[0] == 0 and ramp[-1] == 1


@pytest.mark.parametrize(("column", "names"), [("lam", [0, -1, 0.5]), ("contender", ["SGD", "KD 0.3", "unbiased"])])
def test_the_baseline_comes_first_and_takes_no_colour(tmp_path: Path, column: str, names: list[Any]) -> None:
    shown = drawn(
        tmp_path, [ended(0, x=1, error=1.0) | {column: name} for name in names[::-1]], x="x", figure={"series": [column]}
    )
    assert shown["series"][0]["label"] in ("SGD", "lam 0 (SGD)")
    assert [series["hue"] for series in shown["series"]] == [None, 0, 1]


def test_methods_times_weights_share_hues(tmp_path: Path) -> None:
    rows = [ended(0, method=m, lam=lam, x=1, error=1.0) for m in ("KD", "SVRG") for lam in (0.2, 0.4, 0.6, 0.8)]
    styles = drawn(tmp_path, rows, x="x", figure={"series": ["method", "lam"]})["series"]
    assert [style["hue"] for style in styles] == [0] * 4 + [1] * 4
    assert [style["fade"] for style in styles] == [0.0, 0.2, 0.4, 0.6] * 2


def test_lines_of_theory(tmp_path: Path) -> None:
    rows = [ended(0, lam=lam, rate=rate, error=1.0, group=group) for lam in (0.0, 1.0) for rate in (0.1, 0.2) for group in "ab"]
    lines = [
        {"figure": "f", "label": "oracle, rate 0.2", "panel": "a", "points": [[1, 2], [0, 3], [0.5, float("nan")]]},
        {"figure": "f", "label": "theory, rate 0.2", "panel": None, "points": [[0, 1]]},
        {"figure": "f", "label": "optimum", "panel": None, "points": [[0, 1], [1, 1]]},
    ]
    shown = drawn(tmp_path, rows, lines=lines, figure={"series": ["rate"], "panels": "group"})
    assert shown["lines"] == [
        {"label": "oracle, rate 0.2", "kind": 0, "about": 1},
        {"label": "theory, rate 0.2", "kind": 1, "about": 1},
        {"label": "optimum", "kind": 2, "about": None},
    ]
    first, second = shown["panels"]
    assert first["lines"][0] == {"at": 0, "points": [[0, 3], [1, 2]]}
    assert [line["at"] for line in first["lines"]] == [0, 1, 2] and [line["at"] for line in second["lines"]] == [1, 2]


def test_values_of_a_line_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    points = [[0, 1], [1, float("inf")], [2, float("-inf")], [3, None], [4, 10**400], [5, 2]]
    line = {"figure": "f", "label": "theory", "panel": float("nan"), "points": points}
    shown = drawn(tmp_path, [ended(0, lam=0, error=1.0)], lines=[line | {"panel": None}, line])
    assert shown["panels"][0]["lines"] == [{"at": 0, "points": [[0, 1], [5, 2]]}]


def test_words_along_the_x_axis_are_places(tmp_path: Path) -> None:
    rows = [ended(seed, method=method, error=float(seed)) for method in ("SVRG", "KD", "SGD") for seed in (0, 1)]
    shown = drawn(tmp_path, rows, x="method", figure={"log_x": True})
    assert shown["categories"] == ["KD", "SGD", "SVRG"] and shown["log_x"] is False
    assert [point[0] for point in shown["panels"][0]["series"][0]["points"]] == [0, 1, 2]
    assert shown["series"][0]["label"] == "error"


@pytest.mark.parametrize(
    ("rows", "x", "warning"),
    [
        ([], "lam", "no ended run"),
        ([ended(0, lam=0.1, error=1.0)], "weight", "has the column weight"),
        ([ended(0, lam=0.1, error=1.0), ended(1, lam=0.1, error=float("nan"))], "lam", "1 of 2 values of error"),
        ([ended(0, lam=0.1, error=1.0), ended(1, lam=0.1, error=None)], "lam", "1 of 2 values of error"),
        ([ended(0, lam=0.1, error=1.0), ended(1, lam=0.1, error=10**400)], "lam", "1 of 2 values of error"),
        ([ended(0, lam=0.1, error=1.0), ended(1, error=1.0)], "lam", "1 of 2 results have no lam"),
        ([ended(0, lam=0.1, error=1.0, z=0), ended(0, lam=0.1, error=2.0, z=1)], "lam", "several runs a seed"),
    ],
)
def test_what_a_figure_cannot_show_is_said(tmp_path: Path, rows: list[Row], x: str, warning: str) -> None:
    shown = drawn(tmp_path, rows, x=x)
    assert len(shown["warnings"]) == 1 and warning in shown["warnings"][0]
    assert warning in (tmp_path / "e" / "report.html").read_text()


def test_seeds_weigh_alike_however_many_runs_they_have(tmp_path: Path) -> None:
    rows = [ended(0, lam=0, error=1.0), ended(0, lam=0, error=3.0), ended(1, lam=0, error=5.0)]
    value = drawn(tmp_path, rows)["panels"][0]["series"][0]["points"][0]
    assert value[1] == 3.5 and value[3] == 2


@pytest.mark.parametrize(
    ("seeds", "words"),
    [((0,), "One seed, so"), ((0, 1), "Mean of 2 seeds with"), ((0, 1, None), "Mean of 1 to 2 seeds (")],
)
def test_the_page_says_over_how_many_seeds_it_means(tmp_path: Path, seeds: tuple[int | None, ...], words: str) -> None:
    drawn(tmp_path, [ended(seed or 0, lam=1 if seed is None else 0, error=1.0) for seed in seeds])
    assert words in (tmp_path / "e" / "report.html").read_text()


# -- text stays text -------------------------------------------------------------------------------------------------

NASTY = "</script><script>alert(\"x\")</script><img src=x onerror=alert(1)> & '{{data}}' \u2028"


def nasty(folder: Path) -> Path:
    """An experiment whose every text tries to be markup."""
    shown = figure("f", "sweep", "lam", "error", title=NASTY, note=NASTY, series=["kind"], panels="panel")
    facts = record(
        NASTY,
        **dict.fromkeys(("title", "question", "claim", "command", "started"), NASTY),
        settings={NASTY: NASTY, "list": [NASTY]},
        machine={NASTY: {NASTY: NASTY}},
        versions={NASTY: NASTY},
        seeds=[NASTY],
        reading=[NASTY],
        figures=[shown, figure("g", "sweep", NASTY, NASTY)],
        lines=[{"figure": "f", "label": NASTY, "panel": None, "points": [[0, 1], [1, 1]]}],
        tables=[{"title": NASTY, "columns": [NASTY], "rows": [[NASTY]]}],
    )
    return write(folder, facts, [ended(0, lam=lam, error=1.0, kind=NASTY, panel=NASTY) for lam in (0.0, 1.0)])


def test_text_from_files_is_never_markup(tmp_path: Path) -> None:
    page = report.write(nasty(tmp_path / "e"))
    text = page.read_text()
    assert text.count("<script") == 4 == text.count("</script>") and "<img" not in text
    assert embedded(page)[0]["series"][0]["label"] == NASTY
    assert "{{data}}" in text  # text that looks like a place in the template is left alone


# -- damaged folders -------------------------------------------------------------------------------------------------


def change(**fields: Any) -> Callable[[Row], Any]:
    return lambda facts: facts | fields


def drop(key: str) -> Callable[[Row], Any]:
    return lambda facts: {name: value for name, value in facts.items() if name != key}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change(format=2), r"experiment\.json: format is 2, this kdvr_fast reads format 1"),
        (drop("format"), "format is None"),
        (lambda facts: [facts], r"must be a JSON object, is \[\{"),
        (drop("title"), r"experiment\.json: 'title' is missing"),
        (change(title=3), "'title' must be text, is 3"),
        (change(quick=1), "'quick' must be true or false"),
        (change(seconds="3"), "'seconds' must be a number or null, is '3'"),
        (change(status="done"), "'status' must be one of running, completed, interrupted, failed, is 'done'"),
        (change(figures=["f"]), r"figures\[0\] must be an object"),
        (change(figures=[figure("f", "bar", "x", "y")]), r"figures\[0\]: 'kind' must be one of curve, sweep, is 'bar'"),
        (change(figures=[figure("f", "curve", "x", "y", log_y=1)]), r"figures\[0\]: 'log_y' must be true or false"),
        (change(figures=[figure("f", "curve", "x", "y")] * 2), r"figures\[1\]: there are two figures with the id 'f'"),
        (change(lines=[{"figure": "g", "label": "l", "points": []}]), r"lines\[0\]: there is no figure 'g', only none"),
        (
            change(figures=[figure("f", "curve", "x", "y")], lines=[{"figure": "f", "label": "l", "points": [[0, 1], [1]]}]),
            r"lines\[0\]: points\[1\] must be \[x, y\], is \[1\]",
        ),
        *(
            (
                change(figures=[figure("f", "curve", "x", "y")], lines=[{"figure": "f", "label": "l", "points": [[x, 1]]}]),
                r"experiment\.json, lines\[0\]: points\[0\] has no place: x is (nan|inf)",
            )
            for x in (float("nan"), float("inf"), 10**400)
        ),
        (
            change(tables=[{"title": "t", "columns": ["a"], "rows": [[1], [1, 2]]}]),
            r"tables\[0\]: rows\[1\] must be a list of 1 cells",
        ),
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, changed: Callable[[Row], Any], message: str) -> None:
    folder = write(tmp_path / "e", changed(record("e")), [])
    with pytest.raises(ValueError, match=message):
        report.write(folder)
    assert not (folder / "report.html").exists()


def test_no_json_is_named_with_its_place(tmp_path: Path) -> None:
    folder = write(tmp_path / "e", record("e"), [])
    (folder / "experiment.json").write_text('{"format": 1,\n "name" 3}')
    with pytest.raises(ValueError, match=r"experiment\.json: no JSON: .*line 2"):
        report.write(folder)


GOOD = json.dumps(ended(0, lam=0.0, error=1.0)).encode()


@pytest.mark.parametrize("end", [GOOD[:20], GOOD[:20] + b"\n", b'{"run": "\xc3', b"\xff\xff"])
def test_a_last_line_cut_short_is_skipped_with_a_warning(tmp_path: Path, end: bytes) -> None:
    folder = write(tmp_path / "e", record("e", status="interrupted", figures=[figure("f", "sweep", "lam", "error")]), [])
    (folder / "runs.jsonl").write_bytes(GOOD + b"\n\n" + end)
    page = report.write(folder)
    assert "runs.jsonl, line 3: the last line is cut short and was skipped." in page.read_text()
    assert embedded(page)[0]["panels"][0]["series"][0]["points"] == [[0, 1, None, 1]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD[:20], "no JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"run": "a", "final": true}', "'seed' is missing"),
        (b'{"run": 1, "seed": 0, "final": true}', "'run' must be text"),
        (b'{"run": "a", "seed": 0.5, "final": true}', "'seed' must be a number"),
        (b'{"run": "a", "seed": 0}', "'epoch' is missing"),
    ],
)
def test_any_other_bad_line_is_an_error(tmp_path: Path, line: bytes, message: str) -> None:
    folder = write(tmp_path / "e", record("e"), [])
    (folder / "runs.jsonl").write_bytes(GOOD + b"\n" + line + b"\n" + GOOD + b"\n")
    with pytest.raises(ValueError, match=rf"runs\.jsonl, line 2: {message}"):
        report.write(folder)


def test_no_runs_are_said_on_the_page(tmp_path: Path) -> None:
    folder = write(tmp_path / "e", record("e", status="running"), [])
    assert "runs.jsonl is empty" in report.write(folder).read_text()
    (folder / "runs.jsonl").unlink()
    assert "There is no runs.jsonl" in report.write(folder).read_text()


def test_places_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is no directory"):
        report.write(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no experiment\.json in .* run `kdvr experiment run NAME --out"):
        report.write(tmp_path)
    folder = write(tmp_path / "e", record("e"), [])
    with pytest.raises(FileNotFoundError, match="choose another place for the page"):
        report.write(folder, tmp_path / "no" / "page.html")
    with pytest.raises(OSError, match="other"):
        report.write(folder, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "other"]


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path) -> None:
    folder, page = write(tmp_path / "e", record("e"), []), tmp_path / "page.html"
    result = CliRunner().invoke(cli.app, ["report", str(tmp_path), "--output", str(page)])
    assert result.exit_code == 0 and result.stdout == f"report written to {page.resolve()}\n" and page.exists()
    assert CliRunner().invoke(cli.app, ["report", str(folder)]).exit_code == 0 and (folder / "report.html").exists()
    assert isinstance(CliRunner().invoke(cli.app, ["report", str(tmp_path / "x")]).exception, FileNotFoundError)
    assert CliRunner().invoke(cli.app, ["report"]).exit_code == 2


def test_importing_the_package_does_not_load_the_report() -> None:
    code = "import sys, kdvr_fast, kdvr_fast.cli; sys.exit('kdvr_fast.report' in sys.modules)"
    root = Path(kd.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
