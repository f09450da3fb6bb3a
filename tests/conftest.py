"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_folder import write_all
from hypothesis import settings
from problems import COMPLETE

settings.register_profile("kdvr", deadline=None)  # a busy machine is no failure
settings.load_profile("kdvr")


@pytest.fixture(params=COMPLETE)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of a backend that runs here, of those that refuse nothing."""
    return str(request.param)


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two experiments of real runs; not to be changed."""
    return write_all(tmp_path_factory.mktemp("experiments"))
