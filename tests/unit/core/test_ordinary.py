"""What an ordinary forecast would have missed by: found from the hours, kept when they are merged into days."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.core.feed import FeedState
from demand_maint.core.fresh import TOLD
from demand_maint.core.live_metrics import LiveMetrics
from demand_maint.core.ordinary import REACH, ordinary_errors
from demand_maint.core.surprise import surprises
from demand_maint.core.timegrid import TimeGrid
from tests.unit.core.test_health import START, Town

HOUR, DAY = 3600, 86400
ZONE = "America/New_York"
#: 1 February 2024 in New York: the clocks change on day 38.
FEBRUARY = 1_706_763_600


def hours_of(days: int, places: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, slots and actuals of every hour of `days` local days, in order of time."""
    grid = TimeGrid(ZONE, HOUR)
    end = int(grid.day_start(grid.day(np.array([FEBRUARY])) + days)[0])
    slot = np.repeat(np.arange(FEBRUARY, end, HOUR), places)
    place = np.tile(np.arange(places, dtype=np.uint32), len(slot) // places)
    shape = 20 + 15 * np.sin(grid.local(slot) % DAY / DAY * 2 * np.pi)
    return place, slot, shape * np.exp(np.random.default_rng(seed).normal(0, 0.2, len(slot)))


def fed(days: int, merge: list[int]) -> LiveMetrics:
    """A monitor's sums of that demand, with hours of days before each of `merge` merged 34 days later."""
    metrics = LiveMetrics(TimeGrid(ZONE, HOUR), 7 * DAY, DAY)
    place, slot, actual = hours_of(days)
    day = metrics.grid.day(slot) - metrics.grid.day(np.array([FEBRUARY]))
    begin = 0
    for before in [*merge, days]:
        end = min(before + 34, days)
        now = (day >= begin) & (day < end)
        metrics.feed.add(place[now], slot[now], actual[now], np.zeros(now.sum(), dtype=bool))
        begin = end
        if before < days:
            metrics.compact(float(metrics.grid.day_start(metrics.grid.day(np.array([FEBRUARY])) + before)[0]))
    return metrics


def found(metrics: LiveMetrics, days: int) -> dict[str, np.ndarray]:
    """Figures of all days."""
    numbers = metrics.grid.day(np.array([FEBRUARY])) + np.arange(days + 1)
    return metrics.feed.ordinary_by_place(metrics.grid.day_start(numbers) // HOUR, metrics.grid)


def test_demand_that_repeats_itself_is_foreseen() -> None:
    """However much hours and weekdays differ, weeks like the weeks before must leave an ordinary forecast without error."""
    week = np.random.default_rng(3).uniform(1, 50, (2, 7, 24))
    count, error = ordinary_errors(np.ones((2, 42, 24)), np.tile(week, (1, 6, 1)))
    assert count.tolist() == [[24.0] * (42 - REACH)] * 2
    assert error == pytest.approx(0.0, abs=1e-9)


def test_half_of_what_the_last_day_lay_off_is_carried_over() -> None:
    """Where demand rises fourfold for good, the first day must be missed in full and the third by half as a power."""
    demand = np.full((1, REACH + 3, 24), 10.0)
    demand[:, REACH:] = 20.0
    _, error = ordinary_errors(np.ones_like(demand), demand)
    hours = 1 + 23 * (1 - TOLD)
    assert error[0, 0] == pytest.approx(hours * 10.0)
    assert error[0, 2] == pytest.approx(hours * (20.0 - 10.0 * 2**0.5))


def test_less_than_three_weeks_tell_nothing() -> None:
    """An hour that is known of two of the last four weeks only must not be compared."""
    rows = np.ones((1, REACH + 1, 24))
    rows[0, [REACH - 7, REACH - 14], 5] = 0.0
    count, _ = ordinary_errors(rows, 10 * rows)
    assert count[0, 0] == 23


def test_figures_survive_the_merging_of_hours() -> None:
    """What was found before hours were merged into days must equal what they would say now, over a change of the clocks too."""
    days = 90
    whole = found(fed(days, []), days)
    daily = found(fed(days, list(range(1, days - 34))), days)
    begun = REACH
    for name in ("n", "error"):
        assert (whole[name][:, begun:] > 0).all()
        assert daily[name][:, begun:] == pytest.approx(whole[name][:, begun:], rel=1e-12)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 55), min_size=1, max_size=6, unique=True).map(sorted))
def test_it_does_not_matter_when_hours_are_merged(merge: list[int]) -> None:
    """Merged day by day or weeks at once, the figures must be the same to the last bit."""
    days = 90
    some, all_ = found(fed(days, merge), days), found(fed(days, list(range(1, 56))), days)
    for name in ("n", "error"):
        assert (some[name][:, REACH:] == all_[name][:, REACH:]).all()


def test_they_are_saved_with_the_sums() -> None:
    """What was loaded must say what was saved, and go on from there."""
    metrics = fed(80, list(range(1, 46)))
    facts, arrays = metrics.state()
    again = LiveMetrics(TimeGrid(ZONE, HOUR), 7 * DAY, DAY)
    again.load(facts, {name: array.copy() for name, array in arrays.items()})
    before, after = found(metrics, 80), found(again, 80)
    assert all((before[name] == after[name]).all() for name in before)
    later = float(metrics.grid.day_start(metrics.grid.day(np.array([FEBRUARY])) + 50)[0])
    metrics.compact(later)
    again.compact(later)
    before, after = found(metrics, 80), found(again, 80)
    assert all((before[name] == after[name]).all() for name in before)


def test_forgetting_forgets_them_too() -> None:
    """Days before what is kept must have no figures."""
    metrics = fed(90, list(range(1, 56)))
    day = metrics.grid.day(np.array([FEBRUARY])) + 60
    metrics.feed.drop_before(int(metrics.grid.day_start(day)[0]) // HOUR)
    figures = found(metrics, 90)
    assert (figures["n"][:, :60] == 0).all()
    assert (figures["n"][:, 60:] > 0).any()


def test_a_faulty_feed_has_no_say() -> None:
    """A place whose truth is excluded on a day must not count in that day's ordinary error."""
    town = Town(3)
    town.live((0, 40), 1.0, 2.0)
    town.live((40, 41), 1.0, 2.0, only=(0, 2), level=21.0)
    town.live((40, 41), 1.0, 2.0, only=(1,), level=900.0)
    edges = np.arange(START // HOUR, START // HOUR + 24 * 42, 24)
    assert surprises(town, edges, FeedState())[1][40] > 100
    fault = FeedState(excluded=((1, int(edges[40]), int(edges[41])),))
    assert surprises(town, edges, fault)[1][40] == pytest.approx(1.0, abs=0.5)
