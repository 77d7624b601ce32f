"""The sequential test, and the difficulty that its figures are measured against."""

import json
import math
import timeit
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river.drift import ADWIN, PageHinkley

from demand_maint.core.difficulty import deserved_log_error, log_error_against
from demand_maint.core.drift import DegradationTest, Detector, DriftState, ForeignDetector, run_detector, threshold

DAY = 86400.0


def stream(seed: int, days: int, scale: float = 0.15, shift: float = 0.0, at: int = 0) -> list[float]:
    """Return normal figures around zero, moved by `shift` from day `at` on."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.0, scale, days)
    values[at:] += shift if at else 0.0
    return [float(v) for v in values]


@pytest.mark.parametrize("scale", [0.05, 0.15, 0.5])
def test_a_stream_in_control_alarms_about_once_a_year_whatever_its_noise(scale: float) -> None:
    """One setting must serve quiet and noisy streams alike: at most 1.2 alarms a stream-year over 60 of them."""
    alarms = 0
    for seed in range(30):
        test = DegradationTest()
        for value in stream(seed, 730 + 37, scale):
            test.update(value)
            if test.drift_detected:
                alarms += 1
                test.rearm()
    assert alarms / 60 <= 1.2


def test_the_user_may_ask_for_fewer_or_more_false_alarms() -> None:
    """The height must fall as more false alarms a year are accepted, without a jump."""
    rates = np.geomspace(0.05, 100, 60)
    heights = [threshold(float(rate)) for rate in rates]
    assert all(a >= b for a, b in pairwise(heights))
    assert max(a - b for a, b in pairwise(heights)) < 0.6


def test_a_shift_is_found_and_dated() -> None:
    """A shift of 30 % on quiet days must alarm within a week, and the onset must lie within four days of the truth."""
    values = stream(3, 120, 0.12, shift=math.log(1.3), at=100)
    state = run_detector(DegradationTest(), values[:108], [day * DAY for day in range(108)])
    assert state.retrain_alarm
    assert state.warn_alarm
    assert state.since is not None
    assert abs(state.since / DAY - 100) <= 4
    assert state.effect == pytest.approx(0.3, abs=0.15)


def test_an_alarm_ends_when_the_errors_come_back() -> None:
    """The sum must be bounded, so that a long alarm ends within some weeks of good days."""
    test = DegradationTest(centre=0.0, scale=0.15)
    for value in [0.6] * 100:
        test.update(value)
    assert test.drift_detected
    for value in [0.0] * 40:
        test.update(value)
    assert not test.drift_detected


def test_what_models_in_control_wander_off_for_weeks_is_no_shift() -> None:
    """On streams of little noise, months of a few percent more must hardly alarm; without the allowance for that they do."""

    class Unallowed(DegradationTest):
        """The same test, which knows no wandering."""

        WANDER = 0.0

    alarms = {DegradationTest: 0, Unallowed: 0}
    for seed in range(8):
        wandering = [
            0.05 * math.sin(2 * math.pi * day / 180) + noise for day, noise in enumerate(stream(seed, 730, 0.08))
        ]
        for kind in alarms:
            test = kind(centre=0.0, centre_days=60, scale=0.08, scale_days=60)
            for value in wandering:
                test.update(value)
                if test.drift_detected:
                    alarms[kind] += 1
                    test.rearm()
    assert alarms[DegradationTest] <= 8  # of 16 years
    assert alarms[Unallowed] > 3 * alarms[DegradationTest]


def test_it_learns_nothing_from_an_alarmed_period() -> None:
    """Centre and scale must stand still while the retrain grade is in alarm."""
    test = DegradationTest(centre=0.0, scale=0.15)
    for value in [0.6] * 20:
        test.update(value)
    before = test.summary()
    for value in [0.6] * 20:
        test.update(value)
    assert (test.summary().centre, test.summary().scale) == (before.centre, before.scale)


def test_missing_days_change_nothing() -> None:
    """A day without a figure must leave the test as it was."""
    with_gaps, without = DegradationTest(), DegradationTest()
    for value in stream(5, 60):
        with_gaps.update(value)
        with_gaps.update(float("nan"))
        without.update(value)
    assert with_gaps.state() == without.state()


@given(st.lists(st.floats(-5, 5), max_size=60), st.integers(0, 60))
def test_state_survives_json(values: list[float], cut: int) -> None:
    """Going on from a saved state must equal never having stopped."""
    whole, half = DegradationTest(), DegradationTest()
    for value in values[:cut]:
        half.update(value)
    resumed = DegradationTest.from_state(json.loads(json.dumps(half.state())))
    for value in values:
        whole.update(value)
    for value in values[cut:]:
        resumed.update(value)
    assert resumed.state() == whole.state()


@given(st.lists(st.floats(-50, 50) | st.just(float("nan")), max_size=200))
def test_hostile_values_keep_the_statistic_finite(values: list[float]) -> None:
    """Whatever the days bring, statistic, centre and scale must stay finite and the sum bounded."""
    test = DegradationTest()
    for value in values:
        test.update(value)
    state = test.summary()
    assert 0.0 <= test.statistic <= 1.5 * threshold(1.0)
    assert all(math.isfinite(v) for v in (state.centre or 0.0, state.scale or 0.0))


@given(st.floats(-3, 3), st.floats(0.2, 5.0), st.integers(0, 5))
def test_units_do_not_matter(shift: float, factor: float, seed: int) -> None:
    """Adding a constant to all figures must change no alarm, since the test carries its own centre."""
    plain, moved = DegradationTest(), DegradationTest()
    for value in stream(seed, 80, 0.2 * factor, shift=0.5 * factor, at=60):
        plain.update(value)
        moved.update(value + shift)
    assert plain.statistic == pytest.approx(moved.statistic, abs=1e-6)


def test_a_new_model_starts_from_its_own_baseline() -> None:
    """Rearming with a centre must clear the sum, keep the stream's scale, and judge from the new centre."""
    test = DegradationTest(centre=0.0, scale=0.15)
    for value in stream(1, 60) + [0.5] * 20:
        test.update(value)
    scale = test.summary().scale
    test.rearm(0.5, 14)
    assert test.statistic == 0.0
    assert test.summary().scale == scale
    for value in [0.5] * 20:
        test.update(value)
    assert not test.warning_detected


def test_rivers_detectors_fit_in() -> None:
    """River's detectors must run through the protocol, and find a doubled error."""
    values = stream(2, 100, 0.1, shift=0.7, at=70)
    for foreign in (ForeignDetector(PageHinkley(delta=0.05, threshold=3, min_instances=7)), ForeignDetector(ADWIN())):  # type: ignore[no-untyped-call]
        assert isinstance(foreign, Detector)
        found = False
        for value in [*values, float("nan")]:
            foreign.update(value)
            found |= foreign.drift_detected
        json.dumps(foreign.state())
    assert isinstance(DegradationTest(), Detector)
    state = run_detector(ForeignDetector(ADWIN()), values, [0.0] * len(values))  # type: ignore[no-untyped-call]
    assert isinstance(state, DriftState)
    assert state.days == 100


def test_an_update_costs_a_few_microseconds() -> None:
    """One day's figure must take at most 5 us on a quiet machine (25 here: other work may run beside)."""
    test = DegradationTest(centre=0.0, scale=0.2)
    assert min(timeit.repeat(lambda: test.update(0.1), number=2000, repeat=5)) / 2000 < 25e-6


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_scale_of_the_error_shifts_the_log_by_itself(factor: float, size: float) -> None:
    """Scaling the champion's error must shift its figure by exactly that factor's logarithm."""
    rng = np.random.default_rng(0)
    naive, level = size * np.exp(rng.normal(0, 0.3, 50)), np.exp(rng.normal(0, 0.3, 50))
    error = naive * np.exp(rng.normal(0, 0.2, 50))
    moved = log_error_against(factor * error, naive, level) - log_error_against(error, naive, level)
    assert moved == pytest.approx(np.full(50, math.log(factor)), abs=1e-9)


def test_a_far_harder_day_counts_in_full() -> None:
    """A day three times as hard for the naive forecast must deserve nearly three times the error, an ordinary one less."""
    naive = np.exp(np.random.default_rng(1).normal(0, 0.05, 60))
    naive[50] = 3.0
    deserved = deserved_log_error(naive, np.full(60, 10.0))
    assert math.exp(deserved[50] - np.median(deserved)) > 2.7
    assert deserved_log_error(np.array([0.0, np.nan]), np.array([1.0, 1.0])) == pytest.approx([np.nan] * 2, nan_ok=True)
