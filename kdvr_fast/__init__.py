"""kdvr_fast: linear models by SGD with a teacher, knowledge distillation as variance reduction, compiled and measured.

`solve` is the one verb. Source of the idea: arXiv:2305.17581.
"""

from typing import TYPE_CHECKING, Any

from ._blocks import Blocks
from ._job import Progress
from ._rows import Compact
from ._version import __version__
from .backends import backend_status, get_backend
from .checkpoint import Checkpoint
from .compression import Mask, RandomK, StochasticRounding, TopK
from .deep import DeepLinear
from .files import Columns, DataSet, open_data
from .history import History
from .layer_statistics import LayerStats, layer_stats
from .losses import LOSSES, Loss
from .methods import KD, LBFGS, LSVRG, METHODS, SAGA, SGD, SVRG, Method, Plan, RepeatedKD, UnbiasedKD
from .model import Model, load, save
from .result import ConvergenceWarning, DivergenceError, Result, Status
from .schedules import Constant, Cosine, Exponential, Geometric, Inverse, LearningRate
from .solve import solve
from .statistics import GradientStats, gradient_similarity, gradient_stats
from .teachers import Teacher
from .theory import auto_learning_rate, optimal_lambda, smoothness

if TYPE_CHECKING:
    from .estimators import KDClassifier, KDRegressor

__all__ = [
    "KD",
    "LBFGS",
    "LOSSES",
    "LSVRG",
    "METHODS",
    "SAGA",
    "SGD",
    "SVRG",
    "Blocks",
    "Checkpoint",
    "Columns",
    "Compact",
    "Constant",
    "ConvergenceWarning",
    "Cosine",
    "DataSet",
    "DeepLinear",
    "DivergenceError",
    "Exponential",
    "Geometric",
    "GradientStats",
    "History",
    "Inverse",
    "KDClassifier",
    "KDRegressor",
    "LayerStats",
    "LearningRate",
    "Loss",
    "Mask",
    "Method",
    "Model",
    "Plan",
    "Progress",
    "RandomK",
    "RepeatedKD",
    "Result",
    "Status",
    "StochasticRounding",
    "Teacher",
    "TopK",
    "UnbiasedKD",
    "__version__",
    "auto_learning_rate",
    "backend_status",
    "get_backend",
    "gradient_similarity",
    "gradient_stats",
    "layer_stats",
    "load",
    "open_data",
    "optimal_lambda",
    "save",
    "smoothness",
    "solve",
]

_ESTIMATORS = ("KDClassifier", "KDRegressor")


def __getattr__(name: str) -> Any:
    """The estimators, when they are asked for: scikit-learn takes longer to import than all else."""
    if name in _ESTIMATORS:
        from . import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
