"""`kdvr report`: the page of an experiment's results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    out_dir: Annotated[
        Path, typer.Argument(help="Folder that `kdvr experiment run --out` wrote: of one experiment or of several.")
    ],
    output: Annotated[Path | None, typer.Option(help="Where to write the page. Default: report.html in OUT_DIR.")] = None,
) -> None:
    """Write one HTML page about the experiments in OUT_DIR: readings, interactive figures, tables, settings, machine.

    The page is self-contained: it opens from a disk or a mail, without a network.

    Example: kdvr report results --output results.html
    """
    from .report import write

    typer.echo(f"report written to {write(out_dir, output).resolve()}")
