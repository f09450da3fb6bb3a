"""What the command line reads: rows, targets and teachers, by the names of their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import read_idx
from .losses import LOSSES
from .model import load
from .teachers import Teacher

_TEXT = (".svm", ".libsvm", ".svmlight", ".txt")


@dataclass(frozen=True, eq=False)
class Data:
    """Rows, and targets where there are any, as they stand in the files."""

    X: Any
    y: NDArray[Any] | None


def read(path: Path, labels: Path | None = None) -> Data:
    """Rows of a file, with the targets of another one, or for LIBSVM text those it has itself.

    .npy: an array (n, d), memory-mapped. .npz: a CSR matrix of `scipy.sparse.save_npz`. .svm, .libsvm, .svmlight, .txt: LIBSVM
    text. IDX files (gz too): pixels in [0, 1]. Raises FileNotFoundError, ValueError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    y = None if labels is None else read_targets(labels)
    if path.suffix == ".npy":
        X = np.load(path, mmap_mode="r", allow_pickle=False)
    elif path.suffix == ".npz":
        X = _sparse(path)
    elif path.suffix in _TEXT:
        from sklearn.datasets import load_svmlight_file

        X, own = load_svmlight_file(str(path))
        y = own if y is None else y
    else:
        pixels = read_idx(path)
        X = (pixels.reshape(len(pixels), -1) / 255).astype(np.float32)
    if y is not None and len(y) != X.shape[0]:
        raise ValueError(f"{path} has {X.shape[0]} rows and {labels} has {len(y)} targets")
    return Data(X, y)


def read_targets(path: Path) -> NDArray[Any]:
    """Targets of a file: .npy, IDX, or text with one a line."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if path.suffix in (".txt", ".csv"):
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        try:
            return np.array([float(line) for line in lines])
        except ValueError:
            return np.array(lines)
    return read_idx(path)


def _sparse(path: Path) -> Any:
    from scipy.sparse import csr_array, load_npz

    try:
        return csr_array(load_npz(path))
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: no sparse matrix of scipy.sparse.save_npz ({error})") from None


def encode(y: Any, loss: str, classes: NDArray[Any] | None = None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Targets as `solve` takes them, and the values of classes: those given, or all there are. (n, k) stays as it is."""
    if LOSSES[loss].targets == "real" or y.ndim == 2:
        return (y if y.dtype.kind == "f" else y.astype(np.float64)), None
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.flatnonzero(~np.isfinite(y))[0])
        raise ValueError(f"target {y[row]} in row {row} is no class; leave rows without a target out")
    found, numbers = np.unique(y, return_inverse=True)
    if classes is None:
        if len(found) < 2 or (loss == "logistic" and len(found) != 2):
            wanted = "exactly two" if loss == "logistic" else "at least two"
            raise ValueError(f"loss={loss!r} needs {wanted} classes, the targets have {len(found)}: {found[:5].tolist()}")
        if found.dtype.kind == "f" and (found == np.round(found)).all():
            found = found.astype(np.int64)
        return numbers.reshape(-1).astype(np.int64), found
    place = {value: number for number, value in enumerate(classes.tolist())}
    unknown = [value for value in found.tolist() if value not in place]
    if unknown:
        row = int(np.flatnonzero(y == unknown[0])[0])
        raise ValueError(f"target {unknown[0]!r} in row {row} is no class of the model; it has {classes[:10].tolist()}")
    return np.array([place[value] for value in found.tolist()], np.int64)[numbers.reshape(-1)], classes


def teacher(
    model: Path | None, logits: Path | None, proba: Path | None, *, loss: str, classes: NDArray[Any] | None
) -> Teacher | None:
    """The teacher of at most one file: a model's (or of a run's folder), or stored outputs (.npy, memory-mapped).

    loss, classes: of the targets. A model of other classes, or of values where there are classes, is an error.
    """
    if sum(given is not None for given in (model, logits, proba)) > 1:
        raise ValueError("teacher, teacher_logits and teacher_proba: pass one of them")
    if model is not None:
        known = load(model / "model.safetensors" if model.is_dir() else model)
        if (known.labels is None) != (LOSSES[loss].targets == "real"):
            raise ValueError(f"the teacher {model} has loss={known.loss!r}, which does not go with loss={loss!r}")
        if classes is not None and known.labels is not None and not np.array_equal(known.labels, classes):
            raise ValueError(
                f"the teacher {model} knows the classes {known.labels[:10].tolist()}, the targets are {classes[:10].tolist()}; "
                "its outputs must be of the same classes in the same order"
            )
        return known.teacher()
    for path, make in ((logits, Teacher.logits), (proba, Teacher.probabilities)):
        if path is not None:
            return make(np.load(path, mmap_mode="r", allow_pickle=False))
    return None
