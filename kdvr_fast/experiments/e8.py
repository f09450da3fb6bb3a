"""E8. Deep linear students on least squares: the noise floor through a product of layers, and the bound of the PL condition.

f is not convex in the layers, but satisfies the Polyak-Lojasiewicz condition near its optima, all layers with W_L ... W_1 = P*.
One problem; a run begins near one optimum, and its rate is the largest for which the bound holds, mu / (4 L L_f) with the
constants there. Varied: depth, weight, the teacher's distance from that optimum, and what is subtracted: "KD", the teacher's
residuals through the student's layers, "unbiased KD", with their mean added back, or "KD in parameters", the teacher's gradient
in its own layers. How to read it: "gap" at a run's end is f - f*, mean over its second half. The bound takes constants and
statistics at the optimum where the run began; "KD in parameters" may leave it in a long run, since the teacher's mean gradient
also points along the optima, where nothing holds the student.
Shapes: A (rows, features), Y (rows, outputs), all layers as one array (p,). Source: arXiv:2305.17581, Theorem 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from .. import theory
from .._job import Progress
from .._layers import Network
from ..deep import DeepLinear
from ..layer_statistics import LayerStats, layer_stats
from ..methods import KD, Method, UnbiasedKD
from ..teachers import Teacher
from ._experiment import Experiment, Figure, Line, Reading, Row, Settings, Table
from ._processes import train
from ._summary import best_lam, finals, ratios, with_interval

KINDS = ("KD", "unbiased KD", "KD in parameters")
_POINTS = 60  # of a curve
_STEP = 1e-20  # of a derivative along the imaginary axis, where nothing cancels
Layers = list[NDArray[Any]]


def configure(quick: bool, data: Path | None) -> Settings:
    """Settings; the problem is synthetic, so `data` is not looked at. A relaxation is 1 / (rate mu) steps."""
    return {
        "rows": 200,
        "features": 6,
        "outputs": 2,
        "width": 6,
        "depths": [2, 3, 4],
        "teacher_distances": [0.0, 0.03, 0.1],
        "start_distance": 0.1,
        "lams": [i / 4 for i in range(5)] if quick else [i / 10 for i in range(11)],
        "relaxations": 20 if quick else 80,
    }


def runs(s: Settings) -> list[Row]:
    """The grid."""
    return [
        {
            "method": method,
            "depth": depth,
            "teacher_distance": distance,
            "case": f"depth {depth}, teacher at {distance:g}",
            "lam": lam,
            "drawn": distance > 0,
        }
        for depth in s["depths"]
        for distance in s["teacher_distances"]
        for method in KINDS
        for lam in s["lams"]
    ]


@dataclass(frozen=True)
class Depth:
    """The problem, one of its optima with that many layers, the constants there and the rate they allow.

    H = A^T A / n; f - f* = tr((P - P*) H (P - P*)^T) / 2, exactly.
    """

    A: NDArray[np.float64]
    Y: NDArray[np.float64]
    H: NDArray[np.float64]
    best: NDArray[np.float64]
    layers: Layers
    mu: float
    L: float
    L_full: float

    @property
    def rate(self) -> float:
        """The largest for which `theory.pl_bound` holds."""
        return self.mu / (4 * self.L * self.L_full)

    def gap(self, P: NDArray[Any]) -> float:
        """f - f* of a product."""
        off = P - self.best
        return float(np.trace(off @ self.H @ off.T)) / 2

    def near(self, distance: float, seed: int) -> Layers:
        """The optimum's layers, each moved by that part of its norm in a random direction."""
        rng = np.random.default_rng(seed)
        off = [rng.normal(size=W.shape) for W in self.layers]
        return [W + distance * np.linalg.norm(W) / np.linalg.norm(D) * D for W, D in zip(self.layers, off, strict=True)]


@lru_cache(maxsize=4)
def problem(rows: int, features: int, outputs: int, width: int, depth: int) -> Depth:
    """Gaussian rows, targets with as much noise as signal; the layers of the optimum are balanced."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(rows, features))
    Y = A @ rng.normal(size=(features, outputs)) / features**0.5 + rng.normal(size=(rows, outputs))
    best = np.linalg.lstsq(A, Y, rcond=None)[0].T
    U, S, Vt = np.linalg.svd(best, full_matrices=False)
    inner = [np.linalg.qr(rng.normal(size=(width, len(S))))[0] for _ in range(depth - 1)]
    bases = [Vt.T, *inner, U]
    layers = [(above * S ** (1 / depth)) @ below.T for below, above in pairwise(bases)]
    return Depth(A, Y, A.T @ A / rows, best, layers, *_constants(A, Y, layers))


def _constants(A: NDArray[np.float64], Y: NDArray[np.float64], layers: Layers) -> tuple[float, float, float]:
    """mu, L and L_f at an optimum, from the second derivatives of all rows there.

    At an optimum the Hessian of f is J^T (I (x) H) J, J being the derivative of P; along its null space lie the other optima.
    mu and L_f are its least and largest eigenvalue besides, L the least number with E|f_i'' v|^2 <= L v^T f'' v for other v.
    """
    network = Network((A.shape[1], *(len(W) for W in layers)))
    flat, n, k = np.concatenate([W.ravel() for W in layers]), len(A), Y.shape[1]
    root = np.linalg.cholesky(A.T @ A / n)
    J = np.array([network.pull(flat, E.reshape(k, -1)) for E in np.eye(k * A.shape[1])])
    _, sizes, V = np.linalg.svd(np.kron(np.eye(k), root.T) @ J, full_matrices=False)
    bends = [_row_gradients(A, Y, network.split(flat + 1j * _STEP * v)).imag.ravel() / _STEP for v in V]
    second = np.array(bends) @ np.array(bends).T / n
    L = float(eigh(second, np.diag(sizes**2), eigvals_only=True)[-1])
    return float(sizes[-1] ** 2), L, float(sizes[0] ** 2)


def _row_gradients(A: NDArray[Any], Y: NDArray[Any], layers: Layers) -> NDArray[Any]:
    """grad f_i, (n, p)."""
    h = [A]
    for W in layers:
        h.append(h[-1] @ W.T)
    delta, grads = h.pop() - Y, list[NDArray[Any]]()
    for W in layers[::-1]:
        grads.append((delta[:, :, None] * h.pop()[:, None, :]).reshape(len(A), -1))
        delta = delta @ W
    return np.hstack(grads[::-1])


def at(s: Settings, depth: int) -> Depth:
    """The problem of a depth."""
    return problem(s["rows"], s["features"], s["outputs"], s["width"], depth)


def _method(kind: str, lam: float) -> Method:
    return UnbiasedKD(lam) if kind == "unbiased KD" else KD(lam, form="parameter" if "parameters" in kind else "logit")


def _teacher(task: Depth, kind: str, distance: float) -> Teacher:
    """Where its layers are not to be used, their product."""
    guide = Teacher.layers(task.near(distance, 1))
    return guide if "parameters" in kind else Teacher.weights(guide.source)


def work(s: Settings, run: Row, seed: int) -> Iterator[Row]:
    """One student."""
    task, gaps = at(s, run["depth"]), list[float]()
    epochs = ceil(s["relaxations"] / (task.rate * task.mu) / s["rows"])

    def measure(progress: Progress) -> None:
        gaps.append(task.gap(progress.coef))

    train(
        task.A,
        task.Y,
        loss="squared",
        method=_method(run["method"], run["lam"]),
        model=DeepLinear(weights=task.near(s["start_distance"], 2)),
        teacher=_teacher(task, run["method"], run["teacher_distance"]),
        learning_rate=task.rate,
        batch_size=1,
        epochs=epochs,
        fit_intercept=False,
        sampling="replacement",
        random_state=seed,
        callbacks=[measure],
    )
    for epoch in range(1, epochs + 1):
        if epoch % ceil(epochs / _POINTS) == 0 or epoch == epochs:
            yield {"epoch": epoch, "gap": gaps[epoch - 1]}
    yield {"final": True, "gap": float(np.mean(gaps[epochs // 2 :])), "last_gap": gaps[-1]}


def _stats(task: Depth, kind: str, distance: float) -> LayerStats:
    form = "parameter" if "parameters" in kind else "logit"
    teacher = _teacher(task, kind, distance)
    return layer_stats(task.A, task.Y, task.layers, loss="squared", teacher=teacher, form=form, fit_intercept=False)  # type: ignore[arg-type]


def bound(s: Settings, kind: str, depth: int, distance: float, lam: float) -> float:
    """The floor that the PL condition allows."""
    task = at(s, depth)
    constants = {"mu": task.mu, "L": task.L, "L_full": task.L_full}
    stats = _stats(task, kind, distance)
    return theory.pl_bound(stats, lam, task.rate, **constants, steps=inf, start_gap=0.0, unbiased=kind == "unbiased KD")


def read(s: Settings, rows: Sequence[Row]) -> Reading:
    """Floors against bounds, best weights by teacher, and how close the optimum's own teacher brings the student."""
    table, lines, lowest = list[list[str | float]](), list[Line](), dict[tuple[str, int], list[float]]()
    slack: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for cell in runs(s)[:: len(s["lams"])]:
        kind, distance, case = cell["method"], cell["teacher_distance"], cell["case"]
        if distance == 0:
            continue
        where = {"method": kind, "case": case}
        bounds = [bound(s, kind, cell["depth"], distance, lam) for lam in s["lams"]]
        floors = [finals(rows, "gap", lam=lam, **where) for lam in s["lams"]]
        slack[kind] += [most / float(np.mean(floor)) for most, floor in zip(bounds, floors, strict=True)]
        lines.append(Line("gap_by_lam", f"PL bound, {kind}", [list(p) for p in zip(s["lams"], bounds, strict=True)], case))
        i = s["lams"].index(best_lam(rows, "gap", **where))
        lowest.setdefault((kind, cell["depth"]), []).append(float(np.mean(floors[i])))
        theirs = s["lams"][int(np.argmin(bounds))]
        table.append([kind, case, s["lams"][i], with_interval(ratios(floors[i], floors[0])), theirs, bounds[i] / bounds[0]])
    falls = all(floors == sorted(floors) for floors in lowest.values())
    sentences = [
        f"By its best weight the nearer teacher gives {'' if falls else 'NOT always '}the lower floor, at every depth.",
        *(_inside(*pair) for pair in slack.items()),
        *(_converged(rows, depth) for depth in s["depths"]),
    ]
    columns = ["method", "case", "best lam", "floor there", "bound's best lam", "bound at the best lam"]
    return Reading(sentences, [Table("Best weights, noise floors and bounds, SGD's = 1", columns, table)], lines)


def _inside(kind: str, slack: list[float]) -> str:
    """slack: bound over floor, of all cells."""
    over = sum(value < 1 for value in slack)
    if over:
        return f"{kind}: the floor does NOT lie below its PL bound in {over} of {len(slack)} cells."
    return f"{kind}: the floor lies below its PL bound in all {len(slack)} cells, {min(slack):.2g} to {max(slack):.2g} times."


def _converged(rows: Sequence[Row], depth: int) -> str:
    """Unbiased KD from a teacher at the optimum, beside SGD."""
    where = {"method": "unbiased KD", "depth": depth, "teacher_distance": 0.0}
    sgd, end = (float(np.mean(finals(rows, column, lam=lam, **where))) for column, lam in (("gap", 0.0), ("last_gap", 1.0)))
    verdict = "it converges" if end < 1e-6 * sgd else "it does NOT converge"
    return (
        f"Depth {depth}, taught by the optimum, lam 1: unbiased KD ends {end:.1e} above it (SGD's floor {sgd:.1e}): {verdict}."
    )


EXPERIMENT = Experiment(
    name="e8",
    title="Deep linear students: noise floors under the PL condition",
    question="Is the picture the same through a product of layers, where the objective is not convex?",
    claim="Under the PL condition too the right weight lowers the floor, and a better teacher lowers it more.",
    figures=(
        Figure(
            "gap_by_lam",
            "Noise floor by weight",
            "sweep",
            "lam",
            "gap",
            ("method",),
            "case",
            {"drawn": True},
            log_y=True,
            note="f - f*, mean over the second half of a run. The bound holds with the constants at the optimum.",
        ),
        Figure(
            "optimum_by_epoch",
            "Unbiased KD taught by the optimum: gap along training, by weight",
            "curve",
            "epoch",
            "gap",
            ("lam",),
            "depth",
            {"method": "unbiased KD", "teacher_distance": 0.0},
            log_y=True,
            note="lam = 0 is SGD.",
        ),
        Figure(
            "kd_by_epoch",
            "KD: gap along training, by weight",
            "curve",
            "epoch",
            "gap",
            ("lam",),
            "case",
            {"method": "KD", "drawn": True},
            log_y=True,
            note="lam = 0 is SGD.",
        ),
    ),
    configure=configure,
    runs=runs,
    work=work,
    read=read,
)
