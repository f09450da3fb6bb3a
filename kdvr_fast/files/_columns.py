"""Columns of a table to rows: which columns are features, how categories become numbers, what a missing value is.

A categorical column of q categories becomes q features of which one is 1 (one-hot); rows are then sparse. Numeric columns keep
their order and come first, lists of equal length are as many features. Works on Arrow's record batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _validation as check

MISSING, UNKNOWN = ("error", "drop", "zero"), ("error", "zero")


@dataclass(frozen=True)
class Columns:
    """What the columns of Parquet, Arrow and CSV files are.

    features: names, None for all but those that `open_data` takes for targets and teacher. categorical: names of features that
    are one-hot encoded. categories: those of a column, in the order of their features; without, one scan of the files finds
    them, sorted. scale: factors of numeric columns, features or targets. missing: what is done with a null or NaN: "error"
    names the first, "drop" leaves its row out, "zero" makes it 0 (a category: all zeros); a missing target is an error, or its
    row is left out. unknown: a value that is none of the given categories is an "error", or "zero".

    >>> from kdvr_fast import Columns
    >>> Columns(features=["distance", "origin"], categorical=["origin"], scale={"distance": 1e-3}).missing
    'error'
    """

    features: Sequence[str] | None = None
    categorical: Sequence[str] = ()
    categories: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    missing: str = "error"
    unknown: str = "error"

    def __post_init__(self) -> None:
        check.choice(self.missing, MISSING, "missing")
        check.choice(self.unknown, UNKNOWN, "unknown")
        for name in ("features", "categorical"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a list of column names: pass [{getattr(self, name)!r}]")
        for name in self.categories:
            if name not in self.categorical:
                raise ValueError(f"categories are given for {name!r}, which is not in categorical")
        for name, factor in self.scale.items():
            check.number(factor, f"scale of column {name!r}")
            if name in self.categorical:
                raise ValueError(f"scale is given for {name!r}, which is categorical")


@dataclass(frozen=True)
class Roles:
    """Names of columns by what they are for: features (numbers, then categorical ones), targets and teacher outputs."""

    numbers: tuple[str, ...]
    categorical: tuple[str, ...]
    y: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        """Every column that is read, once."""
        return list(dict.fromkeys([*self.numbers, *self.categorical, *self.y, *self.outputs]))


def roles(names: Sequence[str], columns: Columns, y: Sequence[str], outputs: Sequence[str]) -> Roles:
    """Sort the columns of a table. Raises ValueError for a name that it has not, or has in two places."""
    taken = {*y, *outputs}
    features = [name for name in names if name not in taken] if columns.features is None else list(columns.features)
    for name in [*features, *columns.categorical, *y, *outputs]:
        if name not in names:
            raise ValueError(f"there is no column {name!r}; the columns are {', '.join(names)}")
    for name in columns.categorical:
        if name not in features:
            raise ValueError(f"the categorical column {name!r} is not among the features {', '.join(features)}")
    twice = [name for name in features if name in taken]
    if twice:
        raise ValueError(f"column {twice[0]!r} is a feature and a target or teacher output; leave it out of one of them")
    for name in columns.scale:
        if name not in [*features, *taken]:
            raise ValueError(f"scale is given for {name!r}, which is not read")
    if not features:
        raise ValueError("no column is left for the features")
    chosen = tuple(name for name in features if name in columns.categorical)
    return Roles(tuple(name for name in features if name not in chosen), chosen, tuple(y), tuple(outputs))


class Encoder:
    """Turns record batches into (X, y, outputs). Categories and classes are those given, or found by `fit`."""

    def __init__(self, parts: Roles, columns: Columns, classes: Sequence[Any] | str | None, dtype: np.dtype[Any]) -> None:
        self.parts, self.columns, self.dtype = parts, columns, dtype
        self.fits_classes = isinstance(classes, str)
        self.classes = None if classes is None or isinstance(classes, str) else list(classes)
        self.categories: dict[str, list[Any]] = {name: list(columns.categories.get(name, ())) for name in parts.categorical}
        self.feature_names: list[str] = []
        self.row = 0  # of the files, for messages

    @property
    def to_fit(self) -> list[str]:
        """Columns that `fit` has to see."""
        found = [name for name in self.parts.categorical if name not in self.columns.categories]
        return found + (list(self.parts.y) if self.fits_classes else [])

    def fit(self, batches: Iterator[Any]) -> None:
        """Collect the distinct values of the columns to fit."""
        seen: dict[str, set[Any]] = {name: set() for name in self.to_fit}
        for batch in batches:
            for name, values in seen.items():
                values.update(_plain(batch.column(name)).unique().to_pylist())
        for name, values in seen.items():
            found = sorted(v for v in values if v is not None and v == v)
            other = [v for v in found if not isinstance(v, str | int | float)]
            if other:
                raise TypeError(
                    f"column {name!r} holds {other[0]!r}, and categories and classes are text or numbers: convert it, or leave "
                    "it out"
                )
            if name in self.categories:
                self.categories[name] = found
            else:
                self.classes = found
            if not found:
                raise ValueError(f"column {name!r} holds nothing but missing values")

    def encode(self, batch: Any) -> tuple[Any, NDArray[Any] | None, NDArray[Any] | None]:
        """Rows, targets and teacher outputs of a batch."""
        batch = self._present(batch)
        numbers = [self._number(batch, name) for name in self.parts.numbers]
        names = [
            n if A.shape[1] == 1 else f"{n}[{i}]"
            for n, A in zip(self.parts.numbers, numbers, strict=True)
            for i in range(A.shape[1])
        ]
        dense = np.concatenate(numbers, axis=1) if numbers else np.zeros((batch.num_rows, 0), self.dtype)
        X = self._one_hot(batch, dense) if self.parts.categorical else dense
        self.feature_names = names + [f"{name}={value}" for name in self.parts.categorical for value in self.categories[name]]
        y = self._targets(batch) if self.parts.y else None
        outputs = [self._number(batch, name, "teacher output", np.dtype(np.float32)) for name in self.parts.outputs]
        self.row += batch.num_rows
        return X, y, np.concatenate(outputs, axis=1) if outputs else None

    def _present(self, batch: Any) -> Any:
        """The batch without rows that miss a value, where these are dropped. Rows are counted without them."""
        if self.columns.missing != "drop":
            return batch
        import pyarrow as pa

        bad = np.zeros(batch.num_rows, bool)
        for name in self.parts.all:
            bad |= _missing(batch.column(name))
        return batch.filter(pa.array(~bad)) if bad.any() else batch

    def _number(self, batch: Any, name: str, what: str = "feature", dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """A numeric column, (rows, width)."""
        column = batch.column(name)
        bad = _missing(column)
        if bad.any() and (self.columns.missing == "error" or what != "feature"):
            raise ValueError(
                f"column {name!r} misses a value in row {self.row + int(bad.argmax())}: "
                "fill it, or choose missing='drop' or 'zero'"
            )
        A = np.where(bad[:, None], 0, self._scaled(column, name, what))
        with np.errstate(over="ignore"):
            return np.asarray(A.astype(dtype or self.dtype))

    def _scaled(self, column: Any, name: str, what: str) -> NDArray[np.float64]:
        return _numbers(column, name, what) * self.columns.scale.get(name, 1.0)

    def _one_hot(self, batch: Any, dense: NDArray[Any]) -> Any:
        """Sparse rows of the numbers and the categories, as many entries in each."""
        from scipy.sparse import csr_array

        rows, width = dense.shape
        q, first = len(self.parts.categorical), width
        data = np.ones((rows, width + q), self.dtype)
        indices = np.empty((rows, width + q), np.int32)
        data[:, :width], indices[:, :width] = dense, np.arange(width)
        for i, name in enumerate(self.parts.categorical):
            places = self._places(batch.column(name), name, self.categories[name], "categories", self.columns.unknown)
            data[:, width + i] = places >= 0
            indices[:, width + i] = first + np.maximum(places, 0)
            first += len(self.categories[name])
        indptr = np.arange(rows + 1, dtype=np.int64) * (width + q)
        return csr_array((data.ravel(), indices.ravel(), indptr), shape=(rows, first))

    def _places(self, column: Any, name: str, known: list[Any], what: str, unknown: str) -> NDArray[np.int64]:
        """Position of each value among the known ones; -1 where it is missing or unknown and that is no error."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = _plain(column)
        try:
            values = pa.array(known, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TypeError(f"the values given for column {name!r} are not of its type {column.type}: {error}") from None
        places = np.asarray(pc.index_in(column, values).fill_null(-1), np.int64)
        absent = _missing(column)
        for bad, policy, wrong in (
            (absent, self.columns.missing, "misses a value"),
            ((places < 0) & ~absent, unknown, f"holds a value that is not among its {what}"),
        ):
            if policy == "error" and bad.any():
                at = int(bad.argmax())
                raise ValueError(f"column {name!r} {wrong} in row {self.row + at}: {column[at].as_py()!r}")
        return places

    def _targets(self, batch: Any) -> NDArray[Any]:
        import pyarrow as pa

        columns = [batch.column(name) for name in self.parts.y]
        for name, column in zip(self.parts.y, columns, strict=True):
            bad = _missing(column)
            if bad.any():
                raise ValueError(
                    f"the target {name!r} misses a value in row {self.row + int(bad.argmax())}: choose missing='drop'"
                )
            if self.classes is None and not _is_number(_plain(column).type):
                raise TypeError(
                    f"the target {name!r} is {column.type}: pass classes='fit' to number its values "
                    "(for kdvr: choose a loss of classes)"
                )
        if self.classes is not None:
            if len(columns) != 1:
                raise ValueError("classes number the values of one target column; several are given")
            return self._places(columns[0], self.parts.y[0], self.classes, "classes", "error")
        if len(columns) == 1 and pa.types.is_integer(columns[0].type) and self.parts.y[0] not in self.columns.scale:
            return np.asarray(columns[0].to_numpy(zero_copy_only=False), np.int64)
        parts = [self._scaled(column, name, "target") for name, column in zip(self.parts.y, columns, strict=True)]
        return parts[0].ravel() if len(parts) == 1 and parts[0].shape[1] == 1 else np.concatenate(parts, axis=1)


def _plain(column: Any) -> Any:
    """A column without Arrow's dictionary encoding."""
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind) or t.is_decimal(kind) or _is_list(kind))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind)) and _is_number(kind.value_type)


def _missing(column: Any) -> NDArray[np.bool_]:
    """Where a column holds null, NaN, or a list with such a value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = _plain(column)
    bad = np.asarray(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)))
    if _is_list(column.type):
        values = pc.is_null(column.flatten(), nan_is_null=pa.types.is_floating(column.type.value_type))
        owners = np.asarray(pc.list_parent_indices(column), np.int64)
        bad = bad.copy()
        bad[owners[np.asarray(values)]] = True
    return bad


def _numbers(column: Any, name: str, what: str) -> NDArray[np.float64]:
    """A column of numbers, or of lists of them, as (rows, width); missing ones are NaN."""
    import pyarrow as pa

    if not _is_number(column.type):
        raise TypeError(
            f"the {what} {name!r} is {column.type}, not a number: leave it out of the features, or name it among the "
            "categorical columns"
        )
    if not _is_list(column.type):
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)[:, None]
    import pyarrow.compute as pc

    lengths = np.asarray(pc.list_value_length(column).fill_null(0))
    width = int(lengths.max()) if len(lengths) else 0
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise ValueError(
            f"the {what} {name!r} holds lists of {width} numbers and of {lengths[wrong[0]]}; they must be equally long"
        )
    values = column.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64).reshape(-1, width)
