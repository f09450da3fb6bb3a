"""The CUDA backend on an emulated device, under the name "cuda" for as long as a test needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdvr_fast.backends import BACKENDS
from kdvr_fast.backends.cuda import CudaBackend
from kdvr_fast.backends.cuda_device import Device

from .cupy import EmulatedCupy
from .engines import Engine


@contextmanager
def cuda_on(engine: Engine) -> Iterator[EmulatedCupy]:
    """`backend="cuda"` is the backend with the emulated array module in CuPy's place."""
    module = EmulatedCupy(engine)
    backend, before = CudaBackend(Device(module)), BACKENDS.get("cuda")
    BACKENDS["cuda"] = lambda: backend
    try:
        yield module
    finally:
        if before is None:
            del BACKENDS["cuda"]
        else:
            BACKENDS["cuda"] = before
