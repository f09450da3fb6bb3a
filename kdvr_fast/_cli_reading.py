"""How the command line has rows read: the words of its options, and what a model keeps of a table's columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .files import Columns

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


@dataclass(frozen=True)
class Reading:
    """The options of commands that read rows; see `open_data` and `Columns` for what they do.

    target: column of targets. features, categorical: names of columns with commas between them, None: all but the target's,
    and none. scale: "distance=0.001,..". missing: "error", "drop" or "zero". dtype: of rows that are converted. cache: folder
    for converted rows. memory_limit: such as "200MB"; rows then stay in files.
    """

    target: str | None = None
    features: str | None = None
    categorical: str | None = None
    scale: str | None = None
    missing: str = "error"
    dtype: str = "float32"
    cache: str | None = None
    memory_limit: str | None = None

    @property
    def names_columns(self) -> bool:
        """Whether something is said of columns, which a table alone has."""
        return bool(self.target or self.features or self.categorical or self.scale or self.missing != "error")

    def columns(self) -> Columns:
        """The columns that are named."""
        features = None if self.features is None else _words(self.features)
        return Columns(features, _words(self.categorical), scale=_scales(self.scale), missing=self.missing)

    def bytes(self) -> int | None:
        """The memory limit.

        >>> Reading(memory_limit="1.5 MB").bytes(), Reading(memory_limit="2KiB").bytes(), Reading().bytes()
        (1500000, 2048, None)
        """
        if self.memory_limit is None:
            return None
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?|)b?", self.memory_limit.strip().lower())
        if found is None or float(found[1]) == 0:
            raise ValueError(f"the memory limit {self.memory_limit!r} is no number of bytes; write 200MB, 1.5GB or 512MiB")
        return int(float(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True)
class Kept:
    """A table's columns as a model keeps them, so that other tables become the same features; JSON by `vars`."""

    features: list[str]
    categorical: list[str]
    categories: dict[str, list[Any]] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    missing: str = "error"
    target: str | None = None

    def columns(self, target: str | None, *, all_rows: bool) -> Columns:
        """target: the column of targets that is read, if any. all_rows: one output a row is wanted, so that none is dropped."""
        missing = "error" if all_rows and self.missing == "drop" else self.missing
        scale = {name: factor for name, factor in self.scale.items() if name in [*self.features, target]}
        return Columns(self.features, self.categorical, self.categories, scale, missing)


def _words(text: str | None) -> list[str]:
    return [] if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _scales(text: str | None) -> Mapping[str, float]:
    made = {}
    for word in _words(text):
        name, _, factor = word.rpartition("=")
        try:
            made[name] = float(factor)
        except ValueError:
            name = ""
        if not name:
            raise ValueError(f"scale {word!r} is no COLUMN=FACTOR, such as distance=0.001")
    return made
