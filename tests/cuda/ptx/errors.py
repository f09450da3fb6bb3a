"""What the interpreter raises: something a device would do wrong in silence, or an instruction that it does not know."""

from __future__ import annotations


class PTXError(Exception):
    """The message says what is wrong, and the source line, block and thread where there are any."""
