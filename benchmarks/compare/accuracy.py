"""Comparison by time to accuracy: seconds of the shortest fit from zero that reaches a relative suboptimality (f - f*) / f*.

One rule for everybody: a fit is a call with a number of iterations and no test of convergence; the number is doubled until the
accuracy is reached and then narrowed to within a tenth, evaluation of f not timed; the fit with that number is what is timed in
the rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from measuring import Entry, Say, alternated, seconds_of, threads_limited
from objective import Objective, optimum
from rivals import Solver
from tasks import Task

ACCURACIES = (1e-3, 1e-6)
NARROW = 1.1
TIMED = 20.0  # seconds of timed rounds a solver gets for one accuracy; always at least one round


@dataclass
class _Search:
    """Fits of one solver so far: effort -> (seconds, gap). budget: no fit is started that would likely take longer."""

    solver: Solver
    objective: Objective
    optimum: float
    budget: float
    tried: dict[int, tuple[float, float]] = field(default_factory=dict)

    def fit(self, effort: int) -> tuple[float, float]:
        if effort not in self.tried:
            taken, W = seconds_of(lambda: self.solver.fit(effort))
            self.tried[effort] = taken, (self.objective.value(W) - self.optimum) / self.optimum
        return self.tried[effort]

    def least_effort(self, accuracy: float) -> int | None:
        """The smallest number of iterations that reaches the accuracy, None if the budget ends before."""
        low, high = 0, 1
        while self.fit(high)[1] > accuracy:
            taken, low = self.fit(high)[0], high
            if 2 * taken > self.budget or high > 1 << 20 or self._stalled(high):
                return None
            high *= 2
        while high - low > 1 and high / max(low, 1) > NARROW:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fit(middle)[1] <= accuracy else (middle, high)
        return high

    def _stalled(self, effort: int) -> bool:
        """The last doublings changed nothing: rounding has the last word."""
        earlier = [self.tried[e][1] for e in (effort // 2, effort // 4) if e in self.tried]
        return len(earlier) == 2 and max(earlier) - self.tried[effort][1] <= 1e-3 * abs(max(earlier))


def compare_accuracy(
    comparison: str, task: Task, rivals: Sequence[Solver], rounds: int, budget: float, say: Say
) -> list[Entry]:
    """Seconds to each accuracy, one figure a round; a solver beyond the budget (seconds a fit) has none and a note."""
    objective, best = Objective(task), optimum(task)
    say(f"  f* = {best:.12g}")
    entries: list[Entry] = []
    timed: list[tuple[Solver, Entry, int]] = []
    with threads_limited(task.threads):
        for solver in rivals:
            reason = solver.unavailable(task)
            if reason is None:
                solver.setup(task)
            search = _Search(solver, objective, best, budget)
            for accuracy in ACCURACIES:
                entry = Entry(comparison, task.name, solver.name, solver.ours, note=reason or "", accuracy=accuracy)
                entries.append(entry)
                if reason is not None:
                    continue
                entry.effort = search.least_effort(accuracy)
                if entry.effort is None:
                    taken, gap = search.tried[max(search.tried)]
                    entry.note = f"{gap:.0e} after {taken:.1f} s"
                    continue
                taken, entry.gap = search.fit(entry.effort)
                timed.append((solver, entry, max(1, min(rounds, int(TIMED / taken)))))
            say(f"  {solver.name}: " + (reason or ", ".join(_found(e, search) for e in entries[-len(ACCURACIES) :])))
        for round_, (solver, entry, times) in alternated(timed, rounds):
            if round_ < times:
                taken, W = seconds_of(lambda s=solver, e=entry: s.fit(e.effort))  # type: ignore[misc]
                entry.seconds.append(taken)
                entry.gap = max(entry.gap or 0.0, (objective.value(W) - best) / best)
    return entries


def _found(entry: Entry, search: _Search) -> str:
    if entry.effort is None:
        return f"{entry.accuracy:g}: {entry.note}"
    return f"{entry.accuracy:g}: {search.fit(entry.effort)[0]:.3f} s ({entry.effort} iterations)"
