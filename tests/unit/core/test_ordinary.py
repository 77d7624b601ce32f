"""What an ordinary forecast says of an hour: from weeks that are known in time, moved by the last day that is."""

import numpy as np
import pytest

from demand_maint.core.ordinary import ordinary_forecast, reach

LAGS = [1, 2, 7, 10]


@pytest.mark.parametrize("lag", LAGS)
def test_demand_that_repeats_itself_is_foreseen(lag: int) -> None:
    """However much hours and weekdays differ, weeks like the weeks before must leave an ordinary forecast without error."""
    week = np.random.default_rng(3).uniform(1, 50, (2, 7, 24))
    mean, forecast = ordinary_forecast(np.ones((2, 56, 24)), np.tile(week, (1, 8, 1)), lag)
    assert forecast.shape == (2, 56 - reach(lag), 24)
    assert forecast == pytest.approx(mean)


@pytest.mark.parametrize("lag", LAGS)
def test_a_part_of_what_the_last_day_lay_off_is_carried_over(lag: int) -> None:
    """Where demand doubles for good, the days until that is known must be missed in full, the next by less the sooner it is."""
    demand = np.full((1, reach(lag) + lag + 2, 24), 10.0)
    demand[:, reach(lag) :] = 20.0
    _, forecast = ordinary_forecast(np.ones_like(demand), demand, lag)
    assert forecast[0, :lag] == pytest.approx(10.0)
    assert forecast[0, lag + 1] == pytest.approx(10.0 * 2 ** (0.5 / lag**0.5))


@pytest.mark.parametrize("lag", LAGS)
def test_nothing_is_used_that_is_not_known_in_time(lag: int) -> None:
    """An hour's forecast must not change with anything that happens less than the lag before it."""
    rng = np.random.default_rng(lag)
    demand = rng.uniform(5, 10, (1, reach(lag) + lag + 6, 24))
    rows, known = np.ones_like(demand), reach(lag) + 4
    before = ordinary_forecast(rows, demand, lag)[1]
    demand[0, known, 13:] = 99.0
    demand[0, known + 1 :] = 99.0
    after = ordinary_forecast(rows, demand, lag)[1]
    same = (before == after)[0].ravel()
    # the last hour known is 12 of day `known`; the forecast of the same hour `lag` days later is the last that may not change
    last = (known + lag - reach(lag)) * 24 + 12
    assert same[: last + 1].all()
    assert not same[last + 1]


def test_less_than_three_weeks_tell_nothing() -> None:
    """An hour that is known of two of the last four weeks only must have no forecast."""
    rows = np.ones((1, reach(1) + 1, 24))
    rows[0, [reach(1) - 7, reach(1) - 14], 5] = 0.0
    _, forecast = ordinary_forecast(rows, 10 * rows)
    assert np.flatnonzero(np.isnan(forecast[0, 0])).tolist() == [5]


def test_a_forecast_does_not_depend_on_how_many_days_are_looked_at() -> None:
    """A day alone, with no more before it than it needs, must have the same forecast to the last bit."""
    demand = np.random.default_rng(8).uniform(5, 10, (2, 60, 24))
    rows = np.ones_like(demand)
    whole = ordinary_forecast(rows, demand)[1]
    for day in (reach(1), 40, 59):
        begin = day - reach(1)
        alone = ordinary_forecast(rows[:, begin : day + 1], demand[:, begin : day + 1])[1]
        assert (alone[:, 0] == whole[:, day - reach(1)]).all()
