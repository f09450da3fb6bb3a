"""The registry of backends: a name, a loader, and nothing imported before it is asked for.

To add a backend: one file in this folder and one line in `BACKENDS`. The order is the order in which "auto" tries;
"auto" never takes the reference, which is the specification and slow, in silence.
"""

from __future__ import annotations

from collections.abc import Callable

from .base import Backend


def _native() -> Backend:
    from .native import NativeBackend

    return NativeBackend()


def _reference() -> Backend:
    from .reference import ReferenceBackend

    return ReferenceBackend()


BACKENDS: dict[str, Callable[[], Backend]] = {"native": _native, "reference": _reference}
_AUTO = tuple(name for name in BACKENDS if name != "reference")


def _load(name: str) -> tuple[Backend | None, str | None]:
    """The backend, or the reason why it cannot run here."""
    try:
        backend = BACKENDS[name]()
        reason = backend.unavailable()
    except ImportError as error:
        return None, f"it cannot be imported ({error}); build the package with `pip install .`"
    return (backend, None) if reason is None else (None, reason)


def backend_status() -> dict[str, str | None]:
    """Every registered backend: None if it can run here, otherwise the reason and what to install.

    >>> from kdvr_fast import backend_status
    >>> backend_status()["reference"] is None
    True
    """
    return {name: _load(name)[1] for name in BACKENDS}


def get_backend(name: str = "auto") -> Backend:
    """The backend called `name`, or the first that can run for "auto".

    Raises ValueError for an unknown name and RuntimeError, with the reason, for one that cannot run here.

    >>> from kdvr_fast import get_backend
    >>> get_backend("reference").name
    'reference'
    """
    if name != "auto":
        if name not in BACKENDS:
            raise ValueError(f"backend={name!r} is unknown; choose one of {', '.join(map(repr, ['auto', *BACKENDS]))}")
        backend, reason = _load(name)
        if backend is None:
            raise RuntimeError(f"backend={name!r} cannot run here: {reason}")
        return backend
    reasons = []
    for candidate in _AUTO:
        backend, reason = _load(candidate)
        if backend is not None:
            return backend
        reasons.append(f"{candidate}: {reason}")
    raise RuntimeError(
        f"backend='auto' found no compiled backend that can run here ({'; '.join(reasons)}); "
        "backend='reference' runs everywhere, slowly"
    )
