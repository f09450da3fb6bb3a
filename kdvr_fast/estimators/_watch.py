"""What watches a run from epoch to epoch: the end where nothing improves any more, and the progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._job import Progress
from ..backends.base import FloatArray

Score = Callable[[FloatArray, FloatArray], float]


class Patience:
    """A callback that ends a run after `patience` epochs in a row without an improvement by more than a margin.

    Watched is the loss of the walk, with a margin of tol times the first epoch's loss, or `score` of the weights, with a margin
    of tol; the epoch of the best score is kept. tol None never ends a run.
    """

    def __init__(self, tol: float | None, patience: int, score: Score | None) -> None:
        self.tol, self.patience, self.score = tol, patience, score
        self.scores: list[float] = []
        self.best = -float("inf")
        self.kept: Progress | None = None
        self.ended = False
        self._scale, self._waited = 1.0, 0

    def __call__(self, progress: Progress) -> bool:
        """Take an epoch in; True ends the run."""
        if self.score is None:
            value = -progress.row["loss"]
            if progress.epoch == 1:
                self._scale = abs(value)
        else:
            value = self.score(progress.coef, progress.intercept)
            self.scores.append(value)
        if self.tol is not None:
            self._waited = 0 if value > self.best + self.tol * self._scale else self._waited + 1
        if value > self.best:
            self.best = value
            if self.score is not None:
                self.kept = progress
        self.ended = self._waited >= self.patience
        return self.ended


class Bar:
    """A callback that draws a progress bar on standard error: epochs, loss, and gradient evaluations of rows a second."""

    def __init__(self, n: int, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Rich

        self.n = n
        columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TextColumn("loss {task.fields[loss]}  {task.fields[rate]} rows/s"), TimeElapsedColumn()]
        self._bar = Rich(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(what, total=None, loss="-", rate="-")

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Take an epoch in."""
        row = progress.row
        rate = row["grad_evals"] * self.n / row["seconds"] if row["seconds"] > 0 else 0.0
        self._bar.update(
            self._task, completed=progress.epoch, total=progress.epochs, loss=f"{row['loss']:.6g}", rate=f"{rate:,.0f}"
        )
