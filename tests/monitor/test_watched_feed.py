"""What the monitor leaves out of weights and levels while a feed is broken."""

from pathlib import Path

import numpy as np

from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint.config import Config, PolicyConfig
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400.0
HOUR, HOURS = 3600.0, 30 * 24 + 14
PLACES = ("odd", "even")


def test_a_feed_that_is_not_to_be_watched_any_more_suspends_nobody(tmp_path: Path) -> None:
    """A place that was suspended when its root was closed is free once the guard is switched off, and its truth counts."""
    clock = VirtualClock(START + HOURS * HOUR)
    slots = START + HOUR * np.arange(HOURS)
    rng = np.random.default_rng(0)
    with ModelMonitor(tmp_path, Config(), clock, background=False) as monitor:
        for place in PLACES:
            actual = rng.gamma(20.0, 5.0, HOURS)
            if place == "odd":
                actual[-10:] *= 1000.0
            columns = {"place_id": [place] * HOURS, "timestamp": slots, "predicted": actual + 1.0, "actual": actual}
            monitor.log_many(columns)
        monitor.drain()
        monitor.watch_feed(always=True)
        code = monitor.places.index("odd")
        assert list(monitor.line_up.suspended) == [code]
        assert monitor.line_up._state.left_out.since.keys() == {code}
    unwatched = Config(policy=PolicyConfig(feed_fault_guard=False))
    with ModelMonitor(tmp_path, unwatched, clock, background=False) as monitor:
        monitor.drain()
        assert list(monitor.line_up.suspended) == [code]
        monitor.watch_feed(always=True)
        assert list(monitor.line_up.suspended) == []
        assert monitor.line_up._state.left_out.since == {}


def test_who_follows_forecasts_nothing_from_a_broken_feed_either(tmp_path: Path) -> None:
    """A process that does not look at the feed itself takes from the maintainer's snapshot which truth forecasts nothing."""
    clock, slots, new = (
        VirtualClock(START + (HOURS - 20) * HOUR),
        START + HOUR * np.arange(HOURS),
        slice(HOURS - 20, None),
    )
    rng = np.random.default_rng(0)
    truth = {place: rng.gamma(20.0, 5.0, HOURS) for place in PLACES}
    truth["odd"][-10:] *= 1000.0

    def log(monitor: ModelMonitor, rows: slice) -> None:
        for place, actual in truth.items():
            ids = [place] * len(slots[rows])
            monitor.log_many(
                {"place_id": ids, "timestamp": slots[rows], "predicted": actual[rows], "actual": actual[rows]}
            )
        monitor.drain()

    held = MaintainerLock(Door(tmp_path), who="leader", clock=clock)
    held.acquire()
    leader = ModelMonitor(tmp_path, Config(), clock, lock=held, background=False)
    log(leader, slice(0, HOURS - 20))
    leader.save()
    waiting = MaintainerLock(Door(tmp_path), who="follower", clock=clock)
    with leader, ModelMonitor(tmp_path, Config(), clock, lock=waiting, background=False) as follower:
        follower.warm()
        clock.set(START + HOURS * HOUR)
        log(leader, new)
        leader.watch_feed(always=True)
        leader.line_up.seat([1], {}, at=clock.now(), places=leader.places)
        snapshot = leader.line_up.snapshot(clock.now(), leader.places)
        assert snapshot is not None
        follower.drain()
        follower.heed(snapshot)
        asked = (slots[new] + 7 * 24 * HOUR).astype(np.int64)
        for place in PLACES:
            assert follower.naive([place] * 20, asked).tolist() == leader.naive([place] * 20, asked).tolist()
        assert follower.naive(["odd"] * 20, asked).max() < 1000.0
    held.release()
