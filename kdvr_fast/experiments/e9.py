"""E9. Repeated self-distillation: the teacher is the student of a few epochs ago; beside it SVRG, the same with the mean added.

Varied: weight and the number of epochs between two snapshots; no L2, which would bias a teacher without its mean. How to read
it: "objective" at a run's end is the mean over the last quarter of its epochs. Where the snapshot is the student itself, plain
distillation is SGD with the step (1 - lam): it follows SGD's way more slowly and with less noise, and at lam = 1 not at all.
Quick: scikit-learn's digits with 30 percent of the labels drawn anew, which are not separable, in place of MNIST.
Source: arXiv:2305.17581; SVRG: Johnson and Zhang, NeurIPS 2013.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..methods import SVRG, Method, RepeatedKD
from ._experiment import Experiment, Figure, Reading, Row, Settings, Table
from ._softmax import DRAWN, Study, fit, mnist_directory, rows_of
from ._summary import best_lam, finals, versus, with_interval

KINDS = ("repeated KD", "SVRG")


def configure(quick: bool, data: Path | None) -> Settings:
    """MNIST with the settings of E2, or noisy digits at a larger rate."""
    if quick:
        study = Study("digits with noisy labels", None, 0.0, 0.5, 10, 200, 0.5, ())
    else:
        study = Study("mnist", mnist_directory(data), 0.0, 0.05, 10, 100, 0.05, ())
    return study.plain() | {"refreshes": [2, 5], "lams": [i / 10 for i in range(11)]}


def runs(s: Settings) -> list[Row]:
    """Methods x refreshes x weights."""
    return [
        {"method": method, "snapshot": f"every {refresh} epochs", "refresh": refresh, "lam": lam}
        for method in KINDS
        for refresh in s["refreshes"]
        for lam in s["lams"]
    ]


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One run without any teacher but itself."""
    study, lam, every = Study.of(s), run["lam"], run["refresh"]
    method: Method = SVRG(lam, refresh=every, start=every) if run["method"] == "SVRG" else RepeatedKD(lam, refresh=every)
    yield from rows_of(study, fit(study, method, seed), curve=lam in DRAWN)


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Best weight of both, by refresh."""
    table: list[list[str | float]] = []
    sentences = []
    plain, svrg = KINDS
    for refresh in s["refreshes"]:
        best, ends = {}, {}
        for method in KINDS:
            where = {"method": method, "refresh": refresh}
            best[method] = best_lam(rows, "objective", **where)
            ends[method] = finals(rows, "objective", lam=best[method], **where)
            table.append([method, f"every {refresh} epochs", best[method], with_interval(ends[method], 5)])
        sgd, full = (finals(rows, "objective", method=plain, refresh=refresh, lam=lam) for lam in (0.0, 1.0))
        sentences.append(
            f"Snapshot every {refresh} epochs: repeated KD's best lam is {best[plain]:g}, its objective "
            f"{with_interval(ends[plain], 5)}, {versus(ends[plain], sgd)} SGD's {with_interval(sgd, 5)}; "
            f"SVRG's, at lam {best[svrg]:g}, {with_interval(ends[svrg], 5)}, {versus(ends[svrg], ends[plain])} it. "
            f"At lam 1 repeated KD ends at {np.mean(full):.5g}."
        )
    return Reading(
        sentences, [Table("Training objective at the best weight", ["method", "snapshot", "best lam", "objective"], table)]
    )


def _by_epoch(method: str) -> Figure:
    title = f"{method}: training objective by weight"
    where, id = {"method": method}, f"{method.replace(' ', '_')}_by_epoch"
    return Figure(id, title, "curve", "epoch", "objective", ("lam",), "snapshot", where, note="lam = 0 is SGD.")


EXPERIMENT = Experiment(
    name="e9",
    title="Repeated self-distillation beside SVRG",
    question="How far does a student get that is its own teacher every few epochs, with and without the mean gradient?",
    claim="Repeated self-distillation is SVRG without its full gradient: it removes part of the variance, SVRG all of it.",
    figures=(
        Figure(
            "objective_by_lam",
            "Training objective at the end, by weight",
            "sweep",
            "lam",
            "objective",
            ("method",),
            "snapshot",
            note="Mean over the last quarter of the epochs; lam = 0 is SGD.",
        ),
        _by_epoch("repeated KD"),
        _by_epoch("SVRG"),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
)
