"""Carries an experiment out: OUT/NAME/ with experiment.json, runs.jsonl (filled as runs end) and the figures as SVG.

experiment.json is written at the start and at the end, each time as a whole.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import datetime, timezone
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

from .. import _validation as check
from .._system import system_info
from .._threads import usable_threads
from ._experiment import Experiment, Row
from ._figures import draw
from ._processes import perform

FORMAT = 1
Watch = Callable[[int, int], None]  # runs done, runs in all


def execute(
    experiment: Experiment,
    out: str | Path,
    seeds: int = 3,
    quick: bool = False,
    data: str | Path | None = None,
    jobs: int | None = None,
    watch: Watch = lambda done, total: None,
) -> dict[str, Any]:
    """Run it and return what experiment.json holds; see `kdvr_fast.experiments.run`."""
    reason = experiment.unavailable()
    if reason is not None:
        raise RuntimeError(f"{experiment.name}: {reason}")
    check.count(seeds, "seeds", low=1)
    jobs = usable_threads() if jobs is None else check.count(jobs, "jobs", low=1)
    if quick and data is not None:
        raise ValueError("quick runs on data that every installation has: leave out data (--data), or quick")
    settings = experiment.configure(quick, None if data is None else Path(data))
    runs, folder = experiment.runs(settings), Path(out) / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    _remove_figures(folder)
    record = _record(experiment, settings, seeds, quick, data)
    _write(folder / "experiment.json", record)
    rows: list[Row] = []
    start, done, total = perf_counter(), 0, len(runs) * seeds
    record["status"] = "failed"
    try:
        watch(done, total)
        results = perform(experiment.work, settings, runs, range(seeds), jobs)
        with closing(results), (folder / "runs.jsonl").open("w", encoding="utf-8") as log:
            for made in results:
                log.writelines(_line(row) for row in made)
                log.flush()
                rows += made
                done += 1
                watch(done, total)
        record |= experiment.read(settings, rows).plain() | {"status": "completed"}
    except KeyboardInterrupt:
        record["status"] = "interrupted"
        record["reading"] = [f"Interrupted after {done} of {total} runs: the figures show those, and there is no reading."]
    finally:
        record["seconds"] = round(perf_counter() - start, 3)
        _write(folder / "experiment.json", record)
    draw(record, rows, folder)
    return record


def _record(experiment: Experiment, settings: Row, seeds: int, quick: bool, data: str | Path | None) -> dict[str, Any]:
    command = ["kdvr", "experiment", "run", experiment.name, "--seeds", str(seeds)]
    command += ["--quick"] if quick else []
    command += ["--data", str(data)] if data is not None else []
    machine = system_info()
    return {
        "format": FORMAT,
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "claim": experiment.claim,
        "settings": settings,
        "quick": quick,
        "seeds": list(range(seeds)),
        "command": shlex.join(command),
        "machine": machine,
        "versions": {"kdvr_fast": machine["version"], **{name: machine[name] for name in ("numpy", "scipy", "python")}},
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": None,
        "status": "running",
        "reading": [],
        "figures": [asdict(figure) | {"series": list(figure.series)} for figure in experiment.figures],
        "lines": [],
        "tables": [],
    }


def _line(row: Row) -> str:
    """A row as runs.jsonl has it."""
    wrong = [f"{name} is {value}" for name, value in row.items() if isinstance(value, float) and not isfinite(value)]
    if wrong:
        raise ValueError(f"run {row['run']}, seed {row['seed']}: {', '.join(wrong)}; a row holds finite numbers alone")
    return json.dumps(row, allow_nan=False) + "\n"


def _remove_figures(folder: Path) -> None:
    """Those of an earlier run, which an interrupted one might not draw anew."""
    try:
        earlier = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["figures"]
        names = [Path(figure["id"]).name for figure in earlier]
    except (OSError, ValueError, KeyError, TypeError):  # there was none
        return
    for name in names:
        (folder / f"{name}.svg").unlink(missing_ok=True)


def _write(path: Path, record: dict[str, Any]) -> None:
    draft = path.with_suffix(".json.tmp")
    draft.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, path)
