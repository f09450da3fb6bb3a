"""From files of each kind to rows that are read by position: in place where the format allows it, else through a store."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import _validation as check
from . import _idx, _numpy, _text
from ._arrow import TableFiles, require_arrow
from ._columns import Columns, Encoder, roles
from ._rows import DenseFileRows, FileRows
from ._sniff import STORE_SUFFIX, kind_of
from ._store import Store, Writer, stored
from ._stored import FileArray, Joined, MemoryArray, Stored, Table

_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Request:
    """What is to be opened: kind and files, where converted rows go (None: beside `path`), and how they are read."""

    kind: str
    files: tuple[Path, ...]
    cache: Path | None
    path: Path = Path()
    columns: Columns = field(default_factory=Columns)
    classes: Sequence[Any] | str | None = None
    zero_based: bool | None = None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    scale: float = 1.0
    memory_limit: int = 1 << 30

    def store(self, fill: Callable[[Writer], dict[str, Any]], **names: Any) -> Store:
        """The converted rows; one folder for each way of converting."""
        asked = [asdict(self.columns), self.classes, self.zero_based, self.dtype.name, names]
        key = hashlib.sha256(json.dumps(asked, default=str, sort_keys=True).encode()).hexdigest()[:8]
        where = self.path.resolve()
        folder = (self.cache or where.parent) / f"{where.name}.{key}{STORE_SUFFIX}"
        return stored(folder, self.files, self.dtype, fill)


@dataclass
class Opened:
    """What was found: see `DataSet`."""

    rows: FileRows
    y: Table | None = None
    outputs: Table | None = None
    feature_names: Sequence[str] | None = None
    classes: Sequence[Any] | None = None
    categories: dict[str, list[Any]] = field(default_factory=dict)
    checked: bool = False
    owned: object = None


def array_file(path: Path) -> Stored:
    """The array of a `.npy` or IDX file, the latter in memory."""
    kind = kind_of((path,))
    if kind not in ("npy", "idx"):
        raise ValueError(f"{path} is {kind}; targets and teacher outputs beside rows are .npy or IDX files")
    return _numpy.npy(path) if kind == "npy" else MemoryArray(_idx.read(path))


def open_numbers(request: Request) -> Opened:
    """`.npy`, IDX, `.npz` and LIBSVM."""
    in_place = request.kind == "npy" or (request.kind == "idx" and all(_plain_bytes(path) for path in request.files))
    if in_place:
        if request.classes is not None:
            raise ValueError(f"classes number targets that are read with the rows; {request.files[0]} has rows alone")
        return Opened(_dense(request))
    store = request.store(lambda writer: _fill(request, writer))
    return _from_store(store, request)


def _plain_bytes(path: Path) -> bool:
    with _idx.opened(path) as file:
        header = _idx.read_header(file, path)
    with open(path, "rb") as raw:
        return header.dtype.itemsize == 1 and raw.read(2) != _idx.GZIP_MAGIC


def _dense(request: Request) -> DenseFileRows:
    parts = [_numpy.npy(path) if request.kind == "npy" else _idx_bytes(path) for path in request.files]
    for path, part in zip(request.files, parts, strict=True):
        if len(part.shape) != 2 or 0 in part.shape:
            raise ValueError(f"{path} has shape {part.shape}; rows are 2-D (rows, features) and not empty")
        if (part.shape[1], part.dtype) != (parts[0].shape[1], parts[0].dtype):
            raise ValueError(
                f"{path} has {part.shape[1]} features of {part.dtype}, {request.files[0].name} has {parts[0].shape[1]} of "
                f"{parts[0].dtype}; shards agree in both"
            )
    dtype = parts[0].dtype
    compact = dtype.name in check.COMPACT
    if not compact and dtype not in (np.float32, np.float64):
        raise TypeError(f"{request.files[0]} holds {dtype}; rows are read as float32 or float64: save X.astype(np.float32)")
    if not compact and request.scale != 1:
        raise ValueError(f"scale={request.scale:g} is for rows of one or two bytes a number; {request.files[0]} holds {dtype}")
    values: Stored = parts[0] if len(parts) == 1 else Joined(parts)
    return DenseFileRows(values, request.dtype if compact else dtype, request.memory_limit, request.scale)


def _idx_bytes(path: Path) -> FileArray:
    with open(path, "rb") as file:
        header = _idx.read_header(file, path)
    if path.stat().st_size != header.start + header.bytes:
        list(_idx.chunks(path, _CHUNK_BYTES))  # which says what is wrong
    shape = header.shape[0], header.bytes // max(header.shape[0], 1)
    return FileArray(path, header.dtype, shape, header.start)


def _fill(request: Request, writer: Writer) -> dict[str, Any]:
    if request.kind == "libsvm":
        _text.fill(request.files, writer, request.zero_based)
    elif request.kind == "npz":
        _numpy.fill(request.files, writer)
    else:
        for path in request.files:
            for values in _idx.chunks(path, _CHUNK_BYTES):
                writer.add(values if values.dtype.name in check.COMPACT else values.astype(writer.dtype))
    return _number_classes(writer, request.classes)


def _number_classes(writer: Writer, classes: Sequence[Any] | str | None) -> dict[str, Any]:
    """Turn numeric targets into labels, if that is asked for."""
    if classes is None:
        return {}
    if "y" not in writer.arrays:
        raise ValueError("classes number targets that are read with the rows; these come without")
    if isinstance(classes, str):
        return {"classes": writer.fit_classes()}
    writer.encode([float(value) for value in classes])
    return {"classes": list(classes)}


def open_table(request: Request, y: tuple[str, ...], outputs: tuple[str, ...]) -> Opened:
    """Parquet, Arrow and CSV."""
    require_arrow(request.files[0])
    table = TableFiles(request.files, request.kind)
    parts = roles(table.names(), request.columns, y, outputs)

    def fill(writer: Writer) -> dict[str, Any]:
        encoder = Encoder(parts, request.columns, request.classes, request.dtype)
        width = len(parts.all)
        if encoder.to_fit:
            encoder.fit(table.batches(encoder.to_fit, width))
        for batch in table.batches(parts.all, width):
            X, targets, made = encoder.encode(batch)
            if X.shape[0]:
                writer.add(X, targets, made)
        return {
            "feature_names": encoder.feature_names,
            "classes": encoder.classes,
            "categories": [[name, values] for name, values in encoder.categories.items()],
        }

    return _from_store(request.store(fill, y=y, outputs=outputs), request)


def open_chunks(source: Any, request: Request) -> Opened:
    """Chunks of rows from anything that gives them; they are read once, into a folder of their own."""
    given = source() if callable(source) else source
    if not isinstance(given, Iterable) or isinstance(given, np.ndarray):
        raise TypeError(f"source must be a path, chunks (X, y), or a function that gives them, got {type(source).__name__}")
    folder = tempfile.TemporaryDirectory(prefix="kdvr-", dir=request.cache)

    def fill(writer: Writer) -> dict[str, Any]:
        for number, chunk in enumerate(given):
            if not (isinstance(chunk, tuple | list) and len(chunk) == 2):
                raise TypeError(f"chunk {number} is {type(chunk).__name__}; chunks are pairs (X, y)")
            X, y = chunk[0], check.real_array(chunk[1], f"y of chunk {number}")
            X = X if hasattr(X, "indptr") else check.real_array(X, f"X of chunk {number}")
            if X.ndim != 2 or len(y) != X.shape[0]:
                raise ValueError(
                    f"chunk {number} has X of shape {X.shape} and y of shape {y.shape}; they are (rows, d) and (rows,)"
                )
            if X.shape[0]:
                writer.add(X, y)
        return _number_classes(writer, request.classes)

    opened = _from_store(stored(Path(folder.name) / f"rows{STORE_SUFFIX}", (), request.dtype, fill), request)
    opened.owned = folder
    return opened


def _from_store(store: Store, request: Request) -> Opened:
    meta, rows = store.meta, store.rows(request.memory_limit, request.scale, request.dtype)
    if request.scale != 1 and not (isinstance(rows, DenseFileRows) and rows.values.dtype.name in check.COMPACT):
        raise ValueError(
            f"scale={request.scale:g} is for rows of one or two bytes a number, these are {rows.dtype}: leave it out"
        )
    return Opened(
        rows,
        store.table("y"),
        store.table("outputs"),
        meta.get("feature_names"),
        meta.get("classes"),
        dict(meta.get("categories", ())),
        checked=True,
    )
