"""The device behind the CUDA backend: an array module (CuPy), the kernels compiled for a kind of problem, and their launches.

The module is a parameter, so that an emulated one can stand in for it. Work goes to CuPy's current stream
(``with stream: solve(...)``); kernels are compiled at first use by NVRTC and kept in CuPy's cache.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

POINTERS = (
    *("values", "features", "starts", "labels", "targets", "sample"),
    *("W", "anchor", "table", "m", "velocity", "mean", "gradient", "order", "rates"),
    *("r", "c", "q", "change", "work", "losses", "sums", "exploded"),
)
NUMBERS: dict[str, type[np.generic]] = {  # in the order of KDVR_PARAMETERS, csrc/cuda/job.cuh
    **dict.fromkeys(("n", "stride", "count", "averaged"), np.int64),
    **dict.fromkeys(("d", "k", "batch", "pairs_every", "soft", "intercept", "source"), np.int32),
    **dict.fromkeys(("use_mean", "update_table", "statistics", "nesterov", "constant_rate"), np.int32),
    **dict.fromkeys(("lam", "temperature", "inverse_temperature", "l2", "l1", "momentum", "limit"), np.float64),
}
SUMS = 8  # doubles a block, csrc/cuda/job.cuh
BLOCK_THREADS, WALK_THREADS = 256, 384  # as compiled; a step of a walk needs more registers than 512 threads leave it
_BLOCKS_EACH = 2  # of a multiprocessor
_REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_LOSSES = {"squared": "Squared", "logistic": "Logistic", "softmax": "Softmax"}


@dataclass(frozen=True)
class Tuning:
    """When a device does what; the numbers are estimates, to be measured on hardware by tests/gpu/benchmark.py.

    walk_work: multiply-adds of a step up to which one block is quicker than two launches on all. piece_work: of a launch, some
    50 ms, after which a pending Ctrl-C is seen. step_work: what a step costs that does nothing. fused_outputs: outputs up to
    which a dense pass is the fused kernel, at most 32 (kMostOutputs of csrc/cuda/pass.cuh); more go through matrix products.
    """

    walk_work: int = 1 << 18
    piece_work: int = 1 << 30
    step_work: int = 1 << 15
    fused_outputs: int = 32


@dataclass(frozen=True)
class Kind:
    """What kernels are compiled for: type of the numbers, sparse rows, the loss by its name, one output or more."""

    dtype: np.dtype[Any]
    sparse: bool
    loss: str
    one: bool

    def options(self) -> tuple[str, ...]:
        """Macros of csrc/cuda/kernels.cu."""
        given = {"REAL": _REALS[self.dtype], "SPARSE": int(self.sparse), "LOSS": _LOSSES[self.loss], "ONE": int(self.one)}
        return tuple(f"-DKDVR_{name}={value}" for name, value in given.items())


_TUNING = Tuning()


class Kernels:
    """The compiled kernels of one kind of problem."""

    def __init__(self, xp: Any, kind: Kind) -> None:
        folder = source_folder()
        files = sorted(path for path in (folder / "cuda").iterdir() if path.suffix in (".cu", ".cuh"))
        # CuPy's cache looks at the code and the options, not at the files that the code includes
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in [*files, folder / "kdvr" / "losses.hpp"])).hexdigest()
        # -default-device: lambdas of device code are device code, as nvcc takes it anyway
        options = ("-std=c++17", "-default-device", f"-I{folder}", f"-I{folder / 'cuda'}", f"-DKDVR_DIGEST=0x{digest[:8]}")
        code = (folder / "cuda" / "kernels.cu").read_text()
        self._module = xp.RawModule(code=code, options=(*options, *kind.options()), backend="nvrtc")
        self._nothing = xp.zeros(1, np.uint8)  # where a kernel reads no array
        self._functions: dict[str, Any] = {}

    def arguments(self, given: dict[str, Any]) -> tuple[Any, ...]:
        """What kernels take in common, from arrays and numbers by name; 0 and an array that is not read where there is none."""
        arrays = (given.get(key, self._nothing) for key in POINTERS)
        return (*arrays, *(kind(given.get(key, 0)) for key, kind in NUMBERS.items()))

    def launch(self, name: str, blocks: int, *arguments: Any, threads: int = BLOCK_THREADS) -> None:
        """Run a kernel: with `arguments`, and its own after them, or with its own alone."""
        if name not in self._functions:
            self._functions[name] = self._module.get_function(f"kdvr_{name}")
        self._functions[name]((blocks,), (threads,), arguments)


class Device:
    """An array module and what it says of its device."""

    def __init__(self, xp: Any, tuning: Tuning = _TUNING) -> None:
        self.xp, self.tuning = xp, tuning
        self.blocks = _BLOCKS_EACH * int(xp.cuda.Device().attributes["MultiProcessorCount"])
        self._kernels: dict[Kind, Kernels] = {}

    def kernels(self, kind: Kind) -> Kernels:
        """The kernels for a kind of problem, compiled once."""
        if kind not in self._kernels:
            self._kernels[kind] = Kernels(self.xp, kind)
        return self._kernels[kind]

    def array(self, values: Any, dtype: Any = None) -> Any:
        """An array on the device, C-ordered; no copy of one that is there already."""
        return self.xp.ascontiguousarray(self.xp.asarray(values, dtype))

    def synchronize(self) -> None:
        """Wait for the work of the current stream."""
        self.xp.cuda.get_current_stream().synchronize()


def source_folder() -> Path:
    """Where `cuda/kernels.cu` and `kdvr/losses.hpp` are: in the installed package, or in the tree that it is run from."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "cuda_source"
    return installed if installed.is_dir() else package.parent / "csrc"


def find_device() -> Device | str:
    """CuPy's current device, or why there is none and what to do."""
    try:
        import cupy
    except ImportError as error:
        return f'CuPy cannot be imported ({error}): pip install "kdvr_fast[cuda12]" or "kdvr_fast[cuda13]", as the driver is'
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA finds no device ({error}): it needs an NVIDIA GPU and a driver that is new enough for this CuPy"
    return _device(cupy, cupy.cuda.Device().id) if count else "CUDA finds no device: it needs an NVIDIA GPU"


def device_name() -> str:
    """CuPy's current device, and its multiprocessors: the order of sums over blocks follows from their number."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return f"{properties['name'].decode()} ({properties['multiProcessorCount']} multiprocessors)"


@cache
def _device(xp: Any, number: int) -> Device:
    """One of CuPy's devices, the current one, and the kernels compiled for it: once a process."""
    return Device(xp)
