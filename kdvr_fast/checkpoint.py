"""Checkpoints of a run: all that it carries from one epoch to the next, in one file that is replaced in one step.

A run that goes on from its checkpoint ends with the bits of the run that was never cut: weights, momentum buffer, running
average, anchor and m, SAGA's table, the generator's state, the automatic weight, the criterion of `tol`, the history. What
follows from the call itself is not stored but made again: the teacher's outputs, and the residuals of a snapshot from its
weights, in one pass. The file names the run by its settings and by digests of data, teacher and initial weights: a call that
differs is refused. `_keeping.py` writes and reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from . import _store
from . import _validation as check

_KIND, _VERSION = "kdvr-checkpoint", 1


@dataclass(frozen=True)
class Checkpoint:
    """Where `solve` keeps a run, so that it can go on after a crash, to the last bit.

    path: the file; written before the first epoch, after every `every` epochs and after the last one. seconds: not more often
    than that, since an epoch may be shorter than a write to the disk (some 10 ms). resume: go on from the file if there is one.
    The call must then be the same: other data, settings or seeds are an error that names them. Only `epochs` may differ, down
    to those that were finished, and `random_state=None` takes the seed of the file. Data are told by their shape, a sample of
    their rows and, up to 16 MB, all targets, a schedule of your own by its class. On another instruction set
    ("native"), processor ("numba") or GPU ("cuda") the rest of the run is the same up to rounding, which a warning says.
    Not for `LBFGS`.

    Without `resume` an existing file is an error. Callbacks are not called again for the epochs of the file.

    >>> import tempfile
    >>> import numpy as np
    >>> import kdvr_fast as kd
    >>> X, y, path = np.eye(4), np.array([0, 1, 0, 1]), tempfile.mkdtemp() + "/run.kdvr"
    >>> task = {"loss": "softmax", "random_state": 0, "batch_size": 1, "momentum": 0.9}
    >>> half = kd.solve(X, y, epochs=3, checkpoint=kd.Checkpoint(path), **task)
    >>> rest = kd.solve(X, y, epochs=6, checkpoint=kd.Checkpoint(path, resume=True), **task)
    >>> bool((rest.coef == kd.solve(X, y, epochs=6, **task).coef).all()), len(rest.history)
    (True, 6)
    """

    path: str | Path
    every: int = 1
    seconds: float = 0.0
    resume: bool = False

    def __post_init__(self) -> None:
        check.count(self.every, "every", low=1)
        check.non_negative(self.seconds, "seconds")
        check.flag(self.resume, "resume")

    @property
    def file(self) -> Path:
        """The path."""
        return Path(self.path)

    def seed(self, random_state: Any) -> Any:
        """What to draw from: as given, or the seed of the file for None. Raises where a file is or is not in the way."""
        if not self.file.parent.is_dir():
            raise FileNotFoundError(f"checkpoint {self.file}: {self.file.parent} is no directory; make it first")
        if not self.file.exists():
            return random_state
        if not self.resume:
            raise FileExistsError(f"checkpoint {self.file} is there: pass resume=True to go on from it, or remove it")
        saved = self.read()[0]["run"]["seed"]
        return saved if random_state is None else random_state

    def read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Data and arrays of the file. Raises ValueError where it is damaged or something else."""
        return _store.read(self.file, _KIND, _VERSION)

    def write(self, data: dict[str, Any], arrays: _store.Arrays) -> None:
        """Replace the file."""
        _store.write(self.file, _KIND, _VERSION, data, arrays)
