"""E6. Compressed students: half of the weights masked, at random or the smallest, or cut or rounded anew after each step.

Varied: operator and weight; the teacher is the optimum of all weights, uncompressed, so that KD and its unbiased form are one.
How to read it: "objective" at a run's end is the mean over the last quarter of its epochs. What an operator takes away no
teacher gives back; what SGD's noise adds a teacher takes off, and the question is how much of that is left under each operator.
Not among them is RandomK: its error grows with |W| in every step, and even with 99.9 percent kept the digits' objective is 20.
Quick: scikit-learn's digits in place of MNIST. Source: arXiv:2305.17581, section on compressed students.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..compression import Compressor, Mask, StochasticRounding, TopK
from ._experiment import Experiment, Figure, Reading, Row, Settings, Table
from ._softmax import Study, distillation, fit, floor_study, optimum, rows_of
from ._summary import best_lam, finals, versus, with_interval

OPERATORS: dict[str, Compressor | None] = {
    "none": None,
    "random mask, half": Mask(0.5),
    "mask of the smallest, half": Mask(0.5, by="magnitude"),
    "top half each step": TopK(0.5),
    "8 bits each step": StochasticRounding(8),
}


def configure(quick: bool, data: Path | None) -> Settings:
    """MNIST or digits, with L2."""
    lams = [0.0, 0.25, 0.5, 0.75, 1.0]
    return floor_study(quick, data).plain() | {"operators": list(OPERATORS), "lams": lams}


def runs(s: Settings) -> list[Row]:
    """Operators x weights."""
    return [{"method": "KD", "operator": operator, "lam": lam} for operator in s["operators"] for lam in s["lams"]]


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One student."""
    study = Study.of(s)
    best, teacher = optimum(study)
    method = distillation(study.alpha, run["method"], run["lam"])
    result = fit(study, method, seed, teacher, compress=OPERATORS[run["operator"]])
    yield from rows_of(study, result, best)


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """What the teacher takes off the objective under each operator, beside what it takes off without any."""
    sentences, table = [], list[list[str | float]]()
    for operator in s["operators"]:
        lam = best_lam(rows, "objective", operator=operator)
        sgd, taught = (finals(rows, "objective", lam=weight, operator=operator) for weight in (0.0, lam))
        gain = np.subtract(sgd, taught).tolist()
        table.append([operator, with_interval(sgd, 4), lam, with_interval(taught, 4), with_interval(gain, 2)])
        sentences.append(
            f"Operator: {operator}. At KD's best lam {lam:g} the objective is {with_interval(taught, 4)}, "
            f"{versus(taught, sgd)} SGD's {with_interval(sgd, 4)} under the same operator."
        )
    columns = ["operator", "SGD's objective", "best lam", "objective there", "taken off"]
    return Reading(sentences, [Table("Objective by operator", columns, table)])


EXPERIMENT = Experiment(
    name="e6",
    title="Compressed students",
    question="Does distillation still lower the noise when the student's weights are masked, cut or rounded?",
    claim="Partial variance reduction survives compression: only the operator's own error is left.",
    figures=(
        Figure(
            "gap_by_lam",
            "Gap to the optimum of all weights, by weight",
            "sweep",
            "lam",
            "gap",
            ("method",),
            "operator",
            log_y=True,
            note="Mean over the last quarter of the epochs; lam = 0 is SGD under the same operator.",
        ),
        Figure(
            "gap_by_epoch",
            "Gap to the optimum of all weights along training, by weight",
            "curve",
            "epoch",
            "gap",
            ("lam",),
            "operator",
            log_y=True,
            note="lam = 0 is SGD under the same operator.",
        ),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
)
