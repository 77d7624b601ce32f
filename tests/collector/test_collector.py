"""A collection asks every venue, predicts, logs, and never fails as a whole."""

import asyncio
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from demand_maint.errors import ClosedError, ConfigError
from demand_maint.sources import Observation

if TYPE_CHECKING:
    from tests.collector.conftest import Bench
else:
    Bench = Any

HOUR = 3600.0


def test_one_collection_logs_actuals_and_predicts_one_horizon_ahead(bench: Bench) -> None:
    """From plain code: every venue's actual is logged, and one call predicts all of them for the slot a horizon later."""
    collector = bench.collector(lambda venue: float(venue) * 10)
    result = collector.collect_for_all_venues([1, 2, 3])
    now = bench.clock.now()
    assert bench.parts.monitor.actuals == [(1, now, 10.0), (2, now, 20.0), (3, now, 30.0)]
    ((_, places, stamps),) = bench.parts.model.asked
    assert (places, stamps) == ([1, 2, 3], [now + 86400.0] * 3)
    assert result == {
        "at": now, "venues": 3, "collected": 3, "failed": {}, "predicted": 3,
        "predictions": {1: 10.0, 2: 20.0, 3: 30.0}, "problem": None, "version": 1, "maintenance": None,
    }  # fmt: skip


async def test_the_same_from_a_loop(bench: Bench) -> None:
    """acollect_for_all_venues gives the same result without blocking the loop, with an async source too."""

    async def source(venue: int) -> float:
        await asyncio.sleep(0)
        return float(venue) * 10

    plain, asynchronous = bench.collector(lambda venue: float(venue) * 10), bench.collector(source)
    assert await plain.acollect_for_all_venues([1, 2]) == await asynchronous.acollect_for_all_venues([1, 2])


async def test_the_plain_call_on_a_loop_is_refused(bench: Bench) -> None:
    """collect_for_all_venues would block a running loop; it says what to call instead."""
    with pytest.raises(RuntimeError, match="await acollect_for_all_venues"):
        bench.collector(lambda venue: 1.0).collect_for_all_venues([1])


def test_failures_are_told_per_venue(bench: Bench) -> None:
    """A venue that raises, answers nonsense, exits, or is none is named; the others are collected."""

    def source(venue: Any) -> Any:
        match venue:
            case 1:
                raise ConnectionError("refused")
            case 2:
                return {"demand": 3}
            case 3:
                return "many"
            case 4:
                raise SystemExit(2)
            case 5:
                return None
        return 7.0

    result = bench.collector(source).collect_for_all_venues([1, 2, 3, 4, 5, 6, object(), True])
    assert result["collected"] == result["predicted"] == 1
    assert result["failed"][1] == "ConnectionError: refused"
    assert "no `actual`" in result["failed"][2]
    assert "'many' is no demand" in result["failed"][3]
    assert "SystemExit" in result["failed"][4]
    assert len(result["failed"]) == 6
    assert 5 not in result["failed"]
    assert result["venues"] == 8


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_venue_that_hangs_costs_its_timeout_and_is_not_asked_again_meanwhile(
    bench: Bench, asynchronous: bool
) -> None:
    """A hanging venue fails after the timeout, then at once until its call ends; the others are served each time."""
    release, calls = threading.Event(), []

    def blocking(venue: int) -> float:
        calls.append(venue)
        if venue == 1 and len(calls) < 3:
            release.wait(20.0)
        return 5.0

    async def stubborn(venue: int) -> float:
        calls.append(venue)
        while venue == 1 and not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return 5.0

    collector = bench.collector(stubborn if asynchronous else blocking, venue_timeout=0.1)
    first = await collector.acollect_for_all_venues([1, 2])
    assert first["failed"] == {1: "TimeoutError: no answer within 0.1 s"}
    began = time.monotonic()
    second = await collector.acollect_for_all_venues([1, 2])
    assert second["failed"] == {1: "TimeoutError: an earlier call has not come back yet"}
    assert second["collected"] == 1
    assert time.monotonic() - began < 0.1
    release.set()
    for _ in range(200):
        await asyncio.sleep(0.01)
        if not (await collector.acollect_for_all_venues([1, 2]))["failed"]:
            break
    else:
        pytest.fail("the venue was never asked again")


async def test_no_more_venues_are_asked_at_once_than_allowed(bench: Bench) -> None:
    """Concurrency is bounded for both kinds of sources."""
    running, most = 0, 0

    async def source(venue: int) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return 1.0

    await bench.collector(source, concurrency=5).acollect_for_all_venues(range(40))
    assert most == 5
    lock = threading.Lock()
    running = most = 0

    def blocking(venue: int) -> float:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return 1.0

    result = await bench.collector(blocking, concurrency=5).acollect_for_all_venues(range(40))
    assert result["collected"] == 40
    assert 1 < most <= 5


async def test_cancelling_a_collection_cancels_its_venues(bench: Bench) -> None:
    """When the host cancels a collection the calls under way are cancelled too, and the next collection works."""
    cancelled = 0

    async def source(venue: int) -> float:
        nonlocal cancelled
        if venue < 0:
            return 1.0
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return 1.0

    collector = bench.collector(source)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await collector.acollect_for_all_venues([1, 2, 3])
    assert cancelled == 3
    assert (await collector.acollect_for_all_venues([-1]))["collected"] == 1


def test_rows_that_come_along_win_over_the_builder(bench: Bench) -> None:
    """An observation with features is predicted at its own slot from them, before its actual is logged."""
    seen = [Observation(place_id=1, timestamp=10_000.0, actual=4.0, features={"a": 1.0, "b": 2.0})]
    result = bench.collector(lambda venue: seen).collect_for_all_venues([1])
    assert result["predictions"] == {1: 3.0}
    assert bench.parts.model.asked[0][1:] == ([1], [10_000.0])
    assert bench.parts.monitor.actuals == [(1, 10_000.0, 4.0)]


def test_one_wrong_row_costs_its_own_place_only(bench: Bench) -> None:
    """A time nobody can read and a feature row of another model are told of their venues; the others are predicted, all truth is logged."""

    def source(venue: int) -> Any:
        match venue:
            case 1:
                return {"actual": 1.0, "timestamp": "garbage"}
            case 2:
                return {"actual": 2.0, "features": {"a": "x", "b": 1.0}}
            case 3:
                return {"actual": 3.0, "features": {"a": 1.0, "b": 2.0}}
        return 4.0

    result = bench.collector(source).collect_for_all_venues([1, 2, 3, 4])
    assert result["predictions"] == {3: 3.0, 4: 4.0}
    assert sorted(result["failed"]) == [1, 2]
    assert "garbage" in result["failed"][1]
    assert result["problem"] is None
    assert [(place, actual) for place, _, actual in bench.parts.monitor.actuals] == [(2, 2.0), (3, 3.0), (4, 4.0)]


def test_a_builder_that_raises_costs_the_predictions_and_no_truth(bench: Bench) -> None:
    """Whatever somebody's own builder raises, the collection is made and says so."""

    class Broken:
        names = ("a",)

        def build(self, history: Any, keys: Any) -> Any:
            raise KeyError("weather")

    result = bench.collector(lambda venue: 5.0, features=Broken()).collect_for_all_venues([1])
    assert (result["collected"], result["predicted"]) == (1, 0)
    assert "weather" in result["problem"]
    assert len(bench.parts.monitor.actuals) == 1


def test_rows_that_come_along_are_logged_without_a_champion(bench: Bench) -> None:
    """The truth of an observation with features does not hang on there being a model."""
    bench.parts.model.missing = True
    seen = Observation(place_id=1, timestamp=10_000.0, actual=4.0, features={"a": 1.0})
    result = bench.collector(lambda venue: seen).collect_for_all_venues([1])
    assert bench.parts.monitor.actuals == [(1, 10_000.0, 4.0)]
    assert "demand-maint init" in result["problem"]


def test_without_a_champion_actuals_are_logged_all_the_same(bench: Bench) -> None:
    """Before the first model a collection still collects, and says why nothing was predicted."""
    bench.parts.model.missing = True
    result = bench.collector(lambda venue: 1.0).collect_for_all_venues([1, 2])
    assert len(bench.parts.monitor.actuals) == 2
    assert (result["collected"], result["predicted"], result["version"]) == (2, 0, None)
    assert "demand-maint init" in result["problem"]


def test_without_monitoring_nothing_is_logged(bench: Bench) -> None:
    """enable_monitoring=False predicts and logs no actual."""
    result = bench.collector(lambda venue: 1.0, enable_monitoring=False).collect_for_all_venues([1])
    assert result["predicted"] == 1
    assert bench.parts.monitor.actuals == []


def test_a_plain_builder_is_given_the_recent_truth(bench: Bench) -> None:
    """A builder without observe() builds from the monitor's truth each round."""

    class Plain:
        names = ("one",)

        def build(self, history: Any, keys: Any) -> Any:
            assert history.columns == ["place_id", "timestamp", "actual"]
            return keys.with_columns(one=2.5)

    assert bench.collector(lambda venue: 1.0, features=Plain()).collect_for_all_venues([1, 2])["predictions"] == {
        1: 2.5,
        2: 2.5,
    }


def test_a_check_runs_after_a_collection_once_the_interval_has_passed(bench: Bench) -> None:
    """With auto_maintain: at once where none was ever made, then every interval; in plain code the result is there."""
    collector = bench.collector(lambda venue: 1.0, auto_maintain=True, maintenance_check_interval_hours=6)
    assert collector.collect_for_all_venues([1])["maintenance"] == {"status": "no_action", "reason": "all is well"}
    assert collector.collect_for_all_venues([1])["maintenance"] is None
    bench.clock.advance(5.9 * HOUR)
    assert collector.collect_for_all_venues([1])["maintenance"] is None
    bench.clock.advance(0.1 * HOUR)
    refreshes = bench.parts.refreshes
    assert collector.collect_for_all_venues([1])["maintenance"]["status"] == "no_action"
    assert bench.parts.refreshes == refreshes + 2
    assert bench.parts.updates == [None, None]


async def test_an_async_collection_never_waits_for_a_check(bench: Bench) -> None:
    """The status is running while it runs, then the outcome once, then nothing."""
    gate = threading.Event()
    bench.parts.update = lambda force=None: gate.wait(10.0) and {"status": "deployed"}  # type: ignore[assignment,return-value] # a slow one
    collector = bench.collector(lambda venue: 1.0, auto_maintain=True)
    for _ in range(3):
        assert (await collector.acollect_for_all_venues([1]))["maintenance"] == {"status": "running"}
    gate.set()
    for _ in range(200):
        told = (await collector.acollect_for_all_venues([1]))["maintenance"]
        if told != {"status": "running"}:
            break
        await asyncio.sleep(0.005)
    assert told == {"status": "deployed"}
    assert (await collector.acollect_for_all_venues([1]))["maintenance"] is None


def test_maintenance_that_cannot_be_is_told_not_raised(bench: Bench) -> None:
    """Another maintainer: busy, with who. An error: failed, with why. Collections go on."""
    collector = bench.collector(lambda venue: 1.0, auto_maintain=True)
    bench.parts.free = False
    assert collector.collect_for_all_venues([1])["maintenance"]["status"] == "busy"
    bench.parts.free, bench.parts.answer = True, RuntimeError("disk on fire")
    told = collector.force_maintenance()
    assert told == {"status": "failed", "reason": "RuntimeError: disk on fire"}
    bench.parts.answer = {"status": "deployed"}
    assert collector.force_maintenance("fine-tune") == {"status": "deployed"}
    assert bench.parts.updates == [None, "fine-tune"]


async def test_attached_it_uses_the_runtime_and_makes_no_checks(bench: Bench) -> None:
    """Monitor, model and maintenance are the runtime's while attached, and its own again afterwards."""
    collector = bench.collector(lambda venue: 1.0, auto_maintain=True)
    await collector.acollect_for_all_venues([1])
    runtime = type("Runtime", (), {"serves": True, "maintenance": lambda self: {"status": "from the runtime"}})()
    runtime.monitor, runtime.model = type(bench.parts.monitor)(), type(bench.parts.model)()
    collector.maintenance_attached(runtime)
    bench.clock.advance(100 * HOUR)
    result = await collector.acollect_for_all_venues([2])
    assert result["maintenance"] == {"status": "from the runtime"}
    assert collector.monitor is runtime.monitor
    assert [actual[0] for actual in runtime.monitor.actuals] == [2]
    assert bench.parts.closed
    assert bench.parts.updates == [None]
    collector.maintenance_detached()
    assert collector.model is bench.parts.model


def test_a_closed_collector_says_so_and_a_forgotten_one_warns(bench: Bench) -> None:
    """After close() a collection is a ClosedError; dropping an open one is a ResourceWarning."""
    collector = bench.collector(lambda venue: 1.0)
    with collector:
        collector.collect_for_all_venues([1])
    assert bench.parts.closed
    with pytest.raises(ClosedError, match="Make a new one"):
        collector.collect_for_all_venues([1])
    forgotten = bench.collector(lambda venue: 1.0)
    forgotten.collect_for_all_venues([1])
    with pytest.warns(ResourceWarning, match="never closed"):
        forgotten.__del__()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collector.__del__()


def test_without_a_source_it_says_what_to_set(bench: Bench) -> None:
    """No source given and none configured: ConfigError with both remedies."""
    with pytest.raises(ConfigError, match=r"Pass source=\.\.\., or set `source`"):
        bench.collector(None).collect_for_all_venues([1])


def test_no_thread_is_left_after_close(bench: Bench) -> None:
    """The threads of a collector end with it."""
    collector = bench.collector(lambda venue: 1.0, auto_maintain=True)
    collector.collect_for_all_venues(range(20))
    collector.close()
    deadline = time.monotonic() + 3.0
    while any(thread.name.startswith("demand-maint") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
