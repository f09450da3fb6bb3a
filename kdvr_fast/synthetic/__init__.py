"""Synthetic problems with a known optimum, in memory or virtual, and teachers of a chosen quality for them."""

from .._virtual import VirtualRows, VirtualTargets
from .population import population_stats
from .problems import SyntheticProblem, least_squares, logistic, softmax
from .teachers import teacher

__all__ = [
    "SyntheticProblem",
    "VirtualRows",
    "VirtualTargets",
    "least_squares",
    "logistic",
    "population_stats",
    "softmax",
    "teacher",
]
