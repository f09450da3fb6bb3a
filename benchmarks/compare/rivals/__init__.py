"""Who takes part in what. A rival is one file here; `base.py` says what it must offer."""

from __future__ import annotations

from .base import EpochRival, Solver
from .cyanure_erm import Cyanure
from .kdvr import KdvrEpochs, KdvrLBFGS, KdvrSGD
from .numpy_manual import NumpyManual
from .sklearn_lbfgs import SklearnLBFGS
from .sklearn_newton import SklearnNewton
from .sklearn_saga import SklearnSaga
from .sklearn_sgd import SklearnSGD
from .torch_autograd import TorchAutograd
from .torch_manual import TorchManual

__all__ = ["EpochRival", "Solver", "deep_epochs", "kd_epochs", "sgd_epochs", "solvers"]


def kd_epochs() -> list[EpochRival]:
    """Epochs of distillation: each rival with the teacher's outputs computed once, and anew for each batch."""
    loops: list[EpochRival] = []
    for cached in (True, False):
        loops += [TorchAutograd(cached), TorchManual(cached), NumpyManual(cached), KdvrEpochs(cached)]
    return [*loops, KdvrEpochs(cached=False, statistics=False)]


def deep_epochs() -> list[EpochRival]:
    """Epochs of distillation of a deep linear student."""
    return [rival(cached) for rival in (TorchAutograd, KdvrEpochs) for cached in (True, False)]


def sgd_epochs() -> list[EpochRival]:
    """Epochs of SGD on sparse rows."""
    loops: list[EpochRival] = [rival(dtype) for rival in (SklearnSGD, KdvrSGD) for dtype in ("float64", "float32")]
    return [*loops, *(KdvrSGD(dtype, statistics=False) for dtype in ("float64", "float32"))]


def solvers() -> list[Solver]:
    """Solvers of the regularised problem, to a given accuracy."""
    schemes = ("auto", "miso", "svrg", "catalyst-svrg", "qning-svrg")
    return [
        *(SklearnLBFGS(dtype) for dtype in ("float64", "float32")),
        *(SklearnNewton(solver) for solver in ("newton-cg", "newton-cholesky")),
        *(SklearnSaga(dtype) for dtype in ("float64", "float32")),
        *(Cyanure(scheme, dtype) for scheme in schemes for dtype in ("float64", "float32")),
        *(KdvrLBFGS(dtype) for dtype in ("float64", "float32")),
    ]
