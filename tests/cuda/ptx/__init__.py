"""PTX that NVRTC emits, executed lane by lane in NumPy: emulated, not run on a GPU."""

from .errors import PTXError
from .parser import Entry, parse
from .program import Program
from .traffic import Traffic

__all__ = ["Entry", "PTXError", "Program", "Traffic", "parse"]
