"""What a file is, told by its first bytes, and which files a path stands for."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from ._idx import GZIP_MAGIC, TYPES

TABLES = ("parquet", "arrow", "csv")
STORE_SUFFIX = ".kdvr"
_MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PAR1": "parquet", b"ARROW1": "arrow"}
_LIBSVM_LINE = re.compile(rb"[+-]?\.?\d[^\s:,]*(\s+(qid:)?\d+:\S+)*\s*(#.*)?")
_HEAD = 1 << 16


def shards(path: Path) -> tuple[Path, ...]:
    """The file, or the files of a folder in the order of their names."""
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    inside = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith((".", "_")))
    if not inside:
        raise FileNotFoundError(f"{path}: the folder holds no files")
    return tuple(inside)


def kind_of(paths: Sequence[Path]) -> str:
    """The one kind of all files. Raises ValueError where they differ, or for a file of none."""
    kinds = [_kind(path) for path in paths]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                f"{path} is {kind} and {paths[0].name} is {kinds[0]}; the files of a folder are shards of one data set"
            )
    return kinds[0]


def _kind(path: Path) -> str:
    head = _head(path)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] in TYPES:
        return "idx"
    if {".csv", ".tsv"} & set(path.suffixes):
        return "csv"
    lines = [line for line in head.split(b"\n") if line.strip() and not line.startswith(b"#")]
    if lines and (_LIBSVM_LINE.fullmatch(lines[0]) or (len(lines) == 1 and len(head) == _HEAD)):
        return "libsvm"
    raise ValueError(
        f"{path}: not a known kind of file: it starts with {head[:12]!r}; rows are read from .npy, .npz (CSR), IDX, LIBSVM "
        "text, Parquet, Arrow IPC, and CSV named .csv or .tsv"
    )


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(GZIP_MAGIC):
        return head
    try:
        with gzip.open(path) as packed:
            return packed.read(_HEAD)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip archive ({error}); fetch it again") from error
