"""E7. Networks: a ReLU network and a small convolutional one, each taught by an earlier run of itself; needs torch.

For linear models the standard gradient of distillation and the shift form, grad f(x) - lam grad f(theta), are one. For a
network they differ by the Jacobians of student and teacher. Varied: architecture and weight. How to read it: "cosine" is that
of the two mean gradients over a sample of the training rows; the variance ratios are those of both forms over SGD's, on the
same rows. Quick: scikit-learn's digits in place of MNIST. Source: arXiv:2305.17581, sections 4 and 5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from . import _networks as networks
from ._experiment import Experiment, Figure, Reading, Row, Settings, Table
from ._softmax import load, mnist_directory
from ._summary import best_lam, finals, versus, with_interval

_TEACHER_SEED = 1000
_NEAR = 0.9  # what a reading calls near 1


def configure(quick: bool, data: Path | None) -> Settings:
    """The paper's rate, decay, batch and hidden units, or a larger rate on digits."""
    source: Settings = {"data": "digits", "directory": None, "learning_rate": 0.1, "epochs": 20}
    if not quick:
        source = {"data": "mnist", "directory": mnist_directory(data), "learning_rate": 0.01, "epochs": 50}
    return source | {
        "architectures": list(networks.ARCHITECTURES),
        "lams": [0.0, 0.3, 0.7, 1.0],
        "hidden": 100,
        "weight_decay": 1e-4,
        "batch_size": 10,
        "sample": 300,
    }


def runs(s: Settings) -> list[Row]:
    """Architectures x weights."""
    return [{"architecture": name, "lam": lam} for name in s["architectures"] for lam in s["lams"]]


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """A student, compared with its teacher after each epoch."""
    images, y, onehot = _tensors(s["data"], s["directory"])
    teacher = _teacher(json.dumps(s), run["architecture"], seed)
    targets = networks.probabilities(teacher, images)
    with networks.one_thread(seed) as torch:
        model, sample = _build(s, run["architecture"]), torch.randperm(len(y))[: s["sample"]]
        rows: list[Row] = []

        def after(epoch: int) -> None:
            p = networks.probabilities(model, images)
            objective = float(torch.nn.functional.nll_loss(p.clamp_min(1e-30).log(), y))
            accuracy = float((p.argmax(dim=1) == y).double().mean())
            compared = networks.compare(model, teacher, images[sample], onehot[sample], run["lam"])
            rows.append({"epoch": epoch, "objective": objective, "accuracy": accuracy} | compared)

        networks.train(model, images, y, targets, lam=run["lam"], epochs=s["epochs"], after=after, **_rates(s))
    yield from rows
    tail = rows[-max(1, len(rows) // 4) :]
    yield {"final": True} | {name: float(np.mean([row[name] for row in tail])) for name in rows[0] if name != "epoch"}


@lru_cache(maxsize=2)
def _teacher(settings: str, architecture: str, seed: int) -> Any:
    """Trained as a student without a teacher; `settings` as JSON, which a cache can hold."""
    s: Settings = json.loads(settings)
    images, y, _ = _tensors(s["data"], s["directory"])
    with networks.one_thread(_TEACHER_SEED + seed):
        model = _build(s, architecture)
        networks.train(model, images, y, None, lam=0.0, epochs=s["epochs"], after=lambda epoch: None, **_rates(s))
    return model


def _rates(s: Settings) -> Settings:
    return {name: s[name] for name in ("learning_rate", "weight_decay", "batch_size")}


def _build(s: Settings, architecture: str) -> Any:
    images, _, onehot = _tensors(s["data"], s["directory"])
    return networks.build(architecture, images.shape[-1], s["hidden"], onehot.shape[1])


@lru_cache(maxsize=1)
def _tensors(data: str, directory: str | None) -> tuple[Any, Any, Any]:
    """Images (n, 1, side, side) in float32, labels (n,), and labels as probabilities (n, k)."""
    split = load(data, directory)
    with networks.one_thread(0) as torch:
        side = round(split.X.shape[1] ** 0.5)
        images = torch.from_numpy(split.X.astype(np.float32).reshape(-1, 1, side, side))
        y = torch.from_numpy(split.y)
        return images, y, torch.nn.functional.one_hot(y).float()


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Cosines along training, and what the weights do to the loss and the variance."""
    table: list[list[str | float]] = []
    sentences = []
    for name in s["architectures"]:
        inside = [row for row in rows if row["architecture"] == name]
        sgd = finals(inside, "objective", lam=0.0)
        for lam in s["lams"]:
            ends = [finals(inside, column, lam=lam) for column in _COLUMNS]
            table.append([name, lam, round(min(_along(inside, lam)), 4), *map(with_interval, ends)])
        best = best_lam(inside, "objective")
        means = {lam: float(np.mean(_along(inside, lam))) for lam in s["lams"] if lam > 0}
        near = [f"{lam:g}" for lam, mean in means.items() if mean >= _NEAR]
        values = finals(inside, "objective", lam=best)
        sentences.append(
            f"{name} network: cosine of standard and shift gradient, mean over training: "
            f"{', '.join(f'{mean:.3f} at lam {lam:g}' for lam, mean in means.items())}; "
            f"near 1 ({_NEAR:g} or more) {'at lam ' + ', '.join(near) if near else 'at NONE of them'}. "
            f"Best lam {best:g}, training loss {with_interval(values)}, {versus(values, sgd)} SGD's {with_interval(sgd)}."
        )
    columns = ["network", "lam", "least cosine", "cosine", "training loss", "standard's variance", "shift's variance"]
    return Reading(sentences, [Table("Means over the last quarter of the epochs; variances over SGD's", columns, table)])


def _along(rows: Sequence[Row], lam: float) -> list[float]:
    return [row["cosine"] for row in rows if "epoch" in row and row["lam"] == lam]


_COLUMNS = ("cosine", "objective", "standard_variance_ratio", "shift_variance_ratio")


def _by_epoch(y: str, title: str, note: str, log_y: bool = False) -> Figure:
    return Figure(f"{y}_by_epoch", title, "curve", "epoch", y, ("lam",), "architecture", log_y=log_y, note=note)


EXPERIMENT = Experiment(
    name="e7",
    title="Networks: standard against shift gradients",
    question="Is distillation of a network nearly a difference of two gradients, as it is exactly for linear models?",
    claim="The cosine between the standard and the shift gradient stays near 1 along training.",
    figures=(
        _by_epoch("cosine", "Cosine of standard and shift gradients", "1 at lam = 0, where both are SGD's."),
        _by_epoch("objective", "Training loss", "Without the L2 term; lam = 0 is SGD.", log_y=True),
        _by_epoch("standard_variance_ratio", "Variance of the standard gradient over SGD's", "1 at lam = 0.", log_y=True),
        _by_epoch("shift_variance_ratio", "Variance of the shift gradient over SGD's", "1 at lam = 0.", log_y=True),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
    unavailable=networks.torch_is_missing,
)
