"""Level calibration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.calibration import LevelCalibration, discounts, effective_days


def test_a_quiet_place_follows_the_pool() -> None:
    """A place with a hundredth of the usual evidence has nearly the pooled level; one with plenty nearly its own."""
    levels = LevelCalibration(half_life_days=7.0).levels(
        np.array([2000.0, 2000.0, 1.0]), np.array([1000.0, 1000.0, 5.0]), days=20.0
    )
    assert levels[0] == pytest.approx(2.0, abs=0.05)
    assert levels[2] == pytest.approx(levels[3], abs=0.05)


def test_a_place_without_forecasts_has_the_pooled_level() -> None:
    """Zero forecasts divide nothing."""
    levels = LevelCalibration().levels(np.array([150.0, 10.0]), np.array([100.0, 0.0]), days=5.0)
    assert levels[1] == levels[2]


def test_nothing_known_is_level_one() -> None:
    """Without any evidence every level is 1, as is the pool's."""
    assert LevelCalibration().levels(np.zeros(2), np.zeros(2), 0.0).tolist() == [1.0, 1.0, 1.0]


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=30),
    st.floats(0, 1e4),
)
def test_levels_stay_in_their_range(sums: list[tuple[float, float]], days: float) -> None:
    """Whatever the sums are, every level is finite and within the clip."""
    actual, forecast = (np.array(column) for column in zip(*sums, strict=True))
    levels = LevelCalibration().levels(actual, forecast, days)
    assert levels.shape == (len(sums) + 1,)
    assert ((levels >= 0.3) & (levels <= 3.0)).all()


def test_old_evidence_fades_and_is_never_forgotten() -> None:
    """Today counts whole and the half-life half; a month after, evidence counts several times what halving would leave."""
    weights = discounts(np.array([-1.0, 0.0, 2.0, 32.0]), 2.0)
    assert weights[:3].tolist() == [1.0, 1.0, 0.5]
    assert weights[3] > 100 * 0.5**16


def test_effective_days_are_what_the_discounts_come_to() -> None:
    """A first day counts one day, further ones less and less, none nothing."""
    assert effective_days(0.0, 7.0) == 0.0
    assert effective_days(1.0, 7.0) == 1.0
    assert effective_days(3.0, 7.0) == pytest.approx(discounts(np.arange(3.0), 7.0).sum())
    assert effective_days(36.0, 7.0) < 15.0
