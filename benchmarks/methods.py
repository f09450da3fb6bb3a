"""One epoch of each method through `solve`: 10,000 x 128, 10 classes, batch 10, float32."""

from __future__ import annotations

from typing import Any

import kdvr_fast as kd

from .problems import synthetic

METHODS: dict[str, Any] = {
    "SGD": kd.SGD(),
    "KD": kd.KD(lam=0.7),
    "KD T=2": kd.KD(lam=0.7, temperature=2.0),
    "UnbiasedKD": kd.UnbiasedKD(),
    "SVRG": kd.SVRG(),
    "LSVRG": kd.LSVRG(),
    "SAGA": kd.SAGA(),
}


class Epoch:
    """Time of two epochs, the set-up of the method (its passes and tables) included."""

    params = (list(METHODS),)
    param_names = ("method",)

    def setup(self, method: str) -> None:
        self.data = synthetic(10_000, 128, 10)

    def time_two_epochs(self, method: str) -> None:
        self._solve(METHODS[method])

    def _solve(self, method: Any, **options: Any) -> None:
        teacher = self.data.teacher if method.plan().teacher == "required" else None
        kd.solve(
            self.data.X, self.data.y, loss="softmax", method=method, teacher=teacher,
            learning_rate=0.01, batch_size=10, epochs=2, random_state=0, **options,
        )  # fmt: skip


class Options(Epoch):
    """What an option costs: KD with the teacher's logits on the fly, one option at a time."""

    OPTIONS: dict[str, dict[str, Any]] = {  # noqa: RUF012
        "plain": {},
        "no statistics": {"statistics": False},
        "momentum": {"momentum": 0.9},
        "l2": {"alpha": 1e-3},
        "l1": {"alpha": 1e-3, "l1_ratio": 1.0},
        "average": {"average": True},
    }
    params = (list(OPTIONS),)
    param_names = ("option",)

    def time_two_epochs(self, option: str) -> None:
        self._solve(kd.KD(lam=0.7), cache_anchor=False, **self.OPTIONS[option])
