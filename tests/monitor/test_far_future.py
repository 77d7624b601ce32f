"""What one wrong stamp costs."""

from pathlib import Path

import numpy as np

from demand_maint.config import Config
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400.0
HOUR, DAY, DAYS = 3600.0, 86400.0, 70


def test_one_stamp_in_the_far_future_costs_nothing_but_itself(tmp_path: Path) -> None:
    """A forecast and a truth of the year 2096 hide no other row from the figures, and what is known ends where it did."""
    clock = VirtualClock(START)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        for day in range(DAYS):
            clock.set(START + (day + 1) * DAY)
            stamps = START + day * DAY + HOUR * np.arange(24)
            columns = {"place_id": ["a"] * 24, "timestamp": stamps, "predicted": [1.0] * 24, "actual": [2.0] * 24}
            monitor.log_many(columns)
            if day == 30:
                monitor.log_prediction("a", 4.0e9, 1.0)
                monitor.log_actual("a", 4.0e9, 1.0)
            monitor.drain()
        assert monitor._store.buffer.floor > START
        edges = np.arange(DAYS + 1) * 24 + int(START // HOUR)
        assert monitor.sums.blocks(edges)["n"].tolist() == [24.0] * DAYS
        assert monitor.get_model_health()["n"] == 167
        assert monitor.newest == START + DAYS * DAY - HOUR
