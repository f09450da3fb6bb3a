"""`kdvr predict`, `eval` and `teacher`: what a saved model says of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ._cli_reading import Reading

_MODEL = typer.Argument(help="A model file, or the folder of a run.")
_ROWS = typer.Argument(help="Rows: .npy, .npz (CSR), LIBSVM text, IDX, Parquet, Arrow, CSV; or a folder of such files.")

ModelPath = Annotated[Path, _MODEL]
RowsPath = Annotated[Path, _ROWS]
Labels = Annotated[Path | None, typer.Option(help="File of targets: .npy, IDX, or text with one a line.")]
Target = Annotated[str | None, typer.Option(help="Column of targets, of a table (Parquet, Arrow, CSV).")]
Features = Annotated[str | None, typer.Option(help="Columns of a table, a,b,c. Default: all but the target.")]
Categorical = Annotated[str | None, typer.Option(help="Those of them that are one-hot encoded, a,b.")]
Scale = Annotated[str | None, typer.Option(help="Factors of columns, such as distance=0.001.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder to keep converted rows in. Default: none; with --memory-limit beside the file.")
]
MemoryLimit = Annotated[str | None, typer.Option(help="Such as 200MB: rows stay in files. Default: read into memory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def how_to_read(**given: Any) -> Reading:
    """The options of a command that reads rows; what is None is left out."""
    from ._cli_reading import Reading

    return Reading(**{name: str(value) for name, value in given.items() if value is not None})


def shown(value: int | float | str) -> str:
    """A figure as a person reads it."""
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def in_words(figures: Mapping[str, Any]) -> str:
    """Figures in a line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in figures.items())


def predict(
    model: ModelPath,
    data: RowsPath,
    proba: Annotated[bool, typer.Option("--proba", help="Probabilities of the classes in place of the class.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write an .npy file in place of lines on standard output.")] = None,
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
) -> None:
    """Print what the model predicts, a line a row; probabilities and several values with tabs between them.

    A table is read by the columns that the model was trained on.

    Example: kdvr predict student rows.npy --out predicted.npy
    """
    import numpy as np

    from . import _cli_data as files
    from ._store import replace_file

    if out is not None:
        _check_npy(out)
    fitted = files.open_model(model)
    rows = files.read(data, how=how_to_read(cache=cache, memory_limit=memory_limit), like=files.Like.model(fitted))
    parts = (fitted.predict_proba(X) if proba else fitted.predict(X) for X, _ in rows.chunks())
    if out is not None:
        made = np.concatenate(list(parts))
        replace_file(out, lambda aside: save_npy(aside, made))
        typer.echo(f"{made.shape} {made.dtype} written to {out.resolve()}")
        return
    for part in parts:
        for row in part.tolist():
            typer.echo("\t".join(map(repr, row)) if isinstance(row, list) else str(row))


def save_npy(path: Path, values: Any) -> None:
    """Write an array, under whatever name."""
    import numpy as np

    with path.open("wb") as file:
        np.save(file, np.asarray(values), allow_pickle=False)


def evaluate(
    model: ModelPath,
    data: RowsPath,
    labels: Labels = None,
    target: Target = None,
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
    as_json: AsJson = False,
) -> None:
    """Print loss and accuracy of the model on rows with targets.

    A table is read by the columns that the model was trained on, that of the targets among them.

    Example: kdvr eval student test.npy --labels y_test.npy --json
    """
    from . import _cli_data as files
    from ._cli_run import plain, score

    fitted, how = files.open_model(model), how_to_read(target=target, cache=cache, memory_limit=memory_limit)
    figures = score(fitted, files.read(data, labels, how, loss=fitted.loss, like=files.Like.model(fitted)))
    typer.echo(json.dumps(plain(figures)) if as_json else in_words(figures))


def teacher(
    model: ModelPath,
    data: RowsPath,
    out: Annotated[Path, typer.Argument(help="An .npy file; `kdvr train` maps it into memory.")],
    proba: Annotated[bool, typer.Option("--proba", help="Probabilities in place of logits.")] = False,
    cache: Cache = None,
    memory_limit: MemoryLimit = None,
) -> None:
    """Compute a model's outputs on rows once, for `kdvr train --teacher-logits` or --teacher-proba.

    Example: kdvr teacher big.safetensors rows.npy outputs.npy
    """
    import numpy as np

    from . import _cli_data as files
    from ._store import replace_file

    _check_npy(out)
    fitted = files.open_model(model)
    rows = files.read(data, how=how_to_read(cache=cache, memory_limit=memory_limit), like=files.Like.model(fitted))
    n, k = rows.X.shape[0], len(fitted.coef)

    def write(aside: Path) -> None:
        stored = np.lib.format.open_memmap(aside, mode="w+", dtype=np.dtype(rows.X.dtype), shape=(n, k))
        at = 0
        for part, _ in rows.chunks():
            P = fitted.predict_proba(part) if proba else fitted.decision_function(part)
            stored[at : at + len(P)] = P[:, -k:]
            at += len(P)
        stored.flush()

    replace_file(out, write)
    typer.echo(f"({n}, {k}) {'probabilities' if proba else 'logits'} written to {out.resolve()}")


def _check_npy(out: Path) -> None:
    if out.suffix != ".npy":
        raise typer.BadParameter(f"{out}: write an .npy file")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"{out}: {out.parent} is no directory")
