"""What the tests of the CUDA backend share: a folder for libraries, and an emulated device."""

from __future__ import annotations

import pytest
from shim import Compiler, unavailable


@pytest.fixture(scope="session")
def compiler(tmp_path_factory):
    """Builds kernels for the CPU."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)
    return Compiler(tmp_path_factory.mktemp("kernels"))
