"""Checks happen when due and when asked for, once at a time, whatever the clocks do."""

import asyncio
import logging
import threading
import time
from collections.abc import Generator
from datetime import UTC
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler

from demand_maint.core.cycle import CycleResult, Discard, Failed, Step, Train
from demand_maint.core.events import (
    ChallengerRejected,
    CheckCompleted,
    DriftDetected,
    FeedFaultSuspected,
    MaintenanceEvent,
    ModelDeployed,
    TrainingFailed,
    TrainingFinished,
    TrainingProgress,
    TrainingStarted,
)
from demand_maint.core.versions import GateVerdict
from demand_maint.errors import ClosedError, ConfigError, MaintainerBusyError

if TYPE_CHECKING:
    from tests.runtime.conftest import Stage
else:
    Stage = Any

HOUR = 3600.0
ZoneInfo("America/New_York")  # read once here, not on a loop


def checks(parts: Any) -> int:
    """How many checks began."""
    return len(parts.named("begin"))


async def test_an_overdue_check_runs_at_once_on_start(stage: Stage) -> None:
    """A root never checked, or not for six hours, is checked as soon as the runtime starts."""
    stage.prepare = lambda parts: setattr(parts, "last", stage.clock.now() - 7 * HOUR)
    _, parts = await stage.open()
    await stage.until(lambda: checks(parts) == 1)


async def test_a_check_that_is_not_due_waits(stage: Stage) -> None:
    """A root checked five hours ago by another process is checked in an hour, not at the start."""
    stage.prepare = lambda parts: setattr(parts, "last", stage.clock.now() - 5 * HOUR)
    runtime, parts = await stage.open()
    await asyncio.sleep(0.05)
    assert checks(parts) == 0
    assert runtime.status()["next_check_at"] == stage.clock.now() + HOUR
    stage.clock.advance(HOUR + 1)
    runtime._look()
    await stage.until(lambda: checks(parts) == 1)
    await stage.until(lambda: runtime.status()["running"] is None)
    assert runtime.status()["next_check_at"] == stage.clock.now() + 6 * HOUR


@pytest.mark.parametrize("jump", [-30 * 86400.0, 30 * 86400.0])
async def test_a_wall_clock_that_jumps_neither_silences_nor_repeats_checks(stage: Stage, jump: float) -> None:
    """After a jump of a month either way the next check comes within the interval of monotonic time, and only once."""
    stage.prepare = lambda parts: setattr(parts, "last", stage.clock.now())
    runtime, parts = await stage.open()
    stage.clock.set(stage.clock.now() + jump)
    stage.clock.advance(6 * HOUR + 20)
    runtime._look()
    await stage.until(lambda: checks(parts) == 1)
    for _ in range(5):
        runtime._look()
        await asyncio.sleep(0.01)
    assert checks(parts) == 1


async def test_a_loop_that_was_blocked_at_the_due_moment_checks_afterwards(stage: Stage) -> None:
    """APScheduler would drop the job by default; here the check comes as soon as the loop runs again."""
    stage.config = msgspec.structs.replace(
        stage.config, runtime=msgspec.structs.replace(stage.config.runtime, interval_hours=1.2 / 3600)
    )
    from demand_maint.clock import SystemClock

    clock = SystemClock()
    stage.prepare = lambda parts: setattr(parts, "last", clock.now())
    runtime, parts = await stage.open(clock=clock)
    assert checks(parts) == 0
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        pass
    await stage.until(lambda: checks(parts) >= 1, 1.0)
    await runtime.aclose()


async def test_the_scheduler_ticks_on_time_by_itself(stage: Stage) -> None:
    """With real clocks and an interval of a second, checks follow each other without anybody looking."""
    stage.config = msgspec.structs.replace(
        stage.config, runtime=msgspec.structs.replace(stage.config.runtime, interval_hours=1 / 3600)
    )
    from demand_maint.clock import SystemClock

    _, parts = await stage.open(clock=SystemClock())
    await stage.until(lambda: checks(parts) >= 3, 4.0)


@pytest.mark.parametrize("kind", ["asyncio", "threaded"])
async def test_a_scheduler_of_the_host_is_used_and_left_as_it_was(stage: Stage, kind: str) -> None:
    """The host's scheduler carries our job, keeps its own, and is neither started, stopped nor asked to pickle."""
    scheduler = (AsyncIOScheduler if kind == "asyncio" else BackgroundScheduler)(timezone=UTC)
    scheduler.start()
    own = scheduler.add_job(print, "interval", hours=1)
    stage.config = msgspec.structs.replace(
        stage.config, runtime=msgspec.structs.replace(stage.config.runtime, interval_hours=1 / 3600)
    )
    from demand_maint.clock import SystemClock

    first, parts = await stage.open(scheduler=scheduler, clock=SystemClock())
    assert len(scheduler.get_jobs()) == 2
    await stage.until(lambda: checks(parts) >= 2, 4.0)
    await first.aclose()
    assert [job.id for job in scheduler.get_jobs()] == [own.id]
    assert scheduler.running
    scheduler.shutdown(wait=False)
    await asyncio.sleep(0)


async def test_cron_is_in_the_configured_zone(stage: Stage) -> None:
    """`0 2 * * *` in New York is 07:00 UTC in winter."""
    stage.config = msgspec.structs.replace(
        stage.config,
        zone="America/New_York",
        runtime=msgspec.structs.replace(stage.config.runtime, cron="0 2 * * *"),
    )
    stage.prepare = lambda parts: setattr(parts, "last", stage.clock.now())
    runtime, _ = await stage.open()
    await stage.until(lambda: runtime.status()["next_check_at"] is not None)
    assert runtime.status()["next_check_at"] % 86400 == 7 * HOUR


async def test_a_wrong_cron_line_is_refused_at_the_start(stage: Stage) -> None:
    """The mistake is told when the runtime starts, with an example of a right line."""
    stage.config = msgspec.structs.replace(
        stage.config, runtime=msgspec.structs.replace(stage.config.runtime, cron="sometimes")
    )
    with pytest.raises(ConfigError, match=r"0 2 \* \* 0"):
        await stage.attach().start()


async def test_nothing_is_checked_twice_at_once(stage: Stage) -> None:
    """Ten requests and a tick while a check runs lead to that one check; a forced update waits for it."""
    gate = threading.Event()

    def slow(force: str | None) -> Any:
        gate.wait(5.0)
        return (yield from stage.quiet(force))

    stage.prepare = lambda parts: setattr(parts, "script", slow)
    runtime, parts = await stage.open()
    await stage.until(lambda: runtime.status()["running"])
    asked = [asyncio.ensure_future(runtime.check_now()) for _ in range(10)]
    forced = asyncio.ensure_future(runtime.update_now("fine-tune"))
    stage.clock.advance(7 * HOUR)
    runtime._look()
    await asyncio.sleep(0.02)
    gate.set()
    results = await asyncio.gather(*asked, forced)
    assert parts.most_at_once == 1
    assert parts.named("begin") == [None, "fine-tune"]
    assert len({id(result) for result in results[:-1]}) == 1


async def test_a_cancelled_caller_does_not_cancel_the_check(stage: Stage) -> None:
    """Whoever stops waiting for check_now() stops waiting, no more."""
    gate = threading.Event()

    def slow(force: str | None) -> Any:
        gate.wait(5.0)
        return (yield from stage.quiet(force))

    stage.prepare = lambda parts: setattr(parts, "script", slow)
    runtime, parts = await stage.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await runtime.check_now()
    gate.set()
    await stage.until(lambda: parts.named("finish"))


async def test_pause_and_resume(stage: Stage) -> None:
    """A paused runtime makes no check by itself, answers check_now(), and makes up for an overdue one when resumed."""
    stage.prepare = lambda parts: setattr(parts, "last", stage.clock.now())
    runtime, parts = await stage.open()
    runtime.pause()
    assert runtime.status()["paused"]
    assert runtime.status()["next_check_at"] is None
    stage.clock.advance(7 * HOUR)
    runtime._look()
    await asyncio.sleep(0.03)
    assert checks(parts) == 0
    await runtime.check_now()
    assert checks(parts) == 1
    stage.clock.advance(7 * HOUR)
    runtime.resume()
    await stage.until(lambda: checks(parts) == 2)


async def test_a_check_that_breaks_is_told_and_the_next_one_comes(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of a part is a result with status failed, a log line and an event; checks go on."""
    events: list[MaintenanceEvent] = []
    runtime, parts = await stage.open()
    await stage.until(lambda: runtime.status()["last_result"])
    runtime.on(CheckCompleted)(events.append)
    parts.fail["begin"] = OSError("no space left")
    with caplog.at_level(logging.ERROR, "demand_maint"):
        result = await runtime.check_now()
    assert result["status"] == "failed"
    assert "no space left" in result["reason"]
    assert "check failed" in caplog.text
    del parts.fail["begin"]
    assert (await runtime.check_now())["status"] == "no_action"
    await runtime.hooks.drain(1.0)
    assert [event.result["status"] for event in events if isinstance(event, CheckCompleted)] == ["failed", "no_action"]


async def test_a_training_is_told_step_by_step(stage: Stage) -> None:
    """Started, progress, finished, deployed, check completed: in this order, and the model has been swapped by then."""
    events: list[MaintenanceEvent] = []
    runtime, parts = await stage.open()
    await stage.until(lambda: runtime.status()["last_result"])

    @runtime.on(TrainingStarted, TrainingProgress, TrainingFinished, ModelDeployed, CheckCompleted)
    async def note(event: MaintenanceEvent) -> None:
        events.append(event)

    parts.script = stage.training
    result = await runtime.update_now("fine-tune")
    assert result["status"] == "deployed"
    assert runtime.model.version == 2
    await runtime.hooks.drain(1.0)
    kinds = list(dict.fromkeys(type(event).__name__ for event in events if not isinstance(event, CheckCompleted)))
    assert kinds == ["TrainingStarted", "TrainingProgress", "TrainingFinished", "ModelDeployed"]
    assert [event.rows for event in events if isinstance(event, TrainingStarted)] == [10]
    assert runtime.status()["last_result"] == result


async def test_blocking_work_never_runs_on_the_loop(stage: Stage) -> None:
    """Every call of the parts is made from a thread of ours."""
    runtime, parts = await stage.open()
    parts.script = stage.training
    await runtime.update_now("full-retrain")
    await runtime.rollback()
    await runtime.aclose()
    assert {name.rsplit(" ", 1)[0] for _, _, name in parts.calls} <= {
        "demand-maint upkeep",
        "demand-maint worker",
        "demand-maint errands",
        "demand-maint",
    }


async def test_a_veto_refuses_a_promotion_and_the_reason_is_kept(stage: Stage) -> None:
    """A veto hook sees the step; its reason is the result's, and the champion stays."""
    runtime, parts = await stage.open()
    parts.script = stage.training
    seen: list[Any] = []

    @runtime.veto
    async def not_on_friday(step: Any) -> str:
        seen.append(step)
        return "no deployments on Friday"

    result = await runtime.update_now("fine-tune")
    assert result["status"] == "vetoed"
    assert "no deployments on Friday" in result["reason"]
    assert seen[0].kind == "fine_tune"
    assert parts.root.champion == runtime.model.version == 1


async def test_drift_is_told_when_it_begins_not_at_every_check(stage: Stage) -> None:
    """A degraded model is told once, again when it becomes critical or another place drifts, and feed faults likewise."""
    runtime, parts = await stage.open()
    events: list[Any] = []

    @runtime.on(DriftDetected, FeedFaultSuspected)
    async def note(event: MaintenanceEvent) -> None:
        events.append(event)

    health: dict[str, Any] = {"status": "degraded", "degradation": 0.2, "mae": 12.0, "baseline_mae": 10.0}
    for change in (
        {},
        {},
        {"status": "critical"},
        {},
        {"places": [{"place": 7, "drifting": True}]},
        {},
        {"feed": {"9": "constant"}},
        {},
    ):
        health |= change
        parts.health = dict(health)
        await runtime.check_now()
    await runtime.hooks.drain(1.0)
    told = [(type(event).__name__, getattr(event, "status", None)) for event in events]
    assert told == [
        ("DriftDetected", "degraded"),
        ("DriftDetected", "critical"),
        ("DriftDetected", "critical"),
        ("FeedFaultSuspected", None),
    ]
    assert events[2].places == ("7",)


async def test_a_failed_training_and_a_rejected_challenger_are_told(stage: Stage) -> None:
    """A child that fails is TrainingFailed with its reason, a challenger that is dropped ChallengerRejected with the verdict's."""
    runtime, parts = await stage.open()
    events: list[Any] = []

    @runtime.on(TrainingFailed, ChallengerRejected)
    async def note(event: MaintenanceEvent) -> None:
        events.append(event)

    def both(_force: str | None) -> Generator[Step, Any, CycleResult]:
        yield Train(kind="full")
        yield Discard(kind="full", version=7, verdict=GateVerdict(verdict="worse", method="gate", reasons=("margin",)))
        return CycleResult(status="rejected", action="full_retrain", rule="r", reason="")

    parts.script = both
    parts.act = lambda step: Failed(reason="memory", detail="too much") if isinstance(step, Train) else None
    assert (await runtime.check_now())["status"] == "rejected"
    await runtime.hooks.drain(1.0)
    failed, rejected = events
    assert (failed.kind, failed.reason, failed.detail) == ("full", "memory", "too much")
    assert (rejected.version, rejected.reasons, rejected.detail) == (7, ("margin",), "worse")


async def test_rollback_does_not_wait_for_a_training(stage: Stage) -> None:
    """While a training runs, rollback() is done at once and predictions follow it."""
    runtime, parts = await stage.open()
    await stage.until(lambda: runtime.status()["last_result"])
    parts.root.champion = 5
    parts.script, parts.act = stage.training, parts.train_until_cancelled
    update = asyncio.ensure_future(runtime.update_now("fine-tune"))
    await stage.until(lambda: any(isinstance(step, Train) for step in parts.named("perform")))
    assert await runtime.rollback() == (True, "rolled back")
    assert runtime.model.version == 4
    assert runtime.status()["running"]["step"] == "Train"
    parts.cancelled.set()
    assert (await update)["status"] == "cancelled"


async def test_a_change_that_cannot_be_read_back_is_made_all_the_same(stage: Stage) -> None:
    """Where the disk fails right after a rollback or a promotion, the answer is still that it was made, and predictions follow."""
    runtime, parts = await stage.open()
    await stage.until(lambda: runtime.status()["last_result"])
    parts.fail["refresh"] = OSError(5, "no")
    parts.root.champion = 5
    done, message = await runtime.rollback()
    assert done
    assert "as soon as it can" in message
    parts.script = stage.training
    assert (await runtime.update_now("fine-tune"))["status"] == "deployed"
    del parts.fail["refresh"]
    await stage.until(lambda: runtime.model.version == 5)


async def test_a_follower_follows_and_takes_over_within_a_second(stage: Stage) -> None:
    """A second process makes no checks, follows the champion, and maintains within a second of the leader's end."""
    leader, _ = await stage.open()
    follower = stage.attach()
    await follower.start()
    assert (leader.role, follower.role) == ("leader", "follower")
    with pytest.raises(MaintainerBusyError):
        await follower.check_now()
    stage.root.champion = 9
    await stage.until(lambda: follower.model.version == 9)
    assert checks(stage.parts[1]) == 0
    await leader.aclose()
    began = time.monotonic()
    await stage.until(lambda: follower.role == "leader")
    assert time.monotonic() - began < 1.0
    await stage.until(lambda: checks(stage.parts[1]) == 1)


async def test_two_runtimes_of_two_roots_live_side_by_side(stage: Stage) -> None:
    """Two models in one process have their own locks, checks and hooks."""
    first, parts = await stage.open()
    stage.root = type(stage.root)()
    second, others = await stage.open(root=stage.path / "other")
    seen: list[Any] = []
    first.on()(seen.append)
    await second.check_now()
    assert (first.role, second.role) == ("leader", "leader")
    await first.hooks.drain(1.0)
    assert not [event for event in seen if isinstance(event, CheckCompleted) and checks(parts) == 0]
    assert parts is not others


async def test_a_closed_or_unstarted_runtime_says_so(stage: Stage) -> None:
    """Using a runtime before its start or after its end is a ClosedError that says what to write."""
    runtime = stage.attach()
    with pytest.raises(ClosedError, match="not been started"):
        _ = runtime.monitor
    assert runtime.status()["role"] == "closed"
    await runtime.start()
    await runtime.aclose()
    await runtime.aclose()
    with pytest.raises(ClosedError, match="has been closed"):
        await runtime.check_now()
    with pytest.raises(ClosedError, match="Attach again"):
        await runtime.start()


async def test_an_unknown_kind_of_update_is_refused(stage: Stage) -> None:
    """update_now() names the two kinds it takes."""
    runtime, _ = await stage.open()
    with pytest.raises(ValueError, match="'fine-tune' or 'full-retrain'"):
        await runtime.update_now("retrain")
