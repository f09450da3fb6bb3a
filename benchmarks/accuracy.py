"""Time to accuracy: from zero weights to a gradient of 1e-3 or 1e-6 times its first size, on the stated objective."""

from __future__ import annotations

import inspect
from typing import Any

import kdvr_fast as kd

from .problems import synthetic

METHODS: dict[str, dict[str, Any]] = {
    "LBFGS": {},
    "SVRG": {"learning_rate": "auto", "batch_size": 10, "epochs": 100, "random_state": 0},
}


class Converge:
    """`solve(..., tol=)`: skipped in versions without the method or without `tol`."""

    params = (list(METHODS), [1e-3, 1e-6])
    param_names = ("method", "tol")

    def setup(self, method: str, tol: float) -> None:
        if "tol" not in inspect.signature(kd.solve).parameters:
            raise NotImplementedError("this version has no tol")
        if not hasattr(kd, method):
            raise NotImplementedError(f"this version has no {method}")
        self.data = synthetic(5_000, 64, 10, "float64")

    def time_to_tolerance(self, method: str, tol: float) -> None:
        kd.solve(self.data.X, self.data.y, loss="softmax", alpha=1e-2, method=getattr(kd, method)(), tol=tol, **METHODS[method])
