"""A built library: its kernels, their parameters, and a launch. NumPy and ctypes only: a sanitized process loads it too."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from device.launch import Call, Slot


class ShimError(Exception):
    """What a launch did wrong, with line, block and thread; or what the detector saw, a line each."""


class _Region(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_size_t), ("bytes", ctypes.c_size_t))


class _Shape(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint) for name in ("blocks", "threads", "dynamic_bytes", "seed"))


class Library:
    """`seed` draws the order of blocks and threads."""

    def __init__(self, path: Path, seed: int = 0) -> None:
        self.path, self.seed = path, seed
        self.handle = ctypes.CDLL(str(path))
        shared = _shared_arrays(path, self.handle)
        self.handle.shim_shared((_Region * len(shared))(*shared), ctypes.c_size_t(len(shared)))
        self.watched = hasattr(self.handle, "shim_report")

    def slots(self, name: str) -> list[Slot]:
        """A kernel's parameters."""
        if not hasattr(self.handle, f"shim_slots_{name}"):
            raise ShimError(f"no kernel {name!r} in this source")
        sizes = (ctypes.c_int * 64)()
        count = self._function("slots", name)(sizes)
        return [Slot(abs(size), "f" if size < 0 else "i") for size in sizes[:count]]

    def launch(self, call: Call, buffers: Sequence[tuple[int, int]]) -> None:
        """Runs a kernel. `buffers`: (address, bytes) of the memory that it may touch, for the detector.

        Raises ShimError for what it refuses, and for what the detector saw.
        """
        if self.watched:
            regions = (_Region * len(buffers))(*buffers)
            self.handle.shim_buffers(regions, ctypes.c_size_t(len(buffers)))
        raw = [np.array([value]) for value in call.arguments]
        pointers = (ctypes.c_void_p * len(raw))(*(array.ctypes.data for array in raw))
        shape = _Shape(call.blocks, call.threads, call.shared, self.seed)
        run = self._function("run", call.name)
        run.restype = ctypes.c_char_p
        error = run(pointers, ctypes.byref(shape))
        if error is not None:
            raise ShimError(f"{call.name}: {error.decode()}")
        if self.watched:
            self.handle.shim_report.restype = ctypes.c_char_p
            report = self.handle.shim_report().decode()
            if report:
                raise ShimError(f"{call.name}: {self._with_lines(report)}")

    def _function(self, what: str, name: str) -> Any:
        return getattr(self.handle, f"shim_{what}_{name}")

    def _with_lines(self, report: str) -> str:
        """The places in a report as lines of the source."""
        places = list(dict.fromkeys(re.findall(r"at (0x[0-9a-f]+)", report)))
        try:
            found = subprocess.run(["addr2line", "-e", str(self.path), *places], capture_output=True, text=True).stdout.split(
                "\n"
            )
        except FileNotFoundError:
            return report
        names = {place: Path(line.split(" ")[0]).name for place, line in zip(places, found, strict=False)}
        return re.sub(r"at (0x[0-9a-f]+)", lambda match: f"at {names.get(match[1]) or match[1]}", report)


def _shared_arrays(path: Path, handle: ctypes.CDLL) -> list[tuple[int, int]]:
    """Address and size of every `__shared__` array: the statics of functions, which have symbols `_ZZ..` or `name.number`."""
    table = subprocess.run(["nm", "-S", "--defined-only", str(path)], capture_output=True, text=True, check=True).stdout
    symbols = [line.split() for line in table.splitlines()]
    anchor = next(int(s[0], 16) for s in symbols if s[-1] == "shim_anchor")
    base = ctypes.addressof(ctypes.c_char.in_dll(handle, "shim_anchor")) - anchor
    statics = [s for s in symbols if len(s) == 4 and s[2] in "bBdD" and re.match(r"_ZZ|\w+\.\d+$", s[3])]
    return [(base + int(s[0], 16), int(s[1], 16)) for s in statics if not s[3].startswith("completed.")]
