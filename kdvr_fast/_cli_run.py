"""A training run as a folder: config.toml, log.jsonl, checkpoint, model and metrics; `kdvr train` is its command.

config.toml              all settings; with the data it is all that a run needs
log.jsonl                a line of JSON an epoch, the columns of `kdvr_fast.history`
checkpoint.safetensors   where the run goes on
model.safetensors        what `kdvr_fast.load` reads; written at the end
metrics.json             written last
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import _cli_data as files
from . import _spec, _store
from ._cli_reading import Reading
from ._job import Progress
from ._keeping import history_of
from .checkpoint import Checkpoint
from .losses import LOSSES
from .model import Model, save
from .result import ConvergenceWarning, DivergenceError, Result, Status
from .solve import solve

_PATHS = ("data", "labels", "teacher", "teacher_logits", "teacher_proba", "validation", "validation_labels", "cache")


@dataclass(frozen=True)
class Config:
    """Settings of a run; names, types and defaults of config.toml and of the options of `kdvr train`."""

    data: str
    labels: str | None = None
    target: str | None = None
    features: str | None = None
    categorical: str | None = None
    scale: str | None = None
    missing: str = "error"
    dtype: str = "float32"
    cache: str | None = None
    memory_limit: str | None = None
    loss: str = "softmax"
    method: str = "sgd"
    hidden: str | None = None
    init: str | None = None
    teacher: str | None = None
    teacher_logits: str | None = None
    teacher_proba: str | None = None
    learning_rate: float | str = "auto"
    batch_size: int = 10
    epochs: int = 20
    tol: float | None = None
    alpha: float = 0.0
    l1_ratio: float = 0.0
    fit_intercept: bool = True
    momentum: float = 0.0
    nesterov: bool = False
    average: bool = False
    sampling: str = "shuffle"
    seed: int = 0
    validation: str | None = None
    validation_labels: str | None = None
    objective: bool = False
    checkpoint_seconds: float = 1.0
    backend: str = "auto"
    threads: int | None = None

    @classmethod
    def make(cls, given: Mapping[str, Any], where: str) -> Config:
        """From settings by name. Raises ValueError for what is unknown, missing or of the wrong type."""
        known = {f.name: str(f.type) for f in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise ValueError(f"{where}: there is no setting {name!r}; there are {', '.join(known)}")
            kinds = {"float": (int, float), "int": (int,), "str": (str,), "bool": (bool,), "None": (type(None),)}
            allowed = [kind for word in known[name].split(" | ") for kind in kinds[word]]
            if not isinstance(value, tuple(allowed)) or (isinstance(value, bool) and bool not in allowed):
                raise ValueError(f"{where}: {name} = {value!r} is of the wrong type; expected {known[name]}")
        if "data" not in given:
            raise ValueError(f"{where}: no data; name a file of rows, or a folder of them")
        return cls(**given)

    def reading(self) -> Reading:
        """How its rows are read."""
        return Reading(**{f.name: getattr(self, f.name) for f in fields(Reading)})

    def text(self) -> str:
        """As TOML; what is None is left out."""
        import tomli_w

        return tomli_w.dumps({name: value for name, value in asdict(self).items() if value is not None})


def read_config(path: Path) -> dict[str, Any]:
    """Settings of a TOML file; paths in it are taken from its folder."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        given = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no TOML file: {error}") from None
    folder = path.resolve().parent
    return {name: str(folder / v) if name in _PATHS and isinstance(v, str) else v for name, v in given.items()}


@dataclass(frozen=True)
class Folder:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings."""
        return self.path / "config.toml"

    @property
    def checkpoint(self) -> Path:
        """Where the run goes on."""
        return self.path / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        """A line an epoch."""
        return self.path / "log.jsonl"

    @property
    def model(self) -> Path:
        """The result."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """Its figures."""
        return self.path / "metrics.json"

    def check_free(self) -> None:
        """Raise FileExistsError where there is a run, or no folder."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; name a folder for the run (--output-dir)")
        if self.config.exists():
            again = f"go on with `kdvr train --resume {self.path}`"
            raise FileExistsError(f"{self.path} has a run: {again}, or take another folder")

    def begin(self, config: Config) -> None:
        """Make the folder of a run, or write its settings anew."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"the folder of the run cannot be made: {error.strerror}", str(self.path)) from None
        absolute: dict[str, Any] = {name: str(Path(v).resolve()) for name in _PATHS if (v := getattr(config, name)) is not None}
        text = replace(config, **absolute).text()
        _store.replace_file(self.config, lambda aside: aside.write_text(text))

    def settings(self) -> Config:
        """Those of the run that is there. Raises FileNotFoundError where there is none."""
        if not self.config.is_file():
            raise FileNotFoundError(f"{self.path}: no run is there (no {self.config.name})")
        return Config.make(read_config(self.config), str(self.config))

    def write_log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace the log."""
        text = "".join(_line(row) for row in rows)
        _store.replace_file(self.log, lambda aside: aside.write_text(text))

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch to the log."""
        with self.log.open("a") as file:
            file.write(_line(row))


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(plain(row)) + "\n"


def plain(value: Any) -> Any:
    """As JSON has it: NaN and infinities are null."""
    if isinstance(value, Mapping):
        return {name: plain(v) for name, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run(config: Config, folder: Folder, callbacks: Sequence[Any] = ()) -> tuple[Result, dict[str, Any] | None]:
    """Carry out a run from where its folder has it; the metrics are None where it was interrupted.

    Raises what `solve` raises. What is refused before the first epoch leaves the folder as it was; after a divergence there is
    neither model nor metrics.
    """
    how = config.reading()
    data = files.read(Path(config.data), _path(config.labels), how, loss=config.loss)
    held = None
    if config.validation is not None:
        aside = Reading(dtype=how.dtype, cache=how.cache, memory_limit=how.memory_limit)
        held = files.read(
            Path(config.validation), _path(config.validation_labels), aside, loss=config.loss, like=files.Like.data(data)
        )
    options = _options(config, data)
    checkpoint = None
    if options["method"].plan().full_batch is None:
        checkpoint = Checkpoint(folder.checkpoint, seconds=config.checkpoint_seconds, resume=True)
    X, y = data.for_solve()
    with _begun(folder, config) as log, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "interrupted after", RuntimeWarning)  # told by the command,
        warnings.simplefilter("ignore", ConvergenceWarning)  # and so is this
        folder.write_log([] if checkpoint is None else history_of(checkpoint))
        result = solve(X, y, **options, callbacks=[log, *callbacks], checkpoint=checkpoint)
    folder.write_log(list(result.history))
    if result.status is Status.INTERRUPTED:
        return result, None
    model = _model(result, data)
    save(model, folder.model)
    metrics = _metrics(result, model, config, data, held)
    text = json.dumps(plain(metrics), indent=2) + "\n"
    _store.replace_file(folder.metrics, lambda aside: aside.write_text(text))
    return result, metrics


def _model(result: Result, data: files.Data) -> Model:
    """The model of a run, with what its classes and features are called and how its table was read."""
    model = Model.of(result)
    info = model.info if data.kept is None else model.info | {"table": vars(data.kept)}
    return replace(model, classes=data.classes, feature_names=data.feature_names, info=info)


@contextmanager
def _begun(folder: Folder, config: Config) -> Iterator[Callable[[Progress], None]]:
    """Write the settings, and take them back if no epoch is walked with them. Gives what logs an epoch."""
    made = [part for part in (folder.path, *folder.path.parents) if not part.exists()]
    before = folder.config.read_text() if folder.config.exists() else None
    walked: list[int] = []

    def log(progress: Progress) -> None:
        walked.append(progress.epoch)
        folder.append(progress.row)

    folder.begin(config)
    try:
        yield log
    except Exception as error:
        if not walked and not isinstance(error, DivergenceError):
            _take_back(folder, before, made)
        raise


def _take_back(folder: Folder, before: str | None, made: Sequence[Path]) -> None:
    """The folder as it was: with the settings of before, or without any and without the folders that were made."""
    if before is not None:
        _store.replace_file(folder.config, lambda aside: aside.write_text(before))
    elif not folder.checkpoint.exists():
        folder.config.unlink(missing_ok=True)
        folder.log.unlink(missing_ok=True)
        with suppress(OSError):  # what others put there stays
            for part in made:
                part.rmdir()


def _options(config: Config, data: files.Data) -> dict[str, Any]:
    """What `solve` is told beside the data."""
    if data.files is not None and config.learning_rate == "auto":
        raise ValueError("the learning rate auto looks at all rows in memory: with a memory limit pass a number, or a schedule")
    teacher = [_path(p) for p in (config.teacher, config.teacher_logits, config.teacher_proba)]
    method = _spec.method(config.method)
    options: dict[str, Any] = {
        "method": method,
        "model": _spec.model(config.hidden, config.init),
        "teacher": files.teacher(*teacher, loss=config.loss, data=data),
        "random_state": config.seed,
        "track": "objective" if config.objective else (),
        "n_threads": config.threads,
    }
    if method.plan().full_batch is None:
        options["learning_rate"] = _spec.learning_rate(config.learning_rate)
    options["sampling"] = _spec.sampling(config.sampling)
    same = ("loss", "batch_size", "epochs", "tol", "alpha", "l1_ratio", "fit_intercept", "momentum", "nesterov", "average")
    return options | {name: getattr(config, name) for name in (*same, "backend")}


def _metrics(result: Result, model: Model, config: Config, train: files.Data, held: files.Data | None) -> dict[str, Any]:
    last = result.history.rows[-1] if result.epochs else {}
    figures = score(model, train)
    if config.objective:
        figures |= {name: last.get(name) for name in ("objective", "grad_norm")}
    metrics: dict[str, Any] = {"status": str(result.status), "message": result.message}
    metrics |= {"epochs": result.epochs, "backend": result.backend}
    metrics |= {name: last.get(name) for name in ("grad_evals", "seconds", "lam", "learning_rate")} | {"train": figures}
    if held is not None:
        metrics["validation"] = score(model, held)
    return metrics


def score(model: Model, data: files.Data) -> dict[str, Any]:
    """Rows, mean loss (no penalty), and of classes the share that is predicted right."""
    rule, n, total, right = LOSSES[model.loss], 0, 0.0, 0
    for X, y in data.chunks():
        Z = np.asarray(model.decision_function(X), np.float64)
        if rule.targets != "classes":
            y = y.reshape(Z.shape).astype(np.float64)
        elif y.ndim == 1:
            y = y.astype(np.int64)
        n, total = n + len(Z), total + float(rule.value(y, Z).sum())
        if rule.targets != "real":
            found = (Z[:, 0] > 0) == (y[:, 0] > 0.5) if rule.targets == "unit" else Z.argmax(axis=1) == _labels(y)
            right += int(found.sum())
    figures: dict[str, Any] = {"rows": n, "loss": total / n}
    return figures if rule.targets == "real" else figures | {"accuracy": right / n}


def _labels(targets: Any) -> Any:
    return targets if targets.ndim == 1 else targets.argmax(axis=1)


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)
