"""What a rival offers. `setup` is not timed and does what a user does once for a data set; `run` and `fit` are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray
from tasks import Task, Weights


class Rival(ABC):
    """One contender. ours: the engine this project is about. needs: a module without which it cannot run."""

    name: str
    ours = False
    needs: str | None = None

    def unavailable(self, task: Task) -> str | None:
        """Why it takes no part in this task, or None."""
        if self.needs is not None and find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        return None

    @abstractmethod
    def setup(self, task: Task) -> None:
        """Prepare what does not depend on the run."""


class EpochRival(Rival):
    """Timed by epochs. epochs: so many in one timed call, that what a call does once is spread as in use; 1 where nothing is.

    replays: it walks the rows it is given, so that its weights can be compared with the others'.
    """

    epochs = 10
    replays = True

    @abstractmethod
    def run(self, orders: NDArray[Any]) -> Weights:
        """Train from zero weights, or the task's layers, over the rows of `orders` (epochs, n); returns W (k, d) and b (k,)."""


class Solver(Rival):
    """Timed to an accuracy. The effort is its number of iterations (passes, where it counts those)."""

    @abstractmethod
    def fit(self, effort: int) -> NDArray[Any]:
        """Minimise from zero weights with at most `effort` iterations, no test of convergence ending it early; W (k, d)."""
