"""What the tests of the handle share."""

import pytest

from demand_maint.model_handle import ModelHandle
from demand_maint.testing import VirtualClock
from tests.unit.model_handle.parts import NOW, FakeRegistry, Kept, Linear, naive, snapshot


@pytest.fixture
def registry() -> FakeRegistry:
    """Three versions, the first deployed with the second beside it."""
    found = FakeRegistry({1: Linear(1.0), 2: Linear(1.2), 3: Linear(3.0)})
    found.deploy(1, 2)
    return found


@pytest.fixture
def journal() -> Kept:
    """A journal that keeps calls."""
    return Kept()


@pytest.fixture
def handle(registry: FakeRegistry, journal: Kept) -> ModelHandle:
    """A handle that serves a mixture of versions 1, 2 and the naive."""
    made = ModelHandle(registry, clock=VirtualClock(NOW), journal=journal, naive=naive, load=registry.load)
    made.refresh()
    made.adopt(snapshot())
    return made
