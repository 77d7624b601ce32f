"""What of an error was fresh: taken from hours, kept when they are merged, and the same for a baseline as for live days."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.core.baseline import baseline_from_errors
from demand_maint.core.difficulty import daily_series
from demand_maint.core.feed import FeedState
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.fresh import TOLD, fresh_errors
from demand_maint.core.metrics import HourlySums
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.view import local_days

DAY, HOUR = 86400, 3600
GRID = TimeGrid("America/New_York", HOUR)
#: 1 March 2024 in New York: the clocks change on the ninth day after it.
MARCH = 1_709_269_200
FIRST = MARCH // HOUR
DAYS = 14
EVERY = GRID.day_start(GRID.day(np.array([MARCH])) + np.arange(DAYS + 1)) // HOUR


def batch(hours: np.ndarray, places: np.ndarray, errors: np.ndarray) -> MaturedBatch:
    """Rows with such errors."""
    slot, count = (FIRST + hours) * HOUR, len(hours)
    actual = np.full(count, 20.0)
    return MaturedBatch(
        place=places.astype(np.uint32),
        slot=slot,
        version=np.ones(count, dtype=np.uint16),
        predicted=actual + errors,
        served=actual + errors,
        actual=actual,
        naive=actual + 4.0,
        members=np.empty((count, 0), dtype=np.float32),
        snapshot=np.zeros(count, dtype=np.uint32),
        observed_at=slot.astype(np.float64),
    )


def drawn(seed: int, share: float = 0.9, places: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hours, places and errors of two weeks, some hours missing."""
    rng = np.random.default_rng(seed)
    hours, place = (
        grid.ravel() for grid in np.meshgrid(np.arange(EVERY[-1] - FIRST), np.arange(places), indexing="ij")
    )
    known = rng.random(len(hours)) < share
    return hours[known], place[known], rng.normal(0, 3, known.sum()).round(1)


def fresh_of(sums: HourlySums) -> list[float]:
    """Fresh error of each day."""
    sums.find_fresh(GRID)
    return [float(value) for value in sums.blocks(EVERY)["fresh_error"]]


def wanted(hours: np.ndarray, places: np.ndarray, errors: np.ndarray) -> list[float]:
    """The same from a dictionary."""
    known = {(int(p), int(h)): e for h, p, e in zip(hours, places, errors.tolist(), strict=True)}
    out = [0.0] * DAYS
    for (place, hour), error in known.items():
        day = int(np.searchsorted(EVERY, FIRST + hour, side="right")) - 1
        before = known.get((place, hour - 1), 0.0) if FIRST + hour > EVERY[day] else 0.0
        out[day] += abs(error - TOLD * before)
    return out


def test_an_error_that_lasts_counts_for_less_than_one_that_turns() -> None:
    """After the same error a share is taken away, after the opposite one it is added, after none nothing changes."""
    follows = np.array([False, True, True, True])
    fresh = fresh_errors(np.array([1.0, 1, 1, 0]), np.array([2.0, 2, -2, 0]), follows)
    assert fresh.tolist() == pytest.approx([2.0, 2 - 2 * TOLD, 2 + 2 * TOLD, 0.0])


@given(factor=st.floats(0.1, 10), seed=st.integers(0, 99))
def test_errors_larger_by_a_factor_are_fresh_by_that_factor(factor: float, seed: int) -> None:
    """What the test measures must grow with the errors."""
    errors = np.random.default_rng(seed).normal(0, 3, (2, 24))
    rows, follows = np.ones((2, 24)), np.arange(24) > 0
    assert fresh_errors(rows, factor * errors, follows) == pytest.approx(factor * fresh_errors(rows, errors, follows))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 999),
    cuts=st.lists(st.integers(0, 900), max_size=5),
    late=st.booleans(),
    asked=st.booleans(),
)
def test_it_is_found_whenever_it_is_asked_for(seed: int, cuts: list[int], late: bool, asked: bool) -> None:
    """Rows in parts, in any order of parts, asked for between them or not: the days must say what a dictionary says."""
    hours, places, errors = drawn(seed)
    edges = sorted({0, *(cut for cut in cuts if cut < len(hours)), len(hours)})
    parts = [slice(a, b) for a, b in pairwise(edges)]
    sums = HourlySums()
    for part in reversed(parts) if late else parts:
        sums.add(batch(hours[part], places[part], errors[part]))
        if asked:
            sums.find_fresh(GRID)
    assert fresh_of(sums) == pytest.approx(wanted(hours, places, errors))


def test_a_corrected_row_is_found_again() -> None:
    """A truth that is restated must change its own hour and the one after it."""
    hours, places, errors = drawn(1)
    sums = HourlySums()
    sums.add(batch(hours, places, errors))
    sums.find_fresh(GRID)
    sums.retract(batch(hours[100:101], places[100:101], errors[100:101]))
    errors[100] += 50.0
    sums.add(batch(hours[100:101], places[100:101], errors[100:101]))
    assert fresh_of(sums) == pytest.approx(wanted(hours, places, errors))


@pytest.mark.parametrize("merged", [1, 9, 10, DAYS])
def test_it_survives_the_merging_of_hours(merged: int) -> None:
    """Hours merged into days, saved and loaded, must leave the figures of days as they were, over a change of the clocks too."""
    hours, places, errors = drawn(2)
    sums = HourlySums()
    sums.add(batch(hours, places, errors))
    old = sums.hours_before(int(EVERY[merged]))
    sums.gather(old, EVERY[np.searchsorted(EVERY, old, side="right") - 1], GRID)
    assert fresh_of(sums) == pytest.approx(wanted(hours, places, errors))
    again = HourlySums()
    again.load(*sums.parts())
    assert fresh_of(again) == fresh_of(sums)
    assert again.window(0, 10**6) == sums.window(0, 10**6)


def test_of_a_row_that_comes_after_its_hours_were_merged_all_counts_as_fresh() -> None:
    """A truth a month late must neither be lost nor undo what was found of its day."""
    hours, places, errors = drawn(3)
    sums = HourlySums()
    sums.add(batch(hours, places, errors))
    old = sums.hours_before(int(EVERY[5]))
    sums.gather(old, EVERY[np.searchsorted(EVERY, old, side="right") - 1], GRID)
    before = fresh_of(sums)
    sums.add(batch(np.array([30]), np.array([1]), np.array([-7.0])))
    after = fresh_of(sums)
    assert after[1] == pytest.approx(before[1] + 7.0)
    assert after[0] == before[0]
    assert after[2:] == before[2:]


class Hamlet:
    """The view of a monitor that has some rows."""

    def __init__(self, hours: np.ndarray, places: np.ndarray, errors: np.ndarray) -> None:
        self.places: list[int | str] = [0, 1, 2]
        self.grid = GRID
        self.sums, self.feed = HourlySums(), FeedSums()
        rows = batch(hours, places, errors)
        self.sums.add(rows)
        self.feed.add(rows.place, rows.slot, rows.actual, np.zeros(len(hours), dtype=bool))
        self.newest: float | None = float(rows.slot.max())


def test_a_baseline_starts_where_the_same_days_stand_live() -> None:
    """What a holdout says of its rows must be what the monitor would say of them as daily figures."""
    hours, places, errors = drawn(4, share=1.0)
    hamlet = Hamlet(hours, places, errors)
    stamps = ((FIRST + hours) * HOUR).astype(np.float64)
    baseline = baseline_from_errors(
        stamps, errors, np.full(len(hours), 4.0), np.full(len(hours), 20.0), GRID, places=places
    )
    assert baseline is not None
    _, edges = local_days(GRID, float(MARCH), float(EVERY[-1] * HOUR))
    live = daily_series(hamlet, edges, 1, 0, FeedState(), adjusted=True).values
    assert len(live) == DAYS
    middle = np.sort(live)[DAYS // 5 : DAYS - DAYS // 5]
    assert baseline.log_centre == pytest.approx(float(middle.mean()))
    assert baseline.log_days == DAYS


def test_without_places_a_baseline_does_not_say_where_the_test_starts() -> None:
    """Rows of unknown places have no hour before them; error and skill are told all the same."""
    hours, _, errors = drawn(5, places=1)
    stamps = ((FIRST + hours) * HOUR).astype(np.float64)
    baseline = baseline_from_errors(stamps, errors, np.full(len(hours), 4.0), np.full(len(hours), 20.0), GRID)
    assert baseline is not None
    assert (baseline.log_centre, baseline.log_days) == (None, 0)
    assert baseline.skill == pytest.approx(float(np.abs(errors).mean()) / 4.0)
    assert math.isfinite(baseline.mae)
