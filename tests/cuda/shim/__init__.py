"""CUDA C++ compiled by g++ and run on the CPU, with sanitizers and a race detector: emulated, not run on a GPU."""

from .build import Compiler, Patch, unavailable
from .library import Library, ShimError
from .tape import Recorder, Tape, replay, replay_sanitized

__all__ = ["Compiler", "Library", "Patch", "Recorder", "ShimError", "Tape", "replay", "replay_sanitized", "unavailable"]
