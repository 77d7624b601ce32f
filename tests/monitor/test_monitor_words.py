"""What the monitor says to who calls it wrongly, logs what is no record, or has too few rows."""

from pathlib import Path
from typing import Any

import pytest

from demand_maint.config import Config
from demand_maint.errors import InsufficientDataError
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 3600 * 3600.0


@pytest.fixture
def clock() -> VirtualClock:
    """A day after the first slot."""
    return VirtualClock(START + 86400.0)


def test_a_refused_record_is_told_once_and_where_health_is_asked_for(
    tmp_path: Path, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who logs 31.01.2025 all day finds a line in the log, and the reason beside the missing health."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        for _ in range(3):
            monitor.log_prediction_vs_actual(1, "31.01.2025", 1.0, 2.0)
        reason = monitor.get_model_health()["reason"]
    assert "3 records were refused" in reason
    assert "31.01.2025" in reason
    assert ["31.01.2025" in line for line in caplog.messages if line.startswith("record_refused")] == [True]


def test_the_three_calls_are_what_help_says_they_are(tmp_path: Path, clock: VirtualClock) -> None:
    """Their names, their words, and the error of a call with too few arguments are those of the monitor."""
    for strict in (False, True):
        with ModelMonitor(tmp_path, Config(), clock, strict=strict) as monitor:
            assert "naive ones are in the configured zone" in (monitor.log_prediction_vs_actual.__doc__ or "")
            assert "feature row" in (monitor.log_prediction.__doc__ or "")
            wrong: Any = monitor.log_actual
            with pytest.raises(TypeError, match=r"ModelMonitor\.log_actual\(\) missing 1 required"):
                wrong(1, START)


def test_a_window_that_is_none_is_refused(tmp_path: Path, clock: VirtualClock) -> None:
    """Zero, negative and undefined days are no window."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        for days in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="above zero"):
                monitor.get_model_health(days)


def test_truth_from_the_future_is_a_matter_of_clocks(tmp_path: Path, clock: VirtualClock) -> None:
    """Stamps hours ahead, as of a wrong zone, are called that and not minus so many minutes old."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        monitor.log_prediction_vs_actual(1, clock.now() + 5 * 3600.0, 1.0, 2.0)
        assert "hours ahead: check the clock, and `zone`" in monitor.get_model_health()["reason"]


def test_rows_left_out_for_a_broken_feed_are_told_where_too_few_are_left(tmp_path: Path) -> None:
    """A feed that stands still leaves rows enough in the log and none to train on; the error says why."""
    clock = VirtualClock(START + 30 * 86400.0)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        for hour in range(21 * 24):
            known = 50.0 + hour % 24 if hour < 15 * 24 else 77.0
            monitor.log_prediction_vs_actual("a", clock.now() - (21 * 24 - hour) * 3600.0, 60.0, known)
        monitor.drain()
        with pytest.raises(InsufficientDataError, match=r"\d+ more were left out, since the truth looked wrong there"):
            monitor.get_training_data(days=5, min_samples=100)
