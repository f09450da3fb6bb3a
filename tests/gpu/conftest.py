"""Tests of the CUDA backend on a real device; all are skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest

from kdvr_fast import backend_status

REASON = backend_status()["cuda"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if REASON is not None:
        for item in items:
            if "gpu" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=f"cuda: {REASON}"))
