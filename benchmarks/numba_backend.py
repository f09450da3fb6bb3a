"""The numba backend: the first run of a process, and the warm rate beside native's on 10,000 x 784, 10 classes, float32."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import kdvr_fast
from kdvr_fast.backends import backend_status, get_backend
from kdvr_fast.backends.base import ControlVariate, Problem, Step
from kdvr_fast.losses import LOSSES

from .problems import best_rate, synthetic

_FIRST_RUN = """
import numpy as np, kdvr_fast as kd
kd.solve(np.eye(4, dtype=np.float32), np.arange(4) % 2, loss="softmax", epochs=1, batch_size=1, backend="numba")
"""


def _skip_without_numba() -> None:
    reason = backend_status()["numba"]
    if reason is not None:
        raise NotImplementedError(reason)


class ColdStart:
    """A process that fits four rows: with an empty cache, where kernels are compiled, and with a full one."""

    params = (["empty cache", "full cache"],)
    param_names = ("kernels",)
    number, repeat, timeout = 1, (1, 2, 60.0), 300.0

    def setup(self, kernels: str) -> None:
        _skip_without_numba()
        self.folder = tempfile.TemporaryDirectory()
        if kernels == "full cache":
            self._run()

    def teardown(self, kernels: str) -> None:
        self.folder.cleanup()

    def time_first_run(self, kernels: str) -> None:
        self._run()

    def _run(self) -> None:
        # asv takes PYTHONPATH away, and the package may be read from the tree
        environment = {
            **os.environ,
            "NUMBA_CACHE_DIR": self.folder.name,
            "PYTHONPATH": str(Path(kdvr_fast.__file__).parents[1]),
        }
        subprocess.run([sys.executable, "-c", _FIRST_RUN], env=environment, check=True)


class Warm:
    """Rows a second of an epoch of distillation from stored residuals, statistics on, one thread."""

    params = (["native", "numba"],)
    param_names = ("backend",)
    timeout = 300.0

    def setup(self, backend: str) -> None:
        _skip_without_numba()
        data = synthetic(10_000, 784, 10)
        self.session = get_backend(backend).open(Problem(data.X, data.targets, LOSSES["softmax"], 10), 1)
        self.session.anchor_at(*data.teacher.theta(data.X.dtype), cached=True, mean=False)
        self.order = np.random.default_rng(0).permutation(10_000)

    def track_rows_per_second(self, backend: str) -> float:
        step, variate = Step(batch_size=10, pairs_every=4), ControlVariate(0.7, "table")
        return best_rate(10_000, lambda: self.session.epoch(self.order, np.array([1e-3]), step, variate))

    track_rows_per_second.unit = "rows/s"  # type: ignore[attr-defined]
