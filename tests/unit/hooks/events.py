"""Events, and a bus that has started."""

import asyncio
from collections.abc import Callable
from typing import Any

from demand_maint.core.events import (
    DriftDetected,
    ModelDeployed,
)
from demand_maint.hooks import HookBus


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until `condition` holds; fail after 10 s."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


def deployed(version: int) -> ModelDeployed:
    """Return an event told apart by its version."""
    return ModelDeployed(at=float(version), version=version, previous=None, who="test", why="")


def drift() -> DriftDetected:
    """Return an event of another kind."""
    return DriftDetected(at=0.0, status="critical", degradation=0.3, mae=3.0, baseline_mae=2.0)


async def started(**settings: Any) -> HookBus:
    """Return a bus bound to the running loop."""
    bus = HookBus(**({"timeout": 2.0} | settings))
    bus.start()
    return bus
