"""E2. MNIST, a linear softmax student distilled from an earlier run of itself; the training objective against the epoch.

Varied, in four parts: the weight for teachers of three qualities ("weights"); the method ("methods"); the form of the
distillation gradient, standard at a temperature or shift ("forms"); the schedule of the weight ("schedules"). Every part has
its own run of SGD. How to read it: "objective" at a run's end is the mean over the last quarter of its epochs; a weight pays
where it is below that at lam = 0. Quick: scikit-learn's digits, with L2, without which they are separable and have no floor.
Source: arXiv:2305.17581, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .._job import Progress
from ..methods import KD, SGD, SVRG, Method
from ..schedules import Geometric, Lam
from ..statistics import gradient_similarity
from ..teachers import Teacher
from ._experiment import Experiment, Figure, Reading, Row, Settings, Table
from ._softmax import DRAWN, Study, distillation, fit, load, mnist_directory, rows_of, teachers
from ._summary import best_lam, finals, versus, with_interval

KINDS = ("KD", "unbiased KD")
_FORM_LAM = 0.7
_FORMS = {
    "SGD": (0.0, 4.0),
    "shift": (_FORM_LAM, 1.0),
    "standard, T = 2": (_FORM_LAM, 2.0),
    "standard, T = 4": (_FORM_LAM, 4.0),
}
_SCHEDULES: dict[str, Lam] = {
    "SGD": 0.0,
    "0.7 throughout": 0.7,
    "0.7, x 0.9 an epoch": Geometric(0.7, 0.9),
    "0.1, x 1.047": Geometric(0.1, 1.047),
}


def configure(quick: bool, data: Path | None) -> Settings:
    """The paper's settings, or digits with L2 and a larger rate."""
    if quick:
        study = Study("digits", None, 1e-3, 0.5, 10, 100, 0.5, (5, 20, 100))
    else:
        study = Study("mnist", mnist_directory(data), 0.0, 0.05, 10, 100, 0.05, (5, 20, 100))
    return study.plain() | {"lams": [i / 10 for i in range(11)]}


def runs(s: Settings) -> list[Row]:
    """The four parts."""
    last = max(s["checkpoints"])
    weights = [
        {"part": "weights", "method": method, "lam": lam, "teacher": f"after {epochs} epochs", "teacher_epochs": epochs}
        for method in KINDS
        for epochs in s["checkpoints"]
        for lam in s["lams"]
    ]
    labels = {"methods": [*_methods(s["alpha"])], "forms": [*_FORMS], "schedules": [*_SCHEDULES]}
    others = [{"part": part, "label": label, "teacher_epochs": last} for part, names in labels.items() for label in names]
    return weights + others


def _methods(alpha: float) -> dict[str, Method]:
    return {
        "SGD": SGD(),
        "KD 0.3": distillation(alpha, "KD", 0.3),
        "KD 0.7": distillation(alpha, "KD", 0.7),
        "KD auto": distillation(alpha, "KD", "auto"),
        "unbiased KD 1": distillation(alpha, "unbiased KD", 1.0),
        "unbiased KD auto": distillation(alpha, "unbiased KD", "auto"),
        "SVRG every 2 epochs": SVRG(refresh=2, start=2),
    }


def _method(alpha: float, run: Row) -> Method:
    if run["part"] == "weights":
        return distillation(alpha, run["method"], run["lam"])
    if run["part"] == "methods":
        return _methods(alpha)[run["label"]]
    if run["part"] == "schedules":
        return KD(_SCHEDULES[run["label"]], teacher_alpha=alpha)
    lam, temperature = _FORMS[run["label"]]
    return KD(lam, temperature=temperature, teacher_alpha=alpha)


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One student."""
    study = Study.of(s)
    teacher, method = teachers(study, seed)[run["teacher_epochs"]], _method(study.alpha, run)
    cosines: list[float] = []

    def compare(progress: Progress) -> None:
        cosines.append(_cosine(study, progress, teacher, *_FORMS[run["label"]]))

    uses = teacher if method.plan().teacher != "none" else None
    result = fit(study, method, seed, uses, callbacks=[compare] if run["part"] == "forms" else [])
    for row in rows_of(study, result, curve=run["part"] != "weights" or run["lam"] in DRAWN):
        yield row | ({"cosine": cosines[row["epoch"] - 1]} if cosines and "epoch" in row else {})


def _cosine(study: Study, at: Progress, teacher: Teacher, lam: float, temperature: float) -> float:
    """Of the two forms' mean gradients at a student's weights."""
    split = load(study.data, study.directory)
    return gradient_similarity(
        split.X,
        split.y,
        at.coef,
        intercept=at.intercept,
        loss="softmax",
        teacher=teacher,
        lam=lam,
        temperature=temperature,
        n_threads=1,
    )


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Which weights pay, by teacher; methods, forms and schedules beside SGD."""
    last = max(s["checkpoints"])
    weights = [row for row in rows if row["part"] == "weights"]
    table: list[list[str | float]] = []
    sentences = []
    for method in KINDS:
        for epochs in s["checkpoints"]:
            where = {"method": method, "teacher_epochs": epochs}
            sgd = finals(weights, "objective", lam=0.0, **where)
            pays = [lam for lam in s["lams"] if versus(finals(weights, "objective", lam=lam, **where), sgd).startswith("below")]
            best = best_lam(weights, "objective", **where)
            values = finals(weights, "objective", lam=best, **where)
            words = f"{min(pays):g} to {max(pays):g}" if pays else "none"
            table.append([method, f"after {epochs} epochs", best, with_interval(values, 5), with_interval(sgd, 5), words])
            if epochs == last:
                sentences.append(
                    f"{method} with the teacher of {epochs} epochs: best lam {best:g}, objective {with_interval(values, 5)}, "
                    f"{versus(values, sgd)} SGD's {with_interval(sgd, 5)}; weights that pay: {words}."
                )
    for part, what in (("methods", "Methods"), ("forms", f"Forms at lam {_FORM_LAM:g}"), ("schedules", "Schedules")):
        inside = [row for row in rows if row["part"] == part]
        labels = list(dict.fromkeys(row["label"] for row in inside))
        ends = {label: finals(inside, "objective", label=label) for label in labels}
        order = sorted(labels, key=lambda label: np.mean(ends[label]))
        sentences.append(f"{what}, best first: " + ", ".join(f"{label} {np.mean(ends[label]):.5g}" for label in order) + ".")
    cosines = [row["cosine"] for row in rows if row.get("label") == "standard, T = 4" and row.get("epoch") == s["epochs"]]
    sentences.append(f"Cosine of standard (T = 4) and shift gradient after the last epoch: {with_interval(cosines)}.")
    columns = ["method", "teacher", "best lam", "objective there", "SGD's", "weights below SGD"]
    return Reading(sentences, [Table("Training objective, mean over the last quarter of the epochs", columns, table)])


def _curve(id: str, title: str, part: str, y: str = "objective") -> Figure:
    return Figure(id, title, "curve", "epoch", y, ("label",), where={"part": part})


EXPERIMENT = Experiment(
    name="e2",
    title="MNIST, linear softmax, self-distillation",
    question="Does a student taught by an earlier run of itself end at a lower training loss than SGD, and at which weights?",
    claim="KD's training loss is below SGD's for the right weight; variance-reduced methods go further.",
    figures=(
        Figure(
            "objective_by_epoch",
            "KD: training objective by weight",
            "curve",
            "epoch",
            "objective",
            ("lam",),
            "teacher",
            {"part": "weights", "method": "KD"},
            note="lam = 0 is SGD.",
        ),
        Figure(
            "objective_by_lam",
            "Training objective at the end, by weight",
            "sweep",
            "lam",
            "objective",
            ("method",),
            "teacher",
            {"part": "weights"},
            note="Mean over the last quarter of the epochs; lam = 0 is SGD.",
        ),
        _curve("methods", "Methods, with the best teacher", "methods"),
        _curve("forms", "Standard form at a temperature against shift", "forms"),
        _curve("cosine", "Cosine of standard and shift gradients", "forms", "cosine"),
        _curve("schedules", "Schedules of the weight", "schedules"),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
)
