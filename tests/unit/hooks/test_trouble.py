"""Hooks that raise, hang, block or lag hurt nobody but themselves."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from demand_maint.core.events import (
    HookFailed,
    MaintenanceEvent,
    ModelDeployed,
)
from tests.unit.hooks.events import deployed, started, until


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(1), asyncio.CancelledError(), BaseException("base")])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_hook_that_raises_is_named_and_goes_on(
    error: BaseException, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a hook raises, SystemExit included, the others get the event, HookFailed names it, and it gets its next event."""
    bus = await started()
    calls: list[int] = []
    failures: list[HookFailed] = []
    others: list[int] = []

    def explode(event: ModelDeployed) -> None:
        calls.append(event.version)
        raise error

    async def explode_later(event: ModelDeployed) -> None:
        explode(event)

    bus.add(explode_later if asynchronous else explode, ModelDeployed)
    bus.add(lambda event: others.append(event.version), ModelDeployed)
    bus.add(failures.append, HookFailed)
    with caplog.at_level(logging.ERROR, "demand_maint.hooks"):
        bus.emit(deployed(1))
        bus.emit(deployed(2))
        assert await bus.drain(2.0)
    assert calls == others == [1, 2]
    assert len(failures) == 2
    assert type(error).__name__ in failures[0].reason
    assert failures[0].failed_event == "ModelDeployed"
    assert "explode" in failures[0].hook
    assert "explode" in caplog.records[0].__dict__["hook"]
    await bus.aclose(1.0)


async def test_a_hook_that_fails_on_failures_is_only_logged() -> None:
    """A hook that raises on HookFailed starts no endless conversation."""
    bus = await started()
    calls: list[MaintenanceEvent] = []

    @bus.on()
    async def always_fails(event: MaintenanceEvent) -> None:
        calls.append(event)
        raise ValueError

    @bus.on()
    async def fails_too(event: MaintenanceEvent) -> None:
        raise ValueError

    bus.emit(deployed(1))
    assert await bus.drain(2.0)
    assert [type(event).__name__ for event in calls] == ["ModelDeployed", "HookFailed"]
    await bus.aclose(1.0)


async def test_a_hook_that_hangs_is_cancelled_and_gets_its_next_event() -> None:
    """An async hook past its timeout is cancelled, named, and not kept from the next event."""
    bus = await started(timeout=0.05)
    seen: list[int] = []
    failures: list[HookFailed] = []

    @bus.on(ModelDeployed)
    async def hangs_once(event: ModelDeployed) -> None:
        if event.version == 1:
            await asyncio.Event().wait()
        seen.append(event.version)

    bus.add(failures.append, HookFailed)
    bus.emit(deployed(1))
    bus.emit(deployed(2))
    assert await bus.drain(2.0)
    assert seen == [2]
    assert [failure.reason for failure in failures] == ["did not return within 0.05 s"]
    await bus.aclose(1.0)


async def test_a_hook_that_swallows_its_cancellation_holds_up_itself_only() -> None:
    """While it refuses to end, others are served at once and its own later events wait in order."""
    bus = await started(timeout=0.2)
    release = asyncio.Event()
    stubborn: list[int] = []
    others: list[int] = []
    failures: list[HookFailed] = []

    @bus.on(ModelDeployed)
    async def swallows(event: ModelDeployed) -> None:
        while event.version == 1 and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        stubborn.append(event.version)

    bus.add(lambda event: others.append(event.version), ModelDeployed)
    bus.add(failures.append, HookFailed)
    for i in range(1, 4):
        bus.emit(deployed(i))
    try:
        await until(lambda: failures)
        assert others == [1, 2, 3]
        assert stubborn == []
        assert "swallowed its cancellation" in failures[0].reason
        assert bus.status()[0].state == "stuck"
    finally:  # or the loop would never end
        release.set()
    assert await bus.drain(2.0)
    assert stubborn == [1, 2, 3]
    await bus.aclose(1.0)


async def test_a_sync_hook_that_blocks_holds_up_itself_only() -> None:
    """A blocked plain function is on its own thread: the loop and other hooks go on; closing does not wait for it."""
    bus = await started(timeout=0.2)
    release = threading.Event()
    others: list[int] = []
    failures: list[HookFailed] = []

    def blocks(event: ModelDeployed) -> None:
        release.wait(20.0)

    bus.add(blocks, ModelDeployed)
    bus.add(lambda event: others.append(event.version), ModelDeployed)
    bus.add(failures.append, HookFailed)
    bus.emit(deployed(1))
    bus.emit(deployed(2))
    await until(lambda: failures)
    assert others == [1, 2]
    assert "its thread cannot be stopped" in failures[0].reason
    began = time.monotonic()
    await bus.aclose(0.1)
    assert time.monotonic() - began < 1.0
    release.set()


async def test_an_async_hook_that_blocks_the_loop_is_named_and_switched_off() -> None:
    """The third time an async hook blocks the loop it is switched off; each time it is named."""
    bus = await started()
    failures: list[HookFailed] = []
    calls: list[int] = []

    @bus.on(ModelDeployed)
    async def blocks(event: ModelDeployed) -> None:
        calls.append(event.version)
        await asyncio.sleep(0)
        deadline = time.monotonic() + 0.12
        while time.monotonic() < deadline:
            pass

    bus.add(failures.append, HookFailed)
    for i in range(5):
        bus.emit(deployed(i))
    assert await bus.drain(5.0)
    assert calls == [0, 1, 2]
    assert all("blocked the event loop for 0.1" in failure.reason for failure in failures)
    assert "switched off" in failures[-1].reason
    assert bus.status()[0].state == "off"
    assert bus.status()[0].dropped == 2
    await bus.aclose(1.0)


async def test_a_slow_hook_loses_the_oldest_events_and_is_told_of_once() -> None:
    """The queue of a hook is bounded: the newest stay, drops are counted, one HookFailed names it."""
    bus = await started(queue=4)
    gate = asyncio.Event()
    seen: list[int] = []
    failures: list[HookFailed] = []

    @bus.on(ModelDeployed)
    async def slow(event: ModelDeployed) -> None:
        await gate.wait()
        seen.append(event.version)

    bus.add(failures.append, HookFailed)
    bus.emit(deployed(0))
    await asyncio.sleep(0)
    for i in range(1, 11):
        bus.emit(deployed(i))
    gate.set()
    assert await bus.drain(2.0)
    assert seen == [0, 7, 8, 9, 10]
    assert bus.status()[0].dropped == 6
    assert len(failures) == 1
    assert "slower than its events" in failures[0].reason
    await bus.aclose(1.0)


@pytest.mark.parametrize("on_failure", ["refuse", "allow"])
async def test_a_veto_hook_that_cannot_be_asked_counts_as_told(on_failure: str) -> None:
    """A veto hook that raises or hangs refuses by default, allows where asked to, and is named either way."""
    bus = await started(timeout=0.2)
    failures: list[HookFailed] = []

    async def hangs(proposal: Any) -> None:
        await asyncio.Event().wait()

    def leaves(proposal: Any) -> None:
        raise SystemExit(1)

    bus.add(failures.append, HookFailed)
    bus.add_veto(hangs, on_failure=on_failure)
    bus.add_veto(leaves, on_failure=on_failure)
    verdict = await bus.ask("p")
    if on_failure == "allow":
        assert verdict is None
    else:
        assert verdict is not None
        assert "gave no answer within 0.2 s" in verdict
        assert "SystemExit" in verdict
    await bus.drain(1.0)
    assert len(failures) == 2
    await bus.aclose(1.0)
