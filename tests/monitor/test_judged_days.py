"""What whole days say is kept for the day, and never longer than it is true."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demand_maint.config import Config
from demand_maint.core import health
from demand_maint.core.drift import run_test
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_006_400.0  # a midnight, UTC
HOUR, DAY, DAYS = 3600.0, 86400.0, 40


def lived(root: Path, clock: VirtualClock) -> ModelMonitor:
    """A monitor with forty days of three places, of which the last evening's truth has yet to come."""
    monitor = ModelMonitor(root, Config(), clock)
    rng = np.random.default_rng(3)
    places = ["a", "b", "c"]
    for hour in range(24 * DAYS):
        for place in places:
            stamp, truth = START + HOUR * hour, 50.0 + 20.0 * (hour % 24) + float(rng.normal(0, 5))
            monitor.log_prediction(place, stamp, truth + float(rng.normal(0, 8)))
            if hour < 24 * DAYS - 6:
                monitor.log_actual(place, stamp, truth)
    clock.set(START + DAY * DAYS + 300)
    return monitor


def test_late_truth_of_a_judged_day_is_judged_in_the_same_hour(tmp_path: Path) -> None:
    """A report after late truth is the one that a process gives which sees everything for the first time."""
    clock = VirtualClock(START)
    with lived(tmp_path, clock) as monitor:
        before = monitor.report(details=True)
        for hour in range(24 * DAYS - 6, 24 * DAYS):
            monitor.log_actual("b", START + HOUR * hour, 900.0)
        after = monitor.report(details=True)
        assert after.drift != before.drift
        with ModelMonitor(tmp_path, Config(), clock) as other:
            fresh = other.report(details=True)
            assert (after.drift, after.places, after.feed_faults) == (fresh.drift, fresh.places, fresh.feed_faults)


def test_truth_of_today_leaves_the_judgement_of_whole_days_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sequential test runs once a day and once for each correction of a judged day, not at every check."""
    runs = 0
    original = run_test

    def counted(*arguments: Any) -> Any:
        nonlocal runs
        runs += 1
        return original(*arguments)

    monkeypatch.setattr(health, "run_test", counted)
    clock = VirtualClock(START)
    with lived(tmp_path, clock) as monitor:
        monitor.report(details=True)
        for hour in range(20):
            clock.set(START + DAY * DAYS + HOUR * (hour + 1))
            for place in ("a", "b", "c"):
                monitor.log_prediction_vs_actual(place, START + DAY * DAYS + HOUR * hour, 400.0, 410.0 + hour)
            monitor.report(details=True)
        assert runs == 1
        monitor.log_prediction_vs_actual("a", START + DAY * 20, 400.0, 410.0)
        monitor.report(details=True)
        assert runs == 2
        clock.set(START + DAY * (DAYS + 1) + 300)
        monitor.report(details=True)
        assert runs == 3


def test_what_changes_the_truth_of_past_days_is_looked_at_again(tmp_path: Path) -> None:
    """Truth that nobody predicted, values that are no numbers, repeats and a new place are seen by the next report."""
    clock = VirtualClock(START)
    night = START + DAY * (DAYS - 1)

    def agree(monitor: ModelMonitor) -> None:
        kept = monitor.report(details=True)
        with ModelMonitor(tmp_path, Config(), clock) as other:
            fresh = other.report(details=True)
        assert (kept.drift, kept.places, kept.feed_faults) == (fresh.drift, fresh.places, fresh.feed_faults)

    with lived(tmp_path, clock) as monitor:
        assert monitor.report(details=True).feed == {}
        for hour in range(24):
            monitor.log_actual("d", night - 7 * DAY + HOUR * hour, 50.0)
            monitor.log_actual("d", night + HOUR * hour, 50000.0)
        agree(monitor)
        for hour in range(24):
            monitor.log_prediction_vs_actual("a", night + HOUR * hour, 60.0, float("nan"))
        agree(monitor)
        assert monitor.report(details=True).feed
        for _ in range(3):
            for hour in range(18):
                monitor.log_actual("b", night + HOUR * hour, -3.0)
            agree(monitor)
        monitor.log_prediction_vs_actual("e", START + DAY * DAYS, 60.0, 61.0)
        agree(monitor)
