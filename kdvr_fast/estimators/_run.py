"""From an estimator's parameters to one call of `solve`: which method, which options, where a walk in pieces goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validation as check
from .._job import Callback
from ..backends.base import FloatArray
from ..methods import KD, LBFGS, METHODS, SGD, Method
from ..result import Result
from ..schedules import Geometric, LearningRate
from ..solve import solve
from ..statistics import gradient_stats
from ._task import Task

Parameters = Mapping[str, Any]
# parameters of steps on batches, and what they are where nothing is asked of them
_OF_BATCHES: Parameters = {"learning_rate": None, "batch_size": None, "momentum": 0.0, "nesterov": False, "average": False}
_BATCH_SIZE = 10
_MARGIN = 1e-4  # tol="auto" of a loss or score
_TAUGHT = 0.5  # lam where there is a teacher and no method is named: of KD, too


def choose_method(p: Parameters, *, taught: bool, in_pieces: bool = False) -> Method:
    """The method of a fit, with the estimator's max_iter; `KDClassifier` says what None stands for."""
    given = [name for name, none in _OF_BATCHES.items() if p[name] is not none and p[name] != none]
    method = p["method"]
    if method is None:
        if in_pieces or given or p["model"] is not None:
            return KD(_TAUGHT) if taught else SGD()
        method = LBFGS(lam=_TAUGHT if taught else 0.0)
    if not isinstance(method, METHODS):
        names = ", ".join(m.__name__ for m in METHODS)
        raise TypeError(f"method must be None or an instance of one of {names}, such as KD(lam=0.7), got {method!r}")
    use, name = method.plan().teacher, type(method).__name__
    if use == "required" and not taught:
        raise ValueError(f"{name} needs a teacher: pass its outputs to fit, or make the estimator with teacher=")
    if use == "none" and taught:
        raise ValueError(f"{name} takes no teacher: leave it out, or use KD(lam=0.0), which only asks it about missing labels")
    if isinstance(method, LBFGS):
        if given:
            raise ValueError(f"LBFGS makes steps on all rows and takes no {given[0]}: leave it out, or pass method=SGD()")
        return replace(method, max_iter=p["max_iter"])
    return method


def without_teacher(method: Method) -> Method:
    """What trains the first teacher of teacher="self"."""
    return replace(method, lam=0.0) if isinstance(method, LBFGS) else SGD()


def run(p: Parameters, task: Task, method: Method, callbacks: Sequence[Callback], **more: Any) -> Result:
    """`solve` with an estimator's parameters; more: what this run has besides, or in place of them."""
    size = _BATCH_SIZE if p["batch_size"] is None else check.count(p["batch_size"], "batch_size", low=1)
    options = {name: p[name] for name in ("model", "alpha", "l1_ratio", "fit_intercept", "momentum", "nesterov", "average")}
    options |= {
        "learning_rate": "auto" if p["learning_rate"] is None else p["learning_rate"],
        "epochs": p["max_iter"],
        "random_state": seed(p["random_state"]),
        "n_threads": p["n_threads"],
        "backend": p["backend"],
    }
    asks = task.guide is not None and method.plan().teacher != "none"
    own = p["callbacks"]
    return solve(
        task.X,
        task.targets(),
        loss=task.loss,
        method=method,
        teacher=task.guide.teacher() if task.guide is not None and asks else None,
        batch_size=min(size, task.n),
        sample_weight=task.weight,
        callbacks=[*callbacks, *(own if isinstance(own, list | tuple) else [own])],
        **(options | more),
    )


def tolerances(tol: Any, dtype: Any) -> tuple[float | None, float | None]:
    """tol of the gradient, for LBFGS, and of the loss or score, for all others."""
    if isinstance(tol, str):
        check.choice(tol, ("auto",), "tol")
        return float(np.finfo(dtype).eps) ** 0.5, _MARGIN
    same = None if tol is None else check.non_negative(tol, "tol")
    return same, same


def from_zero(p: Parameters, task: Task, method: LBFGS, start: Parameters, tol: float) -> float:
    """tol of the gradient at zero weights, as one of that at the weights where a fit goes on: these may be the minimum."""

    def norm(coef: FloatArray, intercept: FloatArray | None) -> float:
        stats = gradient_stats(
            task.X,
            task.targets(),
            coef,
            intercept=intercept,
            loss=task.loss,
            teacher=None if task.guide is None else task.guide.teacher(),
            sample_weight=task.weight,
            alpha=p["alpha"],
            fit_intercept=p["fit_intercept"],
            backend=p["backend"],
            n_threads=p["n_threads"],
        )
        grad, grad_intercept = stats.grad, stats.grad_intercept
        if stats.teacher_grad is not None and stats.teacher_grad_intercept is not None:
            grad, grad_intercept = (
                grad - method.lam * stats.teacher_grad,
                grad_intercept - method.lam * stats.teacher_grad_intercept,
            )
        return float(np.hypot(np.linalg.norm(grad), np.linalg.norm(grad_intercept)))

    here = norm(start["coef_init"], start.get("intercept_init"))
    return tol * norm(np.zeros_like(start["coef_init"]), None) / here if here > 0 else tol


def seed(random_state: Any) -> Any:
    """What `solve` takes: a seed or Generator as it is; from a RandomState a seed is drawn."""
    return int(random_state.randint(2**31 - 1)) if isinstance(random_state, np.random.RandomState) else random_state


# -- rows in pieces ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Continued:
    """A schedule from its epoch `done` on, of `epochs`: each call of partial_fit is one epoch."""

    schedule: LearningRate
    done: int
    epochs: int

    def values(self, epoch: int, n_steps: int, epochs: int) -> NDArray[np.float64]:
        """Rates of one epoch."""
        return self.schedule.values(self.done + epoch, n_steps, max(self.epochs, self.done + epochs))


def piece(p: Parameters, *, taught: bool, done: int) -> tuple[Method, dict[str, Any]]:
    """The method of one call of partial_fit after `done` others, and the options in which it differs from a fit."""
    method = choose_method(p, taught=taught, in_pieces=True)
    if not isinstance(method, SGD | KD):
        raise ValueError(f"partial_fit sees each row once, and {type(method).__name__} comes back to them: use SGD() or KD()")
    if p["early_stopping"] is not False:
        raise ValueError("partial_fit has no end of its own: use early_stopping=False")
    if isinstance(method, KD):
        if method.lam == "auto":
            raise ValueError("lam='auto' is estimated over epochs, and partial_fit has one: pass a number, such as KD(lam=0.5)")
        if isinstance(method.lam, Geometric):
            g = method.lam
            method = replace(method, lam=Geometric(min(1.0, g.initial * g.factor**done), g.factor, g.cap))
    average, rate, start = p["average"], p["learning_rate"], seed(p["random_state"])
    # a seed alone would walk pieces of one length in one order
    options: dict[str, Any] = {
        "epochs": 1,
        "average": average if isinstance(average, bool) else done >= check.count(average, "average"),
        "random_state": np.random.default_rng([start, done]) if done and isinstance(start, int) else start,
    }
    if isinstance(rate, LearningRate):
        options["learning_rate"] = Continued(rate, done, p["max_iter"])
    return method, options
