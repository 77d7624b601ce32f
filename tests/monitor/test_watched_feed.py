"""What the monitor leaves out of weights and levels while a feed is broken."""

from pathlib import Path

import numpy as np

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
