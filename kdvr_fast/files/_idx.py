"""IDX files (MNIST's format): two zero bytes, a type byte, the number of dimensions, each dimension as a big-endian
uint32, then the values, big-endian, last dimension fastest. Plain or gzip-compressed, told apart by content.

Source: http://yann.lecun.com/exdb/mnist
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Header:
    """What an IDX file holds: dtype as stored, shape, and the byte where values begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, decompressed where it is an archive; a damaged archive is a ValueError."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        try:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged gzip archive ({error}); fetch it again") from error


def read_header(file: BinaryIO, path: Path) -> Header:
    """The header; `file` is left where the values begin. Raises ValueError if it is none."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or head[3] == 0:
        raise ValueError(
            f"{path}: not an IDX file: it starts with bytes {head.hex(' ') or '(none)'}, expected 00 00, "
            f"a type byte out of {', '.join(f'{t:02x}' for t in TYPES)}, and the number of dimensions"
        )
    ndim = head[3]
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise ValueError(
            f"{path}: truncated: a header of {ndim} dimensions takes {4 + 4 * ndim} bytes, the file has {4 + len(sizes)}"
        )
    shape = tuple(int.from_bytes(sizes[4 * i : 4 * i + 4], "big") for i in range(ndim))
    return Header(np.dtype(TYPES[head[2]]), shape, 4 + 4 * ndim)


def chunks(path: Path, most_bytes: int) -> Iterator[NDArray[Any]]:
    """All values in native byte order, (rows, numbers of a row), in chunks of about so many bytes.

    Raises ValueError if there are more or fewer than the header says.
    """
    with opened(path) as file:
        header = read_header(file, path)
        if header.bytes == 0:
            return
        row = header.bytes // header.shape[0]
        size, found = max(1, most_bytes // row), 0
        for start in range(0, header.shape[0], size):
            wanted = min(size, header.shape[0] - start) * row
            raw = file.read(wanted)
            found += len(raw)
            if len(raw) < wanted:
                break
            values = np.frombuffer(raw, header.dtype).reshape(-1, row // header.dtype.itemsize)
            yield values.astype(header.dtype.newbyteorder("="))
        found += len(file.read()) if found == header.bytes else 0
        if found != header.bytes:
            state = "truncated" if found < header.bytes else "too long"
            raise ValueError(
                f"{path}: {state}: shape {header.shape} of {header.dtype.name} takes {header.bytes} bytes, "
                f"the file has {found}; fetch it again"
            )


def read(path: Path) -> NDArray[Any]:
    """The whole array."""
    with opened(path) as file:
        header = read_header(file, path)
    parts = [*chunks(path, 1 << 24), np.zeros((0, math.prod(header.shape[1:])), header.dtype.newbyteorder("="))]
    return np.concatenate(parts).reshape(header.shape) if header.bytes else parts[-1].reshape(header.shape)
