"""`kdvr predict`, `eval` and `teacher`: what a saved model says of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

_MODEL = typer.Argument(help="A model file, or the folder of a run.")
_ROWS = typer.Argument(help="Rows: .npy, .npz, LIBSVM text (.svm), IDX.")
_CHUNK = 1 << 16  # rows whose outputs are held at once

ModelPath = Annotated[Path, _MODEL]
RowsPath = Annotated[Path, _ROWS]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_model(path: Path) -> Any:
    """The model of a file, or of a run's folder."""
    from .model import load

    return load(path / "model.safetensors" if path.is_dir() else path)


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
) -> None:
    """Print what the model predicts, a line a row; probabilities and several values with tabs between them.

    Example: kdvr predict student rows.npy --out predicted.npy
    """
    import numpy as np

    from . import _cli_data as files

    fitted, rows = open_model(model), files.read(data)
    made = fitted.predict_proba(rows.X) if proba else fitted.predict(rows.X)
    if out is not None:
        _check_npy(out)
        with out.open("wb") as file:
            np.save(file, made, allow_pickle=False)
        typer.echo(f"{made.shape} {made.dtype} written to {out.resolve()}")
        return
    for row in made.tolist():
        typer.echo("\t".join(map(repr, row)) if isinstance(row, list) else str(row))


def evaluate(
    model: ModelPath,
    data: RowsPath,
    labels: Annotated[Path | None, typer.Option(help="Targets: .npy, IDX, or text with one a line.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print loss and accuracy of the model on rows with targets.

    Example: kdvr eval student test.npy --labels y_test.npy --json
    """
    from . import _cli_data as files
    from ._cli_run import plain, score

    fitted, rows = open_model(model), files.read(data, labels)
    if rows.y is None:
        raise ValueError(f"{data} has no targets: name a file of them with --labels")
    figures = score(fitted, rows.X, rows.y)
    typer.echo(json.dumps(plain(figures)) if as_json else in_words(figures))


def teacher(
    model: ModelPath,
    data: RowsPath,
    out: Annotated[Path, typer.Argument(help="An .npy file; `kdvr train` maps it into memory.")],
    proba: Annotated[bool, typer.Option("--proba", help="Probabilities in place of logits.")] = False,
) -> None:
    """Compute a model's outputs on rows once, for `kdvr train --teacher-logits` or --teacher-proba.

    Example: kdvr teacher big.safetensors rows.npy outputs.npy
    """
    import numpy as np

    from . import _cli_data as files
    from ._store import replace_file

    _check_npy(out)
    fitted, rows = open_model(model), files.read(data)
    n, k = rows.X.shape[0], len(fitted.coef)

    def write(aside: Path) -> None:
        stored = np.lib.format.open_memmap(aside, mode="w+", dtype=np.dtype(rows.X.dtype), shape=(n, k))
        for start in range(0, n, _CHUNK):
            part = rows.X[start : start + _CHUNK]
            P = fitted.predict_proba(part) if proba else fitted.decision_function(part)
            stored[start : start + _CHUNK] = P[:, -k:]
        stored.flush()

    replace_file(out, write)
    typer.echo(f"({n}, {k}) {'probabilities' if proba else 'logits'} written to {out.resolve()}")


def _check_npy(out: Path) -> None:
    if out.suffix != ".npy":
        raise typer.BadParameter(f"{out}: write an .npy file")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"{out}: {out.parent} is no directory")
