"""What the theory says, as numbers: the best distillation weight, bounds, constants, step sizes, the exact oracle.

Source: arXiv:2305.17581, and the papers named by each function.
"""

from ._constants import Smoothness, auto_learning_rate, batch_smoothness, smoothness, strong_convexity
from ._oracle import LeastSquaresOracle
from ._weights import noise, noise_ratio, optimal_lambda, pl_bound, sqc_bound

__all__ = [
    "LeastSquaresOracle",
    "Smoothness",
    "auto_learning_rate",
    "batch_smoothness",
    "noise",
    "noise_ratio",
    "optimal_lambda",
    "pl_bound",
    "smoothness",
    "sqc_bound",
    "strong_convexity",
]
