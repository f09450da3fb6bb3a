"""Methods and schedules as a word: NAME:OPTION=VALUE,.., such as "kd:lam=0.7" or "cosine:0.1,warmup=1"; NAME alone is enough.

A value without a name is the first option. Names are those of the classes, in small letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ._blocks import Blocks
from .deep import DeepLinear
from .methods import METHODS, Method
from .schedules import Constant, Cosine, Exponential, Geometric, Inverse, LearningRate

_METHODS = {m.__name__.lower(): m for m in METHODS}
_SCHEDULES = {s.__name__.lower(): s for s in (Constant, Inverse, Cosine, Exponential)}


def method(text: str) -> Method:
    """The method of a word.

    >>> method("kd:lam=0.7,temperature=2")
    KD(lam=0.7, temperature=2, form='standard', teacher_alpha=0.0)
    >>> method("svrg:geometric(0.9;0.5),refresh=2").lam
    Geometric(initial=0.9, factor=0.5, cap=1.0)
    """
    made: Method = _make(text, _METHODS, "method")
    return made


def learning_rate(given: float | str) -> float | LearningRate | str:
    """A number, "auto", or the schedule of a word.

    >>> learning_rate("inverse:0.5,decay=0.2")
    Inverse(initial=0.5, decay=0.2, power=1.0)
    """
    if not isinstance(given, str) or given == "auto":
        return given
    try:
        return float(given)
    except ValueError:
        made: LearningRate = _make(given, _SCHEDULES, "learning rate")
        return made


def model(hidden: str | None, init: str | None) -> DeepLinear | None:
    """A deep linear model by the widths of its hidden layers, None for a linear one.

    >>> model("512,512", None).widths
    (512, 512)
    """
    if hidden is None:
        if init is not None:
            raise ValueError(
                f"init={init!r} is how layers begin, and there are none: name their widths, such as hidden=512,512"
            )
        return None
    widths = [part.strip() for part in hidden.split(",")]
    for width in widths:
        if not re.fullmatch("[0-9]+", width):
            raise ValueError(f"hidden={hidden!r}: {width!r} is no width; write integers with commas between, such as 512,512")
    made: Any = {} if init is None else {"init": init}
    return DeepLinear(widths=[int(width) for width in widths], **made)


def sampling(text: str) -> str | Blocks:
    """The name of a sampling, or the blocks of a word.

    >>> sampling("blocks:rows=512,window=4096")
    Blocks(rows=512, window=4096)
    """
    if text in ("shuffle", "replacement"):
        return text
    made: Blocks = _make(text, {"blocks": Blocks}, "sampling is shuffle, replacement or blocks;")
    return made


def _make(text: str, kinds: Mapping[str, Any], what: str) -> Any:
    name, _, rest = text.partition(":")
    if name not in kinds:
        raise ValueError(f"{what} {text!r} begins with none of {', '.join(kinds)}; write NAME or NAME:OPTION=VALUE,..")
    options = [f for f in fields(kinds[name]) if f.init]
    names, given = [f.name for f in options], dict[str, Any]()
    for part in filter(None, rest.split(",")):
        option, found, value = part.partition("=")
        if not found and names:
            option, value = names[0], part
        if option not in names:
            raise ValueError(f"{what} {text!r}: {name} has no option {option!r}; it has {', '.join(names) or 'none'}")
        if option in given:
            raise ValueError(f"{what} {text!r}: {option} stands there twice")
        given[option] = _value(value, f"{what} {text!r}: {option}")
    missing = [f.name for f in options if f.default is MISSING and f.name not in given]
    if missing:
        raise ValueError(f"{what} {text!r}: {', '.join(missing)} is missing; write {name}:{missing[0]}=VALUE")
    return kinds[name](**given)


def _value(text: str, where: str) -> Any:
    geometric = re.fullmatch(r"geometric\(([^;]+);([^;]+)(?:;([^;]+))?\)", text)
    if geometric:
        return Geometric(*(_value(number, where) for number in geometric.groups() if number is not None))
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if not re.fullmatch(r"[a-z]+", text):
        raise ValueError(f"{where}={text!r} is neither a number, a word, nor geometric(INITIAL;FACTOR)")
    return text
