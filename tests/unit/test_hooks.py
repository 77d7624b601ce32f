"""Events reach the hooks that asked for them, in order, and no hook harms another."""

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from demand_maint.core.events import (
    CheckCompleted,
    DriftDetected,
    HookFailed,
    MaintenanceEvent,
    ModelDeployed,
    TrainingProgress,
    TrainingStarted,
)
from demand_maint.hooks import HookBus, log_events


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


async def test_a_hook_gets_the_kinds_it_asked_for() -> None:
    """Sync and async hooks get their kinds only, a hook without kinds gets all, and the decorator returns its function."""
    bus = await started()
    one: list[MaintenanceEvent] = []
    two: list[MaintenanceEvent] = []
    everything: list[MaintenanceEvent] = []

    @bus.on(ModelDeployed, CheckCompleted)
    def plain(event: MaintenanceEvent) -> None:
        one.append(event)

    @bus.on(DriftDetected)
    async def asynchronous(event: DriftDetected) -> None:
        await asyncio.sleep(0)
        two.append(event)

    bus.add(everything.append)
    sent = [deployed(1), drift(), CheckCompleted(at=1.0, result={})]
    for event in sent:
        bus.emit(event)
    assert await bus.drain(2.0)
    assert (one, two, everything) == ([sent[0], sent[2]], [sent[1]], sent)
    assert plain.__name__ == "plain"
    assert asyncio.iscoroutinefunction(asynchronous)
    await bus.aclose(1.0)


async def test_order_is_kept_per_hook_and_a_hook_never_overlaps_itself() -> None:
    """A slow hook sees events in the order they were emitted, one at a time, while a fast one runs ahead."""
    bus = await started()
    slow: list[int] = []
    fast: list[int] = []
    inside = 0

    @bus.on(ModelDeployed)
    async def dawdles(event: ModelDeployed) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.002 * (event.version % 3))
        slow.append(event.version)
        inside -= 1

    bus.add(lambda event: fast.append(event.version), ModelDeployed)
    for i in range(30):
        bus.emit(deployed(i))
    assert await bus.drain(5.0)
    assert slow == fast == list(range(30))
    assert all(status.failed == 0 for status in bus.status())
    await bus.aclose(1.0)


async def test_events_from_other_threads_keep_their_order() -> None:
    """emit() may be called from any thread; the events of one thread arrive in their order."""
    bus = await started()
    seen: list[int] = []

    @bus.on(ModelDeployed)
    async def note(event: ModelDeployed) -> None:
        seen.append(event.version)

    def many() -> None:
        for i in range(50):
            bus.emit(deployed(i))

    await asyncio.to_thread(many)
    await asyncio.sleep(0)
    assert await bus.drain(2.0)
    assert seen == list(range(50))
    await bus.aclose(1.0)


async def test_events_before_the_start_are_delivered_after_it() -> None:
    """What happens while a runtime starts is not lost to its hooks."""
    bus = HookBus()
    seen: list[MaintenanceEvent] = []
    bus.add(seen.append)
    bus.emit(deployed(1))
    bus.start()
    assert await bus.drain(2.0)
    assert seen == [deployed(1)]
    await bus.aclose(1.0)
    bus.emit(deployed(2))
    assert seen == [deployed(1)]


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
    bus = await started(timeout=0.02)
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
    await until(lambda: failures)
    assert others == [1, 2, 3]
    assert stubborn == []
    assert "swallowed its cancellation" in failures[0].reason
    assert bus.status()[0].state == "stuck"
    release.set()
    assert await bus.drain(2.0)
    assert stubborn == [1, 2, 3]
    await bus.aclose(1.0)


async def test_a_sync_hook_that_blocks_holds_up_itself_only() -> None:
    """A blocked plain function is on its own thread: the loop and other hooks go on; closing does not wait for it."""
    bus = await started(timeout=0.02)
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


async def test_progress_that_nobody_waited_for_is_replaced_by_the_newest() -> None:
    """Of a run of TrainingProgress events a busy hook sees the newest; other events keep their place."""
    bus = await started()
    gate = asyncio.Event()
    seen: list[Any] = []

    @bus.on()
    async def slow(event: MaintenanceEvent) -> None:
        await gate.wait()
        seen.append(event)

    first = TrainingStarted(at=0.0, kind="full", rows=10)
    bus.emit(first)
    await asyncio.sleep(0)
    steps = [TrainingProgress(at=float(i), kind="full", done=i, total=9) for i in range(10)]
    for step in steps:
        bus.emit(step)
    bus.emit(deployed(1))
    gate.set()
    assert await bus.drain(2.0)
    assert seen == [first, steps[-1], deployed(1)]
    await bus.aclose(1.0)


async def test_closing_delivers_what_is_queued_and_is_idempotent() -> None:
    """aclose() lets quick hooks finish their queue; a second one does nothing."""
    bus = await started()
    seen: list[int] = []

    @bus.on(ModelDeployed)
    async def note(event: ModelDeployed) -> None:
        await asyncio.sleep(0.001)
        seen.append(event.version)

    for i in range(10):
        bus.emit(deployed(i))
    await bus.aclose(2.0)
    await bus.aclose(2.0)
    assert seen == list(range(10))


async def test_odd_callables_are_understood() -> None:
    """Partials, bound methods, objects with an async __call__ and functions that return an awaitable are all hooks."""
    bus = await started()
    seen: list[str] = []

    async def tell(name: str, event: MaintenanceEvent) -> None:
        await asyncio.sleep(0)
        seen.append(name)

    class Alert:
        async def __call__(self, event: MaintenanceEvent) -> None:
            seen.append("object")

        def method(self, event: MaintenanceEvent) -> None:
            seen.append("method")

    bus.add(partial(tell, "partial"))
    bus.add(lambda event: tell("returned", event))
    alert = Alert()
    bus.add(alert)
    bus.add(alert.method)
    bus.emit(deployed(1))
    assert await bus.drain(2.0)
    assert sorted(seen) == ["method", "object", "partial", "returned"]
    await bus.aclose(1.0)


async def test_registering_twice_calls_once_and_remove_ends_it() -> None:
    """The same callable registered again is called once per event; after remove() not at all."""
    bus = await started()
    seen: list[int] = []

    def note(event: Any) -> None:
        seen.append(event.version)

    bus.add(note, ModelDeployed)
    bus.add(note, ModelDeployed, DriftDetected)
    bus.emit(deployed(1))
    assert await bus.drain(2.0)
    assert bus.remove(note)
    assert not bus.remove(note)
    bus.emit(deployed(2))
    assert seen == [1]
    await bus.aclose(1.0)


def test_a_forgotten_call_of_the_decorator_is_explained() -> None:
    """runtime.on without parentheses is refused with what to write."""
    with pytest.raises(TypeError, match=r"Write runtime.on\(DriftDetected\)"):
        HookBus().add(print, lambda event: None)  # type: ignore[arg-type] # the mistake under test


async def test_context_variables_reach_async_hooks() -> None:
    """An async hook sees the context variables of where the event was emitted."""
    bus = await started()
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    @bus.on()
    async def note(event: MaintenanceEvent) -> None:
        seen.append(request.get())

    request.set("r-1")
    bus.emit(deployed(1))
    assert await bus.drain(2.0)
    assert seen == ["r-1"]
    await bus.aclose(1.0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(None, None), (True, None), ("", None), ("frozen until Monday", "frozen until Monday"), (False, "refused")],
)
async def test_a_veto_hook_refuses_with_a_reason(answer: Any, expected: str | None) -> None:
    """Text refuses with that reason, False refuses, nothing and True allow."""
    bus = await started()

    async def veto(proposal: str) -> Any:
        assert proposal == "the step"
        return answer

    bus.add_veto(veto)
    verdict = await bus.ask("the step")
    assert verdict is None if expected is None else verdict is not None and verdict.endswith(expected)
    await bus.aclose(1.0)


@pytest.mark.parametrize("on_failure", ["refuse", "allow"])
async def test_a_veto_hook_that_cannot_be_asked_counts_as_told(on_failure: str) -> None:
    """A veto hook that raises or hangs refuses by default, allows where asked to, and is named either way."""
    bus = await started(timeout=0.02)
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
        assert "gave no answer within 0.02 s" in verdict
        assert "SystemExit" in verdict
    await bus.drain(1.0)
    assert len(failures) == 2
    await bus.aclose(1.0)


async def test_the_log_hook_writes_one_structured_line(caplog: pytest.LogCaptureFixture) -> None:
    """log_events() writes the kind as message and the fields as record attributes."""
    bus = await started()
    bus.add(log_events("warning"), DriftDetected)
    with caplog.at_level(logging.WARNING, "demand_maint.events"):
        bus.emit(drift())
        assert await bus.drain(2.0)
    record = caplog.records[0]
    assert record.getMessage() == "DriftDetected"
    assert record.__dict__["degradation"] == 0.3
    await bus.aclose(1.0)
