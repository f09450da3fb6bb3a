"""Files of arrays and plain data that nothing in them can make run: safetensors, with JSON in its metadata.

The metadata of a file has four strings: "format" (what it is), "version" (of that format, an integer), "data" (JSON) and
"checksum" (BLAKE2b of data and of all arrays with their names, types and shapes). Files are written aside, synced and renamed,
and the folder is synced, so that whatever happens there is the old file or the new one, whole.
Source: https://github.com/huggingface/safetensors (8 bytes: length of the header; header, JSON; arrays).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def write(path: Path, kind: str, version: int, data: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a file of that kind over what is there. Raises OSError where that fails; what is there then stays."""
    from safetensors.numpy import save

    plain = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    text = json.dumps(data)
    metadata = {"format": kind, "version": str(version), "data": text, "checksum": _checksum(text, plain)}
    contents = save(plain, metadata)  # its save_file gives nobody else the right to read
    replace_file(path, lambda aside: aside.write_bytes(contents))


def read(path: Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Data and arrays of a file of that kind.

    Raises FileNotFoundError, or ValueError for a file of another kind, of a later version, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a {kind} file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_kind(path, metadata, kind, version)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it has no other way
    except SafetensorError as error:
        raise ValueError(f"{path}: truncated, damaged or no {kind} file at all ({error})") from None
    text = metadata.get("data", "")
    if metadata.get("checksum") != _checksum(text, arrays):
        raise ValueError(f"{path}: damaged: its checksum is not that of its contents; take another copy")
    return json.loads(text), arrays


def replace_file(path: Path, write_to: Callable[[Path], object]) -> None:
    """Have a file written beside `path`, and put it there in one step once it is on the disk.

    Raises OSError, by the name of `path`, where that is no place for a file.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}; make it first, or name another one")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    aside = path.with_name(f".{path.name}.tmp")
    try:
        try:
            write_to(aside)
        except OSError as error:
            if error.filename is None or Path(error.filename) != aside:
                raise
            raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from None
        _sync(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_kind(path: Path, metadata: Mapping[str, str], kind: str, version: int) -> None:
    found, of = metadata.get("format"), metadata.get("version", "")
    if found != kind:
        what = "has no format of ours" if found is None else f"is a {found} file"
        raise ValueError(f"{path}: {what}, expected a {kind} file")
    if not of.isdecimal() or int(of) > version:
        raise ValueError(f"{path}: {kind} file of version {of!r}, this kdvr_fast reads up to {version}; install a later one")


def _checksum(text: str, arrays: Arrays) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        values = arrays[name]
        digest.update(f"\0{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
