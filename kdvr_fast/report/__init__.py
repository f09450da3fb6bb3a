"""`kdvr report`: one self-contained HTML page made from folders of experiments.

The page needs no network: style, script and data are in it, and its content security policy allows nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path

from . import _page, _read

__all__ = ["write"]


def write(out_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write the page of the experiments in `out_dir` and return its path.

    Args:
        out_dir: a folder of experiments' folders as `kdvr experiment run NAME --out OUT_DIR` writes them, or one of those.
        output: where to write; default `report.html` in `out_dir`. A file that is there is replaced.

    Raises:
        FileNotFoundError: no such folder, or no experiment in it.
        ValueError: a file that is damaged or of another format; the message names the file and the line or field. The last
            line of `runs.jsonl` may be cut short, as an interrupt leaves it: it is skipped and the page says so.
        OSError: the page cannot be written.

    Example:
        >>> from kdvr_fast import report
        >>> report.write("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder is no directory
    """
    folder = Path(out_dir)
    page = _page.render([_read.read(path) for path in _read.find(folder)])
    target = folder / "report.html" if output is None else Path(output)
    if not target.resolve().parent.is_dir():
        raise FileNotFoundError(f"{target.resolve().parent} is no directory; make it, or choose another place for the page")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(page, encoding="utf-8")
        draft.replace(target)  # a reader sees the old page or the new one, never half of one
    finally:
        draft.unlink(missing_ok=True)
    return target
