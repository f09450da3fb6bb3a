"""How an experiment is carried out: interrupts, workers, failures, what is written when, and what is left of an earlier run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_examples import needs_native
from test_experiments import SMALL, read_rows, small

from kdvr_fast import experiments, report
from kdvr_fast.experiments import _weights
from kdvr_fast.experiments._experiment import Line, Reading, Table
from kdvr_fast.experiments._runner import execute

pytestmark = needs_native

END = {"final": True, "gap": 1.0, "teacher_epochs": 5}


def test_an_interrupt_keeps_the_runs_that_ended(tmp_path):
    """In the middle of the fourth run: solve itself would have returned what it has."""
    calls = []

    def work(settings, run, seed):
        calls.append(run)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return _weights.work(settings, run, seed)

    record = execute(replace(small("e4", **SMALL["e4"]), work=work), tmp_path, seeds=2, quick=True, jobs=1)
    assert record["status"] == "interrupted" and record["reading"] == [
        "Interrupted after 3 of 12 runs: the figures show those, and there is no reading."
    ]
    assert json.loads((tmp_path / "e4" / "experiment.json").read_text()) == record
    assert sum(row.get("final", False) for row in read_rows(tmp_path / "e4")) == 3
    assert (tmp_path / "e4" / "gap_by_lam.svg").exists()


def test_an_interrupt_inside_training_ends_the_experiment(tmp_path, monkeypatch):
    def interrupt(*order):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdvr_fast._walk.shuffled_rows", interrupt)
    record = execute(small("e4", **SMALL["e4"]), tmp_path, seeds=1, quick=True, jobs=1)
    assert record["status"] == "interrupted" and read_rows(tmp_path / "e4") == []


ENDLESS = """
import os, signal, sys
from pathlib import Path
from dataclasses import replace
from importlib.util import find_spec
from kdvr_fast.experiments import _runner, e1, scale

def work(s, run, seed):
    Path(sys.argv[1], str(os.getpid())).touch()
    if run["lam"] == 1:  # one pass
        big = scale.configure(True, None) | {"rows": [10**11]}
        return list(scale.work(big, scale.runs(big)[-1], seed))
    return list(e1.work(s | {"epochs": 50 if run["lam"] == 0 else 10**8}, run, seed))

def interrupt(done, total):
    if done == 2:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background inherits "ignore"
    s = e1.configure(True, None) | {"lams": [0.0, 0.5, 1.0], "learning_rates": [0.05], "teacher_distances": [0.03]}
    experiment = replace(e1.EXPERIMENT, configure=lambda quick, data: s, work=work)
    record = _runner.execute(experiment, sys.argv[1], 1, True, None, 3, interrupt)
    print(record["status"], record["reading"][0])
"""


def test_an_interrupt_ends_workers_in_the_middle_of_their_runs(tmp_path):
    done = endless(tmp_path, "SIGINT")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("interrupted Interrupted after 2 of 6 runs") and "Traceback" not in done.stderr


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    assert endless(tmp_path, "SIGKILL").returncode == -signal.SIGKILL
    workers = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    deadline = time.monotonic() + 30
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = list(filter(runs, workers))
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert workers and not left


def endless(folder, name):
    """Six runs, four without an end; a signal to the parent alone after two."""
    (folder / "script.py").write_text(ENDLESS)
    command = [sys.executable, str(folder / "script.py"), str(folder), name]
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if name == "SIGKILL" else subprocess.PIPE,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(experiments.__file__).parents[2])},  # of the package under test
    )


def runs(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_failing_run_leaves_its_mark(tmp_path):
    def work(settings, run, seed):
        raise ArithmeticError("no such luck")

    with pytest.raises(ArithmeticError, match="no such luck"):
        execute(replace(small("e4", **SMALL["e4"]), work=work), tmp_path, seeds=1, quick=True, jobs=1)
    assert json.loads((tmp_path / "e4" / "experiment.json").read_text())["status"] == "failed"


def test_numbers_that_are_none_do_not_spoil_the_record(tmp_path):
    """A reading's become null, which the report shows; a run's are an error that names it."""

    def read(s, rows):
        table = Table("t", ["a", "b"], [[math.nan, "x"], [1.5, math.inf]])
        return Reading(["done"], [table], [Line("gap_by_lam", "theory", [[0.0, math.nan], [1.0, 2.0]])])

    experiment = replace(small("e4", **SMALL["e4"]), work=lambda s, run, seed: [END | run], read=read)
    record = execute(experiment, tmp_path, seeds=1, quick=True, jobs=1)
    assert json.loads((tmp_path / "e4" / "experiment.json").read_text()) == record and record["status"] == "completed"
    assert record["tables"][0]["rows"] == [[None, "x"], [1.5, None]] and record["lines"][0]["points"] == [[0, None], [1, 2]]
    assert "–" in report.write(tmp_path).read_text() and (tmp_path / "e4" / "gap_by_lam.svg").exists()

    experiment = replace(experiment, work=lambda s, run, seed: [END | {"gap": math.nan}])
    with pytest.raises(ValueError, match=r"run 0\.0, seed 0: gap is nan; a row holds finite numbers alone"):
        execute(experiment, tmp_path, seeds=1, quick=True, jobs=1)
    assert json.loads((tmp_path / "e4" / "experiment.json").read_text())["status"] == "failed"


def test_figures_of_an_earlier_run_are_gone(tmp_path):
    experiment = replace(small("e4", **SMALL["e4"]), work=lambda s, run, seed: [END | run], read=lambda s, rows: Reading(["r"]))
    execute(experiment, tmp_path, seeds=1, quick=True, jobs=1)
    (tmp_path / "e4" / "mine.svg").touch()
    assert (tmp_path / "e4" / "gap_by_lam.svg").exists()

    def stop(settings, run, seed):
        raise KeyboardInterrupt

    execute(replace(experiment, work=stop), tmp_path, seeds=1, quick=True, jobs=1)
    assert [path.name for path in (tmp_path / "e4").glob("*.svg")] == ["mine.svg"]
    (tmp_path / "e4" / "experiment.json").write_text("[]")
    execute(experiment, tmp_path, seeds=1, quick=True, jobs=1)
    assert (tmp_path / "e4" / "gap_by_lam.svg").exists()


def test_the_record_stands_at_the_start(tmp_path):
    seen = []

    def work(settings, run, seed):
        seen.append(json.loads((tmp_path / "e4" / "experiment.json").read_text()))
        assert len(read_rows(tmp_path / "e4")) == len(seen) - 1  # on disk as soon as a run has ended
        return [{"final": True, "gap": 1.0}]

    experiment = replace(small("e4", **SMALL["e4"]), work=work, read=lambda s, rows: Reading([f"{len(rows)} rows"]))
    record = execute(experiment, tmp_path, seeds=1, quick=True, jobs=1)
    assert seen[0]["status"] == "running" and seen[0]["seconds"] is None and record["reading"] == ["6 rows"]
