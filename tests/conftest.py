"""Fixtures that several test files share."""

from __future__ import annotations

import pytest
from hypothesis import settings

from kdvr_fast import backend_status

settings.register_profile("kdvr", deadline=None)  # a busy machine is no failure
settings.load_profile("kdvr")


def _backends() -> list[object]:
    """Every registered backend; one that cannot run here is skipped and says why."""
    return [
        pytest.param(name, marks=[] if reason is None else pytest.mark.skip(reason=f"{name}: {reason}"))
        for name, reason in backend_status().items()
    ]


@pytest.fixture(params=_backends())
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend that runs here."""
    return str(request.param)
