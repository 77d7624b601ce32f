"""Days that are hard because demand itself is unusual: what they deserve, and which of them say nothing."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from demand_maint.core import difficulty
from demand_maint.core.difficulty import (
    LONGEST,
    OwnDays,
    deserved_log_error,
    log_error_against,
    own_share,
    set_aside,
    usual_and_spread,
)
from demand_maint.core.feed import FeedState
from demand_maint.core.health import daily_state, window_health
from demand_maint.core.own_sums import SAMPLE
from demand_maint.core.surprise import day_surprises, surprises
from tests.unit.core.test_health import BASELINE, CONFIG, START, Town

HOUR = 3600


def weeks(days: int, places: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows and demand (P, D) of places that repeat themselves every week."""
    rows = np.full((places, days), 24.0)
    shape = np.array([10.0, 11, 12, 13, 14, 20, 18])
    return rows, rows * np.outer(np.arange(1, places + 1), np.tile(shape, days // 7 + 1)[:days])


def test_a_week_like_the_others_surprises_nobody() -> None:
    """However much weekdays differ, days that repeat the weeks before have no surprise."""
    surprise = day_surprises(*weeks(42))
    assert surprise[7:] == pytest.approx(0.0)
    assert np.isnan(surprise[:7]).all()


def test_one_odd_week_does_not_spoil_the_next() -> None:
    """After a week far off, the days of the week that follows must count as usual, which the naive forecast gets wrong."""
    rows, demand = weeks(49)
    demand[:, 35:42] *= 0.5
    surprise = day_surprises(rows, demand)
    assert (surprise[35:42] > 5.0).all()
    assert surprise[42:] == pytest.approx(0.0)


def test_half_a_day_is_compared_with_nothing() -> None:
    """A place of which only some hours are known that day must leave the figure to the others; if it is most rows, to none."""
    rows, demand = weeks(42)
    rows[0, 41], demand[0, 41] = 12.0, 12.0 * 50
    surprise = day_surprises(rows, demand)
    assert surprise[41] == pytest.approx(0.0)
    rows[1:, 41] = 12.0
    assert np.isnan(day_surprises(rows, demand)[41])


def test_faulty_feeds_surprise_nobody() -> None:
    """A place whose truth is excluded must have no say in how unusual a day was."""
    town = Town(3)
    town.live((0, 40), 1.0, 2.0)
    town.live((40, 41), 1.0, 2.0, only=(0, 2))
    town.live((40, 41), 1.0, 2.0, only=(1,), level=900.0)
    edges = np.arange(START // HOUR, START // HOUR + 24 * 42, 24)
    assert surprises(town, edges, FeedState())[0][40] > 100
    fault = FeedState(excluded=((1, int(edges[40]), int(edges[41])),))
    assert surprises(town, edges, fault)[0][40] == pytest.approx(0.0, abs=0.5)


def test_many_places_are_sampled() -> None:
    """Of more places than the sample holds, an even part must give about the same figures."""
    town = Town(2 * SAMPLE)
    town.live((0, 15), 1.0, 2.0)
    town.live((15, 16), 1.0, 2.0, level=30.0)
    edges = np.arange(START // HOUR, START // HOUR + 24 * 17, 24)
    assert surprises(town, edges, FeedState())[0][15] == pytest.approx(10.0, rel=0.1)


def test_a_day_hard_for_anybody_deserves_a_larger_error() -> None:
    """Where own and whole errors grow by less than the ordinary ones allow, a day must look better, and others as before."""
    naive, level, error = np.full(60, 4.0), np.full(60, 20.0), np.full(60, 3.0)
    own, ordinary = np.full(60, 0.5), np.full(60, 0.6)
    calm = log_error_against(error, naive, level, OwnDays(own, ordinary))
    assert calm == pytest.approx(log_error_against(error, naive, level))
    ordinary[50] *= 2
    hard = log_error_against(error, naive, level, OwnDays(own, ordinary))
    assert hard[50] - calm[50] == pytest.approx(-0.55 * math.log(2))
    assert np.delete(hard, 50) == pytest.approx(np.delete(calm, 50))


def test_whole_errors_tell_where_no_own_ones_are_known() -> None:
    """Before there is a month to look back at, and where demand repeats itself exactly, the figure must be as without."""
    rng = np.random.default_rng(1)
    naive, level = np.exp(rng.normal(1, 0.2, 60)), np.full(60, 20.0)
    own, ordinary = np.exp(rng.normal(0, 0.2, 60)), np.exp(rng.normal(0, 0.2, 60))
    own[:30] = ordinary[:30] = np.nan
    ordinary[45] = 1e-9
    whole = rng.normal(0, 0.2, 60)
    share = own_share(whole, naive, level, OwnDays(own, ordinary))
    assert (share[:30] == 0).all()
    assert share[45] == 0
    assert np.count_nonzero(share) == 29
    nothing = np.full(60, np.nan)
    assert (own_share(whole, naive, level, OwnDays(nothing, nothing)) == 0).all()


@given(st.lists(st.floats(0, 1e9) | st.just(math.nan), min_size=40, max_size=40))
def test_hostile_days_keep_figures_finite(values: list[float]) -> None:
    """Zeros, gaps and giants must make no infinite share, and set aside no more days in a row than allowed."""
    surprise = np.array(values)
    naive = np.where(surprise > 1e8, 0.0, 4.0)
    level = np.full(40, 20.0)
    with np.errstate(divide="ignore"):
        whole = np.log(surprise) - deserved_log_error(naive, level)
    assert np.isfinite(own_share(whole, naive, level, OwnDays(surprise, surprise))).all()
    aside = set_aside(np.full(40, 20.0), surprise)
    known = aside[np.isfinite(surprise)]
    runs = "".join("x" if day else " " for day in known).split()
    assert max(map(len, runs), default=0) <= LONGEST


@given(st.floats(0.1, 100))
def test_no_model_decides_what_is_set_aside(factor: float) -> None:
    """A worse model must shift every figure by its logarithm and set no other days aside."""
    rng = np.random.default_rng(4)
    naive, level = np.exp(rng.normal(0, 0.2, 80)), np.full(80, 10.0)
    surprise, own, ordinary = rng.uniform(0, 1, 80), *np.exp(rng.normal(0, 0.2, (2, 80)))
    surprise[70] = 9.0
    error = np.exp(rng.normal(0, 0.2, 80))
    before = log_error_against(error, naive, level, OwnDays(own, ordinary), surprise)
    after = log_error_against(factor * error, naive, level, OwnDays(factor * own, ordinary), surprise)
    assert np.isnan(before[70])
    kept = np.isfinite(before)
    assert (np.isfinite(after) == kept).all()
    assert (after - before)[kept] == pytest.approx(math.log(factor), abs=1e-9)


def test_odd_days_have_no_say_in_where_a_stream_starts() -> None:
    """A first week of wild errors must move neither centre nor spread of 37 days by much."""
    rng = np.random.default_rng(2)
    days = rng.normal(0.0, 0.2, 37)
    wild = days.copy()
    wild[:4] += 1.0
    assert usual_and_spread(days) == pytest.approx((0.0, 0.2), abs=0.05)
    assert usual_and_spread(wild) == pytest.approx((0.0, 0.2), abs=0.12)


def fallen(days: int, naive_again: bool = False) -> Town:
    """A town whose demand falls by half on day 60: the model errs twice as much, and so does the naive forecast for a week."""
    town = Town()
    town.live((0, 60), 2.0, 4.0, level=20.0)
    town.live((60, min(60 + days, 67)), 4.0, 6.0, level=10.0)
    if days > 7:
        town.live((67, 60 + days), 4.0 if naive_again else 2.0, 4.0, level=10.0 if naive_again else 20.0)
    return town


def test_a_week_like_no_other_is_not_held_against_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holiday nobody listed must leave the model healthy and say why; without setting days aside it would not be."""
    health = fallen(7).ask(67)
    assert health.status == "healthy"
    assert health.drift.set_aside == 6
    assert "the last 6 days are set aside" in health.reason
    assert fallen(12).ask(72).status == "healthy"
    monkeypatch.setattr(difficulty, "LONGEST", 0)
    assert fallen(7).ask(67).status != "healthy"


def test_a_change_that_stays_is_found_after_all() -> None:
    """Where demand stays where it fell to, and the naive forecast has got used to it, the model must be blamed soon after."""
    assert fallen(18, naive_again=True).ask(78).status == "critical"


def test_an_old_warning_does_not_turn_a_holiday_into_drift() -> None:
    """While the last days are set aside, a warning must lead to nothing; a proven alarm from before still does."""
    town = fallen(7)
    now = START + 67 * 86400 - 1
    daily = daily_state(town, BASELINE, now, CONFIG)

    def status(**changes: Any) -> str:
        drift = structs.replace(daily.drift, **changes)
        return window_health(town, structs.replace(daily, drift=drift), now, CONFIG).status

    assert status(warn_alarm=True, set_aside=6) == "healthy"
    assert status(warn_alarm=True, set_aside=0) == "degraded"
    assert status(warn_alarm=True, retrain_alarm=True, set_aside=6) == "critical"
