"""Epoch time of distillation: `kdvr_fast.solve` against the plain training loop in torch, on one thread.

Both train z = W a + b with softmax, (1 - lam) cross-entropy + lam KL(teacher || student), batch 10, float32, and both compute
the teacher's logits on the fly. The torch loop is what a competent user writes: tensors prepared beforehand, the epoch's
permutation gathered once so that a batch is a slice, the teacher under no_grad, no logging. The two are timed in turn, after
their weights at the end of an epoch over the same rows were compared. The engine's epoch is a fifth of a call of five, so that
the check of the input is spread as in use; the torch loop has none, and one epoch of it is timed.

    python benchmarks/compare/torch_loop.py DIR_WITH_MNIST_IDX_FILES
    python benchmarks/compare/torch_loop.py --synthetic
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

import kdvr_fast as kd
from kdvr_fast.data import load_mnist

LR, LAM, BATCH = 0.05, 0.7, 10
ENGINE_EPOCHS = 5


def synthetic() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The shape of MNIST: 60,000 x 784 in [0, 1], about a fifth of the entries nonzero, 10 classes."""
    rng = np.random.default_rng(0)
    X = rng.random((60_000, 784), dtype=np.float32) * (rng.random((60_000, 784), dtype=np.float32) < 0.2)
    y = (X @ rng.standard_normal((784, 10)).astype(np.float32)).argmax(axis=1)
    return X, y.astype(np.int64)


def torch_epoch(
    X: torch.Tensor, y: torch.Tensor, order: NDArray[np.int64], teacher: torch.nn.Linear, student: torch.nn.Linear
) -> None:
    optimizer = torch.optim.SGD(student.parameters(), lr=LR)
    rows = torch.from_numpy(order)
    X, y = X[rows], y[rows]
    for start in range(0, len(rows), BATCH):
        a, target = X[start : start + BATCH], y[start : start + BATCH]
        with torch.no_grad():
            soft = F.softmax(teacher(a), dim=1)
        z = student(a)
        loss = (1 - LAM) * F.cross_entropy(z, target) + LAM * F.kl_div(F.log_softmax(z, dim=1), soft, reduction="batchmean")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def engine_epochs(
    X: NDArray[np.float32], y: NDArray[np.int64], order: NDArray[np.int64], teacher: kd.Teacher, statistics: bool = True
) -> kd.Result:
    return kd.solve(
        X,
        y,
        loss="softmax",
        method=kd.KD(lam=LAM),
        teacher=teacher,
        cache_anchor=False,
        learning_rate=LR,
        batch_size=BATCH,
        epochs=len(order),
        order=order,
        statistics=statistics,
    )


def linear(W: NDArray[Any], b: NDArray[Any]) -> torch.nn.Linear:
    layer = torch.nn.Linear(W.shape[1], W.shape[0])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(W))
        layer.bias.copy_(torch.from_numpy(b))
    return layer


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, help="the four MNIST IDX files")
    parser.add_argument("--synthetic", action="store_true", help="random data of MNIST's shape instead")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, at least 3 (default 5)")
    parser.add_argument("--out", type=Path, default=Path("torch_loop.json"), help="where the figures go")
    args = parser.parse_args()
    if args.synthetic == (args.directory is not None) or args.rounds < 3:
        parser.error("give either a directory or --synthetic, and at least 3 rounds")

    torch.set_num_threads(1)
    if args.synthetic:
        X, y = synthetic()
    else:
        data = load_mnist(args.directory)
        X, y = data.X, data.y
    rng = np.random.default_rng(0)
    W = kd.solve(X, y, loss="softmax", method=kd.SGD(), learning_rate=LR, batch_size=BATCH, epochs=3, random_state=0)
    teacher, torch_teacher = kd.Teacher.weights(W.coef, W.intercept), linear(W.coef, W.intercept)
    tX, ty = torch.from_numpy(X), torch.from_numpy(y)

    def blank() -> torch.nn.Linear:
        return linear(np.zeros_like(W.coef), np.zeros_like(W.intercept))

    order, student = rng.permutation(len(X)), blank()
    torch_epoch(tX, ty, order, torch_teacher, student)
    mine, theirs = engine_epochs(X, y, order[None], teacher).coef, student.weight.detach().numpy()
    difference = float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))
    print(f"relative difference of the weights after one epoch over the same rows: {difference:.1e}")

    times: dict[str, list[float]] = {"torch": [], "engine": [], "engine_without_statistics": []}
    for round_ in range(args.rounds):
        orders = np.stack([rng.permutation(len(X)) for _ in range(ENGINE_EPOCHS)])
        times["torch"].append(seconds(lambda o=orders[0]: torch_epoch(tX, ty, o, torch_teacher, blank())))  # type: ignore[misc]
        for statistics_on in (True, False, False, True):  # mirrored, so that drift of the machine cancels
            name = "engine" if statistics_on else "engine_without_statistics"
            run = seconds(lambda o=orders, s=statistics_on: engine_epochs(X, y, o, teacher, s))  # type: ignore[misc]
            times[name].append(run / ENGINE_EPOCHS)
        print(f"round {round_ + 1}: torch {times['torch'][-1]:.2f} s, engine {times['engine'][-1]:.3f} s")
    median = {name: statistics.median(values) for name, values in times.items()}
    figures = {
        "data": "synthetic" if args.synthetic else "MNIST",
        "shape": [*X.shape, 10],
        "times": times,
        "median": median,
        "torch_over_engine": median["torch"] / median["engine"],
        "statistics_cost": median["engine"] / median["engine_without_statistics"],
        "weights_difference": difference,
        "machine": {"processor": processor(), "python": platform.python_version(), "torch": torch.__version__},
        "kdvr_fast": kd.__version__,
    }
    args.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"epoch, median of {args.rounds}: torch {median['torch']:.2f} s, engine {median['engine']:.3f} s")
    print(
        f"ratio {figures['torch_over_engine']:.1f}; statistics on / off {figures['statistics_cost']:.3f}; written to {args.out}"
    )


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
