"""The trials of verdicts, few of each kind."""

import pytest

from benchmarks.verdict_trials import promotions, trials
from benchmarks.weight_trials import weights_lost


@pytest.mark.parametrize("candidacy", [0, 8])
def test_probations_meet_what_is_asked_and_nothing_beats_the_possible(candidacy: int) -> None:
    """At a scatter of 8 % equal models stay, worse ones go within four days, and no sooner than the best test could tell."""
    found = trials(500, 0.08, 0.0, candidacy)
    assert found["false_rollbacks"] <= 0.02
    assert found["known"] <= found["own"] <= found["median_days"] <= 4


def test_the_possible_depends_on_what_days_say() -> None:
    """More scatter takes more days, and so does correlation where it is known, also of the best test."""
    rows = [trials(200, scatter, correlation, 0) for scatter, correlation in ((0.04, 0.0), (0.3, 0.0), (0.3, 0.3))]
    assert [row["known"] for row in rows] == [1, 7, 11]
    assert rows[0]["own"] < min(rows[1]["own"], rows[2]["own"])


@pytest.mark.parametrize("live", [False, True])
def test_promotions_are_counted(live: bool) -> None:
    """At a scatter of 4 % nearly no worse challenger is promoted and most equal ones are."""
    found = promotions(200, 0.04, live=live)
    assert found["worse_promoted"] <= 0.02
    assert found["equal_promoted"] >= 0.8


def test_a_forced_regression_loses_half_of_its_weight_within_two_days() -> None:
    """At a scatter of 8 % nearly every model that is 25 % worse has half of its weight left, or less, after two days of labels."""
    found = weights_lost(20, 0.08)
    assert found["within_2_days"] >= 0.9
    assert found["median_days"] <= 2
