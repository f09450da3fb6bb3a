"""Comparison by epochs: every rival walks the same number of rows, and where it can, the same rows.

The unit is an epoch of a fit of ten (`EpochRival.epochs`): a call of `fit` or `solve` is timed as a whole, with its checks and
copies of the input, the shuffling and what is measured along the way, and divided by its epochs. A loop of torch's autograd has
nothing of the kind and is timed by single epochs. No rival tests for convergence.
Before anything is timed, one epoch over one order of rows must give all replaying rivals the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from measuring import Entry, Say, alternated, seconds_of, threads_limited
from rivals import EpochRival
from tasks import Task, Weights

SAME = 1e-4  # relative difference of weights: float32 rounding over the steps of an epoch


def compare_epochs(comparison: str, task: Task, rivals: Sequence[EpochRival], rounds: int, say: Say) -> list[Entry]:
    """Seconds an epoch, one figure a round."""
    entries = {r.name: Entry(comparison, task.name, r.name, r.ours, note=r.unavailable(task) or "") for r in rivals}
    running = [r for r in rivals if not entries[r.name].note]
    for rival in running:
        rival.setup(task)
    rng = np.random.default_rng(0)
    n = task.data.X.shape[0]
    with threads_limited(task.threads):
        order = rng.permutation(n)[None]
        _check_same(task, [(r.name, r.run(order)) for r in running if r.replays])
        for round_, rival in alternated(running, rounds):
            if not round_:  # what a first call of that length pays (pages, threads) is not an epoch
                rival.run(order)
            orders = np.stack([rng.permutation(n) for _ in range(rival.epochs)])
            taken = seconds_of(lambda r=rival, o=orders: r.run(o))[0] / rival.epochs  # type: ignore[misc]
            entries[rival.name].seconds.append(taken)
    for entry in entries.values():
        say(f"  {entry.rival}: " + (f"{entry.median:.4f} s an epoch" if entry.seconds else entry.note))
    return list(entries.values())


def _check_same(task: Task, outcomes: list[tuple[str, Weights]]) -> None:
    if not outcomes:
        return
    first, (expected, _) = outcomes[0]
    for name, (W, _) in outcomes[1:]:
        difference = float(np.linalg.norm(W - expected) / np.linalg.norm(expected))
        if not difference <= SAME:
            raise ArithmeticError(f"{task.name}: the weights of {name} and {first} differ by {difference:.1e} after one epoch")
