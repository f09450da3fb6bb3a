"""The command line: what goes to standard output and what to standard error, exit codes, and the demonstration's figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from test_data import write_mnist
from typer.testing import CliRunner

import kdvr_fast as kd
from kdvr_fast import cli, demo
from kdvr_fast.data import load_digits, load_mnist

BACKEND = "auto" if kd.backend_status()["native"] is None else "reference"
DEMO = ["demo", "--backend", BACKEND]
LABELS = ("SGD", "KD 0.7", "unbiased KD 1.0", "SVRG")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_version() -> None:
    assert run("--version") == (0, f"kdvr_fast {kd.__version__}\n", "")


def test_info_json_says_what_the_package_says() -> None:
    code, out, _ = run("info", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["version"] == kd.__version__ and facts["backends"] == kd.backend_status()
    assert facts["numpy"] == np.__version__
    assert (facts["isa"] is None) == (kd.backend_status()["native"] is not None)
    if facts["isa"] is not None:
        assert facts["isa"] in facts["isa_available"]


def test_info_gives_the_reason_of_an_unavailable_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdvr_fast.backends.backend_status", lambda: {"native": "no [such] compiler", "reference": None})
    code, out, _ = run("info")
    assert code == 0 and "unavailable: no [such] compiler" in out and "none: no native backend" in out


@pytest.mark.parametrize(("command", "words"), [((), ("demo", "info")), (("demo",), ("--data", "--epochs", "Example:"))])
def test_help(command: tuple[str, ...], words: tuple[str, ...]) -> None:
    code, out, _ = run(*command, "--help")
    assert code == 0
    for word in words:
        assert word in out


def test_demo_prints_the_table_and_writes_the_plot(tmp_path: Path) -> None:
    picture = tmp_path / "plot.png"
    code, out, err = run(*DEMO, "--epochs", "2", "--out", str(picture))
    assert code == 0
    for label in LABELS:
        assert label in out
    assert picture.read_bytes().startswith(b"\x89PNG") and str(picture.resolve()) in out.replace("\n", "")
    assert "epochs" in err and "10/10" in err


def test_demo_reads_mnist_files(tmp_path: Path) -> None:
    write_mnist(tmp_path, n=40)
    code, out, _ = run(*DEMO, "--data", str(tmp_path), "--epochs", "1", "--out", str(tmp_path / "p.png"))
    assert code == 0 and "40 x 20 float32" in out.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "nowhere"), "nowhere: no such directory"),
        (("--backend", "quantum"), "backend='quantum' is unknown"),
        (("--epochs", "1", "--backend", BACKEND, "--out", "plot.docx"), "docx"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["kdvr", "demo", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_interrupt_prints_what_was_reached_and_exits_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def impatient(runs: int, epochs: int) -> Iterator[demo.Watch]:
        def watch(label: str, epoch: int, epochs: int) -> None:
            if label == "KD 0.7" and epoch == 2:
                raise KeyboardInterrupt

        yield watch

    monkeypatch.setattr(cli, "_progress", impatient)
    with pytest.warns(RuntimeWarning, match="interrupt"):
        code, out, err = run(*DEMO, "--epochs", "3", "--out", str(tmp_path / "p.png"))
    assert code == 130 and "interrupted" in err
    assert "SGD" in out and "KD 0.7" in out and "SVRG" not in out
    assert (tmp_path / "p.png").exists()


def test_interrupt_outside_a_run_exits_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_optimum", stop)
    assert run(*DEMO, "--epochs", "1")[0] == 130


def test_the_demo_shows_what_it_claims() -> None:
    """At the default settings SGD sits on a floor, KD on a lower one, and the unbiased forms lower still; f* is a minimum."""
    report = demo.run_demo(load_digits(), demo.Settings(backend=BACKEND))
    sgd, distilled, unbiased, svrg = report.rows
    assert tuple(row.label for row in report.rows) == LABELS and not report.interrupted
    assert unbiased.gap < 0.3 * distilled.gap < 0.15 * sgd.gap and svrg.gap < 0.1 * sgd.gap
    assert min(row.gaps.min() for row in report.rows) > 0 and report.teacher_gap > 0
    assert sgd.ratio == 1.0 and unbiased.ratio == unbiased.gap / sgd.gap
    assert sgd.grad_evals[-1] == 60 and svrg.grad_evals[-1] == 120
    assert all(row.accuracy > 0.9 and row.rows_per_second > 0 for row in report.rows)


def test_the_optimum_is_reached_in_float32_too(tmp_path: Path) -> None:
    """float32 rows move f* by rounding alone: a few eps of the objective, whatever the path L-BFGS took."""
    write_mnist(tmp_path, n=60)
    values = []
    for dtype in (np.float32, np.float64):
        settings = demo.Settings(epochs=1, alpha=1e-2, backend=BACKEND)
        values.append(demo.run_demo(load_mnist(tmp_path, dtype), settings).optimum)
    assert values[0] == pytest.approx(values[1], rel=30 * float(np.finfo(np.float32).eps))


@pytest.mark.parametrize(("name", "message"), [("no/such/place/plot.png", "is no directory"), ("plot.xyz", "ends in one of")])
def test_a_plot_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr("kdvr_fast.demo.run_demo", lambda *_: pytest.fail("it trained first"))
    result = CliRunner().invoke(cli.app, ["demo", "--out", str(tmp_path / name)])
    assert message in str(result.exception)


def test_info_shows_a_forced_instruction_set_that_is_not_there() -> None:
    root = Path(kd.__file__).parents[1]
    code = "import sys; from kdvr_fast.cli import main; sys.argv = ['kdvr', 'info', '--json']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, "KDVR_ISA": "mmx"}, capture_output=True, text=True
    )
    assert "KDVR_ISA=mmx is not available" in json.loads(done.stdout)["backends"]["native"], done.stderr
