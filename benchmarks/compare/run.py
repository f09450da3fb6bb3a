"""The engine against its rivals: same objective, same data, in alternation, medians.

    python benchmarks/compare/run.py --data DIR                   # everything, about an hour on two cores
    python benchmarks/compare/run.py --only kd-epochs             # one; without --data on random data of MNIST's shape
    python benchmarks/compare/run.py --data DIR --only accuracy/a9a --rival kdvr --rival cyanure

    kd-epochs    distillation on MNIST, softmax, float32, batches of 10 and 256; all walk the same rows to the same weights
    deep-epochs  the same with a deep linear student, 784-512-512-10, batches of 64
    sgd-epochs   SGD on sparse rows (a9a, w8a, 20news), one row a step, a tenth of a fit of ten epochs
    accuracy     time to a relative suboptimality of 1e-3 and 1e-6, L2, no intercept (mnist, a9a, w8a, 20news)

`tasks.py` says which files DIR holds. A rival that is not installed (torch, cyanure) or cannot do a task is left out with the
reason. Writes results.json, results.md and results.png. f* is proven to 1e-10 and kept in optima.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from accuracy import compare_accuracy
from epochs import compare_epochs
from measuring import DISTORTING, Entry, cores, machine
from report import write
from rivals import EpochRival, deep_epochs, kd_epochs, sgd_epochs, solvers
from rivals.base import Rival
from tasks import Data, Task, Weights, load, synthetic_mnist

import kdvr_fast as kd

R = TypeVar("R", bound=Rival)
HERE = Path(__file__).parent
ALPHA = {"mnist": 1e-4, "a9a": 1e-4, "w8a": 1e-5, "20news": 1e-5}
LAM, RATE = 0.7, 0.05


def kd_tasks(data: Data, threads: int) -> Iterator[Task]:
    """Batches of 10 and 256 on one thread, and 256 on all."""
    teacher = _teacher(data)
    for batch, used in ((10, 1), (256, 1), *([(256, threads)] if threads > 1 else [])):
        name = f"{data.name}, batch {batch}, {_threads(used)}"
        yield Task(name, data, threads=used, batch_size=batch, learning_rate=RATE, lam=LAM, teacher=teacher)


def deep_tasks(data: Data, threads: int) -> Iterator[Task]:
    """Two hidden layers of 512, on one thread and on all."""
    rng = np.random.default_rng(0)
    widths = (data.X.shape[1], 512, 512, data.k)
    layers = tuple((rng.standard_normal((o, i)) / np.sqrt(i)).astype(np.float32) for i, o in pairwise(widths))
    teacher = _teacher(data)
    for used in sorted({1, threads}):
        name = f"{data.name}, {'-'.join(map(str, widths))}, batch 64, {_threads(used)}"
        yield Task(name, data, threads=used, batch_size=64, learning_rate=RATE, lam=LAM, teacher=teacher, layers=layers)


def _teacher(data: Data) -> Weights:
    fitted = kd.solve(data.X, data.y, loss="softmax", learning_rate=RATE, epochs=3, random_state=0)
    return fitted.coef, fitted.intercept


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count > 1)


def run(args: argparse.Namespace) -> list[Entry]:
    """All comparisons asked for, in turn."""
    entries: list[Entry] = []

    def wanted(path: str) -> bool:
        return not args.only or any(path.startswith(name) or name.startswith(path) for name in args.only)

    def data(name: str) -> Data | None:
        try:
            return load(name, args.data) if args.data else None
        except FileNotFoundError as error:
            print(f"skipped: {error}")
            return None

    def each(comparison: str, names: list[str], compare: Callable[[Data], list[Entry]]) -> None:
        for name in names:
            if wanted(f"{comparison}/{name}"):
                print(f"{comparison}/{name}", flush=True)
                found = data(name)
                if found is None and comparison in ("kd-epochs", "deep-epochs"):
                    found = synthetic_mnist()
                if found is None:
                    print("  skipped: no data (--data DIR)")
                    continue
                entries.extend(compare(found))
                write(entries, machine(), args.out)

    def chosen(rivals: Sequence[R]) -> list[R]:
        return [r for r in rivals if not args.rival or any(part in r.name for part in args.rival)]

    def say(text: str) -> None:
        print(text, flush=True)

    def distil(comparison: str, tasks: Iterator[Task], rivals: list[EpochRival]) -> list[Entry]:
        return [entry for task in tasks for entry in compare_epochs(comparison, task, chosen(rivals), args.rounds, say)]

    def sgd(d: Data) -> list[Entry]:
        task = Task(f"{d.name}, one row a step", d, alpha=ALPHA[d.name], learning_rate=RATE)
        return compare_epochs("sgd-epochs", task, chosen(sgd_epochs()), args.rounds, say)

    def accurate(d: Data) -> list[Entry]:
        task = Task(f"{d.name}, {args.threads} threads", d, alpha=ALPHA[d.name], threads=args.threads)
        return compare_accuracy("accuracy", task, chosen(solvers()), args.rounds, args.budget, say)

    each("kd-epochs", ["mnist"], lambda d: distil("kd-epochs", kd_tasks(d, args.threads), kd_epochs()))
    each("deep-epochs", ["mnist"], lambda d: distil("deep-epochs", deep_tasks(d, args.threads), deep_epochs()))
    each("sgd-epochs", ["a9a", "w8a", "20news"], sgd)
    each("accuracy", ["a9a", "w8a", "20news", "mnist"], accurate)
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with mnist/, libsvm/ and text/")
    parser.add_argument("--only", action="append", metavar="NAME", help="kd-epochs, accuracy/a9a, ...; may be repeated")
    parser.add_argument("--rival", action="append", metavar="NAME", help="only those with NAME in theirs; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads where more than one is used (default: all cores)")
    parser.add_argument(
        "--budget", type=float, default=60.0, help="seconds of one fit beyond which a solver gives up (default 60)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="DIR", help="where results go")
    args = parser.parse_args()
    distorted = [name for name in DISTORTING if name in os.environ]
    if distorted:
        parser.error(
            f"{' and '.join(distorted)} set: every rival's BLAS would be other than its users have; unset and run again"
        )
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    entries = run(args)
    if not entries:
        sys.exit("nothing was compared: see the reasons above")
    print("\n" + write(entries, machine(), args.out) + f"\nwritten to {args.out}")


if __name__ == "__main__":
    main()
