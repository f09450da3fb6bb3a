"""Synthetic problems with a known optimum, and teachers of a chosen quality for them."""

from .problems import SyntheticProblem, least_squares, logistic, softmax
from .teachers import teacher

__all__ = ["SyntheticProblem", "least_squares", "logistic", "softmax", "teacher"]
