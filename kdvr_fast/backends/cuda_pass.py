"""The data of a problem on the device, and reads of all its rows: means of gradients and sums, residuals, logits, products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._rows import CsrOnDevice, is_on_device, is_sparse
from .base import ControlVariate, FloatArray, Pass, Problem, Sums
from .cuda_device import BLOCK_THREADS, SUMS, Device, Kind

_TILE = {4: 64, 8: 32}  # rows of a tile (csrc/cuda/pass.cuh) by bytes of a number
_PARTIAL_BYTES = 1 << 28  # of the blocks' own gradients
_CHUNK_NUMBERS = 1 << 22  # of logits of many outputs held at once
_CHUNK_ROWS = 8192  # whose gradient is summed in X's type before it is added in float64
_LOGITS, _RESIDUALS, _SCALED = 0, 1, 2  # What of csrc/cuda/pass.cuh
_SOURCES = ("none", "weights", "table", "stored")  # Source of csrc/cuda/job.cuh


def variate_arguments(variate: ControlVariate, anchors: dict[str, Any]) -> dict[str, Any]:
    """What c_i is, as kernels take it. anchors: the arrays "anchor" and "table" by name, as far as there are any."""
    T = variate.temperature
    stored = variate.source == "table" and anchors["table"].dtype == np.float16
    source = _SOURCES.index("stored" if stored else variate.source)
    return {"source": source, "temperature": T or 0.0, "inverse_temperature": 1 / T if T else 0.0}


class Reader:
    """Rows, targets and sample weights on the device, copied there if they were not. Weights in, as `pack` makes them."""

    def __init__(self, problem: Problem, device: Device) -> None:
        self._problem, self._device, self._xp = problem, device, device.xp
        n, d = problem.X.shape
        self._n, self._d, self._k = n, d, problem.n_outputs
        self._dtype = np.dtype(problem.X.dtype)
        self._sparse = is_sparse(problem.X)
        kind = Kind(self._dtype, self._sparse, problem.loss.name, self._k == 1)
        self.kernels = device.kernels(kind)
        self._columns: tuple[Any, Any, Any] | None = None
        sample = np.ones(n, self._dtype) if problem.weights is None else problem.weights
        y, soft = problem.y.values if is_on_device(problem.y) else problem.y, problem.y.ndim == 2
        self.arguments: dict[str, Any] = {
            **self._rows(),
            ("targets" if soft else "labels"): device.array(y, self._dtype if soft else np.int64),
            "sample": device.array(sample),
            "n": n,
            "d": d,
            "k": self._k,
            "soft": soft,
            "intercept": problem.fit_intercept,
        }

    def _rows(self) -> dict[str, Any]:
        X, array = self._problem.X, self._device.array
        if self._sparse:
            features = X.indices.astype(np.int32, copy=False)
            return {"values": array(X.data), "features": array(features), "starts": array(X.indptr, np.int64)}
        self._dense = X.values if is_on_device(X) else array(X)
        # rows with gaps between them are read in place too, which an array among the arguments would not be
        values = self._dense if self._dense.flags.c_contiguous else np.uint64(self._dense.data.ptr)
        return {"values": values, "stride": self._dense.strides[0] // self._dtype.itemsize}

    # -- weights -------------------------------------------------------------------------------------------------------------

    def pack(self, coef: NDArray[Any], intercept: NDArray[Any], dtype: type[np.float64] | None = None) -> Any:
        """W (k, d) and b (k,) as the kernels take them: one array on the device, by default of X's type (csrc/cuda/job.cuh)."""
        dtype = self._dtype if dtype is None else dtype
        W = np.asarray(coef, dtype)
        flat = np.concatenate([(W.T if self._sparse else W).ravel(), np.asarray(intercept, dtype)])
        return self._device.array(flat)

    def unpack(self, weights: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """The reverse, copies on the host."""
        return self._split(weights.get())

    def _split(self, flat: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        k, d = self._k, self._d
        W = flat[: k * d]
        W = np.ascontiguousarray(W.reshape(d, k).T) if self._sparse else W.reshape(k, d).copy()
        return W, flat[k * d :].copy()

    # -- launches ------------------------------------------------------------------------------------------------------------

    def work(self, warps: int) -> Any:
        """Scratch of three padded rows of outputs a warp."""
        return self._xp.empty(warps * 3 * (-(-self._k // 32) * 32), self._dtype)

    def reduce(self, partial: Any, size: int) -> NDArray[np.float64]:
        """The sum of so many numbers a block over the blocks, in their order, on the host."""
        out = self._xp.empty(size, np.float64)
        blocks = max(1, min(self._device.blocks, -(-size // BLOCK_THREADS)))
        self.kernels.launch("reduce", blocks, partial, np.int64(partial.size // size), np.int64(size), out)
        total: NDArray[np.float64] = out.get()
        return total

    def _read(self, what: int, weights: Any, r: Any, given: dict[str, Any]) -> None:
        """Rows one by one (`read_rows` of csrc/cuda/pass.cuh)."""
        blocks = self._device.blocks
        work = self.work(blocks * BLOCK_THREADS // 32)
        arguments = self.kernels.arguments({**self.arguments, "W": weights, "r": r, "work": work, **given})
        self.kernels.launch("rows", blocks, *arguments, np.int64(0), np.int64(self._n), np.int64(what))

    def logits(self, weights: Any) -> FloatArray:
        """W a_i + b of all rows, (n, k) on the host."""
        Z = self._xp.empty((self._n, self._k), self._dtype)
        self._read(_LOGITS, weights, Z, {})
        out: FloatArray = Z.get()
        return out

    def residuals(self, weights: Any) -> Any:
        """Residuals of all rows, before the sample weights, (n, k) on the device."""
        table = self._xp.empty((self._n, self._k), self._dtype)
        self._read(_RESIDUALS, weights, table, {})
        return table

    def combine(self, numbers: FloatArray) -> FloatArray:
        """Sum over i of numbers_i (x) a_i, (k, d), from numbers (k, n)."""
        R = self._device.array(numbers.T, self._dtype)
        G = self._by_columns(R).reshape(self._d, self._k).T if self._sparse else self._xp.matmul(R.T, self._dense)
        return np.ascontiguousarray(G.get(), self._dtype)

    # -- one pass ------------------------------------------------------------------------------------------------------------

    def evaluate(self, weights: Any, variate: ControlVariate, anchors: dict[str, Any]) -> Pass:
        """See `base.Session.evaluate`. anchors: the arrays "anchor" and "table" by name, as far as there are any."""
        given = {**anchors, **variate_arguments(variate, anchors), "statistics": True}
        if self._sparse:
            sums, gradients = self._sparse_pass(weights, given)
        elif self._k <= self._device.tuning.fused_outputs:
            sums, gradients = self._fused_pass(weights, given)
        else:
            sums, gradients = self._product_pass(weights, given)
        means = [mean / self._n for gradient in gradients for mean in self._split(gradient)]
        if not self._problem.fit_intercept:
            for mean in means[1::2]:
                mean[:] = 0
        moments = self.reduce(sums, SUMS)
        return Pass(Sums(self._n, *moments[:4].tolist()), *means)

    def _fused_pass(self, weights: Any, given: dict[str, Any]) -> tuple[Any, list[NDArray[np.float64]]]:
        parts, size = (1 if given["source"] == 0 else 2), (self._d + 1) * self._k
        blocks = min(self._device.blocks, -(-self._n // _TILE[self._dtype.itemsize]))
        blocks = max(1, min(blocks, _PARTIAL_BYTES // (8 * parts * size)))
        partial, sums = self._xp.zeros(blocks * parts * size, np.float64), self._xp.zeros(blocks * SUMS, np.float64)
        arguments = self.kernels.arguments({**self.arguments, "W": weights, "sums": sums, **given})
        self.kernels.launch("pass", blocks, *arguments, partial)
        return sums, list(self.reduce(partial, parts * size).reshape(parts, size))

    def _sparse_pass(self, weights: Any, given: dict[str, Any]) -> tuple[Any, list[NDArray[np.float64]]]:
        xp, shape = self._xp, (self._n, self._k)
        sums, r = xp.zeros(self._device.blocks * SUMS, np.float64), xp.empty(shape, self._dtype)
        both = [r] if given["source"] == 0 else [r, xp.empty(shape, self._dtype)]
        self._read(_SCALED, weights, r, {**given, "c": both[-1], "sums": sums})
        totals = [np.concatenate([self._by_columns(R).get(), R.sum(axis=0, dtype=np.float64).get()]) for R in both]
        return sums, totals

    def _by_columns(self, R: Any) -> Any:
        """A^T R, (d, k) in float64 and one piece, for R (n, k): the rows are copied by columns when this is first asked."""
        if self._columns is None:
            from scipy.sparse import csr_array

            X = self._problem.X.on_host() if isinstance(self._problem.X, CsrOnDevice) else self._problem.X
            by_columns = csr_array((X.data, X.indices, X.indptr), shape=X.shape).tocsc()
            array = self._device.array
            self._columns = array(by_columns.data), array(by_columns.indices, np.int32), array(by_columns.indptr, np.int64)
        out = self._xp.empty(self._d * self._k, np.float64)
        d, k = np.int32(self._d), np.int32(self._k)
        self.kernels.launch("columns", self._device.blocks, *self._columns, R, out, d, k)
        return out

    def _product_pass(self, weights: Any, given: dict[str, Any]) -> tuple[Any, list[NDArray[np.float64]]]:
        """Many outputs: matrix products, and the residuals between them."""
        xp, k, d, blocks = self._xp, self._k, self._d, self._device.blocks
        sums, work = xp.zeros(blocks * SUMS, np.float64), self.work(blocks * BLOCK_THREADS // 32)
        totals = [xp.zeros((d + 1) * k, np.float64) for _ in range(1 if given["source"] == 0 else 2)]
        size = max(1, min(_CHUNK_ROWS, _CHUNK_NUMBERS // k))
        for first in range(0, self._n, size):
            A = self._dense[first : first + size]
            r = xp.matmul(A, weights[: k * d].reshape(k, d).T)
            c = xp.matmul(A, given["anchor"][: k * d].reshape(k, d).T) if given["source"] == 1 else xp.empty_like(r)
            norms = (A * A).sum(axis=1)
            own = {"W": weights, "r": r, "c": c, "q": norms, "work": work, "sums": sums}
            arguments = self.kernels.arguments({**self.arguments, **own, **given})
            self.kernels.launch("finish", blocks, *arguments, np.int64(first), np.int64(len(A)))
            for total, R in zip(totals, (r, c), strict=False):
                total[: k * d] += xp.matmul(R.T, A).astype(np.float64).ravel()
                total[k * d :] += R.sum(axis=0, dtype=np.float64)
        return sums, [total.get() for total in totals]
