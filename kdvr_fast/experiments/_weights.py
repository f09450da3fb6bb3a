"""What E3, E4 and E5 share: students of one study by method, teacher and weight, and how far they stay above the optimum.

A run's end has "gap", its objective less f*, mean over the last quarter of its epochs, and "theory_ratio", N(lam) / N(0) at the
optimum. lam = 0 is SGD, whatever the method and the teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ._experiment import Figure, Line, Row, Settings, Table
from ._softmax import DRAWN, Study, distillation, fit, optimum, predicted_ratio, rows_of, teachers
from ._summary import finals, with_interval

OPTIMUM = "the optimum"


def grid(s: Settings) -> list[Row]:
    """Methods x teachers x weights; `teachers` holds numbers of epochs, and OPTIMUM for the optimum itself."""
    return [
        {"method": method, "teacher": name_of(teacher), "lam": lam}
        | ({} if teacher == OPTIMUM else {"teacher_epochs": teacher})
        for method in s["methods"]
        for teacher in s["teachers"]
        for lam in s["lams"]
    ]


def name_of(teacher: int | str) -> str:
    """A teacher in words."""
    return teacher if isinstance(teacher, str) else f"after {teacher} epoch{'s' * (teacher > 1)}"


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One student."""
    study = Study.of(s)
    best, at_best = optimum(study)
    teacher = teachers(study, seed)[run["teacher_epochs"]] if "teacher_epochs" in run else at_best
    result = fit(study, distillation(study.alpha, run["method"], run["lam"]), seed, teacher)
    for row in rows_of(study, result, best, run["lam"] in DRAWN):
        yield row | ({"theory_ratio": predicted_ratio(study, teacher, run["method"], run["lam"])} if "final" in row else {})


@dataclass(frozen=True)
class Case:
    """Method and teacher. best: the weight whose mean gap is smallest, by_seed: that of each seed. floor: gap there over SGD's,
    by seed. theory: N(lam) / N(0), mean over the seeds' teachers. sgd: SGD's mean gap.
    """

    method: str
    teacher: str
    lams: list[float]
    best: float
    by_seed: list[float]
    floor: list[float]
    theory: list[float]
    sgd: float

    @property
    def expected(self) -> float:
        """The weight at which theory is smallest."""
        return self.lams[int(np.argmin(self.theory))]

    @property
    def expected_floor(self) -> float:
        """What theory says at the best weight."""
        return self.theory[self.lams.index(self.best)]

    def sentence(self) -> str:
        """How it reads."""
        who = f"{self.method}, teacher: {self.teacher}:"
        if self.best == 0:
            return f"{who} no weight pays; theory's best lam is {self.expected:g}."
        return (
            f"{who} best lam {self.best:g}, where its noise floor is {with_interval(self.floor, 2)} of SGD's; "
            f"theory says {self.expected_floor:.2g}, and {self.expected:g} for the best lam."
        )

    def line(self, figure: str) -> Line:
        """Theory's floor by weight."""
        points = [[lam, self.sgd * ratio] for lam, ratio in zip(self.lams, self.theory, strict=True)]
        return Line(figure, f"theory, {self.method}", points, self.teacher)


def cases(s: Settings, rows: Sequence[Row]) -> list[Case]:
    """Every method with every teacher."""
    return [_case(s["lams"], rows, m, name_of(t)) for m in s["methods"] for t in s["teachers"]]


def _case(lams: list[float], rows: Sequence[Row], method: str, teacher: str) -> Case:
    where = {"method": method, "teacher": teacher}
    gaps = np.array([finals(rows, "gap", lam=lam, **where) for lam in lams])
    best = int(gaps.mean(axis=1).argmin())
    return Case(
        method=method,
        teacher=teacher,
        lams=lams,
        best=lams[best],
        by_seed=[lams[i] for i in gaps.argmin(axis=0)],
        floor=(gaps[best] / gaps[lams.index(0.0)]).tolist(),
        theory=[float(np.mean(finals(rows, "theory_ratio", lam=lam, **where))) for lam in lams],
        sgd=float(gaps[lams.index(0.0)].mean()),
    )


def table(found: Sequence[Case]) -> Table:
    """All cases."""
    columns = [
        "method",
        "teacher",
        "best lam",
        "best lam by seed",
        "floor, SGD's = 1",
        "theory's best lam",
        "theory's floor there",
    ]
    return Table(
        "Best weights and noise floors",
        columns,
        [
            [
                c.method,
                c.teacher,
                c.best,
                with_interval(c.by_seed),
                with_interval(c.floor),
                c.expected,
                float(f"{c.expected_floor:.3g}"),
            ]
            for c in found
        ],
    )


GAP_BY_LAM = Figure(
    "gap_by_lam",
    "Noise floor by weight",
    "sweep",
    "lam",
    "gap",
    ("method",),
    "teacher",
    log_y=True,
    note="Objective less optimum, mean over the last quarter of the epochs. Theory: N(lam) / N(0) times SGD's floor.",
)


def gap_by_epoch(method: str) -> Figure:
    """One method along training."""
    return Figure(
        f"{method.replace(' ', '_')}_by_epoch",
        f"{method}: gap to the optimum along training, by weight",
        "curve",
        "epoch",
        "gap",
        ("lam",),
        "teacher",
        {"method": method},
        log_y=True,
        note="lam = 0 is SGD.",
    )
