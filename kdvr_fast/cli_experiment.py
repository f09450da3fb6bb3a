"""`kdvr experiment`: the paper's experiments from the command line. Readings on standard output, progress on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .experiments import Watch

experiments = typer.Typer(name="experiment", help="Run the paper's experiments: kdvr experiment list.", no_args_is_help=True)


@experiments.command("list")
def list_experiments() -> None:
    """Print the experiments and what each of them asks.

    Example: kdvr experiment list
    """
    from .experiments import get, names

    for name in names():
        experiment = get(name)
        typer.echo(f"{name}  {experiment.title}\n    {experiment.question}")


@experiments.command("run")
def run_experiment(
    name: Annotated[str, typer.Argument(help="One of those listed, or: all.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each setting.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, on data that every installation has.")] = False,
    data: Annotated[Path | None, typer.Option(help="Folder with mnist/ and embeddings/.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write a folder for each experiment.")] = Path("kdvr_experiments"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Default: all that may be used.")] = None,
) -> None:
    """Run an experiment, print how its result reads, and write runs, figures and tables to OUT/NAME (over what is there).

    Ctrl-C keeps the runs that have ended.

    Example: kdvr experiment run e1 --quick
    """
    from .cli_train import INTERRUPTED
    from .experiments import get, names, run

    chosen = names() if name == "all" else (get(name).name,)
    for each in chosen:
        reason = get(each).unavailable()
        if name == "all" and reason is not None:
            typer.echo(f"{each} skipped: {reason}", err=True)
            continue
        with _progress(each) as watch:
            record = run(each, out, seeds, quick, data, jobs, watch)
        _print_record(record, (out / each).resolve())
        if record["status"] == "interrupted":
            raise typer.Exit(INTERRUPTED)


@contextmanager
def _progress(name: str) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} runs"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)

        def watch(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield watch


def _print_record(record: dict[str, Any], folder: Path) -> None:
    typer.echo(f"{record['name']}: {record['title']} ({record['status']} after {record['seconds']:.1f} s)")
    for sentence in record["reading"]:
        typer.echo(f"- {sentence}")
    typer.echo(f"written to {folder}")
