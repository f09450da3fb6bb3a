"""The CUDA backend on an emulated device, which takes the place of the module `cupy` for as long as a test needs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from kdvr_fast.backends import get_backend
from kdvr_fast.backends.cuda_device import Tuning

from .cupy import EmulatedCupy
from .engines import Engine


@contextmanager
def cuda_on(engine: Engine, tuning: Tuning | None = None) -> Iterator[EmulatedCupy]:
    """`import cupy` gives the emulated module, and so does all that is `backend="cuda"`. tuning: of its device."""
    module: Any = EmulatedCupy(engine)
    with patch.dict(sys.modules, {"cupy": module}):
        backend: Any = get_backend("cuda")
        if tuning is not None:
            backend.device.tuning = tuning
        yield module
