"""What the interpreter raises: something a device would do wrong in silence, or an instruction that it does not know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class PTXError(Exception):
    """The message says what is wrong, and the source line, block and thread where there are any."""


class Apart(Exception):
    """Lanes came to an instruction of a warp before others that its mask names: they wait there. `error`: if none come."""

    def __init__(self, lanes: NDArray[np.int64], error: PTXError) -> None:
        super().__init__(str(error))
        self.lanes, self.error = lanes, error
