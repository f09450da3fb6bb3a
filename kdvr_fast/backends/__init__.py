"""The registry of backends: a name, a loader, and nothing imported before it is asked for.

To add a backend: one file in this folder and one line in `BACKENDS`. The order is the order in which "auto" tries;
"auto" never takes the reference, which is the specification and slow, in silence.
"""

from __future__ import annotations

from collections.abc import Callable

from .base import Backend, Problem, Work


def _native() -> Backend:
    from .native import NativeBackend

    return NativeBackend()


def _numba() -> Backend:
    from .numba import NumbaBackend

    return NumbaBackend()


def _cuda() -> Backend:
    from .cuda import CudaBackend

    return CudaBackend()


def _reference() -> Backend:
    from .reference import ReferenceBackend

    return ReferenceBackend()


BACKENDS: dict[str, Callable[[], Backend]] = {"native": _native, "numba": _numba, "cuda": _cuda, "reference": _reference}


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
    return _get(name, lambda backend: None)


def backend_for(name: str, problem: Problem, work: Work) -> Backend:
    """As `get_backend`, of the backends that do this work on this problem; the one place where they are asked for a refusal.

    Raises ValueError for a named backend that refuses, with what it does not do and the names of those that do it.
    """
    from .._rows import lies_on_device  # which imports from this package

    def refusal(backend: Backend) -> str | None:
        if lies_on_device(problem.X) and backend.name != "cuda":
            return "X lies on a GPU, which it does not read"
        return backend.refusal(problem, work)

    return _get(name, refusal)


def _get(name: str, refusal: Callable[[Backend], str | None]) -> Backend:
    if name == "auto":
        return _first(refusal)
    if name not in BACKENDS:
        raise ValueError(f"backend={name!r} is unknown; choose one of {', '.join(map(repr, ['auto', *BACKENDS]))}")
    backend, reason = _load(name)
    if backend is None:
        raise RuntimeError(f"backend={name!r} cannot run here: {reason}")
    refused = refusal(backend)
    if refused is not None:
        others = [
            other for other, there in ((other, _load(other)[0]) for other in BACKENDS) if there and refusal(there) is None
        ]
        remedy = f"; use backend={' or '.join(map(repr, others))}" if others else ""
        raise ValueError(f"backend={name!r} does not do this: {refused}{remedy}")
    return backend


def _first(refusal: Callable[[Backend], str | None]) -> Backend:
    """What "auto" stands for."""
    reasons = []
    for candidate in (known for known in BACKENDS if known != "reference"):
        backend, reason = _load(candidate)
        reason = refusal(backend) if backend is not None else reason
        if backend is not None and reason is None:
            return backend
        reasons.append(f"{candidate}: {reason}")
    slowly = refusal(BACKENDS["reference"]()) is None
    remedy = "backend='reference' runs everywhere, slowly" if slowly else "and backend='reference' does not do it either"
    raise RuntimeError(f"backend='auto' found no compiled backend that does this here ({'; '.join(reasons)}); {remedy}")
