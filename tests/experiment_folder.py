"""A folder of two small experiments with real runs, written as the runner would write it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

import kdvr_fast as kd
from kdvr_fast import cli
from kdvr_fast.data import load_digits
from kdvr_fast.theory import LeastSquaresOracle

SEEDS = (0, 1, 2)
LAMS = (0.0, 0.3, 0.6, 0.9)
BACKEND = "auto" if kd.backend_status()["native"] is None else "reference"


def record(name: str, **fields: Any) -> dict[str, Any]:
    """An `experiment.json` with every field."""
    info = json.loads(CliRunner().invoke(cli.app, ["info", "--json"]).stdout)
    return {
        "format": 1,
        "name": name,
        "title": "an experiment",
        "question": "What does the teacher change?",
        "claim": "It lowers the noise floor.",
        "settings": {"batch_size": 10, "alpha": 1e-3, "schedule": None, "average": False},
        "quick": True,
        "seeds": list(SEEDS),
        "command": f"kdvr experiment run {name} --seeds {len(SEEDS)} --quick",
        "machine": info,
        "versions": {"kdvr_fast": info["version"], "numpy": info["numpy"], "scipy": info["scipy"], "python": info["python"]},
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 12.3,
        "status": "completed",
        "reading": [],
        "figures": [],
        "lines": [],
        "tables": [],
    } | fields


def figure(id: str, kind: str, x: str, y: str, **fields: Any) -> dict[str, Any]:
    """A figure with every field."""
    rest = {"log_x": False, "log_y": False, "series": [], "panels": None, "where": {}, "note": ""}
    return {"id": id, "title": f"{y} over {x}", "kind": kind, "x": x, "y": y} | rest | fields


def write(folder: Path, facts: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """The folder with both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_text(json.dumps(facts))
    (folder / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_all(out: Path) -> Path:
    """Both experiments below `out`."""
    write(out / "digits", *digits())
    write(out / "oracle", *oracle())
    return out


def digits() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Self-distillation on scikit-learn's digits: curves of four weights, one panel a teacher."""
    data = load_digits()
    rows = [row for seed in SEEDS for epochs in (1, 30) for row in _distilled(data.X, data.y, seed, epochs)]
    curve = figure("curves", "curve", "epoch", "objective", log_y=True, series=["lam"], panels="teacher")
    curve |= {"title": "Objective along training", "note": "Lower is better."}
    ends = figure("floor", "sweep", "lam", "objective", series=["teacher"], title="Objective at the end")
    means = {
        lam: np.mean([r["objective"] for r in rows if r.get("final") and r["lam"] == lam and "30" in r["teacher"]])
        for lam in LAMS
    }
    best = min(means, key=lambda lam: means[lam])
    return (
        record(
            "digits",
            title="A linear classifier learns from its own past",
            reading=[
                f"Best lam {best:g}: its objective is {means[best] / means[0.0]:.2f} of SGD's.",
                "A teacher of thirty epochs helps more than one of a single epoch.",
            ],
            figures=[curve, ends],
            tables=[
                {"title": "Objective by weight", "columns": ["lam", "objective"], "rows": [[lam, means[lam]] for lam in LAMS]}
            ],
        ),
        rows,
    )


def _distilled(X: Any, y: Any, seed: int, epochs: int) -> Iterator[dict[str, Any]]:
    common = dict(loss="softmax", batch_size=10, alpha=1e-3, backend=BACKEND, n_threads=1)
    learned = kd.solve(X, y, epochs=epochs, learning_rate=kd.Inverse(0.5, decay=0.2), random_state=100, **common)
    teacher = kd.Teacher.weights(learned.coef, learned.intercept)
    for lam in LAMS:
        method = kd.KD(lam=lam, teacher_alpha=1e-3)
        run = kd.solve(
            X, y, method=method, teacher=teacher, epochs=15, learning_rate=0.5, random_state=seed, track="objective", **common
        )
        columns = {
            "run": f"{epochs}-{lam}-{seed}",
            "seed": seed,
            "method": "KD",
            "lam": lam,
            "teacher": f"teacher of {epochs} epoch{'s' * (epochs > 1)}",
        }
        yield from (
            columns | {"epoch": int(row["epoch"]), "objective": row["objective"], "loss": row["loss"]} for row in run.history
        )
        yield columns | {"final": True, "objective": run.history["objective"][-1]}


def oracle() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Least squares against the exact stationary error, for two learning rates."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(100, 4))
    b = A @ np.ones(4) + rng.normal(size=100)
    theta = np.linalg.lstsq(A, b, rcond=None)[0] + 0.05
    rows, lines = [], []
    for rate in (0.01, 0.05):
        exact = [[lam, LeastSquaresOracle.solve(A, b, lam=lam, learning_rate=rate, theta=theta).error] for lam in LAMS]
        lines.append({"figure": "error", "label": f"oracle, learning rate {rate:g}", "panel": None, "points": exact})
        for seed in SEEDS:
            rows += [_measured(A, b, theta, rate, lam, seed) for lam in LAMS]
    error = figure("error", "sweep", "lam", "error", log_y=True, series=["learning_rate"], title="Stationary error")
    facts = record(
        "oracle",
        title="The stationary error against the exact one",
        reading=["Measured and exact errors agree."],
        figures=[error],
        lines=lines,
        tables=[{"title": "Where", "columns": ["rows", "features", "kind"], "rows": [[100, 4, "least squares"]]}],
    )
    return facts, rows


def _measured(A: Any, b: Any, theta: Any, rate: float, lam: float, seed: int) -> dict[str, Any]:
    start = np.linalg.lstsq(A, b, rcond=None)[0]
    weights: list[Any] = []
    kd.solve(
        A,
        b,
        loss="squared",
        method=kd.KD(lam=lam),
        teacher=kd.Teacher.weights(theta[None]),
        learning_rate=rate,
        batch_size=1,
        epochs=60,
        fit_intercept=False,
        sampling="replacement",
        coef_init=start[None],
        random_state=seed,
        backend=BACKEND,
        callbacks=[lambda progress: weights.append(progress.coef.copy())],
    )
    error = float(np.mean([np.sum((w[0] - start) ** 2) for w in weights[20:]]))
    return {"run": f"{rate}-{lam}-{seed}", "seed": seed, "lam": lam, "learning_rate": rate, "final": True, "error": error}
