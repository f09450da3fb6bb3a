"""The demonstration behind `kdvr demo`: a teacher lowers the noise floor on which SGD sits, measured against the optimum.

Every run minimises f(W, b) = mean softmax loss + alpha/2 |W|^2 at one constant learning rate, so large that SGD stops improving
above the optimum f*. The teacher is the engine's own: SGD on the same f with a falling rate. f* comes from L-BFGS on the
engine's full gradient. Objectives are means over the last quarter of the epochs, since single ones jump; accuracies are those
of the last epoch. Shapes: X (n, d), W (k, d). Source: arXiv:2305.17581.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._job import Progress
from .backends import get_backend
from .data import Split
from .methods import KD, SGD, SVRG, Method, UnbiasedKD
from .result import Result, Status
from .schedules import Inverse
from .solve import solve
from .statistics import gradient_stats
from .teachers import Teacher

_FLATTEST = {"float32": 1e-6, "float64": 1e-8}  # largest entry of the gradient at f*; below, rounding moves it about
Watch = Callable[[str, int, int], None]  # label of the run, epoch finished (0: a stage without epochs begins), epochs in all


@dataclass(frozen=True)
class Settings:
    """What all runs share. alpha: L2 weight; learning_rate: constant, teacher excepted; epochs: of each run."""

    alpha: float = 1e-3
    learning_rate: float = 0.5
    batch_size: int = 10
    epochs: int = 60
    random_state: int = 0
    backend: str = "auto"


@dataclass(frozen=True)
class Row:
    """One method's outcome.

    objective: mean over the last quarter of the epochs. gap: objective - f*. ratio: gap over SGD's. accuracy: on held-out rows.
    rows_per_second: rows visited by steps per second of training; the time includes a method's full passes, not the measuring.
    grad_evals, gaps: the curve, one entry an epoch (gradient evaluations in units of n).
    """

    label: str
    objective: float
    gap: float
    ratio: float
    accuracy: float
    rows_per_second: float
    grad_evals: NDArray[np.float64]
    gaps: NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """The demonstration's outcome.

    optimum: f*, known to within `resolution`, the rounding of the data's dtype. teacher_gap: the teacher's f - f*.
    interrupted: Ctrl-C ended it early; `rows` holds what was reached.
    """

    data: Split
    settings: Settings
    backend: str
    optimum: float
    resolution: float
    teacher_gap: float
    teacher_accuracy: float
    rows: tuple[Row, ...]
    interrupted: bool


def contenders(alpha: float) -> dict[str, Method]:
    """The methods compared, by label; the teacher's own L2 term is taken along so that plain KD is not biased by it."""
    return {
        "SGD": SGD(),
        "KD 0.7": KD(lam=0.7, teacher_alpha=alpha),
        "unbiased KD 1.0": UnbiasedKD(lam=1.0),
        "SVRG": SVRG(),
    }


def run_demo(data: Split, settings: Settings, watch: Watch = lambda label, epoch, epochs: None) -> Report:
    """Train the teacher, find the optimum, run every contender; `watch` is told of each finished epoch.

    Raises what `solve` raises, KeyboardInterrupt only while the optimum is being computed.
    """
    backend = get_backend(settings.backend).name
    teacher, interrupted = _train(data, settings, "teacher", SGD(), None, watch)
    optimum = float("nan")
    if not interrupted:
        watch("optimum", 0, settings.epochs)
        optimum = _optimum(data, settings, teacher)
    rows: list[Row] = []
    for label, method in contenders(settings.alpha).items():
        if interrupted:
            break
        result, interrupted = _train(data, settings, label, method, Teacher.weights(teacher.coef, teacher.intercept), watch)
        if len(result.history):
            rows.append(_row(data, label, result, optimum, rows[0].gap if rows else None))
    return Report(
        data=data,
        settings=settings,
        backend=backend,
        optimum=optimum,
        resolution=float(np.finfo(data.X.dtype).eps * optimum),
        teacher_gap=_objective(data, settings, teacher.coef, teacher.intercept)[0] - optimum,
        teacher_accuracy=_accuracy(data, teacher),
        rows=tuple(rows),
        interrupted=interrupted,
    )


def check_plot(path: Path) -> None:
    """Raise before any work is done if a plot could not be written there."""
    from matplotlib.backend_bases import FigureCanvasBase

    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"{path.resolve().parent} is no directory; make it, or choose another place for the plot")
    known = FigureCanvasBase.filetypes
    if path.suffix.lower().lstrip(".") not in known:
        raise ValueError(f"a plot cannot be written as {path.name!r}; its name ends in one of {', '.join(sorted(known))}")


def save_plot(report: Report, path: str | Path) -> Path:
    """Write the gap to the optimum against gradient evaluations, log scale, as a picture; returns the path.

    Raises OSError if the file cannot be written and ValueError for a suffix matplotlib does not know.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for row in report.rows:
        axes.semilogy(row.grad_evals, np.where(row.gaps > 0, row.gaps, np.nan), label=row.label)
    axes.set_xlabel("gradient evaluations / n (full passes counted)")
    axes.set_ylabel("objective - optimum")
    s = report.settings
    axes.set_title(f"{report.data.name}: softmax, batch {s.batch_size}, learning rate {s.learning_rate:g}, alpha {s.alpha:g}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    return path


def _train(
    data: Split, settings: Settings, label: str, method: Method, teacher: Teacher | None, watch: Watch
) -> tuple[Result, bool]:
    """One run, and whether Ctrl-C ended it. The teacher's own run is the one whose rate falls."""

    def tell(progress: Progress) -> None:
        watch(label, progress.epoch, progress.epochs)

    lr = settings.learning_rate
    result = solve(
        data.X,
        data.y,
        loss="softmax",
        method=method,
        teacher=teacher if method.plan().teacher != "none" else None,
        learning_rate=Inverse(lr, decay=0.2) if teacher is None else lr,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        alpha=settings.alpha,
        random_state=settings.random_state,
        backend=settings.backend,
        track=() if teacher is None else ("objective",),
        callbacks=[tell],
    )
    return result, result.status is Status.INTERRUPTED


def _row(data: Split, label: str, result: Result, optimum: float, sgd_gap: float | None) -> Row:
    history = result.history
    tail = max(1, len(history) // 4)
    objective = float(history["objective"][-tail:].mean())
    gap = objective - optimum
    return Row(
        label=label,
        objective=objective,
        gap=gap,
        ratio=1.0 if sgd_gap is None else gap / sgd_gap,
        accuracy=_accuracy(data, result),
        rows_per_second=len(data.X) * len(history) / float(history["seconds"][-1]),
        grad_evals=history["grad_evals"],
        gaps=history["objective"] - optimum,
    )


def _accuracy(data: Split, result: Result) -> float:
    return float((result.predict(data.X_test) == data.y_test).mean())


def _objective(
    data: Split, settings: Settings, coef: NDArray[np.floating], intercept: NDArray[np.floating]
) -> tuple[float, NDArray[np.float64]]:
    """The objective f, and its gradient flattened from (k, d + 1)."""
    stats = gradient_stats(
        data.X, data.y, coef, intercept=intercept, loss="softmax", alpha=settings.alpha, backend=settings.backend
    )
    return stats.objective, np.column_stack([stats.grad, stats.grad_intercept]).ravel()


def _optimum(data: Split, settings: Settings, start: Result) -> float:
    """f*, by L-BFGS from the teacher's weights; float32 rows limit it to about 1e-7."""
    from scipy.optimize import minimize

    k, d = start.coef.shape

    def value_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        W = flat.reshape(k, d + 1).astype(data.X.dtype)
        return _objective(data, settings, np.ascontiguousarray(W[:, :d]), np.ascontiguousarray(W[:, d]))

    x0 = np.column_stack([start.coef, start.intercept]).astype(np.float64).ravel()
    options = {"maxiter": 1000, "maxcor": 30, "ftol": 0.0, "gtol": _FLATTEST[data.X.dtype.name]}
    return float(minimize(value_and_gradient, x0, jac=True, method="L-BFGS-B", options=options).fun)
