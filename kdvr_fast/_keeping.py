"""A run to its checkpoint and back: see `checkpoint`."""

from __future__ import annotations

import warnings
from dataclasses import asdict, fields, replace
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._identity import identity
from .checkpoint import Checkpoint
from .history import COLUMNS
from .layer_statistics import LayerStats
from .statistics import GradientStats

if TYPE_CHECKING:
    from ._training import Run

_MACHINE = ("instruction set", "processor")  # of `identity`: what changes no more than roundings
_SESSION, _HISTORY, _ANCHOR, _STATS = "session.", "history", "anchor.", "stats."


class Keeper:
    """Writes and reads the checkpoint of one run, whose session and anchors are there."""

    def __init__(self, checkpoint: Checkpoint, run: Run) -> None:
        self.checkpoint, self.run = checkpoint, run
        self._identity = identity(run.job, run.backend.name)
        self._kept, self._when = -1, -inf

    def due(self) -> bool:
        """Whether the checkpoint is to be written at this epoch's end."""
        long_ago = perf_counter() - self._when >= self.checkpoint.seconds
        return long_ago and self.run.finished.epochs % self.checkpoint.every == 0

    def save(self) -> None:
        """Write the run as it stands at the end of an epoch."""
        run, done = self.run, self.run.finished
        if self._kept == done.epochs:
            return
        data: dict[str, Any] = {
            "run": self._identity,
            "epochs": done.epochs,
            "rng": _plain(run.job.rng.bit_generator.state),
            "cost": asdict(run.cost),
            "limit": run.limit,
            "rate": run.rate,
            "criterion": None if run.criterion is None else asdict(run.criterion),
            "weight": run.weight.state(),
            "anchor": {"source": run.anchors.source, "is_teacher": run.anchors.is_teacher},
            "columns": list(COLUMNS),
        }
        own = run.anchors.source != "none" and not run.anchors.is_teacher
        state = run.session.state(anchor=own, table=own and run.plan.update_table)
        arrays = {_SESSION + name: values for name, values in state.items()}
        rows = [[row[name] for name in COLUMNS] for row in done.rows[: done.epochs]]
        arrays[_HISTORY] = np.array(rows, np.float64).reshape(-1, len(COLUMNS))
        if own and run.anchors.at is not None:
            arrays[_ANCHOR + "coef"], arrays[_ANCHOR + "intercept"] = run.anchors.at
        data["stats"] = [_pack(one, f"{_STATS}{epoch}.", arrays) for epoch, one in enumerate(done.stats[: done.epochs])]
        self.checkpoint.write(data, arrays)
        self._kept, self._when = done.epochs, perf_counter()

    def load(self) -> bool:
        """Take the run to where the file has it; False if there is none."""
        run, checkpoint = self.run, self.checkpoint
        if not (checkpoint.resume and checkpoint.file.exists()):
            return False
        data, arrays = checkpoint.read()
        self._check(data)
        if data["anchor"]["is_teacher"]:
            run.anchors.start()
        run.session.set_state(_part(arrays, _SESSION))
        run.anchors.source, run.anchors.is_teacher = data["anchor"]["source"], data["anchor"]["is_teacher"]
        at = _part(arrays, _ANCHOR)
        if at:
            run.anchors.at = at["coef"], at["intercept"]
        run.job.rng.bit_generator.state = data["rng"]
        for owner, name in ((run.cost, "cost"), (run.criterion, "criterion")):
            for field, value in (data[name] or {}).items():
                setattr(owner, field, value)
        run.limit, run.rate = data["limit"], data["rate"]
        run.weight.set_state(data["weight"])
        epochs: int = data["epochs"]
        averaged = run.job.average_after is not None and epochs > run.job.average_after
        run.finished = replace(
            run.finished,
            weights=run.session.average() if averaged else run.session.weights(),
            epochs=epochs,
            rows=[dict(zip(data["columns"], row, strict=True)) for row in arrays[_HISTORY].tolist()],
            stats=[_unpack(one, f"{_STATS}{epoch}.", arrays) for epoch, one in enumerate(data["stats"])],
        )
        self._kept = epochs
        return True

    def _check(self, data: dict[str, Any]) -> None:
        """Raise unless the file is of this run."""
        file, here, saved = self.checkpoint.file, self._identity, data["run"]
        other = [f"{name} is {here[name]} here and {saved.get(name)} there" for name in here if here[name] != saved.get(name)]
        if any(not text.startswith(_MACHINE) for text in other):
            raise ValueError(
                f"checkpoint {file} is of another run: {'; '.join(other)}. Call solve as before, or choose another path"
            )
        kind = data["rng"]["bit_generator"]
        if kind != self.run.job.rng.bit_generator.state["bit_generator"]:
            raise ValueError(f"checkpoint {file}: random_state was a generator of {kind}; pass such a one again")
        if data["epochs"] > self.run.job.epochs:
            raise ValueError(f"checkpoint {file} has {data['epochs']} finished epochs, more than epochs={self.run.job.epochs}")
        for text in other:
            warnings.warn(f"checkpoint {file}: {text}; the rest of the run is the same up to rounding", stacklevel=6)


def history_of(checkpoint: Checkpoint) -> list[dict[str, float]]:
    """The history's rows that a checkpoint has; none where there is no file."""
    if not checkpoint.file.exists():
        return []
    data, arrays = checkpoint.read()
    return [dict(zip(data["columns"], row, strict=True)) for row in arrays[_HISTORY].tolist()]


def _part(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: values for name, values in arrays.items() if name.startswith(prefix)}


def _pack(stats: GradientStats, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The numbers of statistics and of their layers; what is an array goes to `arrays`."""
    plain: dict[str, Any] = {}
    for field in fields(stats):
        value = getattr(stats, field.name)
        if isinstance(value, np.ndarray):
            arrays[prefix + field.name] = value
        elif isinstance(value, tuple):
            plain[field.name] = [_pack(layer, f"{prefix}{field.name}.{i}.", arrays) for i, layer in enumerate(value)]
        else:
            plain[field.name] = value
    return plain


def _unpack(plain: dict[str, Any], prefix: str, arrays: dict[str, NDArray[Any]]) -> GradientStats:
    own = {name: values for name, values in _part(arrays, prefix).items() if "." not in name}
    if "layers" not in plain:
        return GradientStats(**plain, **own)
    layers = tuple(_unpack(layer, f"{prefix}layers.{i}.", arrays) for i, layer in enumerate(plain["layers"]))
    return LayerStats(**plain | {"layers": layers}, **own)


def _plain(state: Any) -> Any:
    """A generator's state as JSON takes it."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state
