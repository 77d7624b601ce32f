"""The ordinary forecast: what anybody could have said of an hour in time, from past demand alone.

It says the median of the same hour of the same weekday of four weeks, moved by how far the last day known in time lay from such
medians itself. *In time* is as long before the hour as forecasts are wanted (`lag`). Where that fails, a good model fails too:
on the shipped bikes the errors of its hours have a correlation of 0.87 with those of a model fitted to them. No model has a part
in it.
"""

import math

import numpy as np

from demand_maint.core.view import DAY, Floats

__all__ = ["WEEKS", "days_ahead", "median_of_weeks", "ordinary_forecast", "reach"]

WEEKS = 4
#: Weeks that have to be known.
LEAST_WEEKS = 3
#: Power to which the last day's ratio to its medians is carried over to the next; over the root of the days where it is more.
CARRIED = 0.5
#: More than such a factor nobody carries over.
MOST = 3.0


def days_ahead(horizon: float) -> int:
    """Return the `lag` of forecasts that are made `horizon` seconds ahead: whole days, at least one.

    >>> days_ahead(3600.0), days_ahead(7 * 86400.0)
    (1, 7)
    """
    return max(math.ceil(horizon / DAY), 1)


def reach(lag: int) -> int:
    """Return how many days before a day its ordinary forecast looks back."""
    return _past(lag) + lag + 1


def ordinary_forecast(rows: Floats, demand: Floats, lag: int = 1) -> tuple[Floats, Floats]:
    """Return mean demand and its ordinary forecast, (P, D - reach, 24) each, NaN where unknown, for all but the first days.

    Parameters
    ----------
    rows, demand
        Rows and their summed demand per place, local day and hour of its wall clock, (P, D, 24).
    lag
        Days that the forecast is made ahead.

    Examples
    --------
    >>> demand = np.full((1, 32, 24), 10.0)
    >>> demand[0, 30] = 14.4
    >>> mean, forecast = ordinary_forecast(np.ones((1, 32, 24)), demand)
    >>> mean[0, :, 23].tolist(), forecast[0, :, 23].tolist()
    ([14.4, 10.0], [10.0, 12.0])
    """
    past, begun = _past(lag), reach(lag)
    mean = demand / np.where(rows > 0, rows, np.nan)
    usual = _middle_of_weeks(mean, LEAST_WEEKS, _first_week(lag))
    mean, rows = mean[:, past:], rows[:, past:]
    both = np.isfinite(mean) & np.isfinite(usual)
    seen = _last_day(np.where(both, mean * rows, 0.0), lag)
    wanted = _last_day(np.where(both, usual * rows, 0.0), lag)
    ratio = np.where(wanted > 0, seen / np.where(wanted > 0, wanted, 1.0), 1.0)
    forecast = usual * np.clip(ratio, 1.0 / MOST, MOST) ** (CARRIED / math.sqrt(lag))
    return mean[:, begun - past :], forecast[:, begun - past :]


def median_of_weeks(mean: Floats) -> Floats:
    """Median of what is known of the last weeks, days along the second axis; NaN where nothing is.

    Of four or three values, all but the extremes are averaged.
    """
    nothing = np.full((len(mean), _past(1), *mean.shape[2:]), np.nan)
    return _middle_of_weeks(np.concatenate([nothing, mean], axis=1), 1)


def _first_week(lag: int) -> int:
    """Return how many weeks back the newest one lies that is known `lag` days ahead."""
    return -(-lag // 7)


def _past(lag: int) -> int:
    """Return how many days the medians look back."""
    return 7 * (_first_week(lag) + WEEKS - 1)


def _middle_of_weeks(mean: Floats, least: int, newest: int = 1) -> Floats:
    """Return the median of `WEEKS` weeks from the `newest` one back; NaN where fewer than `least` of them are known.

    For all days but the first ones, which have not all of these weeks before them.
    """
    days, past = mean.shape[1], 7 * (newest + WEEKS - 1)
    shape = (len(mean), days - past, *mean.shape[2:])
    total, count = np.zeros(shape), np.zeros(shape)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for week in range(newest, newest + WEEKS):
        before = mean[:, past - 7 * week : days - 7 * week]
        known = np.isfinite(before)
        count += known
        total += np.where(known, before, 0.0)
        low, high = np.fmin(low, before), np.fmax(high, before)
    many = count >= LEAST_WEEKS
    inner = total - np.where(many, low, 0.0) - np.where(many, high, 0.0)
    middle: Floats = np.where(count >= least, inner / np.maximum(count - 2.0 * many, 1.0), np.nan)
    return middle


def _last_day(values: Floats, lag: int) -> Floats:
    """Sum over the day that ends `lag` days before each hour, of shape (P, D, 24) as `values`.

    Added up within days, so that the result does not depend, not by a bit, on how many days are looked at.
    """
    begun = np.cumsum(values, axis=2)
    out = np.zeros_like(values)
    out[:, lag:] = begun[:, :-lag]
    out[:, lag + 1 :] += begun[:, : -lag - 1, -1:] - begun[:, : -lag - 1]
    return out
