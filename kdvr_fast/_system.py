"""The machine and the versions, as plain data."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version as installed_version
from typing import Any

from . import backends
from ._threads import usable_threads
from ._version import __version__


def system_info() -> dict[str, Any]:
    """What `kdvr info` prints: a backend is null when it can run and otherwise the reason why it cannot."""
    reasons = backends.backend_status()
    isa, isa_available = None, []
    if reasons["native"] is None:
        from . import _core

        isa, isa_available = _core.isa(), _core.isa_available()
    return {
        "version": __version__,
        "backends": reasons,
        "isa": isa,
        "isa_available": isa_available,
        "threads": usable_threads(),
        "python": platform.python_version(),
        "numpy": installed_version("numpy"),
        "scipy": installed_version("scipy"),
        "platform": platform.platform(),
    }


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # getrusage(2): bytes there, KiB elsewhere
