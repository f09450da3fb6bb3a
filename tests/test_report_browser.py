"""The report's page in a real browser: it draws, reads, fits a phone, and complains of nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from experiment_folder import figure, record, write
from test_report import embedded, ended, nasty

from kdvr_fast import report

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"no browser: none of {', '.join(browser.NAMES)} is installed")
DESKTOP, PHONE = 1280, 375

# For every figure: how many strokes and marks it has that a reader would see.
VISIBLE = """[...document.querySelectorAll('[data-figure]')].map((home) => {
  const frame = home.getBoundingClientRect();
  return [...home.querySelectorAll('.mean, .mark, .theory, .whisker')].filter((node) => {
    if (!node.closest('.plot')) return false;
    const style = getComputedStyle(node), box = node.getBoundingClientRect();
    const paint = node.matches('.mark') ? style.fill : style.stroke;
    return paint !== 'none' && paint !== getComputedStyle(home.closest('figure')).backgroundColor && box.width + box.height > 3
      && box.left >= frame.left - 8 && box.right <= frame.right + 8 && box.top >= frame.top && box.bottom <= frame.bottom;
  }).length;
})"""
OVERFLOW = "document.scrollingElement.scrollWidth - innerWidth"
TIPS = "[...document.querySelectorAll('.tip:not([hidden])')].map((tip) => tip.innerText)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    assert PROGRAM is not None
    opened = browser.Browser(PROGRAM, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(experiments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two experiments with real runs, and of one that is hard to show."""
    out = Path(shutil.copytree(experiments, tmp_path_factory.mktemp("page") / "out"))
    write(out / "hard", *hard())
    return report.write(out)


def hard() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Zero on a log axis, words along an axis, many lines, values below 0 on a log axis, a wide table, a long command."""
    lams = [lam / 10 for lam in range(11)]
    rows = [
        ended(seed, lam=lam, error=0.1 + lam + 0.02 * seed, scale=lam**4, method=f"m{lam:g}") for lam in lams for seed in (0, 1)
    ]
    rows += [
        {"run": f"c{lam}", "seed": 0, "lam": lam, "epoch": e, "loss": lam + 1 / e - 0.3} for lam in lams for e in range(1, 30)
    ]
    figures = [
        figure("zero", "sweep", "scale", "error", log_x=True, log_y=True),
        figure("words", "sweep", "method", "error"),
        figure("many", "curve", "epoch", "loss", log_y=True, series=["lam"]),
    ]
    table = {"title": "wide", "columns": [f"column {i}" for i in range(20)], "rows": [[1 / (i + 1) for i in range(20)]] * 40}
    facts = record("hard", figures=figures, tables=[table], command="kdvr experiment run hard " + "--data /some/where " * 20)
    facts["lines"] = [{"figure": "zero", "label": "theory", "panel": None, "points": [[0, 50.0], [1, 1.0]]}]
    return facts | {"settings": {"a_name_without_any_place_to_break_it" * 3: "x" * 300}}, rows


@pytest.mark.parametrize("width", [DESKTOP, 768, PHONE])
@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_is_drawn_and_nothing_overflows(tab: browser.Browser, page: Path, width: int, dark: bool) -> None:
    tab.open(page, width, dark=dark)
    visible = tab.ask(VISIBLE)
    assert len(visible) == 6 and all(count >= 4 for count in visible), visible
    assert tab.ask(OVERFLOW) <= 0
    assert tab.complaints == [] and tab.requests == [page.resolve().as_uri()]


def test_only_tables_and_the_command_scroll_by_themselves(tab: browser.Browser, page: Path) -> None:
    tab.open(page, PHONE)
    wide = "[...document.querySelectorAll('body *')].filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1"
    wide += " && getComputedStyle(e).overflowX !== 'visible').map((e) => e.className || e.tagName)"
    assert set(tab.ask(wide)) == {"scroll", "PRE"}
    sizes = "[...document.querySelectorAll('p, li, td, dd, button, .plot text')].map((e) => getComputedStyle(e).fontSize)"
    assert min(float(size.removesuffix("px")) for size in tab.ask(sizes)) >= 12


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_both_schemes(tab: browser.Browser, page: Path, dark: bool) -> None:
    tab.open(page, dark=dark)
    channels = "((c) => c.match(/[\\d.]+/g).slice(0, 3).map(Number))"
    ground = tab.ask(f"{channels}(getComputedStyle(document.body).backgroundColor)")
    assert (sum(ground) < 200) == dark
    for selector in ("h2", ".question", ".claim p", "dt", ".notice, .badge", ".legend button", "a"):
        ink = tab.ask(f"{channels}(getComputedStyle(document.querySelector('{selector}')).color)")
        light, dim = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dim + 0.05) >= 4.5, selector


def luminance(rgb: list[float]) -> float:
    """WCAG 2's relative luminance."""
    r, g, b = ((c / 255) / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def middle(tab: browser.Browser, at: int) -> tuple[float, float]:
    """The middle of panel `at` on the screen."""
    script = "((p) => { p.scrollIntoView({ block: 'center', behavior: 'instant' });"
    script += (
        " const r = p.querySelector('svg.plot').getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })"
    )
    x, y = tab.ask(f"{script}(document.querySelectorAll('.panel')[{at}])")
    return x, y


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_pointing_reads_the_values(tab: browser.Browser, page: Path, width: int) -> None:
    tab.open(page, width)
    x, y = middle(tab, 0)
    tab.point(x, y)
    (tip,) = tab.ask(TIPS)
    shown = embedded(page)[0]
    epoch = int(tip.splitlines()[0].split()[1])
    assert 6 <= epoch <= 10 and len(tip.splitlines()) == 5
    for series in shown["panels"][0]["series"]:
        _, value, half, _ = next(point for point in series["points"] if point[0] == epoch)
        line = next(line for line in tip.splitlines() if shown["series"][series["at"]]["label"] in line)
        read, spread = line.split("\t")[-1].split(" ± ")
        assert float(read) == pytest.approx(value, rel=1e-3) and float(spread) == pytest.approx(half, rel=0.05)
    inside = "((tip, home) => tip.left >= home.left - 1 && tip.right <= home.right + 1)(...['.tip:not([hidden])', 'figure']"
    assert tab.ask(f"{inside}.map((name) => document.querySelector(name).getBoundingClientRect()))")
    assert tab.ask(OVERFLOW) <= 0
    tab.point(2, 2)
    assert tab.ask(TIPS) == []


def test_a_sweep_reads_ratios_and_theory(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    last = tab.ask("document.querySelectorAll('.panel').length") - 1
    x, y = middle(tab, last)
    tab.point(x, y)
    (tip,) = tab.ask(TIPS)
    assert "oracle, learning rate 0.01" in tip and tip.count("of lam 0") == 2


def test_theory_is_read_between_its_points(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    tab.ask("document.querySelector('[data-figure=\"2\"] .panel').focus()")
    for _ in range(9):
        tab.press("ArrowRight")
    lines = tab.ask(TIPS)[0].splitlines()
    assert lines[0] == "scale 0.4096" and f"theory\t{50 - 49 * 0.4096:.4g}" in [line.strip() for line in lines]


def test_bands_that_near_0_go_by_a_factor_on_a_log_axis(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    home = "document.querySelector('[data-figure=\"2\"]')"
    note = f"{home}.querySelector('.aside').textContent"
    assert "same factor" in tab.ask(note)
    band = tab.ask(f"{home}.querySelector('.band').getAttribute('d')").strip("MZ").split("L")
    mark = tab.ask(f"{home}.querySelector('.plot .mark').getAttribute('transform')")
    upper, lower, mean = (float(text.split()[1].rstrip(")")) for text in (band[0], band[-1], mark))
    assert mean - upper == pytest.approx(lower - mean, abs=0.3) and mean - upper > 10
    tab.ask(f"{home}.querySelector('.axes button').click()")
    assert tab.ask(note) == ""


def test_the_keyboard_reads_the_values(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    tab.ask("document.querySelector('.panel').focus()")
    tab.press("ArrowRight")
    assert tab.ask(TIPS)[0].startswith("epoch 1\n")
    tab.press("End")
    assert tab.ask(TIPS)[0].startswith("epoch 15\n")
    tab.press("ArrowLeft")
    assert tab.ask("document.getElementById('spoken').textContent").startswith("epoch 14; lam")
    tab.press("Escape")
    assert tab.ask(TIPS) == []


def test_the_legend_shows_and_hides_lines_and_the_axes_follow(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    home = "document.querySelector('[data-figure=\"0\"]')"
    lines = f"[...{home}.querySelectorAll('.panel:first-child [data-item]')].map((g) => g.dataset.item)"
    shape = f"{home}.querySelector('.panel:first-child .mean').getAttribute('d')"

    def press(name: str) -> None:
        tab.ask(f"[...{home}.querySelectorAll('button')].find((b) => b.innerText.includes('{name}')).click()")

    names = ["lam 0 (SGD)", "lam 0.3", "lam 0.6", "lam 0.9"]
    assert tab.ask(lines) == names
    for switch in ("lam 0.9", "log objective", "same scale", "second half"):
        before = tab.ask(shape)
        press(switch)
        assert tab.ask(shape) != before, switch
    assert tab.ask(shape).count("L") == 7  # the epochs 8 to 15
    assert tab.ask(lines) == names[:3] and tab.ask(f"{home}.querySelectorAll('[aria-pressed=false] svg').length") == 1
    for name in names[:3]:
        press(name)
    assert "nothing is shown" in tab.ask(f"{home}.innerText")
    press("lam 0.9")
    assert tab.ask(lines) == ["lam 0.9"] and tab.complaints == []


def test_values_of_0_or_less_are_counted_on_a_log_axis(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    notes = tab.ask("[...document.querySelectorAll('.aside')].map((p) => p.textContent)")
    losses = [point[1] for series in embedded(page)[4]["panels"][0]["series"] for point in series["points"]]
    assert notes[4].endswith(f": {sum(loss <= 0 for loss in losses)}.") and notes[0] == ""


def test_zero_has_its_place_left_of_a_log_axis(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    ticks = "[...document.querySelectorAll('[data-figure=\"2\"] .plot text')].map((t) => t.textContent)"
    assert "0" in tab.ask(ticks) and "scale (log scale)" in tab.ask(ticks)
    marks = tab.ask("[...document.querySelectorAll('[data-figure=\"2\"] .plot .mark')].map((m) => m.getBoundingClientRect().x)")
    assert len(marks) == 11 and marks == sorted(marks) and marks[1] - marks[0] > 20


def test_values_can_be_read_as_a_table(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    tab.ask("document.querySelector('details').open = true")
    tab.wait("document.querySelector('details table')")
    rows = tab.ask("[...document.querySelectorAll('details table tr')].map((r) => [...r.cells].map((c) => c.innerText))")
    assert rows[0] == ["panel", "line", "epoch", "objective", "± 95 %", "seeds"]
    assert len(rows) == 1 + 2 * 4 * 15 and rows[1][:3] == ["teacher of 1 epoch", "lam 0 (SGD)", "1"] and rows[1][5] == "3"


def test_the_command_is_copied(tab: browser.Browser, page: Path) -> None:
    tab.open(page)
    tab.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    script = "((b) => { b.scrollIntoView({ block: 'center', behavior: 'instant' }); const r = b.getBoundingClientRect();"
    x, y = tab.ask(f"{script} return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector('.copy'))")
    tab.point(x, y, click=True)
    tab.wait("document.querySelector('.copy').textContent === 'Copied'")
    assert tab.ask("navigator.clipboard.readText()") == "kdvr experiment run digits --seeds 3 --quick"


def test_print_is_light_and_without_controls(tab: browser.Browser, page: Path, tmp_path: Path) -> None:
    tab.open(page, dark=True)
    tab.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.ask("getComputedStyle(document.querySelector('.copy')).display") == "none"
    assert tab.pdf(tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    tab.call("Emulation.setEmulatedMedia", media="")


def test_text_from_files_is_never_run(tab: browser.Browser, tmp_path: Path) -> None:
    tab.open(report.write(nasty(tmp_path / "e")), PHONE)
    assert tab.complaints == [] and len(tab.requests) == 1 and tab.ask(OVERFLOW) <= 0
    assert tab.ask("document.querySelector('h2').textContent").startswith('</script><script>alert("x")</script><img')
    assert tab.ask("document.querySelectorAll('img, body > script').length") == 4  # data, and the three of the page
    tab.ask("document.body.append(Object.assign(document.createElement('script'), { text: 'window.run = 1' }))")
    assert tab.ask("window.run") is None  # the page's policy knows its own scripts alone
    tab.point(*middle(tab, 0))
    assert "<img" in tab.ask(TIPS)[0]
