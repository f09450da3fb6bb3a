"""What a run over rows that are not in memory cannot have: a number for each row, or for each step of a long epoch."""

from __future__ import annotations

from .methods import Method, Plan
from .schedules import Constant, Exponential, LearningRate

_MOST_RATES = 1 << 22  # of an epoch: 32 MiB, and some such arrays while they are computed


def check_run(method: Method, plan: Plan, *, cache_anchor: object, sampling: object, track: frozenset[str]) -> None:
    """Raise for what would take memory that grows with the rows, or a walk through them in Python."""
    name = type(method).__name__
    if plan.update_table:
        raise ValueError(
            f"{name} keeps a table of a residual a row, which virtual rows have no room for; use SVRG() or LSVRG()"
        )
    if plan.full_batch is not None:
        raise ValueError(f"{name} keeps the logits of all rows, which virtual rows have no room for; use SVRG()")
    if cache_anchor is True:
        raise ValueError("cache_anchor=True stores a residual a row, which virtual rows have no room for; leave it out")
    if sampling != "shuffle":
        raise ValueError(
            f"virtual rows are independent draws and walked in their order, not by sampling={sampling!r}; leave it out"
        )
    if "accuracy" in track:
        raise ValueError("track='accuracy' predicts every row in Python, which virtual rows are too many for; use 'objective'")


def check_rates(rate: LearningRate, n_steps: int) -> None:
    """Raise for a schedule that makes one rate a step where these are too many."""
    if n_steps > _MOST_RATES and not isinstance(rate, Constant | Exponential):
        raise ValueError(
            f"learning_rate={rate!r} makes one rate a step and an epoch has {n_steps} steps: "
            "use a number, Exponential, or a larger batch_size"
        )


def check_streamed_run(
    method: Method, plan: Plan, *, model: object, cache_anchor: object, learning_rate: object, sampling: object, order: object
) -> None:
    """Raise for what rows in files cannot have: any row at any time."""
    name, memory = type(method).__name__, "read the rows into memory, data.rows[:] (for kdvr: leave out the memory limit)"
    if plan.update_table:
        raise ValueError(f"{name} keeps a table of a residual a row, rows in files are for SVRG() or LSVRG(); or {memory}")
    if plan.full_batch is not None:
        raise ValueError(f"{name} keeps the logits of all rows, rows in files are for SVRG() or LSVRG(); or {memory}")
    if model is not None:
        raise ValueError(f"a DeepLinear model trains on rows in memory: {memory}")
    if cache_anchor is True:
        raise ValueError("cache_anchor=True stores a residual a row, which rows in files have no room for; leave it out")
    if isinstance(learning_rate, str):
        raise ValueError(
            f"learning_rate={learning_rate!r} reads the rows many times: pass a number, or auto_learning_rate of some"
        )
    if sampling == "replacement":
        raise ValueError("sampling='replacement' draws any row at any time, rows in files are walked by Blocks(): leave it out")
    if order is not None:
        raise ValueError("order names any row at any time, rows in files are walked by sampling=Blocks(): leave order out")
