"""E5. Unbiased KD: with the teacher's mean gradient added back, its bias is gone and its variance is all that is left.

Varied: weight and teacher, the optimum itself among them, for KD and unbiased KD. How to read it: see `_weights`; at lam = 1
KD ends no lower than its teacher, unbiased KD below it, and at the optimum's hand both go on falling: there is no floor.
Quick: scikit-learn's digits in place of MNIST. Source: arXiv:2305.17581, the unbiased estimator.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ._experiment import Experiment, Reading, Row, Settings
from ._softmax import floor_study
from ._summary import finals, ratios, versus, with_interval
from ._weights import GAP_BY_LAM, OPTIMUM, cases, gap_by_epoch, grid, name_of, table, work


def configure(quick: bool, data: Path | None) -> Settings:
    """MNIST or digits, with L2."""
    chosen = {"methods": ["KD", "unbiased KD"], "teachers": [5, 100, OPTIMUM], "lams": [i / 10 for i in range(11)]}
    return floor_study(quick, data).plain() | chosen


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Unbiased against plain at lam = 1, then best weights and floors."""
    found, sentences = cases(s, rows), []
    for teacher in map(name_of, s["teachers"]):
        plain, unbiased = (finals(rows, "gap", method=m, teacher=teacher, lam=1.0) for m in s["methods"])
        sgd = finals(rows, "gap", method=s["methods"][1], teacher=teacher, lam=0.0)
        sentences.append(
            f"Teacher: {teacher}, lam 1: unbiased KD's floor is {with_interval(ratios(unbiased, sgd), 2)} of SGD's, "
            f"{versus(unbiased, plain)} KD's {with_interval(ratios(plain, sgd), 2)}."
        )
    halfway, end = (_gap_after(rows, epoch) for epoch in (s["epochs"] // 2, s["epochs"]))
    verdict = "no floor" if end < 0.1 * halfway else "it falls no further"
    sentences.append(
        f"Taught by the optimum itself, lam 1, unbiased KD is {halfway:.1e} above it after half of the epochs "
        f"and {end:.1e} after all: {verdict}."
    )
    sentences += [case.sentence() for case in found if case.teacher != OPTIMUM]
    return Reading(sentences, [table(found)], [case.line("gap_by_lam") for case in found])


def _gap_after(rows: Sequence[Row], epoch: int) -> float:
    """Of unbiased KD at lam = 1 with the optimum for a teacher, mean over the seeds."""
    run = {"method": "unbiased KD", "teacher": OPTIMUM, "lam": 1.0, "epoch": epoch}
    return float(np.mean([row["gap"] for row in rows if run.items() <= row.items()]))


EXPERIMENT = Experiment(
    name="e5",
    title="Unbiased distillation",
    question="Does adding the teacher's mean gradient back remove the floor that plain distillation keeps?",
    claim="Without the bias the noise floor falls with the teacher's correlation alone, and vanishes for a perfect teacher.",
    figures=(GAP_BY_LAM, gap_by_epoch("KD"), gap_by_epoch("unbiased KD")),
    configure=configure,
    runs=grid,
    work=work,
    read=read,
)
