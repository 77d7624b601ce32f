"""Truth that is out of the ordinary is doubted from its first hour on, ordinary truth is not, and doubt ends by itself."""

import numpy as np
import pytest

from demand_maint.core.doubt import PATIENCE, UsualHours, doubts
from demand_maint.core.feed import FeedFault, FeedState, feed_state
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.lineup import LineUp
from demand_maint.core.metrics import HourlySums
from demand_maint.core.observations import RowBuffer
from demand_maint.core.timegrid import TimeGrid

HOUR = 3600
BEGIN = 1_700_006_400 // 86400 * 24  # hours
DAYS = 30
NOW = BEGIN + DAYS * 24 + 14
PLACES = ("odd", "even")


class View:
    """Two places with a daily shape, known until `NOW`, the newest hours of the first one changed by a function."""

    def __init__(self, hours: int, change: object) -> None:
        self.places, self.grid = PLACES, TimeGrid("UTC", HOUR)
        self.sums, self.feed, self.newest = HourlySums(), FeedSums(), float((NOW - 1) * HOUR)
        slot = np.arange(BEGIN, NOW, dtype=np.int64) * HOUR
        rng = np.random.default_rng(1)
        for place in range(2):
            actual = (50 + 30 * np.sin(np.arange(len(slot)) / 24 * 2 * np.pi)) * np.exp(rng.normal(0, 0.2, len(slot)))
            if place == 0 and hours:
                actual[-hours:] = change(actual[-hours:])  # type: ignore[operator]
            codes = np.full(len(slot), place, dtype=np.uint32)
            self.feed.count("expected", codes, slot)
            self.feed.add(codes, slot, actual, np.zeros(len(slot), dtype=bool))


def seen(hours: int, change: object, state: FeedState | None = None) -> tuple[dict[int, int], dict[int, int]]:
    """Hours ago since which places are in fault, and since which they are doubted."""
    view = View(hours, change)
    usual = UsualHours(view, NOW - 48, NOW + 12, np.array([50.0, 50.0]))
    found = doubts(view, usual, state or FeedState(), NOW, codes={"odd": 0, "even": 1})
    return tuple({code: NOW - at // HOUR for code, at in part.items()} for part in (found.faults, found.since))  # type: ignore[return-value]


@pytest.mark.parametrize("factor", [0.0, 0.1, 10.0, 1000.0, -1.0])
def test_what_is_out_of_the_ordinary_is_doubted_from_its_first_hour(factor: float) -> None:
    """One hour is enough, and some hours later it is still the first one that counts."""
    assert seen(1, lambda values: values * factor) == ({}, {0: 1})
    assert seen(5, lambda values: values * factor) == ({}, {0: 5})


def test_ordinary_truth_is_not_doubted() -> None:
    """Noise is no sign, nor is demand that is half or twice of what it was."""
    assert seen(0, None) == ({}, {})
    for factor in (0.5, 2.0):
        assert seen(6, lambda values, factor=factor: values * factor) == ({}, {})


def test_one_value_twice_is_doubted_from_the_first_on() -> None:
    """A plausible value says nothing, the same one in the next hour does."""
    assert seen(1, lambda values: np.full_like(values, 60.0)) == ({}, {})
    assert seen(2, lambda values: np.full_like(values, 60.0)) == ({}, {0: 2})


def test_doubt_ends_with_ordinary_hours_and_with_patience() -> None:
    """Two ordinary hours end it; so does a change that no fault was recognised in for hours: that is demand."""
    assert seen(2, lambda values: values * np.array([10.0, 1.0])) == ({}, {0: 2})
    assert seen(3, lambda values: values * np.array([10.0, 1.0, 1.0])) == ({}, {})
    assert seen(PATIENCE, lambda values: values * 8.0) == ({}, {0: PATIENCE})
    assert seen(PATIENCE + 1, lambda values: values * 8.0) == ({}, {})


def test_a_fault_began_with_the_first_odd_hour() -> None:
    """A fault that is told to the day is placed to the hour, and a place in fault is not doubted besides."""
    fault = FeedFault(place="odd", kind="unit", since=float((NOW - 24) * HOUR))
    assert seen(3, lambda values: values * 10.0, FeedState(faults=(fault,))) == ({0: 3}, {})


def test_days_in_fault_are_told_one_by_one() -> None:
    """Of two days in fault a line-up left out hours of the first, while nobody looked at the second: that one is left out too."""
    view = View(62, lambda values: np.append(values[:48] * 10.0, values[48:]))
    usual = UsualHours(view, NOW - 48, NOW + 12, np.array([50.0, 50.0]))
    state = feed_state(view, float(NOW * HOUR))
    doubt = doubts(view, usual, state, NOW, codes={"odd": 0, "even": 1})
    first, second = ((NOW - 62 + 24 * day) * HOUR for day in range(2))
    assert doubt.past == ((0, first, second), (0, second, second + 24 * HOUR))
    line_up = LineUp(view.grid)
    line_up._state.left_out.close(0, first, first + 5 * HOUR)
    line_up.suspend(doubt, RowBuffer(view.grid, 7 * 86400, 86400).rows)
    assert line_up.left_out == {0: ((first, first + 5 * HOUR), (second, second + 24 * HOUR))}
