"""Daily blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.sampling import DaySums, PairedDays, holdout_days


def test_the_holdout_is_the_newest_days_with_truth() -> None:
    """Days without enough truth, today and the future are passed over; too few days are none."""
    day = np.arange(12)
    predicted = np.full(12, 10)
    matured = np.array([10] * 8 + [7, 10, 10, 3])
    assert holdout_days(day, predicted, matured, before=11) == (3, 11)
    assert holdout_days(day, predicted, matured, before=6) is None


def test_thin_days_are_no_sample() -> None:
    """A day with less than the coverage of a usual day's rows is left out."""
    pairs = PairedDays(np.arange(5), np.ones(5), np.ones(5), np.array([24.0, 24.0, 5.0, 24.0, 0.0]))
    assert pairs.matured().day.tolist() == [0, 1, 3]
    assert pairs.matured(since=1, before=3).day.tolist() == [1]
    assert len(pairs.matured(since=9)) == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.floats(-5, 5)), min_size=1, max_size=60))
def test_sums_match_a_dictionary(rows: list[tuple[int, int, float]]) -> None:
    """Whatever the order, the window holds what a dictionary of the newest days would."""
    sums = DaySums(1, 20)
    sums.grow(slots=1, places=4)
    expected: dict[tuple[int, int], float] = {}
    newest = 0
    for day, place, value in rows:
        newest = max(newest, day)
        position, inside = sums.place_in(np.array([day]))
        if inside[0]:
            sums.add([0], position, np.array([place]), np.array([[[value]]]))
            expected[day, place] = expected.get((day, place), 0.0) + value
    for (day, place), value in expected.items():
        if day > newest - 20:
            assert np.isclose(sums.data[0, 0, day - (newest - 19), place], value)
    total = sum(value for (day, _), value in expected.items() if day > newest - 20)
    assert np.isclose(sums.data.sum(), total)


def test_growing_keeps_what_is_there() -> None:
    """New slots and places begin at zero."""
    sums = DaySums(2, 3)
    sums.grow(slots=1, places=1)
    position, _ = sums.place_in(np.array([5]))
    sums.add([0], position, np.array([0]), np.array([[[1.0]], [[2.0]]]))
    sums.grow(slots=3, places=2)
    assert sums.data.shape == (3, 2, 3, 2)
    assert sums.data[0, :, 2, 0].tolist() == [1.0, 2.0]
