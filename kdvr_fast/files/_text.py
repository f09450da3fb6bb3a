"""LIBSVM text, by scikit-learn's reader, some whole lines at a time: "label feature:value feature:value ...", sparse.

Source: https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._idx import opened
from ._store import Writer

_BLOCK_BYTES = 1 << 22


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file in pieces that end with a line, gzip or not: (lines before it, bytes)."""
    with opened(path) as file:
        rest, lines = b"", 0
        while raw := file.read(_BLOCK_BYTES):
            rest += raw
            end = rest.rfind(b"\n") + 1
            if end:
                yield lines, rest[:end]
                lines, rest = lines + rest.count(b"\n", 0, end), rest[end:]
        if rest:
            yield lines, rest


def fill(paths: Sequence[Path], writer: Writer, zero_based: bool | None) -> None:
    """Add all rows. zero_based: whether features are counted from 0; None: they are if one is 0, as scikit-learn has it."""
    lowest: int | None = None
    for path in paths:
        for lines, raw in blocks(path):
            X, y = _parse(path, lines, raw, writer.dtype)
            if X.nnz:
                lowest = int(X.indices.min()) if lowest is None else min(lowest, int(X.indices.min()))
            if X.shape[0]:
                writer.add(X, y)
    if zero_based is False and lowest == 0:
        raise ValueError(f"{paths[0]}: a feature is numbered 0 and zero_based=False counts from 1: leave zero_based out")
    if lowest is not None and (zero_based is False or (zero_based is None and lowest > 0)):
        writer.shift_features(-1)


def _parse(path: Path, lines: int, raw: bytes, dtype: np.dtype[Any]) -> tuple[Any, NDArray[Any]]:
    from sklearn.datasets import load_svmlight_file

    try:
        X, y = load_svmlight_file(BytesIO(raw), dtype=dtype, zero_based=True)
    except (ValueError, IndexError) as error:
        last = lines + len(raw.splitlines())
        raise ValueError(f"{path}: not LIBSVM text somewhere in lines {lines + 1} .. {last}: {error}") from error
    return X, np.asarray(y, np.float64)
