"""Small real data sets, read into arrays the engine takes as they are.

Source: http://yann.lecun.com/exdb/mnist ; scikit-learn's `load_digits`. Data of any size from files: `open_data`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .files import _idx

_MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Split:
    """A classification data set: X (n, d) scaled to [0, 1], C-ordered; y (n,) int64 labels 0 .. k-1; a held-out part."""

    name: str
    X: NDArray[np.floating]
    y: NDArray[np.int64]
    X_test: NDArray[np.floating]
    y_test: NDArray[np.int64]


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read one IDX file, plain or gzip-compressed, into an array in native byte order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an IDX file, an unknown value type, a damaged archive, or more or fewer bytes than the header says.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
        >>> read_idx(path)
        array([7, 2, 1], dtype=uint8)
    """
    return _idx.read(Path(path))


def load_mnist(directory: str | Path, dtype: DTypeLike = np.float32) -> Split:
    """Read the four MNIST IDX files (plain or .gz) of `directory`: X (60000, 784) and X_test (10000, 784) in [0, 1].

    Any data set in the same four files works (Fashion-MNIST, KMNIST); pixels are divided by 255.

    Raises:
        FileNotFoundError: a file is missing; the message lists the names looked for.
        ValueError: a file is damaged (see `read_idx`), of the wrong kind, or images and labels differ in number.

    Example:
        split = load_mnist("data/mnist")
        split.X.shape    # (60000, 784)
    """
    directory = Path(directory)
    images, labels, images_test, labels_test = (_find(directory, name) for name in _MNIST)
    X, y = _images_and_labels(images, labels, np.dtype(dtype))
    X_test, y_test = _images_and_labels(images_test, labels_test, np.dtype(dtype))
    if X.shape[1] != X_test.shape[1]:
        raise ValueError(f"{images} has {X.shape[1]} pixels an image and {images_test} has {X_test.shape[1]}: not one data set")
    return Split(f"MNIST files in {directory}", X, y, X_test, y_test)


def load_digits(dtype: DTypeLike = np.float64, test_fraction: float = 0.2, random_state: int = 0) -> Split:
    """scikit-learn's bundled digits (1797 real 8 x 8 scans, 10 classes), pixels divided by 16, split at random by class.

    Example:
        >>> split = load_digits()
        >>> split.X.shape, split.X_test.shape
        ((1437, 64), (360, 64))
    """
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    X, y = sklearn_digits(return_X_y=True)
    X = np.ascontiguousarray(X / 16, dtype)
    train, test = train_test_split(np.arange(len(y)), test_size=test_fraction, random_state=random_state, stratify=y)
    y = y.astype(np.int64)
    return Split("scikit-learn's digits", X[train], y[train], X[test], y[test])


def _find(directory: Path, name: str) -> Path:
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    if not directory.is_dir():
        raise FileNotFoundError(
            f"{directory}: no such directory; expected the MNIST files {', '.join(_MNIST)} (plain or .gz) in it"
        )
    raise FileNotFoundError(f"{directory}: found neither {name} nor {name}.gz; expected {', '.join(_MNIST)} (plain or .gz)")


def _images_and_labels(images: Path, labels: Path, dtype: np.dtype[Any]) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    pixels, y = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"{images}: expected uint8 images of 3 dimensions, found {pixels.dtype} of shape {pixels.shape}")
    if y.ndim != 1 or y.dtype != np.uint8:
        raise ValueError(f"{labels}: expected uint8 labels of 1 dimension, found {y.dtype} of shape {y.shape}")
    if len(pixels) != len(y):
        raise ValueError(f"{images} has {len(pixels)} images and {labels} has {len(y)} labels: not one data set")
    X = pixels.reshape(len(pixels), -1).astype(dtype)
    X /= 255
    return X, y.astype(np.int64)
