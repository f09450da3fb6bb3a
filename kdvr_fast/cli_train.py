"""`kdvr train`: a run in a folder that can be killed at any moment and goes on to the same bits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_model import Cache, Categorical, Features, Labels, MemoryLimit, Scale, Target

if TYPE_CHECKING:
    from ._cli_run import Config, Folder
    from ._job import Callback
    from .result import Result

DIVERGED, INTERRUPTED = 3, 130
_FREE = ("epochs", "threads")  # of a run that goes on


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Rows: .npy, .npz (CSR), LIBSVM text, IDX, Parquet, Arrow, CSV; or a folder of such files.", show_default=False
        ),
    ] = None,
    labels: Labels = None,
    target: Target = None,
    features: Features = None,
    categorical: Categorical = None,
    scale: Scale = None,
    missing: Annotated[
        str | None, typer.Option(help="Rows of a table that miss a value: error, drop or zero. Default: error.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64, of rows that are converted. Default: float32.")] = None,
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; options override it.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of a run to go on with; takes --epochs and --threads.")] = None,
    output_dir: Annotated[Path, typer.Option(help="Folder of the run; must not have one.")] = Path("kdvr_run"),
    loss: Annotated[str | None, typer.Option(help="squared, logistic or softmax. Default: softmax.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="sgd, kd:lam=0.7, unbiasedkd:lam=auto, svrg:refresh=2, lbfgs, .. Default: sgd."),
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Widths of hidden layers, 512,512: a deep linear model. Default: none.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="How layers begin: balanced, orthogonal, gaussian. Default: balanced.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="Model file of the teacher.")] = None,
    teacher_logits: Annotated[Path | None, typer.Option(help="Stored outputs of the teacher, .npy (n, k).")] = None,
    teacher_proba: Annotated[Path | None, typer.Option(help="Stored probabilities of the teacher, .npy (n, k).")] = None,
    learning_rate: Annotated[
        str | None, typer.Option(help="A number, auto, inverse:0.5,decay=0.2, cosine:0.1, .. Default: auto.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows a step. Default: 10.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Walks over the data, at most. Default: 20.")] = None,
    tol: Annotated[float | None, typer.Option(help="Stop at this share of the first gradient's norm.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Weight of the penalty. Default: 0.")] = None,
    l1_ratio: Annotated[float | None, typer.Option(help="L1 part of the penalty. Default: 0.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Momentum coefficient. Default: 0.")] = None,
    nesterov: Annotated[bool | None, typer.Option(help="Nesterov's momentum. Default: no.")] = None,
    average: Annotated[bool | None, typer.Option(help="Mean of the weights over all steps. Default: no.")] = None,
    fit_intercept: Annotated[bool | None, typer.Option(help="An intercept. Default: yes.")] = None,
    sampling: Annotated[
        str | None, typer.Option(help="shuffle, replacement or blocks:rows=1024,window=65536. Default: shuffle.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the row order. Default: 0.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Rows to score the model on at the end, read as the others.")] = None,
    validation_labels: Annotated[Path | None, typer.Option(help="Their targets.")] = None,
    backend: Annotated[str | None, typer.Option(help="Engine. Default: auto.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads, at most.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Train a model. Writes config.toml, log.jsonl, a checkpoint, model.safetensors and metrics.json to the output folder.

    After Ctrl-C, a crash or a kill, `kdvr train --resume FOLDER` goes on and ends with the bits of a run that was never cut.
    Exit codes: 0 done, 1 an error that is named, 2 wrong usage, 3 the loss exploded, 130 interrupted.

    Example: kdvr train rows.npy --labels y.npy --method kd:lam=0.7 --teacher big.safetensors --output-dir student

    Example: kdvr train rows.npy --labels y.npy --hidden 512,512 --output-dir deep

    Example: kdvr train trips/ --target late --categorical city --loss logistic --learning-rate 0.05 --memory-limit 200MB

    Example: kdvr train --config run.toml --seed 1 --output-dir run1
    """
    from ._cli_run import Config, Folder, read_config

    names = {name for name in context.params if name not in ("context", "config", "resume", "output_dir", "as_json")}
    given = {name: context.params[name] for name in sorted(names) if context.params[name] is not None}
    given = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    if resume is not None:
        extra = [f"--{name.replace('_', '-')}" for name in given if name not in _FREE]
        if extra or config is not None:
            raise typer.BadParameter(
                f"a run goes on with the settings in its folder; leave out {', '.join(extra) or '--config'}",
                param_hint="--resume",
            )
        folder = Folder(resume)
        settings = Config.make(vars(folder.settings()) | given, str(resume))
    else:
        folder, where = Folder(output_dir), "the command line" if config is None else str(config)
        try:
            settings = Config.make(({} if config is None else read_config(config)) | given, where)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        folder.check_free()
    _report(folder, settings, as_json)


def _report(folder: Folder, settings: Config, as_json: bool) -> None:
    from ._cli_run import plain, run
    from .cli_model import in_words
    from .result import DivergenceError

    again = f"kdvr train --resume {folder.path}"
    try:
        with _progress(settings.data) as watch:
            result, metrics = run(settings, folder, [watch])
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted: go on with `{again}`" if folder.config.exists() else "interrupted: nothing had begun", err=True
        )
        raise typer.Exit(INTERRUPTED) from None
    except DivergenceError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(DIVERGED) from None
    if metrics is None:
        typer.echo(_interrupted(result, folder, again), err=True)
        raise typer.Exit(INTERRUPTED)
    if as_json:
        typer.echo(json.dumps(plain(metrics) | {"folder": str(folder.path.resolve())}, indent=2))
        return
    for part in ("train", "validation"):
        if part in metrics:
            typer.echo(f"{part}: {in_words(metrics[part])}")
    seconds = metrics["seconds"] or 0.0
    unit = "epochs" if folder.checkpoint.exists() else "iterations"
    typer.echo(f"{result.message} ({result.epochs} {unit}, {seconds:.3g} s); written to {folder.path}")


def _interrupted(result: Result, folder: Folder, again: str) -> str:
    from ._keeping import history_of
    from .checkpoint import Checkpoint

    if not folder.checkpoint.exists():
        return f"interrupted after {result.epochs} iterations, none of which is kept: begin again with `{again}`"
    kept = len(history_of(Checkpoint(folder.checkpoint)))
    return f"interrupted after {result.epochs} epochs; the checkpoint has {kept}: go on with `{again}`"


@contextmanager
def _progress(data: str) -> Iterator[Callback]:
    """What is done until the first epoch has ended, then a bar of epochs; on standard error."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total} epochs"),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    bar, before = Progress(*columns, console=console), console.status(f"reading {escape(data)}, first epoch")
    task = bar.add_task("train", total=None, loss="-")

    with ExitStack() as shown:

        def watch(progress: Any) -> None:
            if not bar.live.is_started:
                before.stop()
                shown.enter_context(bar)
            bar.update(task, completed=progress.epoch, total=progress.epochs, loss=f"{progress.row['loss']:.6g}")

        with before:
            yield watch
