"""A model's own errors: what of them is judged, and that it is found from hours and kept when they are merged into days."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.core.difficulty import daily_series
from demand_maint.core.feed import FeedState
from demand_maint.core.live_metrics import LiveMetrics
from demand_maint.core.ordinary import reach
from demand_maint.core.own_errors import own_errors
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid

HOUR, DAY = 3600, 86400
ZONE = "America/New_York"
#: 1 February 2024 in New York: the clocks change on day 38.
FEBRUARY = 1_706_763_600
BEGUN = reach(1)


def drawn(seed: int, places: int = 4, days: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, summed errors, demand and ordinary forecast; two thirds of the model's error are the ordinary one."""
    rng = np.random.default_rng(seed)
    actual = rng.uniform(10, 50, (places, days, 24))
    ordinary = rng.normal(0, 5, actual.shape)
    return np.ones_like(actual), 0.67 * ordinary + rng.normal(0, 2, actual.shape), actual, actual + ordinary


@given(factor=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_errors_larger_by_a_factor_are_own_errors_larger_by_that_factor(factor: float, seed: int) -> None:
    """What the test measures must grow with the errors, however much of them is shared."""
    rows, error, actual, forecast = drawn(seed, days=3)
    before, after = (own_errors(rows, size * error, actual, forecast) for size in (1.0, factor))
    assert after[1] == pytest.approx(factor * before[1])
    assert (after[[0, 2]] == before[[0, 2]]).all()


def test_what_everybody_misses_counts_for_less() -> None:
    """Errors shared with the ordinary forecast must leave a smaller own error than errors of the same size that are not."""
    rows, error, actual, forecast = drawn(1)
    other = drawn(2)[1]
    shared, alone = (own_errors(rows, e, actual, forecast)[1].sum() for e in (error, other * error.std() / other.std()))
    assert shared < 0.8 * alone


@pytest.mark.parametrize("change", ["late", "noisy"])
def test_a_fault_of_the_model_shows_more_than_in_its_whole_error(change: str) -> None:
    """What the model alone gets wrong must raise own errors by more than it raises errors."""
    rows, error, actual, forecast = drawn(3)
    predicted = actual + error
    worse = {
        "late": 0.7 * predicted + 0.3 * np.roll(predicted, 1, axis=2),
        "noisy": predicted + np.random.default_rng(4).normal(0, 3, error.shape),
    }[change]
    own = [own_errors(rows, e, actual, forecast)[1].sum() for e in (error, worse - actual)]
    assert own[1] / own[0] > np.abs(worse - actual).sum() / np.abs(error).sum()


def test_one_place_gone_wrong_does_not_speak_for_the_others() -> None:
    """A place whose errors are a thousand times larger must leave what the others' come to about as it was."""
    rows, error, actual, forecast = drawn(5, places=9)
    before = own_errors(rows, error, actual, forecast)
    error[3] *= 1000
    after = own_errors(rows, error, actual, forecast)
    others = np.arange(9) != 3
    assert after[1][others].sum(axis=0) == pytest.approx(before[1][others].sum(axis=0), rel=0.1)


def test_hours_without_truth_or_forecast_are_not_compared() -> None:
    """Rows of unknown hours must not count, and nothing must become infinite where demand is zero."""
    rows, error, actual, forecast = drawn(6, days=2)
    rows[0, 0, :6] = 0.0
    actual[1, 0, 3] = forecast[1, 1, 4] = np.nan
    actual[2], forecast[2] = 0.0, 0.0
    figures = own_errors(rows, error, actual, forecast)
    assert np.isfinite(figures).all()
    assert figures[0].tolist() == [[18, 24], [23, 23], [24, 24], [24, 24]]


def hours_of(days: int, places: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, slots and actuals of every hour of `days` local days, in order of time."""
    grid = TimeGrid(ZONE, HOUR)
    end = int(grid.day_start(grid.day(np.array([FEBRUARY])) + days)[0])
    slot = np.repeat(np.arange(FEBRUARY, end, HOUR), places)
    place = np.tile(np.arange(places, dtype=np.uint32), len(slot) // places)
    shape = 20 + 15 * np.sin(grid.local(slot) % DAY / DAY * 2 * np.pi)
    return place, slot, shape * np.exp(np.random.default_rng(seed).normal(0, 0.2, len(slot)))


def lived(days: int, merge: list[int], horizon: int = DAY) -> LiveMetrics:
    """A monitor's sums of that demand, with hours of days before each of `merge` merged 34 days later; two versions."""
    metrics = LiveMetrics(TimeGrid(ZONE, HOUR), 7 * DAY, horizon)
    place, slot, actual = hours_of(days)
    day = metrics.grid.day(slot) - metrics.grid.day(np.array([FEBRUARY]))
    predicted = actual + np.random.default_rng(1).normal(0, 3, len(actual))
    version = np.where(slot < FEBRUARY + 50.5 * DAY, 1, 2).astype(np.uint16)
    begin = 0
    for before in [*merge, days]:
        end = min(before + 34, days)
        now = np.flatnonzero((day >= begin) & (day < end))
        if len(now):
            nothing = np.empty((len(now), 0), dtype=np.float32), np.zeros(len(now), dtype=np.uint32)
            metrics.feed.add(place[now], slot[now], actual[now], np.zeros(len(now), dtype=bool))
            metrics.sums.add(
                MaturedBatch(
                    place[now], slot[now], version[now], predicted[now], predicted[now], actual[now], actual[now] + 4.0,
                    *nothing, slot[now].astype(np.float64),
                )
            )  # fmt: skip
        begin = end
        if before < days:
            metrics.compact(float(metrics.grid.day_start(metrics.grid.day(np.array([FEBRUARY])) + before)[0]))
    return metrics


def found(metrics: LiveMetrics, days: int, champion: int | None = None, lag: int = 1) -> dict[str, np.ndarray]:
    """Figures of all days."""
    numbers = metrics.grid.day(np.array([FEBRUARY])) + np.arange(days + 1)
    edges = metrics.grid.day_start(numbers) // HOUR
    return metrics.sums.own_by_place(metrics.feed, edges, metrics.grid, lag, champion, 55 if champion else 0)


def test_figures_survive_the_merging_of_hours() -> None:
    """What was found before hours were merged into days must equal what they would say now, over a change of the clocks too."""
    days = 90
    for champion in (None, 1, 2):
        whole = found(lived(days, []), days, champion)
        daily = found(lived(days, list(range(1, days - 34))), days, champion)
        for name in ("n", "own", "ordinary"):
            assert whole[name][:, BEGUN:].any()
            assert (daily[name] == whole[name]).all()


def test_from_its_first_day_on_the_champions_rows_count() -> None:
    """Before that day everybody's rows must be judged, from there on those of the champion only."""
    metrics = lived(90, [])
    everyone, second = found(metrics, 90), found(metrics, 90, 2)
    assert all((everyone[name] == second[name]).all() for name in everyone)
    first = found(metrics, 90, 1)
    assert all((first[name][:, :55] == everyone[name][:, :55]).all() for name in first)
    assert not first["n"][:, 55:].any()


@settings(max_examples=10)
@given(st.lists(st.integers(1, 55), min_size=1, max_size=6, unique=True).map(sorted))
def test_it_does_not_matter_when_hours_are_merged(merge: list[int]) -> None:
    """Merged day by day or weeks at once, the figures must be the same to the last bit."""
    days = 90
    some, all_ = found(lived(days, merge), days), found(lived(days, list(range(1, 56))), days)
    assert all((some[name] == all_[name]).all() for name in some)


def test_a_week_ahead_hours_are_kept_longer() -> None:
    """Where forecasts look back further than a day ahead, no day may lose its figures to the merging of hours."""
    days = 95
    whole = found(lived(days, [], 7 * DAY), days, lag=7)
    daily = found(lived(days, list(range(1, days - 34)), 7 * DAY), days, lag=7)
    assert (whole["n"][:, reach(7) :] > 0).all()
    assert all((daily[name] == whole[name]).all() for name in whole)


def test_they_are_saved_with_the_sums() -> None:
    """What was loaded must say what was saved, and go on from there."""
    metrics = lived(80, list(range(1, 46)))
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
    metrics = lived(90, list(range(1, 56)))
    hour = int(metrics.grid.day_start(metrics.grid.day(np.array([FEBRUARY])) + 60)[0]) // HOUR
    metrics.sums.drop_before(hour)
    metrics.feed.drop_before(hour)
    figures = found(metrics, 90)
    assert (figures["n"][:, :60] == 0).all()
    assert (figures["n"][:, 60:] > 0).any()


class Trio:
    """The view of a monitor that has some rows."""

    def __init__(self, metrics: LiveMetrics) -> None:
        self.places: list[int | str] = [0, 1, 2]
        self.grid, self.sums, self.feed, self.newest = metrics.grid, metrics.sums, metrics.feed, metrics.newest


def test_a_faulty_feed_has_no_say() -> None:
    """A place whose truth is excluded on a day must leave that day's figure to the others."""
    days = 60
    metrics = lived(days, [])
    numbers = metrics.grid.day(np.array([FEBRUARY])) + np.arange(days + 1)
    edges = metrics.grid.day_start(numbers) // HOUR
    place, slot, actual = hours_of(days)
    bad = np.flatnonzero((place == 1) & (slot >= edges[50] * HOUR) & (slot < edges[51] * HOUR))

    def figures(feed: FeedState) -> np.ndarray:
        return daily_series(Trio(metrics), edges, None, 0, feed, adjusted=True).values

    fault = FeedState(excluded=((1, int(edges[50]), int(edges[51])),))
    calm = figures(fault)
    metrics.feed.restate(place[bad], slot[bad], actual[bad], 1000 * actual[bad])
    assert figures(FeedState())[50] != pytest.approx(calm[50], abs=0.1)
    assert figures(fault)[50] == pytest.approx(calm[50], abs=0.3)
