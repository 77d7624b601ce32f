"""Small numbers: a quiet morning is no flood of zeros, a group of customers is no other unit."""

import numpy as np
import pytest

from demand_maint.core.feed import FAULTS, classify

FIELDS = ("n", "total", "minimum", "maximum", "zeros", "negatives", "invalid", "duplicates", "late", "expected")


def sums(*stretches: list[float]) -> dict[str, np.ndarray]:
    """Sums of stretches of values, one element each."""
    rows = [
        [len(v), sum(v), min(v), max(v), v.count(0), sum(x < 0 for x in v), 0, 0, 0, len(v)]
        for v in map(list, stretches)
    ]
    return {
        name: np.array(column, dtype=np.float64) for name, column in zip(FIELDS, zip(*rows, strict=True), strict=True)
    }


def kind(recent: list[float], *weeks: list[float], settled: bool = False) -> str:
    """Return what is said of a stretch after `weeks` of the same hours, the newest first."""
    past = {name: values[:, None] for name, values in sums(*weeks).items()}
    return FAULTS[int(classify(sums(recent), past, settled=settled)[0])]


BUSY = [30.0, 28, 41, 35, 22, 30]
FEW = [2.0, 1, 0, 3, 1, 2]


def test_zeros_are_a_fault_where_they_are_improbable() -> None:
    """Six empty hours are one in a busy place, four of six as well; in a place that is empty now and then a day of them is."""
    assert kind([0.0] * 6, BUSY, BUSY, BUSY, BUSY) == "zeros"
    assert kind([0.0, 0, 31, 0, 0, 29], BUSY, BUSY, BUSY, BUSY) == "zeros"
    assert kind([0.0, 1, 0, 0, 2, 0], FEW, FEW, FEW, FEW) == ""
    assert kind([0.0] * 6, FEW, FEW, FEW, FEW) == "zeros"
    assert kind([0.0] * 6, [0.0, 1, 0, 0, 2, 0], FEW, [0.0, 0, 1, 0, 1, 3], FEW) == ""
    night = [0.0] * 12 + FEW * 2
    assert kind([0.0] * 24, night, night, night, night) == "zeros"
    assert kind([0.0] * 17 + [1.0] * 7, night, night, night, night) == ""


def test_a_flood_of_last_week_does_not_hide_this_one() -> None:
    """The week with the most zeros has no say in what is usual."""
    assert kind([0.0] * 6, [0.0] * 6, BUSY, BUSY, BUSY) == "zeros"


@pytest.mark.parametrize("factor", [10, 1000])
def test_another_unit_is_found_at_once_where_there_are_customers(factor: float) -> None:
    """Ten times the values of a place with a few customers an hour is another unit, last week's fault or not."""
    assert kind([factor * value for value in BUSY], BUSY, BUSY, BUSY, BUSY) == "unit"
    assert kind([factor * value for value in FEW], FEW, FEW, FEW, FEW) == "unit"
    assert kind([factor * value for value in BUSY], [factor * value for value in BUSY], BUSY, BUSY, BUSY) == "unit"


def test_a_group_of_customers_is_no_other_unit() -> None:
    """Where a customer comes now and then, one group is a large factor; a thousand of them are too many for any group."""
    rare = [0.0, 0, 1, 0, 0, 0]
    assert kind([0.0, 0, 9, 2, 0, 0], rare, rare, rare, rare) == ""
    assert kind([0.0, 0, 0, 1000, 0, 0], rare, rare, rare, rare) == "unit"


def test_a_morning_that_a_storm_empties_is_no_other_unit() -> None:
    """A seventh of the demand of six hours is weather or a holiday; a whole day of it counts as another unit."""
    storm = [value // 7 for value in BUSY]
    assert kind(storm, BUSY, BUSY, BUSY, BUSY) == ""
    assert kind(storm * 4, BUSY * 4, BUSY * 4, BUSY * 4, BUSY * 4, settled=True) == "unit"


def test_a_peak_that_comes_now_and_then_is_no_other_unit() -> None:
    """Two weeks of the last four with such peaks are enough to know them."""
    fair = [value * 8 for value in BUSY]
    assert kind(fair, BUSY, fair, fair, BUSY) == ""


def test_one_week_to_compare_with_is_enough() -> None:
    """A place that is two weeks old has its zeros and its unit watched as well."""
    assert kind([0.0] * 6, BUSY) == "zeros"
    assert kind([value * 10 for value in BUSY], BUSY) == "unit"
