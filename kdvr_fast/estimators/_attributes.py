"""A fit leaves all of its attributes or none: what is refused on the way leaves an estimator as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Take back what was set where the fit raises; an interrupt keeps the attributes of the epochs that were finished."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException as error:
        finished = isinstance(error, KeyboardInterrupt) and vars(estimator).get("history_") is not before.get("history_")
        if not finished:
            vars(estimator).clear()
            vars(estimator).update(before)
        raise
