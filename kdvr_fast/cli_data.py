"""`kdvr stats` and `convert`: the gradient noise of data, and data and models in other formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_model import (
    AsJson,
    Cache,
    Categorical,
    Features,
    Labels,
    RowsPath,
    Scale,
    Target,
    how_to_read,
    save_npy,
    shown,
)

if TYPE_CHECKING:
    from ._cli_data import Data
    from .statistics import GradientStats


def stats(
    data: RowsPath,
    labels: Labels = None,
    target: Target = None,
    features: Features = None,
    categorical: Categorical = None,
    scale: Scale = None,
    loss: Annotated[str, typer.Option(help="squared, logistic or softmax.")] = "softmax",
    model: Annotated[Path | None, typer.Option(help="Where: a model file or a run's folder. Default: zero weights.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Model file of a teacher.")] = None,
    teacher_logits: Annotated[Path | None, typer.Option(help="Stored outputs of a teacher, .npy (n, k).")] = None,
    teacher_proba: Annotated[Path | None, typer.Option(help="Stored probabilities of a teacher, .npy (n, k).")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of the batch that the figures are for.")] = 1,
    alpha: Annotated[float, typer.Option(help="Weight of the L2 penalty.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Print the gradient noise at a model, and what a teacher explains of it, from one read of the rows.

    Of a deep linear model it is that of all its layers, and of each by itself.

    Example: kdvr stats rows.npy --labels y.npy --model student --teacher big.safetensors
    """
    import numpy as np

    from . import _cli_data as files
    from ._cli_run import plain
    from .layer_statistics import layer_stats
    from .statistics import gradient_stats

    at = None if model is None else files.open_model(model)
    if at is not None:
        loss = at.loss
    how = how_to_read(target=target, features=features, categorical=categorical, scale=scale)
    rows = files.read(data, labels, how, loss=loss, like=None if at is None else files.Like.model(at))
    y, classes = rows.y, rows.classes
    guide = files.teacher(teacher, teacher_logits, teacher_proba, loss=loss, data=rows)
    if at is None:
        k = 1 if loss == "logistic" else len(classes) if classes is not None else y.shape[1] if y.ndim == 2 else 1
        coef, intercept = np.zeros((k, rows.X.shape[1])), np.zeros(k)
    else:
        coef, intercept = at.coef, at.intercept
    options: dict[str, Any] = {"intercept": intercept, "loss": loss, "teacher": guide, "batch_size": batch_size, "alpha": alpha}
    if at is None or at.layers is None:
        made: GradientStats = gradient_stats(rows.X, y, coef, **options)
    else:
        made = layer_stats(rows.X, y, at.layers, **options)
    figures, layers = _figures(made), [_figures(layer) for layer in getattr(made, "layers", ())]
    if as_json:
        typer.echo(json.dumps(plain(figures) | ({"layers": [plain(layer) for layer in layers]} if layers else {}), indent=2))
        return
    if layers:
        names = ("all", *(f"layer {number}" for number in range(1, len(layers) + 1)))
        typer.echo(" " * 24 + "".join(f"{name:<14}" for name in names).rstrip())
    for name, value in figures.items():
        beside = (value, *(layer[name] for layer in layers))
        if any(part == part for part in beside):  # what is of a teacher is NaN without one
            typer.echo(f"{name:<24}" + "".join(f"{shown(part):<14}" for part in beside).rstrip())


def _figures(made: Any) -> dict[str, Any]:
    """The figures of statistics that are numbers or words."""
    return {name: value for name, value in vars(made).items() if isinstance(value, int | float | str)}


def convert(
    source: Annotated[Path, typer.Argument(help="Rows of any kind that `kdvr train` reads, a model file or a run's folder.")],
    target: Annotated[Path, typer.Argument(help="Of rows .npy (dense) or .npz (CSR); of a model .onnx.")],
    labels_out: Annotated[
        Path | None, typer.Option(help="Where to write the targets of LIBSVM text or a column, .npy.")
    ] = None,
    labels_column: Annotated[str | None, typer.Option(help="The column of a table that has the targets.")] = None,
    features: Features = None,
    categorical: Categorical = None,
    scale: Scale = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    cache: Cache = None,
) -> None:
    """Write rows as .npy or .npz, which are read at once and in place; or a model as ONNX.

    Example: kdvr convert train.svm train.npz --labels-out y.npy

    Example: kdvr convert trips.csv trips.npz --categorical city --labels-column late --labels-out late.npy

    Example: kdvr convert student student.onnx
    """
    import numpy as np

    from . import _cli_data as files
    from ._store import replace_file

    if target.suffix == ".onnx":
        files.open_model(source).to_onnx(target)
        typer.echo(f"model written to {target.resolve()}")
        return
    if target.suffix not in (".npy", ".npz") or dtype not in ("float32", "float64"):
        raise typer.BadParameter(f"{target}, {dtype}: write rows to .npy or .npz as float32 or float64, a model to .onnx")
    how = how_to_read(target=labels_column, features=features, categorical=categorical, scale=scale, dtype=dtype, cache=cache)
    data = files.read(source, how=how)
    if labels_out is not None:
        if data.y is None:
            raise typer.BadParameter(
                f"{source} has no targets of its own; of a table name --labels-column", param_hint="--labels-out"
            )
        targets = data.y.astype(np.int64) if (data.y == np.round(data.y)).all() else data.y
        replace_file(labels_out, lambda aside: save_npy(aside, targets))
    replace_file(target, lambda aside: _save_rows(aside, data, target.suffix == ".npz", dtype))
    n, d = data.X.shape
    typer.echo(f"{n:,} x {d:,} {dtype} written to {target.resolve()}")


def _save_rows(path: Path, data: Data, sparse: bool, dtype: str) -> None:
    from scipy.sparse import csr_array, issparse, save_npz

    X = data.X.astype(dtype)
    if not sparse:
        return save_npy(path, X.toarray() if issparse(X) else X)
    with path.open("wb") as file:
        save_npz(file, csr_array(X))
