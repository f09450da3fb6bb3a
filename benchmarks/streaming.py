"""Rows from a Parquet file in a fixed memory: peak memory, and rows per second beside scikit-learn on the same chunks.

    python benchmarks/streaming.py --data FOLDER/flights/vega_flights-3m.parquet

The rows are 3,000,000 flights (date, delay, distance, origin, destination), the question is whether one is more than 15 minutes
late: logistic loss, one row a step, features distance / 1000 and origin and destination one-hot. The label's column is
made first, batch by batch, into a Parquet file of its own. Then a process converts and trains by `kd.solve`, and its peak
memory is read; in another one an epoch of `kd.solve` and one of scikit-learn's `SGDClassifier.partial_fit`, on chunks of the
same stored rows, follow each other; medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

LATE_MINUTES = 15
ALPHA, RATE, CHUNK_ROWS = 1e-6, 0.01, 65536


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the Parquet file of flights")
    parser.add_argument("--memory-limit", type=int, default=200_000_000, help="bytes, as in open_data")
    parser.add_argument("--window", type=int, default=65536, help="rows of a window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=("memory", "rates"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps((measure_memory if args.part == "memory" else measure_rates)(args)))
        return
    with tempfile.TemporaryDirectory() as work:
        label(args.data, Path(work) / "late.parquet")
        for part in ("memory", "rates"):
            command = [sys.executable, __file__, *sys.argv[1:], "--part", part, "--work", work]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(part, *(f"\n    {name}: {value}" for name, value in json.loads(done.stdout).items()))
    print(f"load of the machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def label(source: Path, target: Path) -> None:
    """Copy the Parquet file with a column that says who is late."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file, writer = pq.ParquetFile(source), None
    for batch in file.iter_batches(columns=["delay", "distance", "origin", "destination"]):
        batch = batch.append_column("late", pc.cast(pc.greater(batch.column("delay"), LATE_MINUTES), "int8"))
        writer = writer or pq.ParquetWriter(target, batch.schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def open_flights(args: argparse.Namespace) -> Any:
    import kdvr_fast as kd

    places = ["origin", "destination"]
    columns = kd.Columns(features=["distance", *places], categorical=places, scale={"distance": 1e-3})
    return kd.open_data(args.work / "late.parquet", y="late", columns=columns, memory_limit=args.memory_limit)


def solve(data: Any, args: argparse.Namespace, epochs: int = 1) -> Any:
    import kdvr_fast as kd

    return kd.solve(
        data,
        loss="logistic",
        batch_size=1,
        learning_rate=RATE,
        alpha=ALPHA,
        epochs=epochs,
        sampling=kd.Blocks(window=args.window),
        random_state=0,
        check_input=False,
    )


def sgd() -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(loss="log_loss", penalty="l2", alpha=ALPHA, learning_rate="constant", eta0=RATE, random_state=0)


def fit_chunks(model: Any, data: Any) -> None:
    for X, y in data.chunks(CHUNK_ROWS):
        model.partial_fit(X, y, classes=[0, 1])


def measure_memory(args: argparse.Namespace) -> dict[str, float]:
    import pyarrow.parquet
    import sklearn.datasets

    import kdvr_fast as kd

    assert pyarrow.parquet and sklearn.datasets  # so that what they take to import is not counted
    data_set = kd.open_data(((X, y) for X, y in [([[0.0], [1.0]], [0, 1])]))
    kd.solve(data_set, loss="logistic", batch_size=1, epochs=1)  # threads and kernels are there
    before, start = peak_mb(), perf_counter()
    data = open_flights(args)
    opened, conversion = perf_counter(), peak_mb()
    run = solve(data, args, epochs=3)
    end = perf_counter()
    return {
        "rows": data.shape[0],
        "features": data.shape[1],
        "memory before, MB": round(before, 1),
        "peak while Parquet is converted, MB above": round(conversion - before, 1),
        "peak of all, MB above": round(peak_mb() - before, 1),
        "conversion, s": round(opened - start, 2),
        "three epochs, s": round(end - opened, 2),
        "Parquet to weights, rows/s": round(3 * data.shape[0] / (end - start)),
        "loss of the last epoch": round(float(run.history["loss"][-1]), 5),
    }


def measure_rates(args: argparse.Namespace) -> dict[str, float]:
    data = open_flights(args)
    seconds: dict[str, list[float]] = {"kdvr": [], "sklearn": []}
    for _ in range(args.rounds):
        start = perf_counter()
        solve(data, args)
        middle = perf_counter()
        fit_chunks(sgd(), data)
        seconds["kdvr"].append(middle - start)
        seconds["sklearn"].append(perf_counter() - middle)
    n = data.shape[0]
    ratios = [s / k for k, s in zip(seconds["kdvr"], seconds["sklearn"], strict=True)]
    return {
        "kd.solve, rows/s": round(n / statistics.median(seconds["kdvr"])),
        "SGDClassifier.partial_fit, rows/s": round(n / statistics.median(seconds["sklearn"])),
        "ratio, median of the rounds": round(statistics.median(ratios), 2),
    }


if __name__ == "__main__":
    main()
