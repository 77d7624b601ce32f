"""Slots of wall-clock time against the standard library's zone arithmetic."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.timegrid import TimeGrid

ZONES = ("UTC", "Europe/London", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca")
epochs = st.integers(min_value=946_684_800, max_value=2_208_988_800)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wall_clock(zone: str, epoch: int) -> int:
    """Wall-clock seconds by the standard library."""
    moment = (EPOCH + timedelta(seconds=epoch)).astimezone(ZoneInfo(zone))
    return int(moment.replace(tzinfo=UTC).timestamp())


@given(st.sampled_from(ZONES), st.lists(epochs, min_size=1, max_size=20))
def test_local_time_is_the_zones(zone: str, moments: list[int]) -> None:
    """The wall clock reads what zoneinfo says, for many moments at once."""
    grid = TimeGrid(zone, 3600)
    assert grid.local(moments).tolist() == [wall_clock(zone, moment) for moment in moments]


@given(st.sampled_from(ZONES), epochs)
def test_local_and_back_takes_the_first_of_a_repeated_hour(zone: str, moment: int) -> None:
    """Going to the wall clock and back lands where zoneinfo with fold=0 lands."""
    grid = TimeGrid(zone, 3600)
    wall = wall_clock(zone, moment)
    naive = datetime(1970, 1, 1) + timedelta(seconds=wall)  # noqa: DTZ001 - a wall clock has no zone
    expected = int(naive.replace(tzinfo=ZoneInfo(zone), fold=0).timestamp())
    assert grid.epoch([wall]).tolist() == [expected]


@given(st.sampled_from(ZONES), st.lists(st.lists(epochs, min_size=1, max_size=3), min_size=2, max_size=12))
def test_what_was_asked_before_changes_no_answer(zone: str, asked: list[list[int]]) -> None:
    """A grid that has been asked about other times says what one says that is asked for the first time."""
    grid = TimeGrid(zone, 86400)
    for moments in asked:
        fresh = TimeGrid(zone, 86400)
        assert grid.day_of(moments[0]) == fresh.day_of(moments[0])
        assert grid.floor(moments).tolist() == fresh.floor(moments).tolist()
        assert grid.day_start(grid.day(moments)).tolist() == fresh.day_start(fresh.day(moments)).tolist()


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("step", [60, 900, 1800, 3600, 86400])
@given(moment=epochs)
def test_floor_is_a_slot_start_at_or_before(zone: str, step: int, moment: int) -> None:
    """A floored stamp is on the step by the wall clock, not after the stamp, and flooring again changes nothing."""
    grid = TimeGrid(zone, step)
    slot = int(grid.floor([moment])[0])
    assert slot <= moment
    assert int(grid.floor([slot])[0]) == slot
    if step <= 1800:
        assert wall_clock(zone, slot) % step == 0


def test_a_week_before_keeps_the_wall_clock_across_daylight_saving() -> None:
    """The slot one week before 18:00 is 18:00, also when the clocks changed in between."""
    zone = ZoneInfo("Europe/London")
    grid = TimeGrid("Europe/London", 3600)
    after = int(datetime(2024, 4, 2, 18, tzinfo=zone).timestamp())
    before = int(datetime(2024, 3, 26, 18, tzinfo=zone).timestamp())
    assert grid.shift([after], -7 * 86400).tolist() == [before]
    assert after - before == 7 * 86400 - 3600


def test_stamps_off_the_half_hour_meet_their_slot() -> None:
    """08:25:42 belongs to the half hour that began at 08:00."""
    grid = TimeGrid("UTC", 1800)
    at = datetime(2016, 10, 4, 8, 25, 42, tzinfo=UTC).timestamp()
    assert grid.floor([at]).tolist() == [int(datetime(2016, 10, 4, 8, tzinfo=UTC).timestamp())]


def test_days_begin_at_local_midnight() -> None:
    """A local day starts at its own midnight and has 23 hours when the clocks go forward."""
    grid = TimeGrid("Europe/London", 86400)
    first = int(datetime(2024, 3, 31, 12, tzinfo=UTC).timestamp())
    day = grid.day([first])
    start, end = grid.day_start([day[0], day[0] + 1]).tolist()
    assert end - start == 23 * 3600


def test_empty_arrays_stay_empty() -> None:
    """No stamps give no slots."""
    assert TimeGrid("Europe/London", 3600).floor(np.array([])).tolist() == []
