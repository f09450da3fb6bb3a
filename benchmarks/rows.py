"""Rows per second of an epoch over kinds of rows: few and many features and outputs, both precisions, sparse, compact."""

from __future__ import annotations

from typing import Any

import numpy as np

import kdvr_fast as kd

from .problems import best_rate, synthetic

SHAPES = {"20000x16x2": (20_000, 16, 2), "10000x784x10": (10_000, 784, 10), "4000x512x100": (4_000, 512, 100)}


def two_epochs(X: Any, y: Any, loss: str = "softmax", **options: Any) -> None:
    kd.solve(X, y, loss=loss, learning_rate=0.01, epochs=2, random_state=0, **options)


class RowsPerSecond:
    params = (list(SHAPES), ["float32", "float64"], ["SGD", "KD"])
    param_names = ("n x d x k", "dtype", "method")
    unit = "rows/s"

    def setup(self, shape: str, dtype: str, method: str) -> None:
        self.data = synthetic(*SHAPES[shape], dtype)
        self.options = {"method": kd.KD(lam=0.7), "teacher": self.data.teacher, "cache_anchor": False} if method == "KD" else {}

    def track_rows_per_second(self, shape: str, dtype: str, method: str) -> float:
        return best_rate(2 * len(self.data.X), lambda: two_epochs(self.data.X, self.data.y, batch_size=10, **self.options))


class Sparse:
    """CSR rows, 20,000 x 5,000, 50 non-zeros each, logistic, one row a step; skipped in versions that read dense rows only."""

    params = (["float32", "float64"], [0.0, 1e-4])
    param_names = ("dtype", "alpha")
    unit = "rows/s"

    def setup(self, dtype: str, alpha: float) -> None:
        from scipy.sparse import csr_matrix

        rng = np.random.default_rng(0)
        n, d, nonzeros = 20_000, 5_000, 50
        columns = np.sort(rng.integers(d // nonzeros, size=(n, nonzeros), dtype=np.int32) + d // nonzeros * np.arange(nonzeros))
        values = rng.random(n * nonzeros).astype(dtype)
        starts = np.arange(0, n * nonzeros + 1, nonzeros, dtype=np.int32)
        self.X = csr_matrix((values, columns.astype(np.int32).ravel(), starts), shape=(n, d))
        self.y = rng.integers(2, size=n)
        _require(self.X, self.y)

    def track_rows_per_second(self, dtype: str, alpha: float) -> float:
        return best_rate(2 * self.X.shape[0], lambda: two_epochs(self.X, self.y, "logistic", batch_size=1, alpha=alpha))


class Storage:
    """Dense rows kept in fewer bytes, 50,000 x 256, k = 1; skipped in versions that do not read the type."""

    params = (["uint8", "int8", "float16", "float32"], [1, 256])
    param_names = ("dtype", "batch size")
    unit = "rows/s"

    def setup(self, dtype: str, batch_size: int) -> None:
        rng = np.random.default_rng(0)
        self.X = rng.integers(100, size=(50_000, 256)).astype(dtype)
        self.y = rng.integers(2, size=len(self.X))
        _require(self.X, self.y)

    def track_rows_per_second(self, dtype: str, batch_size: int) -> float:
        return best_rate(2 * len(self.X), lambda: two_epochs(self.X, self.y, "logistic", batch_size=batch_size))


def _require(X: Any, y: Any) -> None:
    """Skip the benchmark where `solve` does not take such rows."""
    try:
        two_epochs(X[:8], y[:8], "logistic", batch_size=1)
    except (TypeError, ValueError) as error:
        raise NotImplementedError(str(error)) from error
