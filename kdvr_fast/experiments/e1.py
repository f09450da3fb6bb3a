"""E1. Least squares with a known optimum: the stationary error of KD-SGD, measured, exact, and as the theory's N(lam) has it.

One problem, rows drawn i.i.d. one at a time. Varied: weight, learning rate, distance of the teacher from the optimum, and
whether the teacher's mean gradient is added back. A run samples |x_t - x*|^2 after every epoch of `rows` steps, which is about
the time in which it forgets where it was, and takes the mean. How to read it: "error" is that mean, "oracle" the exact value
(`theory.LeastSquaresOracle`), and the theory's curve is N(lam) / N(0) times SGD's exact error.
Shapes: A (rows, features), b (rows,), theta and x* (features,). Source: arXiv:2305.17581, Theorem 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from .. import theory
from .._job import Progress
from ..backends.base import FloatArray
from ..methods import KD, UnbiasedKD
from ..statistics import gradient_stats
from ..teachers import Teacher
from ._experiment import Experiment, Figure, Line, Reading, Row, Settings, Table
from ._processes import train

KINDS = ("KD", "unbiased KD")
TOLERANCE = 0.05


def configure(quick: bool, data: Path | None) -> Settings:
    """Settings; the problem is synthetic, so `data` is not looked at."""
    return {
        "rows": 200,
        "features": 10,
        "learning_rates": [0.02, 0.05] if quick else [0.005, 0.02, 0.05],
        "teacher_distances": [0.03, 0.1, 0.3],
        "lams": [i / 5 for i in range(6)] if quick else [i / 10 for i in range(11)],
        "epochs": 2000 if quick else 4000,
        "burn_in": 40,
    }


def runs(s: Settings) -> list[Row]:
    """The grid."""
    return [
        {
            "method": method,
            "case": f"rate {rate:g}, teacher at {distance:g}",
            "learning_rate": rate,
            "teacher_distance": distance,
            "lam": lam,
        }
        for method in KINDS
        for rate in s["learning_rates"]
        for distance in s["teacher_distances"]
        for lam in s["lams"]
    ]


@lru_cache(maxsize=1)
def problem(rows: int, features: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """A, b, x* and the direction in which teachers are off, of length about sqrt(features)."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(rows, features))
    b = A @ rng.normal(size=features) + rng.normal(size=rows)
    x_star: FloatArray = np.linalg.lstsq(A, b, rcond=None)[0]
    return A, b, x_star, rng.normal(size=features)


def oracle(s: Settings, run: Row) -> float:
    """The exact stationary error of a cell."""
    A, b, x_star, off = problem(s["rows"], s["features"])
    theta = x_star + run["teacher_distance"] * off
    unbiased = run["method"] == "unbiased KD"
    rate = run["learning_rate"]
    return theory.LeastSquaresOracle.solve(A, b, lam=run["lam"], learning_rate=rate, theta=theta, unbiased=unbiased).error


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One long run; it starts at the optimum and forgets that in the burn-in."""
    A, b, x_star, off = problem(s["rows"], s["features"])
    errors: list[float] = []

    def sample(progress: Progress) -> None:
        offset = progress.coef[0] - x_star
        errors.append(float(offset @ offset))

    train(
        A,
        b,
        loss="squared",
        method=(UnbiasedKD if run["method"] == "unbiased KD" else KD)(run["lam"]),
        teacher=Teacher.weights(x_star + run["teacher_distance"] * off),
        learning_rate=run["learning_rate"],
        batch_size=1,
        epochs=s["burn_in"] + s["epochs"],
        fit_intercept=False,
        sampling="replacement",
        random_state=seed,
        coef_init=x_star[None],
        statistics=False,
        callbacks=[sample],
    )
    error, exact = float(np.mean(errors[s["burn_in"] :])), oracle(s, run)
    yield {"final": True, "error": error, "oracle": exact, "error_over_oracle": error / exact if exact else 1.0}


def _theory(s: Settings, run: Row) -> tuple[list[float], float]:
    """N(lam) / N(0) on the grid, and lambda*, of a cell's rate and teacher."""
    A, b, x_star, off = problem(s["rows"], s["features"])
    teacher = Teacher.weights(x_star + run["teacher_distance"] * off)
    stats = gradient_stats(A, b, x_star, loss="squared", teacher=teacher)
    unbiased, rate = run["method"] == "unbiased KD", run["learning_rate"]
    noise = [theory.noise(stats, lam, rate, unbiased=unbiased) for lam in (0.0, *s["lams"])]
    return [value / noise[0] for value in noise[1:]], theory.optimal_lambda(stats, rate, unbiased=unbiased)


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Measured against exact in every cell, and the best weights."""
    measured: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in rows:
        measured.setdefault((row["method"], row["case"]), {}).setdefault(row["lam"], []).append(row["error"])
    lams, table, lines = s["lams"], [], []
    steps, worst, where = [], 0.0, ""
    for cell in runs(s)[:: len(lams)]:
        found = np.array([np.mean(measured[cell["method"], cell["case"]][lam]) for lam in lams])
        exact = np.array([oracle(s, cell | {"lam": lam}) for lam in lams])
        ratios, best_theory = _theory(s, cell)
        off = np.abs(found / exact - 1)
        if off.max() > worst:
            worst, where = off.max(), f"{cell['method']}, {cell['case']}, lam {lams[off.argmax()]:g}"
        i, j = int(found.argmin()), int(exact.argmin())
        steps.append(abs(i - j))
        table.append(
            [cell["method"], cell["case"], lams[i], lams[j], round(best_theory, 3)]
            + [round(float(v), 4) for v in (found[i] / found[0], exact[j] / exact[0], ratios[j], off.max())]
        )
        figure = "unbiased_by_lam" if cell["method"] == "unbiased KD" else "error_by_lam"
        for label, curve in (("oracle", exact), ("theory N(lam)", np.array(ratios) * exact[0])):
            points = [[lam, float(v)] for lam, v in zip(lams, curve, strict=True)]
            lines.append(Line(figure, label, points, cell["case"]))
    one = table[len(s["teacher_distances"]) * (len(s["learning_rates"]) - 1) + 1]
    return Reading(
        [
            f"Measured error is {'within' if worst <= TOLERANCE else 'NOT within'} {TOLERANCE:.0%} of the exact one in all "
            f"{len(table) * len(lams)} cells; the largest difference is {worst:.1%} ({where}).",
            f"The best measured weight is {'' if max(steps) <= 1 else 'NOT '}within one step of the grid of the oracle's best "
            f"in all {len(steps)} cases (the same in {steps.count(0)}).",
            f"{one[0]} at {one[1]}: best lam {one[2]:g}, where its noise floor is {one[5]:.2f} of SGD's; "
            f"the oracle says {one[6]:.2f}, the theory's bound {one[7]:.2f} and its best lam {one[4]:.2f}.",
        ],
        [
            Table(
                "Best weights and noise floors, SGD's = 1",
                ["method", "case", "best lam", "oracle's", "theory's", "floor", "oracle's", "theory's", "largest difference"],
                table,
            )
        ],
        lines,
    )


EXPERIMENT = Experiment(
    name="e1",
    title="Least squares: measured error against oracle and theory",
    question="Does the stationary error of SGD with a teacher follow the exact second moment and the theory's N(lam)?",
    claim="Distillation reduces part of the variance: the best weight grows and the floor falls as the teacher gets better.",
    figures=(
        Figure(
            "error_by_lam",
            "KD: mean of |x - x*|^2 by weight",
            "sweep",
            "lam",
            "error",
            ("method",),
            "case",
            {"method": "KD"},
            log_y=True,
            note="Theory: N(lam) / N(0), times SGD's exact error.",
        ),
        Figure(
            "unbiased_by_lam",
            "Unbiased KD: mean of |x - x*|^2 by weight",
            "sweep",
            "lam",
            "error",
            ("method",),
            "case",
            {"method": "unbiased KD"},
            log_y=True,
            note="Theory: N(lam) / N(0), times SGD's exact error.",
        ),
        Figure(
            "against_oracle",
            "Measured over exact error",
            "sweep",
            "lam",
            "error_over_oracle",
            ("method",),
            "case",
            note="1 where the run does what the second-moment equation says.",
        ),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
)
