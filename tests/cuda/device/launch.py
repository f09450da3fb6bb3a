"""Arguments of a launch, checked against the kernel's parameters as nothing on a device checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .array import DeviceArray


@dataclass(frozen=True)
class Slot:
    """A parameter: its size, and "f" where the kernel takes a floating number, "" where it is not known."""

    nbytes: int
    kind: str = ""


@dataclass(frozen=True)
class Call:
    """One launch: shape, dynamic shared memory in bytes, scalars of the parameters' sizes with addresses as uint64."""

    name: str
    blocks: int
    threads: int
    shared: int
    arguments: tuple[np.generic, ...]


def check_call(name: str, grid: Any, block: Any, arguments: Sequence[Any], shared: int, slots: Sequence[Slot]) -> Call:
    """A call as CuPy takes it; TypeError where CuPy would pass other bytes than the kernel reads, or none would hold it."""
    if len(arguments) != len(slots):
        raise TypeError(f"{name} takes {len(slots)} arguments, got {len(arguments)}")
    shape = [_size(name, what, sizes) for what, sizes in (("grid", grid), ("block", block))]
    values = tuple(_value(name, j, value, slot) for j, (value, slot) in enumerate(zip(arguments, slots, strict=True)))
    return Call(name, shape[0], shape[1], int(shared), values)


def _size(name: str, what: str, sizes: Any) -> int:
    if not isinstance(sizes, tuple) or not all(isinstance(size, int) for size in sizes):
        raise TypeError(f"{name}: {what} must be a tuple of integers, got {sizes!r}")
    if any(size != 1 for size in sizes[1:]) or sizes[0] < 1:
        raise ValueError(f"{name}: the emulated device launches one-dimensional shapes, got {what} {sizes}")
    return int(sizes[0])


def _value(name: str, j: int, value: Any, slot: Slot) -> np.generic:
    if isinstance(value, DeviceArray):
        if slot.nbytes != 8 or slot.kind == "f":
            raise TypeError(f"{name}: argument {j} is an array, the kernel takes a number of {slot.nbytes} bytes")
        if not value.flags.c_contiguous:
            raise TypeError(f"{name}: argument {j} is an array with gaps (strides {value.strides})")
        return np.uint64(value.pointer)
    if not isinstance(value, np.generic):
        raise TypeError(
            f"{name}: argument {j} is {type(value).__name__}; pass a device array or a NumPy number of the parameter's type, "
            "since CuPy passes the bytes of what it is given"
        )
    if value.dtype.itemsize != slot.nbytes or (slot.kind and (value.dtype.kind == "f") != (slot.kind == "f")):
        raise TypeError(
            f"{name}: argument {j} is {value.dtype.name}, the kernel takes {slot.nbytes} bytes ({slot.kind or 'any'})"
        )
    return value
