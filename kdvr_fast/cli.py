"""The command line, `kdvr`: results on standard output, progress and errors on standard error.

Exit codes: 0 done, 1 an error that is named, 2 wrong usage, 3 a training run diverged, 130 interrupted by Ctrl-C (what was
reached is still printed).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import cli_data, cli_model, cli_report, cli_train
from ._version import __version__
from .cli_experiment import experiments
from .cli_train import INTERRUPTED

if TYPE_CHECKING:
    from .bench import BenchReport
    from .demo import Report, Watch

app = typer.Typer(
    name="kdvr",
    help="Linear models by SGD with a teacher, and what the teacher does to the gradient noise.\n\nExample: kdvr demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(experiments)
app.command()(cli_train.train)
app.command()(cli_model.predict)
app.command("eval")(cli_model.evaluate)
app.command()(cli_data.stats)
app.command()(cli_data.convert)
app.command()(cli_model.teacher)
app.command()(cli_report.report)


def main() -> None:
    """The installed command: `app`, with expected errors as one line on standard error instead of a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except (ValueError, TypeError, ImportError, ArithmeticError, RuntimeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kdvr_fast {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the version, the backends (with the reason where one cannot run), the instruction set in use and the threads.

    Example: kdvr info --json
    """
    from ._system import system_info

    facts = system_info()
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None)
    table.add_row("kdvr_fast", facts["version"])
    for name, reason in facts["backends"].items():
        table.add_row(f"backend {name}", "available" if reason is None else f"unavailable: {escape(reason)}")
    available = ", ".join(facts["isa_available"])
    table.add_row(
        "instruction set", f"{facts['isa']} (this machine runs {available})" if facts["isa"] else "none: no native backend"
    )
    table.add_row("threads", str(facts["threads"]))
    for name in ("python", "numpy", "scipy", "platform"):
        table.add_row(name, facts[name])
    Console().print(table)


@app.command()
def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Directory with the four MNIST IDX files (plain or .gz). Default: scikit-learn's digits."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each run. Default: 60, with --data 15.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the plot.")] = Path("kdvr_demo.png"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the row order.")] = 0,
    backend: Annotated[str, typer.Option(help="Engine to run on.")] = "auto",
) -> None:
    """Train SGD, KD, unbiased KD and SVRG with a self-trained linear teacher, and compare their noise floors.

    Prints a table and writes a plot of the gap to the optimum against gradient evaluations.

    Example: kdvr demo --data ~/mnist --epochs 10 --out mnist.png
    """
    from .data import load_digits, load_mnist
    from .demo import Settings, check_plot, contenders, run_demo, save_plot

    check_plot(out)
    if data is None:
        split, settings = load_digits(), Settings(epochs=epochs or 60, random_state=seed, backend=backend)
    else:
        split = load_mnist(data)
        settings = Settings(learning_rate=0.2, epochs=epochs or 15, random_state=seed, backend=backend)
    with _progress(1 + len(contenders(settings.alpha)), settings.epochs) as watch:
        report = run_demo(split, settings, watch)
    _print_report(report)
    if report.rows:
        typer.echo(f"plot written to {save_plot(report, out).resolve()}")
    if report.interrupted:
        typer.echo("interrupted: the figures above are those of the epochs finished", err=True)
        raise typer.Exit(INTERRUPTED)


@app.command()
def bench(
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine, and of the machine's own figures.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements behind each median.")] = 3,
    scale: Annotated[float, typer.Option(min=1e-3, max=4.0, help="Multiplies the numbers of rows.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the fused pass and an epoch of each method, beside the machine's FMA peak and read bandwidth; under a minute.

    The floor is the time in which the machine could read the rows or do the multiply-adds, whichever is longer.

    Example: kdvr bench --threads 2
    """
    from .bench import run_bench

    report = run_bench(threads, rounds, scale, lambda stage: typer.echo(stage, err=True))
    if as_json:
        typer.echo(json.dumps(report.plain(), indent=2))
    else:
        _print_bench(report)


def _print_bench(report: BenchReport) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    m = report.machine
    typer.echo(f"{m.isa}, {m.threads} thread{'s' * (m.threads > 1)}, float32, medians of {report.rounds}")
    typer.echo(f"machine: {m.fma_peak / 1e9:.1f} G multiply-adds/s, {m.read_bandwidth / 1e9:.1f} GB/s read from memory")
    passes = Table("pass over", "outputs", title="one fused pass", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("rows/s", "GB/s", "of floor"):
        passes.add_column(column, justify="right", no_wrap=True)
    passes.add_column("set by", no_wrap=True)
    for p in report.passes:
        rates = f"{p.rows_per_second:,.0f}", f"{p.bytes_per_second / 1e9:.2f}", f"{p.floor_fraction:.0%}"
        passes.add_row(f"{p.n} x {p.d} {p.dtype}" + ", teacher" * p.teacher, str(p.k), *rates, p.bound)
    title = "an epoch, {} x {}, {} outputs".format(*report.epoch_shape)
    epochs = Table("method", title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("batch", "milliseconds", "rows/s"):
        epochs.add_column(column, justify="right", no_wrap=True)
    for e in report.epochs:
        epochs.add_row(e.method, str(e.batch_size), f"{e.seconds * 1e3:.1f}", f"{e.rows_per_second:,.0f}")
    console = Console()
    console.print(passes)
    console.print(epochs)


@contextmanager
def _progress(runs: int, epochs: int) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} epochs"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=runs * epochs)

        def watch(label: str, epoch: int, epochs: int) -> None:
            bar.update(task, description=label, advance=1 if epoch else 0)

        yield watch


def _print_report(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    data, s = report.data, report.settings
    n, d = data.X.shape
    typer.echo(f"{data.name}: {n} x {d} {data.X.dtype.name}, {len(data.X_test)} rows held out; {report.backend} backend")
    typer.echo(f"softmax, batch {s.batch_size}, learning rate {s.learning_rate:g}, alpha {s.alpha:g}, {s.epochs} epochs")
    if not report.rows:
        return
    typer.echo(f"optimum {report.optimum:.6f} (L-BFGS)")
    typer.echo(f"teacher {report.teacher_gap:.1e} above it, test accuracy {report.teacher_accuracy:.1%}")
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for column in ("objective", "test acc.", "noise floor", "SGD's = 1", "rows/s"):
        table.add_column(column, justify="right")
    for row in report.rows:
        known = row.gap > report.resolution  # below, the figure would be rounding
        table.add_row(
            row.label,
            f"{row.objective:.5f}",
            f"{row.accuracy:.1%}",
            f"{row.gap:.1e}" if known else f"< {report.resolution:.0e}",
            f"{row.ratio:.3f}" if known else "0",
            f"{row.rows_per_second:,.0f}",
        )
    Console().print(table)
    typer.echo("noise floor: objective - optimum, mean over the last quarter of the epochs")
    typer.echo("(a method still on its way down has not met its floor: see the plot)")
