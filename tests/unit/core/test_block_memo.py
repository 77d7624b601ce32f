"""What is remembered of blocks of days is what adding them up again gives."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.live_metrics import LiveMetrics
from demand_maint.core.metrics import HourlySums
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid

DAY, HOUR = 86400, 3600
START = 1_700_006_400  # a UTC midnight
LOOKED_BACK = 50


def changes() -> st.SearchStrategy[list[dict[str, Any]]]:
    """What may happen to sums between two looks at them."""
    rows = st.fixed_dictionaries(
        {
            "what": st.sampled_from(["rows", "rows", "rows", "retracted"]),
            "back": st.one_of(st.integers(-1, 2), st.integers(-1, 55)),
            "places": st.integers(1, 4),
            "version": st.integers(1, 2),
            "seed": st.integers(0, 99),
        }
    )
    day = st.just({"what": "day"})
    gathered = st.fixed_dictionaries({"what": st.just("gathered"), "back": st.integers(20, 60)})
    dropped = st.fixed_dictionaries({"what": st.just("dropped"), "back": st.integers(30, 60)})
    return st.lists(st.one_of(rows, rows, day, gathered, dropped), min_size=1, max_size=10)


def put(metrics: LiveMetrics, day: int, places: int, version: int, seed: int, *, back: bool = False) -> None:
    """Add a day of hourly rows of each place to the sums, or take such rows back."""
    rng = np.random.default_rng(seed)
    hours, size = np.repeat(np.arange(24), places), 24 * places
    place, slot = np.tile(np.arange(places, dtype=np.uint32), 24), START + day * DAY + hours * HOUR
    actual = 20.0 + rng.uniform(0, 5, size)
    versions = np.full(size, version, dtype=np.uint16)
    nothing = np.empty((size, 0), dtype=np.float32), np.zeros(size, dtype=np.uint32), slot.astype(np.float64)
    batch = MaturedBatch(
        place, slot, versions, actual + 1, actual + 1, actual, actual + rng.normal(0, 4, size), *nothing
    )
    if back:
        metrics.sums.retract(batch)
        return
    metrics.sums.count_predictions(place, slot, versions)
    metrics.sums.add(batch)
    metrics.feed.add(place, slot, actual, rng.random(size) < 0.1)


def looked_at(metrics: LiveMetrics, today: int, *, keep: bool) -> list[np.ndarray[Any, Any]]:
    """Everything that is asked about the last days."""
    edges = (START + np.arange(today - LOOKED_BACK, today + 1) * DAY) // HOUR
    found: list[np.ndarray[Any, Any]] = []
    for version in (None, 1):
        for every in (1, 2):
            blocks = metrics.sums.blocks_by_place(edges, version, ("n", "abs_actual"), every, keep=keep)
            found += list(blocks.values())
            found += list(metrics.sums.own_by_place(metrics.feed, edges, metrics.grid, 1, version, 30, every).values())
    return [*found, *metrics.feed.blocks_by_place(edges, keep=keep).values()]


@settings(max_examples=60, deadline=None)
@given(steps=changes())
def test_what_is_remembered_of_days_is_what_they_come_to(steps: list[dict[str, Any]]) -> None:
    """Rows that come late or are taken back, days that end, are gathered or forgotten: no bit of an answer may be an old one."""
    metrics = LiveMetrics(TimeGrid("UTC", HOUR), 7 * DAY, DAY)
    today = 40
    for day in range(today):
        put(metrics, day, 3, 1, day)
    for step in steps:
        looked_at(metrics, today, keep=True)
        match step["what"]:
            case "day":
                put(metrics, today, 3, 1, today)
                today += 1
            case "gathered":
                metrics.compact(float(START + (today - step["back"]) * DAY))
            case "dropped":
                metrics.sums.drop_before((START + (today - step["back"]) * DAY) // HOUR)
                metrics.feed.drop_before((START + (today - step["back"]) * DAY) // HOUR)
            case what:
                day = max(today - 1 - step["back"], 0)
                put(metrics, day, step["places"], step["version"], step["seed"], back=what == "retracted")
        fresh = LiveMetrics(metrics.grid, 7 * DAY, DAY)
        facts, arrays = metrics.state()
        fresh.load(facts, {name: array.copy() for name, array in arrays.items()})
        for kept, anew in zip(looked_at(metrics, today, keep=True), looked_at(fresh, today, keep=False), strict=True):
            np.testing.assert_array_equal(kept, anew)


def test_a_place_that_was_not_there_is_in_what_is_remembered() -> None:
    """A place of which only today tells must have its zeros on the days before, though none of them has changed."""
    metrics = LiveMetrics(TimeGrid("UTC", HOUR), 7 * DAY, DAY)
    for day in range(40):
        put(metrics, day, 3, 1, day)
    before = looked_at(metrics, 40, keep=True)
    put(metrics, 40, 4, 1, 40)
    for kept, was in zip(looked_at(metrics, 40, keep=True), before, strict=True):
        assert kept.ndim == 1 or len(kept) in {2, 4}
        np.testing.assert_array_equal(kept[: len(was)], was)


def test_only_days_that_changed_are_added_up_again() -> None:
    """A year in which one day changed must cost that day."""
    metrics = LiveMetrics(TimeGrid("UTC", HOUR), 7 * DAY, DAY)
    for day in range(30):
        put(metrics, day, 2, 1, day)
    edges = (START + np.arange(31) * DAY) // HOUR
    for sums in (metrics.sums, metrics.feed):
        assert isinstance(sums, HourlySums | FeedSums)
        before = sums.blocks_by_place(edges, keep=True)["n"].base
        again = sums.blocks_by_place(edges, keep=True)["n"].base
        np.testing.assert_array_equal(before, again)
    table = metrics.feed._table
    since = table.changes
    put(metrics, 12, 2, 1, 99)
    assert np.flatnonzero(table.changed(np.searchsorted(table.hours, edges), since)).tolist() == [12]
