"""Rows by the billion: noise floors and lambda* against the number of rows, beside what they are for infinitely many.

Least squares on virtual rows, each met once, so that every step has a fresh draw. Varied: rows and method. Two kinds of runs: a
walk from the optimum, whose "floor" is the mean loss on its way less the optimum's on the same rows, and an estimate of lambda*
from one read, whose "weight error" is |estimate / closed form - 1|. How to read it: "exact" is the floor of a walk without an
end; the shortest walks, which begin without an error, lie below it. Seconds are those of one thread; peak memory is that of the
process, the largest of all runs that it made.

With normal features of variances v, batches of b, Delta the teacher's offset, sigma the noise, D = sum v Delta^2, the moments
s_j = E(x - x*)_j^2 of a walk follow from Isserlis' theorem: with h_j = (gamma / b) / (2 - gamma (1 + 1/b) v_j), q = sum h v,

    KD           x* moves by lam Delta:  2 (f - f*) = lam^2 D + tau^2 q / (1 - q),      tau = (1 - lam) sigma
    unbiased KD  2 (f - f*) = ((tau^2 + lam^2 D) q + lam^2 sum h v^2 Delta^2) / (1 - q)

Source: arXiv:2305.17581, Theorem 1, whose constants these replace; L. Isserlis (1918).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from time import perf_counter

import numpy as np

from .. import synthetic
from .._system import peak_memory
from ..methods import KD, SGD, Method, UnbiasedKD
from ..statistics import gradient_stats
from ..teachers import Teacher
from ..theory import optimal_lambda
from ._experiment import Experiment, Figure, Line, Reading, Row, Settings, Table
from ._processes import train
from ._summary import finals, ratios, with_interval

KINDS = ("SGD", "KD at lambda*", "KD at its best", "unbiased KD")
ESTIMATE = "lambda*"
TOLERANCE = 0.05
_FLAT = 16.0  # MiB: a walk's order of rows is made in pieces of 8
_FIRST_TEACHER = 1000  # seeds of teachers, which no problem has


def configure(quick: bool, data: Path | None) -> Settings:
    """Settings; the rows are made where they are read, so `data` is not looked at."""
    return {
        "rows": [10**e for e in range(4, 7 if quick else 10)],
        "features": 100,
        "condition": 10.0,
        "noise": 1.0,
        "teacher_correlation": 0.9,
        "learning_rate": 0.02,
        "batch_size": 10,
    }


def runs(s: Settings) -> list[Row]:
    """Rows x methods, and the estimates."""
    return [
        {"rows": n, "method": kind, "task": "estimate" if kind == ESTIMATE else "walk"}
        for n in s["rows"]
        for kind in (*KINDS, ESTIMATE)
    ]


@lru_cache(maxsize=1)
def problem(
    rows: int, features: int, condition: float, noise: float, correlation: float, seed: int
) -> tuple[synthetic.SyntheticProblem, Teacher]:
    """A longer problem begins with the rows of a shorter one."""
    p = synthetic.least_squares(
        rows, features, condition=condition, noise=noise, random_state=seed, virtual=True, dtype=np.float32
    )
    return p, synthetic.teacher(p, correlation=correlation, random_state=_FIRST_TEACHER + seed)


@lru_cache(maxsize=1)
def _least(rows: int, *rest: float) -> float:
    """The optimum's loss on these rows."""
    p, _ = problem(rows, *rest)
    return gradient_stats(p.X, p.y, p.coef, loss=p.loss, n_threads=1).loss


def exact_floor(s: Settings, p: synthetic.SyntheticProblem, teacher: Teacher, lam: float, unbiased: bool) -> float:
    """f - f* of a walk without an end, see above."""
    v, gamma, b = p.X.variances, s["learning_rate"], s["batch_size"]
    off = lam * (teacher.theta(np.dtype(np.float64))[0] - p.coef)[0]
    h = gamma / b / (2 - gamma * (1 + 1 / b) * v)
    q, D, tau = h @ v, v @ off**2, (1 - lam) * s["noise"]
    if unbiased:
        return float(((tau**2 + D) * q + (h * v**2) @ off**2) / (1 - q) / 2)
    return float((D + tau**2 * q / (1 - q)) / 2)


def weight(s: Settings, p: synthetic.SyntheticProblem, teacher: Teacher, kind: str) -> float:
    """The weight of a method, from the closed forms."""
    if kind == "KD at its best":  # of a parabola, whose middle follows from three points
        ends = [exact_floor(s, p, teacher, lam, False) for lam in (0.0, 0.5, 1.0)]
        return float(np.clip((3 * ends[0] - 4 * ends[1] + ends[2]) / (4 * (ends[0] - 2 * ends[1] + ends[2])), 0.0, 1.0))
    stats = synthetic.population_stats(p.y, p.coef, teacher=teacher, batch_size=s["batch_size"])
    return 0.0 if kind == "SGD" else optimal_lambda(stats, s["learning_rate"], unbiased=kind == "unbiased KD")


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One walk, or one read."""
    key = (run["rows"], s["features"], s["condition"], s["noise"], s["teacher_correlation"], seed)
    p, teacher = problem(*key)
    kind = run["method"]
    start = perf_counter()
    if kind == ESTIMATE:
        stats = gradient_stats(p.X, p.y, p.coef, loss=p.loss, teacher=teacher, batch_size=s["batch_size"], n_threads=1)
        seconds = perf_counter() - start
        found, closed = optimal_lambda(stats, s["learning_rate"]), weight(s, p, teacher, "KD at lambda*")
        measured: Row = {"weight": found, "closed_form": closed, "weight_error": abs(found / closed - 1)}
    else:
        lam = weight(s, p, teacher, kind)
        method: Method = SGD() if kind == "SGD" else UnbiasedKD(lam) if kind == "unbiased KD" else KD(lam)
        walk = train(
            p.X,
            p.y,
            loss=p.loss,
            method=method,
            teacher=None if kind == "SGD" else teacher,
            learning_rate=s["learning_rate"],
            batch_size=s["batch_size"],
            epochs=1,
            fit_intercept=False,
            coef_init=p.coef,
            statistics=False,
            random_state=seed,
        )
        seconds = perf_counter() - start
        floor, exact = float(walk.history["loss"][0]) - _least(*key), exact_floor(s, p, teacher, lam, kind == "unbiased KD")
        measured = {"lam": lam, "floor": floor, "exact": exact}
    peak = {"peak_mib": peak_memory() / 2**20}
    yield {"final": True} | measured | {"seconds": seconds, "rows_per_second": run["rows"] / seconds} | peak


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Floors at the most rows against the exact ones, lambda*, speed and memory."""
    few, most = s["rows"][0], s["rows"][-1]
    table, lines, worst = list[list[str | float]](), list[Line](), 0.0
    sgd = finals(rows, "floor", method="SGD", rows=most)
    for kind in KINDS:
        floors, exact, lams = (finals(rows, column, method=kind, rows=most) for column in ("floor", "exact", "lam"))
        level = float(np.mean(exact))
        lines.append(Line("floor_by_rows", f"exact, {kind}", [[n, level] for n in (few, most)]))
        off = float(np.mean(floors)) / level - 1
        worst = max(worst, abs(off))
        over = with_interval(ratios(floors, sgd))
        table.append([kind, with_interval(lams), with_interval(floors, 4), level, f"{off:+.2%}", over])
    errors = {n: finals(rows, "weight_error", method=ESTIMATE, rows=n) for n in s["rows"]}
    lines.append(Line("error_by_rows", "1 / sqrt(rows)", [[n, n**-0.5] for n in s["rows"]]))
    found, closed = (finals(rows, column, method=ESTIMATE, rows=most) for column in ("weight", "closed_form"))
    memory = [float(np.mean(finals(rows, "peak_mib", rows=n))) for n in (few, most)]
    stored = 4 * most * s["features"] / 2**20
    rates = {kind: finals(rows, "rows_per_second", method=kind, rows=most) for kind in (*KINDS, ESTIMATE)}
    return Reading(
        [
            f"At {most:.0e} rows the noise floors are {'' if worst <= TOLERANCE else 'NOT '}within {TOLERANCE:.0%} of the "
            f"exact ones for all {len(KINDS)} methods; the largest difference is {worst:.2%}.",
            "Over SGD's they are " + ", ".join(f"{row[-1]} for {row[0]} (lam {row[1]})" for row in table[1:]) + ".",
            f"lambda* from {most:.0e} rows is {np.mean(found):.6f}, in closed form {np.mean(closed):.6f}, an error of "
            f"{np.mean(errors[most]):.1e}; from {few:.0e} rows the error is {np.mean(errors[few]):.1e}.",
            f"Peak memory is {memory[0]:.0f} MiB at {few:.0e} rows and {memory[1]:.0f} MiB at {most:.0e}: "
            f"{'flat' if memory[1] <= memory[0] + _FLAT else 'NOT flat'}. Stored, these rows would take {stored:.3g} MiB.",
            "Rows a second at the most rows, one thread: "
            + ", ".join(f"{kind} {np.mean(rate) / 1e6:.2f} million" for kind, rate in rates.items())
            + ".",
        ],
        [Table(f"Noise floors at {most:.0e} rows", ["method", "lam", "floor", "exact", "difference", "SGD's = 1"], table)],
        lines,
    )


def _by_rows(id: str, title: str, y: str, where: Row, note: str, log_y: bool = True) -> Figure:
    return Figure(id, title, "sweep", "rows", y, ("method",), None, where, log_x=True, log_y=log_y, note=note)


EXPERIMENT = Experiment(
    name="scale",
    title="Noise floors and lambda* at scale",
    question="Do noise floor and best weight tend to their closed forms as rows grow, at the same memory?",
    claim="The floor is the distribution's: it does not fall with the number of rows, while the best weight's error does.",
    figures=(
        _by_rows("floor_by_rows", "Noise floor by rows", "floor", {"task": "walk"}, "Mean along the walk.", log_y=False),
        _by_rows("error_by_rows", "Error of lambda*", "weight_error", {"task": "estimate"}, "Relative to the closed form."),
        _by_rows(
            "speed_by_rows",
            "Rows a second",
            "rows_per_second",
            {},
            "One thread; unbiased KD reads all rows twice.",
        ),
        _by_rows("memory_by_rows", "Peak memory in MiB", "peak_mib", {}, "Of the process that made the run.", log_y=False),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
)
