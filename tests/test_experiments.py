"""Experiments: the files they write, the same numbers from any number of processes, interrupts, and what e1 has to show."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_cli import run as run_cli
from test_examples import needs_native

from kdvr_fast import experiments, report
from kdvr_fast.experiments import _networks, _softmax, _weights, e1, e4
from kdvr_fast.experiments._experiment import Line, Reading, Table
from kdvr_fast.experiments._figures import interval
from kdvr_fast.experiments._runner import execute
from kdvr_fast.experiments._summary import versus

pytestmark = needs_native

TYPES = {
    "name": str,
    "title": str,
    "question": str,
    "claim": str,
    "settings": dict,
    "quick": bool,
    "seeds": list,
    "command": str,
    "machine": dict,
    "versions": dict,
    "started": str,
    "seconds": float,
    "reading": list,
    "figures": list,
    "lines": list,
    "tables": list,
}
WITHOUT_SGD = ("error_by_rows",)  # figures of what SGD has not
SYNTHETIC = ("e1", "e8", "scale")  # they make their own data
MEASURED = ("seconds", "rows_per_second", "peak_mib")  # columns that no seed fixes


def small(name, **settings):
    """An experiment of the same kind with fewer and shorter runs."""
    experiment = experiments.get(name)
    found = experiment.configure(True, None)
    for key, value in settings.items():
        found[key] = found[key] | value if isinstance(value, dict) else value
    return replace(experiment, configure=lambda quick, data: found)


SMALL = {
    "e1": {"epochs": 100, "learning_rates": [0.05], "teacher_distances": [0.03, 0.3], "lams": [0.0, 0.5, 1.0]},
    "e2": {"epochs": 8, "checkpoints": [4], "lams": [0.0, 0.3, 1.0]},
    "e3": {"epochs": 4, "checkpoints": [1, 4], "teachers": [4], "lams": [0.0, 1.0]},
    "e4": {"epochs": 8, "checkpoints": [1, 4], "teachers": [1, 4], "lams": [0.0, 0.3, 1.0]},
    "e5": {"epochs": 8, "checkpoints": [5, 6], "teachers": [5, "the optimum"], "lams": [0.0, 1.0]},
    "e6": {"epochs": 8, "operators": ["none", "top half each step"], "lams": [0.0, 1.0]},
    "e7": {"epochs": 1, "lams": [0.0, 0.7], "sample": 20, "batch_size": 50},
    "e8": {"relaxations": 2, "depths": [2], "teacher_distances": [0.0, 0.1], "lams": [0.0, 1.0]},
    "e9": {"epochs": 8, "refreshes": [2], "lams": [0.0, 0.3, 1.0]},
    "auto": {
        "softmax": {"epochs": 4, "checkpoints": [4]},
        "probe": {"epochs": 4, "checkpoints": [4]},
        "least squares": {"epochs": 4, "rows": 200},
        "lams": [0.0, 1.0],
    },
    "scale": {"rows": [1000, 10000], "features": 10},
}


END = {"final": True, "gap": 1.0, "teacher_epochs": 5}


def read_rows(folder):
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
EACH = [pytest.param(name, marks=needs_torch if name == "e7" else ()) for name in SMALL]


def test_all_are_registered_and_small_here():
    assert experiments.names() == tuple(SMALL)
    for name in experiments.names():
        assert experiments.get(name).name == name


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no experiment 'e99'; there are e1, e2"):
        experiments.run("e99", tmp_path)


@pytest.mark.parametrize("name", EACH)
def test_files_are_as_described(name, tmp_path):
    """Types, status, every figure's columns in its rows, lam = 0 in every figure, a picture each."""
    told = []
    record = execute(small(name, **SMALL[name]), tmp_path, seeds=2, quick=True, jobs=1, watch=lambda *n: told.append(n))
    folder = tmp_path / name
    assert json.loads((folder / "experiment.json").read_text()) == record
    assert {key: type(record[key]) for key in TYPES} == TYPES
    assert record["format"] == 1 and record["status"] == "completed" and record["seeds"] == [0, 1] and record["quick"]
    assert record["command"] == f"kdvr experiment run {name} --seeds 2 --quick"
    assert set(record["versions"]) == {"kdvr_fast", "numpy", "scipy", "python"}
    assert record["reading"] and all(isinstance(sentence, str) for sentence in record["reading"])
    rows = read_rows(folder)
    ends = [row for row in rows if row.get("final")]
    runs = {row["run"] for row in rows}
    assert len(ends) == len(runs) and told == [(i, len(runs)) for i in range(len(runs) + 1)]
    assert all(("epoch" in row) != ("final" in row) and row["seed"] in (0, 1) for row in rows)
    for plain in record["figures"]:
        assert plain["kind"] in ("curve", "sweep") and (folder / f"{plain['id']}.svg").read_text().rstrip().endswith("</svg>")
        mark = "epoch" if plain["kind"] == "curve" else "final"
        shown = [row for row in rows if mark in row and plain["where"].items() <= row.items()]
        panel = [plain["panels"]] if plain["panels"] else []
        for column in (plain["x"], plain["y"], *plain["series"], *panel):
            assert all(column in row for row in shown), (plain["id"], column)
        assert shown and (plain["id"] in WITHOUT_SGD or any(row.get("lam") == 0 for row in shown))
        assert all(math.isfinite(row[plain["y"]]) for row in shown)
    ids = {plain["id"] for plain in record["figures"]}
    assert all(line["figure"] in ids and all(len(point) == 2 for point in line["points"]) for line in record["lines"])
    for table in record["tables"]:
        assert all(len(row) == len(table["columns"]) for row in table["rows"])


def test_e1_measures_what_the_oracle_says(tmp_path):
    experiment = small("e1", learning_rates=[0.05], teacher_distances=[0.1], lams=[0.0, 0.8, 1.0], epochs=1000)
    record = execute(experiment, tmp_path, seeds=3, quick=True, jobs=1)
    assert record["reading"][0].startswith("Measured error is within 5% of the exact one in all 6 cells")
    assert record["reading"][1].startswith("The best measured weight is within one step")
    best = {row[0]: row[2:4] for row in record["tables"][0]["rows"]}
    assert best == {"KD": [0.8, 0.8], "unbiased KD": [1.0, 1.0]}
    ends = read_rows(tmp_path / "e1")
    assert all(row["error_over_oracle"] == pytest.approx(1, abs=0.1) for row in ends)


def test_e1_says_so_when_the_oracle_is_missed(tmp_path, monkeypatch):
    exact = e1.oracle
    monkeypatch.setattr(e1, "oracle", lambda s, run: exact(s, run) * (1.2 if run["lam"] == 0.5 else 1.0))
    record = execute(small("e1", **SMALL["e1"]), tmp_path, seeds=1, quick=True, jobs=1)
    assert "NOT within 5%" in record["reading"][0] and "lam 0.5" in record["reading"][0]


def test_processes_do_not_change_the_numbers(tmp_path):
    """One process or two, and more seeds beside them."""
    found = []
    for jobs, seeds in ((1, 2), (2, 3)):
        execute(small("e4", **SMALL["e4"]), tmp_path / str(jobs), seeds=seeds, quick=True, jobs=jobs)
        rows = [row for row in read_rows(tmp_path / str(jobs) / "e4") if row["seed"] < 2]
        rows.sort(key=lambda row: (row["run"], row.get("epoch", 0)))
        found.append([{key: value for key, value in row.items() if key not in MEASURED} for row in rows])
    assert found[0] == found[1]
    seeds = {(row["lam"], row["teacher"], row["gap"]) for row in found[0] if row.get("final")}
    assert len(seeds) == 12  # and seeds differ


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


@pytest.mark.parametrize("name", [each for each in EACH if each.values[0] not in SYNTHETIC])
def test_full_runs_ask_for_their_data(name, tmp_path):
    with pytest.raises(ValueError, match=r"pass .*data \(--data\), or quick"):
        experiments.run(name, tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        experiments.run(name, tmp_path, data=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="leave out data"):
        experiments.run(name, tmp_path, data=tmp_path, quick=True)
    assert list(tmp_path.iterdir()) == []


def test_mnist_is_found_in_the_folder_or_below_it(tmp_path):
    assert _softmax.mnist_directory(tmp_path) == str(tmp_path)
    (tmp_path / "mnist").mkdir()
    assert _softmax.mnist_directory(tmp_path) == str(tmp_path / "mnist")
    assert e4.EXPERIMENT.configure(False, tmp_path)["directory"] == str(tmp_path / "mnist")


@needs_torch
def test_row_gradients_of_networks():
    """Their means are autograd's gradients of the two losses; for a linear network the two forms are one (Proposition 1)."""
    with _networks.one_thread(3) as torch:
        images, y = torch.rand(12, 1, 8, 8), torch.arange(12) % 10
        onehot = torch.nn.functional.one_hot(y, 10).float()
        for architecture in (*_networks.ARCHITECTURES, "linear"):
            model, teacher = (_networks.build(architecture, 8, 20, 10) for _ in range(2))
            soft = 0.4 * onehot + 0.6 * _networks.probabilities(teacher, images)
            rows = _networks.row_gradients(model, images, soft)
            torch.nn.functional.cross_entropy(model(images), soft).backward()
            whole = torch.cat([p.grad.ravel() for p in model.parameters()])
            assert torch.allclose(rows.mean(dim=0), whole, atol=1e-6)
            compared = _networks.compare(model, teacher, images, onehot, 0.6)
            if architecture == "linear":
                assert compared["cosine"] == pytest.approx(1, abs=1e-5)
                assert compared["standard_variance_ratio"] == pytest.approx(compared["shift_variance_ratio"], rel=1e-4)
            else:
                assert abs(compared["cosine"]) < 0.999
            assert _networks.compare(model, teacher, images, onehot, 0.0)["standard_variance_ratio"] == 1


def test_networks_without_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(_networks, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="e7: networks need torch, which is not installed: pip install torch"):
        experiments.run("e7", tmp_path, quick=True)
    monkeypatch.setattr("kdvr_fast.experiments.names", lambda: ("e7",))
    code, out, err = run_cli("experiment", "run", "all", "--quick", "--out", str(tmp_path))
    assert code == 0 and out == "" and err == "e7 skipped: networks need torch, which is not installed: pip install torch\n"


@pytest.mark.parametrize(("seeds", "jobs"), [(0, 1), (1, 0)])
def test_numbers_out_of_range(seeds, jobs, tmp_path):
    with pytest.raises(ValueError, match=r"seeds|jobs"):
        experiments.run("e1", tmp_path, seeds=seeds, quick=True, jobs=jobs)


def test_the_interval_is_students():
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert math.isnan(interval([1.0])[1])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.9, 1.9, 2.95], "below"),
        ([1.1, 2.12, 3.1], "above"),
        ([1.0, 2.0, 3.0], "the same as"),
        ([0.5, 2.6, 3.0], "not to be told from"),
    ],
)
def test_comparisons_are_of_the_same_seeds(values, words):
    assert versus(values, [1.0, 2.0, 3.0]) == words


def test_one_seed_proves_nothing():
    assert versus([1.0], [2.0]) == "below (of one seed)"


def test_command_line(tmp_path, monkeypatch):
    code, out, _ = run_cli("experiment", "list")
    assert code == 0 and all(f"{name}  {experiments.get(name).title}" in out for name in experiments.names())
    monkeypatch.setattr("kdvr_fast.experiments.e1.EXPERIMENT", small("e1", **SMALL["e1"]))
    monkeypatch.setattr("kdvr_fast.experiments.names", lambda: ("e1",))
    code, out, err = run_cli("experiment", "run", "all", "--quick", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path))
    assert code == 0 and "12/12 runs" in err
    assert out.startswith("e1: Least squares") and "- Measured error is" in out
    assert out.rstrip().endswith(f"written to {tmp_path / 'e1'}")


def test_command_line_exit_code_of_an_interrupt(tmp_path, monkeypatch):
    def stop(settings, run, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdvr_fast.experiments.e1.EXPERIMENT", replace(small("e1", **SMALL["e1"]), work=stop))
    code, out, _ = run_cli("experiment", "run", "e1", "--quick", "--jobs", "1", "--out", str(tmp_path))
    assert code == 130 and "(interrupted after" in out and "Interrupted after 0 of" in out


def test_importing_the_package_leaves_experiments_out():
    code = "import sys, kdvr_fast; print([m for m in sys.modules if 'experiments' in m or m == 'matplotlib'])"
    root = Path(experiments.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
