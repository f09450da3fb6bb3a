"""The only place where user input is checked; what comes out is what `backends.base.Problem` promises.

An error says what was wrong, where (row, column, value) and what to do. Rows X are never copied: only a view is made.
n rows, d features, k outputs; TypeError for a thing of the wrong kind, ValueError for a wrong value.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._blocks import Blocks
from ._custom import Custom, allowed
from ._rows import Compact, CsrOnDevice, CsrRows, OnDevice, is_on_device
from ._validation_csr import csr_rows
from ._validation_csr import finite as finite_csr
from ._validation_device import device_problem_targets, device_rows, device_targets, finite_on_device, finite_sum, on_device
from ._virtual import VirtualRows, VirtualTargets, is_virtual
from .backends.base import FloatArray
from .losses import LOSSES, Loss

_SCAN_BYTES = 1 << 22  # block of one scan: stays in a core's cache
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
COMPACT = ("uint8", "int8", "float16", "bfloat16")  # dtypes that rows may be stored in

# -- single values -----------------------------------------------------------------------------------------------------


def choice(value: object, options: Sequence[str], name: str) -> str:
    """One of the names in `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, options))}")
    return value


def number(
    value: object,
    name: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    above: float = -np.inf,
    below: float = np.inf,
    also: str = "",
) -> float:
    """A finite real number with low <= value <= high and above < value < below; `also` names what else is accepted."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number{also}, got {type(value).__name__} {value!r}")
    x = float(value)
    if not (np.isfinite(x) and low <= x <= high and above < x < below):
        left = f"[{low:g}" if np.isfinite(low) else f"({above:g}"
        right = f"{high:g}]" if np.isfinite(high) else f"{below:g})"
        raise ValueError(f"{name}={value!r} is outside its range {left}, {right}")
    return x


def positive(value: object, name: str) -> float:
    """A number above 0."""
    return number(value, name, above=0.0)


def non_negative(value: object, name: str) -> float:
    """A number of at least 0."""
    return number(value, name, low=0.0)


def momentum(value: object) -> float:
    """A momentum coefficient in [0, 1)."""
    return number(value, "momentum", low=0.0, below=1.0)


def count(value: object, name: str, *, low: int = 0, high: int | None = None, also: str = "") -> int:
    """An integer with low <= value <= high; `also` names what else is accepted."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer{also}, got {value!r}")
    try:
        whole = operator.index(cast(SupportsIndex, value))
    except TypeError:
        raise TypeError(f"{name} must be an integer{also}, got {type(value).__name__} {value!r}") from None
    if whole < low or (high is not None and whole > high):
        limits = f"at least {low}" if high is None else f"in {low} .. {high}"
        raise ValueError(f"{name}={whole} must be {limits}")
    return whole


def flag(value: object, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def loss(given: object) -> Loss:
    """The loss of that name, or a loss itself."""
    if isinstance(given, Loss):
        return given
    if not isinstance(given, str) or given not in LOSSES:
        raise ValueError(f"loss={given!r} is unknown; choose one of {', '.join(map(repr, LOSSES))}, or make a Loss.custom(...)")
    return LOSSES[given]


def batch_size(value: object, n: int) -> int:
    """A batch size in 1 .. n."""
    size = count(value, "batch_size", low=1)
    if size > n:
        raise ValueError(f"batch_size={size} is more than the {n} rows of X; choose one in 1 .. {n}")
    return size


def sampling(value: object, *more: str) -> str:
    """How rows are drawn: a name, or one of `more`."""
    return choice(value, ("shuffle", "replacement", *more), "sampling")


def walking(value: object) -> str | Blocks:
    """How a run draws rows: a name, or by blocks."""
    return value if isinstance(value, Blocks) else sampling(value)


def spectrum(values: ArrayLike | None, condition: object, d: int) -> NDArray[np.float64]:
    """Variances of d features: as given, or from 1 down to 1 / condition, each the same factor below the one before."""
    top = number(condition, "condition", low=1.0)
    if values is None:
        return np.asarray(top ** (-np.arange(d) / max(d - 1, 1)), np.float64)
    if top != 1:
        raise ValueError("spectrum and condition are both given; leave one of them out")
    s = real_array(values, "spectrum").astype(np.float64)
    shape(s, (d,), "spectrum", "one variance a feature")
    finite(s, "spectrum")
    if s.min() < 0 or s.max() == 0:
        raise ValueError(f"spectrum lies between {s.min():g} and {s.max():g}; variances are not negative, and not all 0")
    return s


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64."""
    if np.dtype(dtype) not in _FLOATS:
        raise TypeError(f"dtype={np.dtype(dtype)}; choose np.float32 or np.float64")
    return np.dtype(dtype)


# -- rows and other arrays ---------------------------------------------------------------------------------------------


def features(X: Any, *, scan: bool = True) -> Any:
    """X as (n, d) float32 or float64 rows, read in place: an array of unit stride, `OnDevice` where it lies on a GPU, `CsrRows`
    of a CSR matrix, or virtual rows.

    A nested list becomes float64. scan: look for NaN and infinities, one read of X.
    """
    if isinstance(X, CsrRows | OnDevice | CsrOnDevice) or is_virtual(X):
        return X
    if on_device(X):
        return device_rows(X, scan)
    if isinstance(X, Compact) or (isinstance(X, np.ndarray) and X.dtype.name in COMPACT):
        return _compact(X if isinstance(X, Compact) else Compact(X), scan)
    A = X if hasattr(X, "toarray") else _features_array(X)
    if A is X and not isinstance(A, np.ndarray):
        _require_csr(A)
    if A.ndim != 2:
        raise ValueError(f"X must be 2-D (rows, features), got shape {A.shape}; a single feature is X.reshape(-1, 1)")
    if A.dtype not in _FLOATS:
        raise TypeError(f"X has dtype {A.dtype}; rows are read in place as float32 or float64: {_dtype_remedy(A.dtype)}")
    if 0 in A.shape:
        raise ValueError(f"X is empty: shape {A.shape} has no {'rows' if A.shape[0] == 0 else 'features'}")
    if not isinstance(A, np.ndarray):
        return csr_rows(A, scan)
    if A.shape[1] == 1:  # the stride of a single feature says nothing, yet a backend may rely on it
        A = np.lib.stride_tricks.as_strided(A, strides=(A.strides[0], A.itemsize), writeable=False)
    if A.strides[1] != A.itemsize or not A.flags.aligned:
        layout = "Fortran-ordered" if A.flags.f_contiguous else f"strided ({A.strides[1]} bytes from feature to feature)"
        raise ValueError(f"X is {layout}; rows are read in place: pass np.ascontiguousarray(X)")
    if scan:
        finite(A, "X")
    return A


def _compact(X: Compact, scan: bool) -> Compact:
    """Compact rows, checked; their dtype is that of the arithmetic."""
    values = X.values
    name = getattr(getattr(values, "dtype", None), "name", type(values).__name__)
    if name not in COMPACT or hasattr(values, "toarray"):
        raise TypeError(f"Compact holds {name}; rows are stored as one of {', '.join(COMPACT)}")
    dtype = np.dtype(X.dtype)
    if dtype not in _FLOATS:
        raise TypeError(f"Compact rows are read as {dtype}; choose dtype=np.float32 or np.float64")
    _unmasked(values, "X")
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"X must be 2-D (rows, features) and not empty, got shape {values.shape}")
    if values.shape[1] > 1 and values.strides[1] != values.itemsize:
        raise ValueError("X is not stored row by row; rows are read in place: pass np.ascontiguousarray(X)")
    d = values.shape[1]
    for what, given in (("scale", X.scale), ("offset", X.offset)):
        factor = real_array(np.asarray(given), what)
        if factor.ndim > 0:
            shape(factor, (d,), what, "a number, or one a feature")
        finite(np.atleast_1d(factor), what)
    checked = Compact(values, X.scale, X.offset, dtype)
    if scan:
        finite_rows(checked)
    return checked


def _features_array(X: ArrayLike) -> NDArray[Any]:
    if X is None or isinstance(X, str | bytes | dict):
        raise TypeError(f"X is {type(X).__name__}; expected an array of rows (n, d), float32 or float64")
    _unmasked(X, "X")
    if isinstance(X, np.ndarray):
        return np.asarray(X)
    if not isinstance(X, list | tuple):
        return np.asarray(X)
    A = _from_list(X, "X")
    return A.astype(np.float64) if A.dtype.kind in "bif" else A


def _unmasked(values: object, name: str) -> None:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise TypeError(f"{name} is a masked array, and its masked entries would be read as data; fill or drop them first")


def _require_csr(X: Any) -> None:
    if getattr(X, "format", None) != "csr":
        remedy = "X.tocsr()" if hasattr(X, "tocsr") else "X.toarray()"
        raise TypeError(f"X is a sparse {type(X).__name__}; sparse rows are read in place from CSR: pass {remedy}")


def _from_list(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array: {error}") from None


def _dtype_remedy(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "c":
        return "pass real numbers, such as X.real"
    if dtype.kind in "OUSV":
        return "convert text and mixed columns to numbers first"
    return "pass X.astype(np.float32) or X.astype(np.float64)"


def finite_rows(X: Any, first_row: int = 0) -> None:
    """Raise for the first NaN or infinity in rows of any kind; X begins with row number `first_row`."""
    if isinstance(X, CsrRows):
        finite_csr(X, first_row)
    elif isinstance(X, Compact):
        if X.values.dtype.itemsize == 2:  # the others are integers
            rows = max(1, _SCAN_BYTES // (8 * X.shape[1]))
            for start in range(0, len(X.values), rows):
                finite(X.values[start : start + rows].astype(np.float32), "X", first_row + start)
    elif isinstance(X, OnDevice):
        finite_on_device(X.values, "X")
    elif isinstance(X, CsrOnDevice):
        if not finite_sum(X.data):
            finite_csr(X.on_host(), first_row)
    elif hasattr(X, "load"):  # rows in files
        X.check(finite_rows)
    elif not is_virtual(X):
        finite(X, "X", first_row)


def finite(values: NDArray[Any], name: str, first_row: int = 0) -> None:
    """Raise for the first NaN or infinity, by row and column; a sum per block finds it, a non-finite sum looks closer."""
    rows = max(1, _SCAN_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        with np.errstate(over="ignore", invalid="ignore"):
            total = block.sum()
        if np.isfinite(total):
            continue
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            where = bad[0].copy()
            where[0] += start + first_row
            place = f"row {where[0]}" + (f", column {where[1]}" if len(where) > 1 else "")
            raise ValueError(f"{name} holds {block[tuple(bad[0])]} in {place}; drop or fill such values")


def real_array(values: ArrayLike, name: str) -> NDArray[Any]:
    """An array of real numbers (bool, integer or floating), not copied."""
    _unmasked(values, name)
    if on_device(values):
        raise TypeError(f"{name} lies on a GPU, where X and y alone are read, and y only with X: pass a NumPy array")
    A = np.asarray(values) if isinstance(values, np.ndarray) else _from_list(values, name)
    if A.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {A.dtype}; real numbers are needed")
    return A


def matrix(values: ArrayLike, name: str) -> NDArray[Any]:
    """A real array of weights, (k, d); (d,) is one output."""
    return np.atleast_2d(real_array(values, name))


def layers(values: Any, name: str) -> tuple[NDArray[Any], ...]:
    """Copies of the layers W_1 .. W_L of a deep linear model: finite matrices of which each fits the one before."""
    if isinstance(values, np.ndarray) or not isinstance(values, list | tuple) or not values:
        raise TypeError(f"{name} must be a list of matrices [W_1, .., W_L], got {type(values).__name__}")
    out = tuple(np.array(real_array(W, f"{name}[{i}]")) for i, W in enumerate(values))
    for i, W in enumerate(out):
        if W.ndim != 2 or 0 in W.shape:
            raise ValueError(f"{name}[{i}] has shape {W.shape}; expected (outputs, inputs) of layer {i + 1}")
        if i and W.shape[1] != len(out[i - 1]):
            raise ValueError(f"{name}[{i}] takes {W.shape[1]} numbers, the layer before it gives {len(out[i - 1])}")
        finite(W, f"{name}[{i}]")
    return out


def shape(values: NDArray[Any], expected: tuple[int, ...], name: str, meaning: str) -> None:
    """Raise unless the array has the shape; `meaning` explains it, as in "(outputs, features)"."""
    if values.shape != expected:
        raise ValueError(f"{name} has shape {values.shape}; expected {expected}, {meaning}")


def cast_finite(values: NDArray[Any], dtype: np.dtype[Any], name: str) -> FloatArray:
    """A copy in `dtype`; raises where a finite number is too large for it."""
    with np.errstate(over="ignore"):
        out = np.array(values, dtype, order="C")
    if out.dtype.itemsize < values.dtype.itemsize and not np.isfinite(out).all():
        place = np.argwhere(~np.isfinite(out))[0]
        raise ValueError(
            f"{name} holds {values[tuple(place)]:g} at {place.tolist()}, too large for {dtype}; scale it or use float64"
        )
    return out


def sample_weight(values: ArrayLike | None, n: int, dtype: np.dtype[Any]) -> FloatArray | None:
    """Weights (n,) scaled to mean one, in `dtype`; None when all are equal."""
    if values is None:
        return None
    s = real_array(values, "sample_weight").astype(np.float64)
    shape(s, (n,), "sample_weight", "one weight a row of X")
    finite(s, "sample_weight")
    if s.min() < 0:
        raise ValueError(f"sample_weight holds {s.min():g} in row {s.argmin()}; weights are repetitions and cannot be negative")
    if s.max() == 0:
        raise ValueError("sample_weight is zero in every row; at least one row must count")
    if s.min() == s.max():
        return None
    s /= s.max()  # so that the mean cannot overflow
    return cast(FloatArray, (s / s.mean()).astype(dtype))


def initial(values: ArrayLike | None, expected: tuple[int, ...], dtype: np.dtype[Any], name: str, meaning: str) -> FloatArray:
    """Initial weights of the shape, zero if None; always a copy."""
    if values is None:
        return np.zeros(expected, dtype)
    W = real_array(values, name)
    shape(W, expected, name, meaning)
    finite(W, name)
    return cast_finite(W, dtype, name)


def walk(state: Any, initial: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """The weights of a walk's state, of the shapes and dtype of these."""
    names = ("coef", "intercept")
    if not isinstance(state, dict) or not state.keys() >= {*names}:
        raise TypeError(f"walk must be the `walk` of a Result with momentum or an average, got {type(state).__name__}")
    for name, like in zip(names, initial, strict=True):
        found = state[name]
        if found.shape != like.shape or found.dtype != like.dtype:
            raise ValueError(
                f"walk holds {name} of shape {found.shape}, {found.dtype}; this run has {like.shape}, {like.dtype}: go on with "
                "rows and a model like those before"
            )
    return state["coef"], state["intercept"]


# -- targets and outputs -----------------------------------------------------------------------------------------------


def n_outputs(y: Any, loss: Loss, others: Iterable[tuple[str, int]]) -> int:
    """The number k of outputs from y and from (name, k) of whatever else fixes it, which must all agree."""
    known = list(others)
    if loss.targets == "unit":
        known.insert(0, (f"loss={loss.name!r}", 1))
    elif y.ndim == 2:
        known.insert(0, ("y", y.shape[1]))
    elif loss.targets == "real":
        known.insert(0, ("y", 1))
    for name, k in known[1:]:
        if k != known[0][1]:
            raise ValueError(f"{name} has {k} output(s) but {known[0][0]} has {known[0][1]}; they must agree")
    values = y.values if is_on_device(y) else y
    k = known[0][1] if known else _classes(int(values.max()), int(values.argmax()), len(y))
    if loss.targets == "classes" and k < 2:
        raise ValueError(f"loss={loss.name!r} needs at least two classes, y has {k}; use loss='logistic' for 0/1 targets")
    return k


def _classes(largest: int, row: int, n: int) -> int:
    """The number of classes of n labels, of which row holds the largest."""
    k = largest + 1
    if k > max(1000, 10 * n):
        raise ValueError(
            f"y holds label {largest} in row {row}, which would make {k} classes of {n} rows; labels are 0 .. k-1 "
            "(see sklearn's LabelEncoder), and coef_init or a teacher fixes k if so many are meant"
        )
    return k


def label_outputs(largest: int, row: int, n: int, loss: Loss, others: Iterable[tuple[str, int]]) -> int:
    """As `n_outputs`, for n labels that are not in memory; row holds the largest of them."""
    known = list(others)
    k = n_outputs(np.array([largest]), loss, known or [("y", _classes(largest, row, n))])
    _below(largest, row, k)
    return k


def targets(y: Any, loss: Loss, n: int, *, X_on_device: bool = False, first_row: int = 0) -> Any:
    """Targets checked on their own, before k is known: labels as int64 (n,), everything else (n,) or (n, k).

    X_on_device: whether they may lie on a GPU, and then stay there. first_row: the number of the first, for messages.
    """
    if isinstance(y, VirtualTargets):
        raise TypeError("y is VirtualTargets but X are stored rows: pass y.rows for X, or y[:] for y")
    if X_on_device and on_device(y):
        return device_targets(y, loss, n, lambda Y: targets(Y, loss, n))
    Y = real_array(y, "y")
    if Y.ndim not in (1, 2) or len(Y) != n or 0 in Y.shape:
        raise ValueError(f"y has shape {Y.shape}; expected {n} rows as in X: ({n},) or ({n}, outputs)")
    finite(Y, "y", first_row)
    if loss.targets == "classes" and Y.ndim == 1:
        Y = _labels(Y, loss.name, first_row)
    elif loss.targets == "unit":
        if Y.ndim == 2 and Y.shape[1] != 1:
            raise ValueError(f"y has shape {Y.shape}; loss={loss.name!r} has one output: pass y of shape ({n},)")
        _unit_interval(Y.reshape(n, 1), "y", first_row, f"loss={loss.name!r} takes 0 and 1, or probabilities")
    elif loss.targets == "classes":
        if Y.shape[1] == 1:
            raise ValueError(f"y has shape {Y.shape}; labels are 1-D: pass y.ravel()")
        if loss.functions is not None:
            raise ValueError(f"y has shape {Y.shape}; loss={loss.name!r} is custom and takes labels: pass y of shape ({n},)")
        probabilities(Y, "y", first_row, remedy="rows of y are probabilities, (n, k), or y is 1-D labels")
    if loss.functions is not None:
        _in_domain(Y, loss.name, loss.functions, first_row)
    return Y


def _in_domain(Y: NDArray[Any], name: str, functions: Custom, first_row: int) -> None:
    """Raise for the first target that a custom loss does not allow."""
    if functions.domain is None:
        return
    table = Y.reshape(len(Y), -1) if Y.dtype == np.int64 else Y.reshape(len(Y), -1).astype(np.float64)
    for i, row in enumerate(table):
        for y in [row] if functions.joint and Y.dtype != np.int64 else row:
            if not allowed(functions, y):
                raise ValueError(f"y holds {y} in row {first_row + i}, outside the domain of loss {name!r}")


def virtual_targets(y: Any, X: VirtualRows, loss: Loss, outputs: Iterable[tuple[str, int]]) -> VirtualTargets:
    """Targets of virtual rows, checked against these, the loss and (name, k) of whatever else fixes k."""
    if not isinstance(y, VirtualTargets):
        raise TypeError(
            f"X is VirtualRows, whose targets are made with them: pass VirtualTargets for y, not {type(y).__name__}"
        )
    if y.rows is not X:
        raise ValueError("y are VirtualTargets of other rows: make them from the X that is passed")
    if y.loss != loss.name:
        raise ValueError(f"y are VirtualTargets for loss={y.loss!r}, not for loss={loss.name!r}")
    for name, k in outputs:
        if k != y.n_outputs:
            raise ValueError(f"{name} has {k} output(s) but y has {y.n_outputs}; they must agree")
    return y


def _labels(y: NDArray[Any], loss: str, first_row: int) -> NDArray[np.int64]:
    labels = y.astype(np.int64)
    wrong = np.flatnonzero(labels != y)
    if len(wrong):
        raise ValueError(f"y holds {y[wrong[0]]} in row {first_row + wrong[0]}; loss={loss!r} takes integer labels 0 .. k-1")
    if labels.min() < 0:
        row = int(labels.argmin())
        raise ValueError(
            f"y holds label {labels[row]} in row {first_row + row}; labels are 0 .. k-1: see sklearn's LabelEncoder"
        )
    return labels


def problem_targets(y: Any, k: int, dtype: np.dtype[Any]) -> Any:
    """Checked targets as a backend takes them: labels below k as they are, others as (n, k) of `dtype`, C-ordered."""
    if is_on_device(y):
        sound = device_problem_targets(y, k, dtype)
        return problem_targets(y[:], k, dtype) if sound is None else sound
    if y.ndim == 1 and y.dtype == np.int64 and k > 1:
        row = int(np.argmax(y >= k))
        _below(int(y[row]), row, k)
        return y
    return cast_finite(y.reshape(len(y), k), dtype, "y")


def _below(label: int, row: int, k: int) -> None:
    if label >= k:
        raise ValueError(
            f"y holds label {label} in row {row}; the teacher or initial weights have {k} outputs, for labels 0 .. {k - 1}"
        )


def _unit_interval(values: NDArray[Any], name: str, first_row: int, remedy: str) -> None:
    if values.min() < 0 or values.max() > 1:
        row, column = np.argwhere((values < 0) | (values > 1))[0]
        value, row = values[row, column], first_row + row
        raise ValueError(f"{name} holds {value} in row {row}, column {column}, outside [0, 1]; {remedy}")


def probabilities(P: NDArray[Any], name: str, first_row: int = 0, remedy: str = "logits are given by Teacher.logits") -> None:
    """Rows (n, k) in [0, 1] that sum to one; with k = 1 only the range is checked."""
    _unit_interval(P, name, first_row, remedy)
    if P.shape[1] == 1:
        return
    sums = P.sum(axis=1, dtype=np.float64)
    # a softmax rounds to a few eps; float64 arrays often hold what a float32 network gave, so eps is at least float32's
    eps = np.finfo(P.dtype).eps if P.dtype.kind == "f" else 0.0
    tolerance = 64 * max(float(eps), float(np.finfo(np.float32).eps))
    row = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[row] - 1) > tolerance:
        raise ValueError(
            f"{name}: row {first_row + row} sums to {sums[row]:.6g}; probabilities sum to 1: divide each row by its sum"
        )


# -- sampling ----------------------------------------------------------------------------------------------------------


def order(values: ArrayLike, n: int, epochs: int) -> NDArray[np.int64]:
    """A row sequence as (epochs, m) int64; one dimension is cut into `epochs` equal parts."""
    rows = np.asarray(values)
    if rows.dtype != np.int64:
        raise TypeError(f"order has dtype {rows.dtype}; row numbers are int64: pass order.astype(np.int64)")
    if rows.size == 0:
        raise ValueError("order is empty; it must name at least one row an epoch")
    if rows.ndim == 1 and len(rows) % epochs == 0:
        rows = rows.reshape(epochs, -1)
    elif rows.ndim == 1:
        raise ValueError(f"order has {len(rows)} rows, which epochs={epochs} does not divide; one epoch follows the other")
    if rows.ndim != 2 or len(rows) != epochs:
        raise ValueError(f"order has shape {rows.shape}; expected (epochs, rows an epoch) with epochs={epochs}, or 1-D")
    bad = np.flatnonzero((rows < 0) | (rows >= n))
    if len(bad):
        raise ValueError(f"order holds {rows.flat[bad[0]]} at position {bad[0]}; X has rows 0 .. {n - 1}")
    return np.ascontiguousarray(rows)
