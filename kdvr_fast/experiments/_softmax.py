"""What the experiments on real data share: a softmax student, a teacher that is an earlier run of itself, the optimum.

f(W, b) = mean softmax loss + alpha/2 |W|^2. The teacher is SGD on the same f with the rate `teacher_rate` 0.96^epoch, as it
was after some of its epochs. The floor of a run is its objective less f*, mean over the last quarter of its epochs.
Shapes: X (n, d), W (k, d), b (k,). Source: arXiv:2305.17581, its experiments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from math import isfinite, nan
from pathlib import Path

import numpy as np

from .._job import Callback, Progress
from ..compression import Compressor
from ..data import Split, load_digits, load_mnist
from ..methods import KD, LBFGS, SGD, Method, UnbiasedKD
from ..result import Result
from ..schedules import Exponential, Lam
from ..statistics import gradient_stats
from ..teachers import Teacher
from ..theory import noise
from ._experiment import Row, Settings
from ._processes import train

DRAWN = (0.0, 0.3, 0.7, 1.0)  # weights whose epochs are kept and drawn; ends are kept of all
EMBEDDINGS = "embeddings/clinc150_minilm_l6_384d.npz"
_TEACHER_SEED = 1000  # added to a run's seed: a teacher walks other orders than its students
_RANDOM_FEATURES = 256


@dataclass(frozen=True)
class Study:
    """A data set and how students and teachers are trained on it; every field is a setting of the same name.

    data: "digits", "digits with noisy labels", "random features of digits", "mnist" or "embeddings". directory: of its files.
    checkpoints: the epochs at which the teacher is kept.
    """

    data: str
    directory: str | None
    alpha: float
    learning_rate: float
    batch_size: int
    epochs: int
    teacher_rate: float
    checkpoints: tuple[int, ...]

    @classmethod
    def of(cls, s: Settings) -> Study:
        """The study in an experiment's settings."""
        given: Settings = {f.name: s[f.name] for f in fields(cls)}
        return cls(**given | {"checkpoints": tuple(s["checkpoints"])})

    def plain(self) -> Settings:
        """As settings."""
        return asdict(self) | {"checkpoints": list(self.checkpoints)}


def mnist_directory(data: Path | None) -> str:
    """The folder of the four files: DATA/mnist, or DATA itself. Raises if there is none."""
    if data is None:
        raise ValueError("this experiment reads MNIST: pass the folder of its files as data (--data), or quick (--quick)")
    folder = data / "mnist" if (data / "mnist").is_dir() else data
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory; expected MNIST's files in it")
    return str(folder.resolve())


def embeddings_directory(data: Path | None) -> str:
    """DATA, if it holds the embeddings. Raises if not."""
    if data is None:
        raise ValueError(f"this experiment reads {EMBEDDINGS}: pass its folder as data (--data), or quick (--quick)")
    if not (data / EMBEDDINGS).is_file():
        raise FileNotFoundError(f"{data / EMBEDDINGS}: no such file")
    return str(data.resolve())


def floor_study(quick: bool, data: Path | None) -> Study:
    """L2 and a rate at which SGD soon sits on its floor."""
    checkpoints = (1, 5, 20, 100)
    if quick:
        return Study("digits", None, 1e-3, 0.5, 10, 200, 0.5, checkpoints)
    return Study("mnist", mnist_directory(data), 1e-3, 0.2, 10, 40, 0.05, checkpoints)


@lru_cache(maxsize=1)
def load(data: str, directory: str | None) -> Split:
    """A data set by name."""
    if data == "digits":
        return load_digits()
    if data == "digits with noisy labels":
        return _noisy(load_digits())
    if data == "random features of digits":
        return _random_features(load_digits())
    if data == "mnist":
        return load_mnist(str(directory))
    with np.load(Path(str(directory)) / EMBEDDINGS) as file:
        X, X_test = (np.ascontiguousarray(file[f"X_{part}"], np.float32) for part in ("train", "test"))
        y, y_test = (file[f"y_{part}"].astype(np.int64) for part in ("train", "test"))
    return Split("sentence embeddings, 150 classes", X, y, X_test, y_test)


def _noisy(split: Split) -> Split:
    """Three training labels in ten drawn anew from all classes."""
    rng = np.random.default_rng(0)
    y = np.where(rng.random(len(split.y)) < 0.3, rng.integers(0, 10, len(split.y)), split.y)
    return replace(split, name="digits with noisy labels", y=y)


def _random_features(split: Split) -> Split:
    """ReLU features of a fixed random layer, rows of length one as embeddings are."""
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(split.X.shape[1], _RANDOM_FEATURES)), rng.normal(size=_RANDOM_FEATURES)
    X, X_test = (np.maximum(A @ W + b, 0.0) for A in (split.X, split.X_test))
    X, X_test = (A / np.linalg.norm(A, axis=1, keepdims=True) for A in (X, X_test))
    return Split("random features of digits", X, split.y, X_test, split.y_test)


@lru_cache(maxsize=1)
def optimum(study: Study) -> tuple[float, Teacher]:
    """f*, and its weights as a teacher."""
    split = load(study.data, study.directory)
    tol = 1e-9 if split.X.dtype == np.float64 else 1e-5
    found = train(split.X, split.y, loss="softmax", alpha=study.alpha, method=LBFGS(), tol=tol)
    return float(found.history["objective"].min()), Teacher.weights(found.coef, found.intercept)


@lru_cache(maxsize=1)
def teachers(study: Study, seed: int) -> dict[int, Teacher]:
    """The teacher after each epoch of `checkpoints`."""
    kept: dict[int, Teacher] = {}

    def keep(progress: Progress) -> None:
        if progress.epoch in study.checkpoints:
            kept[progress.epoch] = Teacher.weights(progress.coef, progress.intercept)

    rate = Exponential(study.teacher_rate, 0.96)
    fit(study, SGD(), _TEACHER_SEED + seed, learning_rate=rate, epochs=max(study.checkpoints), track=(), callbacks=[keep])
    return kept


def distillation(alpha: float, method: str, lam: Lam) -> Method:
    """KD or its unbiased form; alpha, the teacher's own L2 term, is taken along, so that plain KD is not biased by it."""
    return UnbiasedKD(lam) if method == "unbiased KD" else KD(lam, teacher_alpha=alpha)


def fit(
    study: Study,
    method: Method,
    seed: int,
    teacher: Teacher | None = None,
    *,
    learning_rate: float | Exponential | None = None,
    epochs: int | None = None,
    track: tuple[str, ...] = ("objective", "accuracy"),
    compress: Compressor | None = None,
    callbacks: list[Callback] | None = None,
) -> Result:
    """A student of the study."""
    split = load(study.data, study.directory)
    return train(
        split.X,
        split.y,
        loss="softmax",
        method=method,
        teacher=teacher,
        learning_rate=study.learning_rate if learning_rate is None else learning_rate,
        batch_size=study.batch_size,
        epochs=study.epochs if epochs is None else epochs,
        alpha=study.alpha,
        random_state=seed,
        track=track,
        compress=compress,
        callbacks=callbacks or [],
    )


def rows_of(study: Study, result: Result, optimum: float = nan, curve: bool = True) -> Iterator[Row]:
    """The history if `curve`, with the gap to the optimum where that is known, and the run's end."""
    split = load(study.data, study.directory)
    for row in result.history if curve else ():
        known = {name: value for name, value in row.items() if isfinite(value)}
        if isfinite(optimum):
            known["gap"] = row["objective"] - optimum
        yield known | {"epoch": round(row["epoch"])}
    objective = float(result.history["objective"][-max(1, len(result.history) // 4) :].mean())
    end: Row = {
        "final": True,
        "objective": objective,
        "test_accuracy": float((result.predict(split.X_test) == split.y_test).mean()),
    }
    yield end | ({"gap": objective - optimum} if isfinite(optimum) else {})


def predicted_ratio(study: Study, teacher: Teacher, method: str, lam: float) -> float:
    """The floor over SGD's as theory has it: N(lam) / N(0) with the statistics at the optimum."""
    split, best = load(study.data, study.directory), optimum(study)[1]
    stats = gradient_stats(
        split.X,
        split.y,
        best.source,
        intercept=best.intercept,
        loss="softmax",
        teacher=teacher,
        alpha=study.alpha,
        teacher_alpha=study.alpha,
        batch_size=study.batch_size,
        sampling="shuffle",
        n_threads=1,
    )
    unbiased, rate = method == "unbiased KD", study.learning_rate
    return noise(stats, lam, rate, unbiased=unbiased) / noise(stats, 0.0, rate, unbiased=unbiased)
