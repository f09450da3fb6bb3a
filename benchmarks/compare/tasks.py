"""The problems compared: X (n, d) and y (n,) labels 0 .. k-1, the objective, and what is fixed for every rival.

Objective: mean over rows of the softmax or logistic loss, plus alpha/2 |W|^2; W (k, d), k = 1 for logistic. Values of X are
those of float32 whatever dtype a rival asks for, so that all rivals minimise one function.

Data, below one directory: `mnist/*.gz` (IDX), `libsvm/{a9a,w8a}`, `text/20news_bydate_train.jsonl.gz` (fields `text` and `y`).
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdvr_fast.data import load_mnist

Weights = tuple[NDArray[Any], NDArray[Any]]  # W (k, d), b (k,)


@dataclass(frozen=True, eq=False)
class Data:
    """A data set. X: float32, an array or a SciPy CSR matrix with int32 indices."""

    name: str
    X: Any
    y: NDArray[np.int64]
    loss: str
    _other: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def k(self) -> int:
        return 1 if self.loss == "logistic" else int(self.y.max()) + 1

    @property
    def sparse(self) -> bool:
        return not isinstance(self.X, np.ndarray)

    def rows(self, dtype: str) -> Any:
        """X in a dtype, converted once."""
        if dtype not in self._other:
            self._other[dtype] = self.X.astype(dtype, copy=False)
        return self._other[dtype]


@dataclass(frozen=True, eq=False)
class Task:
    """One problem as every rival gets it.

    threads: how many a rival may use. batch_size, learning_rate, lam, teacher: of comparisons by epochs. alpha: L2 weight.
    layers: W_1 .. W_L of a deep linear student to start from; a linear one starts from zero.
    """

    name: str
    data: Data
    alpha: float = 0.0
    threads: int = 1
    batch_size: int = 1
    learning_rate: float = 0.05
    lam: float = 0.0
    teacher: Weights | None = None
    layers: tuple[NDArray[np.float32], ...] | None = None


def synthetic_mnist() -> Data:
    """MNIST's shape at random: 60,000 x 784 in [0, 1], a fifth of the entries nonzero, 10 classes of a linear model."""
    rng = np.random.default_rng(0)
    X = rng.random((60_000, 784), dtype=np.float32) * (rng.random((60_000, 784), dtype=np.float32) < 0.2)
    y = (X @ rng.standard_normal((784, 10)).astype(np.float32)).argmax(axis=1)
    return Data("synthetic 60000x784", X, y.astype(np.int64), "softmax")


@lru_cache(maxsize=1)  # one data set in memory at a time
def load(name: str, directory: Path) -> Data:
    """Read "mnist", "a9a", "w8a" or "20news". Raises FileNotFoundError."""
    if name == "mnist":
        split = load_mnist(directory / "mnist")
        return Data(name, split.X, split.y, "softmax")
    return _news(directory) if name == "20news" else _libsvm(name, directory)


def _libsvm(name: str, directory: Path) -> Data:
    from sklearn.datasets import load_svmlight_file

    X, y = load_svmlight_file(str(directory / "libsvm" / name), dtype=np.float32)
    return Data(name, _int32(X), (y > 0).astype(np.int64), "logistic")


def _news(directory: Path) -> Data:
    from sklearn.feature_extraction.text import TfidfVectorizer

    with gzip.open(directory / "text" / "20news_bydate_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    X = TfidfVectorizer(min_df=2, sublinear_tf=True).fit_transform(record["text"] for record in records)
    y = np.unique([record["y"] for record in records], return_inverse=True)[1]
    return Data("20news", _int32(X.astype(np.float32)), y.astype(np.int64), "softmax")


def _int32(X: Any) -> Any:
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    X.sort_indices()  # a vectorizer leaves them in the order of its vocabulary
    return X
