"""The automatic weight against every fixed one, on the problems of E1, E2 and E3, with teachers good, random and adversarial.

Varied: weight, 0 to 1 and "auto", for KD and its unbiased form. The random teacher has weights of the trained one's length in
a random direction, the adversarial one has its weights turned round; both are compared with SGD alone. How to read it:
"objective" at a run's end is the mean over the last quarter of its epochs; the ratios are of whole objectives, as a user sees
them. Quick: as in E1, E2 and E3. Source: `kdvr_fast._weight`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..methods import KD, UnbiasedKD
from ..teachers import Teacher
from . import e1, e2, e3
from ._experiment import Experiment, Figure, Line, Reading, Row, Settings, Table
from ._processes import train
from ._softmax import Study, distillation, fit, rows_of, teachers
from ._summary import best_lam, finals, ratios, with_interval

KINDS = ("KD", "unbiased KD")
GOOD, USELESS = "trained", ("random", "adversarial")
LEAST_SQUARES = "least squares"
_BELOW_BEST, _ABOVE_SGD = 0.05, 0.02


def configure(quick: bool, data: Path | None) -> Settings:
    """The problems of the three."""
    studies = {"softmax": e2.configure(quick, data), "probe": e3.configure(quick, data)}
    fields = Study.__dataclass_fields__
    return {
        **{name: {key: value for key, value in s.items() if key in fields} for name, s in studies.items()},
        LEAST_SQUARES: {"rows": 2000, "features": 10, "learning_rate": 0.05, "epochs": 40, "teacher_distance": 0.1},
        "lams": [i / 10 for i in range(11)],
    }


def runs(s: Settings) -> list[Row]:
    """Problems x methods x teachers x weights; of useless teachers SGD and the automatic weight are enough."""
    found: list[Row] = []
    for task in (LEAST_SQUARES, "softmax", "probe"):
        for method in KINDS:
            for teacher in (GOOD, *USELESS):
                run: Row = {"case": f"{task}, {method}, {teacher} teacher", "task": task, "method": method, "teacher": teacher}
                found.append(run | {"weight": "auto", "label": f"auto, {teacher} teacher"})
                for lam in s["lams"] if teacher == GOOD else [0.0]:
                    label = "SGD" if teacher == GOOD and lam == 0 else "fixed"
                    found.append(run | {"weight": "fixed", "lam": lam, "label": label})
    return [run | {"drawn": run["method"] == "KD" and run["label"] != "fixed"} for run in found]


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One student."""
    lam = run.get("lam", "auto")
    if run["task"] == LEAST_SQUARES:
        yield from _least_squares(s[LEAST_SQUARES], run, lam, seed)
        return
    study = Study.of(s[run["task"]])
    good = teachers(study, seed)[max(study.checkpoints)]
    teacher = _other(good.source, good.intercept, run["teacher"], seed)
    yield from rows_of(study, fit(study, distillation(study.alpha, run["method"], lam), seed, teacher))


def _other(W: object, b: object, kind: str, seed: int) -> Teacher:
    """The trained teacher, or one as useless as its name says."""
    theta, free = np.asarray(W), np.asarray(b)
    if kind == "random":
        drawn = np.random.default_rng(seed).normal(size=theta.shape).astype(theta.dtype)
        theta, free = drawn * (np.linalg.norm(theta) / np.linalg.norm(drawn)), 0 * free
    return Teacher.weights(*((-theta, -free) if kind == "adversarial" else (theta, free)))


def _least_squares(p: Settings, run: Row, lam: float | str, seed: int) -> Iterator[Row]:
    A, b, x_star, off = e1.problem(p["rows"], p["features"])
    theta = (x_star + p["teacher_distance"] * off)[None]
    method = (UnbiasedKD if run["method"] == "unbiased KD" else KD)(lam)  # type: ignore[arg-type]
    result = train(
        A,
        b,
        loss="squared",
        method=method,
        teacher=_other(theta, np.zeros(1), run["teacher"], seed),
        learning_rate=p["learning_rate"],
        batch_size=1,
        epochs=p["epochs"],
        fit_intercept=False,
        random_state=seed,
        track=("objective",),
    )
    for row in result.history:
        yield {"epoch": round(row["epoch"]), "objective": row["objective"], "weight_used": row["lam"]}
    yield {"final": True, "objective": float(result.history["objective"][-p["epochs"] // 4 :].mean())}


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Automatic against the best fixed weight, and against SGD where the teacher is useless."""
    table: list[list[str | float]] = []
    lines, worst_good, worst_useless = [], 0.0, 0.0
    cases = list(dict.fromkeys(row["case"] for row in rows))
    for case in cases:
        auto = finals(rows, "objective", case=case, weight="auto")
        sgd = finals(rows, "objective", case=case, weight="fixed", lam=0.0)
        lines.append(Line("objective_by_lam", "auto", [[lam, float(np.mean(auto))] for lam in (0.0, 1.0)], case))
        to_sgd = ratios(auto, sgd)
        if GOOD in case:
            lam = best_lam([row for row in rows if "lam" in row], "objective", case=case, weight="fixed")
            to_best = ratios(auto, finals(rows, "objective", case=case, weight="fixed", lam=lam))
            worst_good = max(worst_good, float(np.mean(to_best)) - 1)
            table.append([case, with_interval(auto, 4), lam, with_interval(to_best, 4), with_interval(to_sgd, 4)])
        else:
            worst_useless = max(worst_useless, float(np.mean(to_sgd)) - 1)
            table.append([case, with_interval(auto, 4), "-", "-", with_interval(to_sgd, 4)])
    good = "within" if worst_good <= _BELOW_BEST else "NOT within"
    useless = "at most" if worst_useless <= _ABOVE_SGD else "MORE than"
    n_good = sum(GOOD in case for case in cases)
    sentences = [
        f"With a trained teacher the automatic weight ends {good} {_BELOW_BEST:.0%} of the best fixed weight's objective in "
        f"all {n_good} cases; the largest distance is {worst_good:.1%}.",
        f"With a random or adversarial teacher it ends {useless} {_ABOVE_SGD:.0%} above SGD; the most is {worst_useless:.1%}.",
    ]
    columns = ["case", "objective, auto", "best fixed lam", "auto over it", "auto over SGD"]
    return Reading(sentences, [Table("The automatic weight", columns, table)], lines)


EXPERIMENT = Experiment(
    name="auto",
    title="The automatic weight",
    question="Does lam='auto' find the best fixed weight by itself, and do no harm with a useless teacher?",
    claim="The best weight follows from the statistics of the run.",
    figures=(
        Figure(
            "objective_by_lam",
            "Objective by weight",
            "sweep",
            "lam",
            "objective",
            ("method",),
            "case",
            {"weight": "fixed", "teacher": GOOD},
            log_y=True,
            note="Mean over the last quarter of the epochs; lam = 0 is SGD. The level line is the automatic weight.",
        ),
        Figure(
            "auto_by_epoch",
            "Objective along training with the automatic weight, by teacher",
            "curve",
            "epoch",
            "objective",
            ("label",),
            "task",
            {"drawn": True},
            log_y=True,
            note="KD. With a random or adversarial teacher the weight is 0, and all three are SGD.",
        ),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
)
