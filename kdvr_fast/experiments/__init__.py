"""The paper's experiments, each a file of its own: `names` lists them, `run` carries one out and writes what it found.

To add one: a module here with an `EXPERIMENT`, and its name below. Source of the experiments: arXiv:2305.17581.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ._experiment import Experiment
from ._runner import Watch, execute

__all__ = ["Experiment", "Watch", "get", "names", "run"]

_NAMES = ("e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9", "auto", "scale")


def names() -> tuple[str, ...]:
    """The names of all experiments."""
    return _NAMES


def get(name: str) -> Experiment:
    """An experiment by name. Raises ValueError for a name that is unknown."""
    if name not in _NAMES:
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(_NAMES)}")
    experiment: Experiment = import_module(f".{name}", __name__).EXPERIMENT
    return experiment


def run(
    name: str,
    out: str | Path,
    seeds: int = 3,
    quick: bool = False,
    data: str | Path | None = None,
    jobs: int | None = None,
    watch: Watch = lambda done, total: None,
) -> dict[str, Any]:
    """Carry an experiment out and write it to the folder OUT/NAME, over what is there.

    Args:
        name: one of `names()`. out: a folder, made if need be.
        seeds: runs of each setting, with the seeds 0, 1, .. (of the order of rows and of the teacher's training).
        quick: smaller, and on data that every installation has.
        data: folder with the full data: mnist/ with the four IDX files (or the files themselves),
            embeddings/clinc150_minilm_l6_384d.npz. e1, e8 and scale make their own.
        jobs: processes, of one thread each; None: as many as the process may use. Above 1 the calling script needs
            ``if __name__ == "__main__":``. The numbers are the same for any value.
        watch: called with (runs done, runs in all).

    Returns:
        What OUT/NAME/experiment.json holds. After Ctrl-C its status is "interrupted", and the runs that had ended are kept.

    Raises:
        ValueError, FileNotFoundError: an unknown name, a number out of range, data that are missing.
        RuntimeError: what the experiment needs is not installed (e7: torch).

    Example:
        >>> from kdvr_fast import experiments
        >>> experiments.names()[0]
        'e1'
    """
    return execute(get(name), out, seeds, quick, data, jobs, watch)
