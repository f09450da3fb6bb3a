"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_folder import write_all
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


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two experiments of real runs; not to be changed."""
    return write_all(tmp_path_factory.mktemp("experiments"))
