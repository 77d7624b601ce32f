"""Hooks get the events they asked for, in order."""

import asyncio
import contextvars
import logging
from functools import partial
from typing import Any

import pytest

from demand_maint.core.events import (
    CheckCompleted,
    DriftDetected,
    MaintenanceEvent,
    ModelDeployed,
    TrainingProgress,
    TrainingStarted,
)
from demand_maint.hooks import HookBus, log_events
from tests.unit.hooks.events import deployed, drift, started


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


@pytest.mark.parametrize("kind", [print, "DriftDetected", int])
def test_a_forgotten_call_of_the_decorator_is_explained(kind: Any) -> None:
    """@runtime.on without parentheses, or with what is no event, says so at once instead of never calling the hook."""
    bus = HookBus()
    with pytest.raises(TypeError, match=r"no event class\. Write @runtime\.on\(DriftDetected\)"):
        bus.on(kind)
    with pytest.raises(TypeError, match="no event class"):
        bus.add(print, kind)


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    """Neither a hook nor a veto is kept that would only fail when it is needed."""
    nothing: Any = 3
    with pytest.raises(TypeError, match="cannot be called"):
        HookBus().add(nothing)
    with pytest.raises(TypeError, match="cannot be called"):
        HookBus().add_veto(nothing)


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


async def test_the_log_hook_writes_one_structured_line(caplog: pytest.LogCaptureFixture) -> None:
    """log_events() writes kind and fields as one line, and each as an attribute of the record."""
    bus = await started()
    bus.add(log_events("warning"), DriftDetected)
    with caplog.at_level(logging.WARNING, "demand_maint.events"):
        bus.emit(drift())
        assert await bus.drain(2.0)
    record = caplog.records[0]
    assert record.getMessage().startswith("DriftDetected ")
    assert "degradation=0.3" in record.getMessage()
    assert record.__dict__["event"] == "DriftDetected"
    assert record.__dict__["degradation"] == 0.3
    await bus.aclose(1.0)
