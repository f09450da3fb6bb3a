"""What it costs to be there: time of the import, and peak memory of a fit beside the data's own."""

from __future__ import annotations

import numpy as np

import kdvr_fast as kd


class Import:
    """A fresh interpreter each: NumPy and SciPy alone, and the package, whose own cost is the difference."""

    def timeraw_numpy_and_scipy(self) -> str:
        return "import numpy, scipy"

    def timeraw_kdvr_fast(self) -> str:
        return "import kdvr_fast"


class Memory:
    """50,000 x 256 float32 (51 MB), 10 classes: the data alone, then with a fit. Nothing of X's size may come on top."""

    params = (["data alone", "SGD", "KD", "UnbiasedKD", "SVRG", "SAGA"],)
    param_names = ("fit",)

    def peakmem_fit(self, fit: str) -> None:
        rng = np.random.default_rng(0)
        X, y = rng.random((50_000, 256), dtype=np.float32), rng.integers(10, size=50_000)  # drawn without a copy to convert
        if fit == "data alone":
            return
        method = getattr(kd, fit)()
        teacher = kd.Teacher.weights(np.zeros((10, 256))) if method.plan().teacher == "required" else None
        kd.solve(X, y, loss="softmax", method=method, teacher=teacher, learning_rate=0.01, epochs=1, random_state=0)


class WideCompactRows:
    """2,000 x 100,000 uint8 (200 MB), one output: the data alone, then with a fit. A few rows are as large as a cache."""

    params = (["data alone", "LBFGS"],)
    param_names = ("fit",)

    def peakmem_fit(self, fit: str) -> None:
        rng = np.random.default_rng(0)
        U, y = rng.integers(256, size=(2_000, 100_000), dtype=np.uint8), rng.integers(2, size=2_000)
        if fit == "LBFGS":
            kd.solve(kd.Compact(U, scale=1 / 255), y, loss="logistic", method=kd.LBFGS(max_iter=1), random_state=0)
