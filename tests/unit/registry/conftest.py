"""What the tests of the registry share."""

from pathlib import Path

import pytest

from demand_maint._storage.registry import Registry
from demand_maint.testing import VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    """Give a clock that stands still."""
    return VirtualClock(1000.0)


@pytest.fixture
def registry(tmp_path: Path, clock: VirtualClock) -> Registry:
    """Give an empty registry."""
    return Registry(tmp_path, clock=clock)
