"""The error that an ordinary forecast would have made: what anybody could have said a day before, from past demand alone.

It says the median of the same hour of the same weekday one to four weeks before, moved by how far the last day known a day
before that hour lay from such medians itself. Where that fails, a good model fails too: on the shipped bikes the sizes of its
hourly errors have a correlation of 0.86 with those of a model fitted to them, the seasonal-naive ones 0.69. No model has a part
in it. What is kept of its errors is what was fresh in them, as of a model's (`core.fresh`).
"""

import numpy as np

from demand_maint.core.fresh import fresh_errors
from demand_maint.core.view import Floats

__all__ = ["REACH", "WEEKS", "median_of_weeks", "ordinary_errors"]

WEEKS = 4
#: Weeks that have to be known.
LEAST_WEEKS = 3
#: Power to which the last day's ratio to its medians is carried over.
CARRIED = 0.5
#: Days that a median looks back, and days before a day that its figures depend on.
PAST = 7 * WEEKS
REACH = PAST + 2
#: More than such a factor nobody carries over.
MOST = 3.0
#: Of the 24 hours of a day, which come after another.
FOLLOWS = np.arange(24) > 0


def ordinary_errors(rows: Floats, demand: Floats) -> tuple[Floats, Floats]:
    """Return rows compared and their fresh error per place and day, (P, D - REACH) each, for all but the first days.

    Parameters
    ----------
    rows, demand
        Rows and their summed demand per place, local day and hour of its wall clock, (P, D, 24).

    Examples
    --------
    >>> demand = np.full((1, 32, 24), 10.0)
    >>> demand[0, 30] = 13.0
    >>> count, error = ordinary_errors(np.ones((1, 32, 24)), demand)
    >>> count.tolist(), error.round(1).tolist()
    ([[24.0, 24.0]], [[44.4, 11.3]])
    """
    mean = demand / np.where(rows > 0, rows, np.nan)
    usual = _middle_of_weeks(mean, LEAST_WEEKS)
    mean, rows = mean[:, PAST:], rows[:, PAST:]
    both = np.isfinite(mean) & np.isfinite(usual)
    seen = _day_before(np.where(both, mean * rows, 0.0))
    wanted = _day_before(np.where(both, usual * rows, 0.0))
    ratio = np.where(wanted > 0, seen / np.where(wanted > 0, wanted, 1.0), 1.0)
    forecast = usual * np.clip(ratio, 1.0 / MOST, MOST) ** CARRIED
    count = np.where(both, rows, 0.0)[:, REACH - PAST :]
    error = np.where(both, (forecast - mean) * rows, 0.0)[:, REACH - PAST :]
    return count.sum(axis=2), fresh_errors(count, error, FOLLOWS).sum(axis=2)


def median_of_weeks(mean: Floats) -> Floats:
    """Median of what is known of the last weeks, days along the second axis; NaN where nothing is.

    Of four or three values, all but the extremes are averaged.
    """
    nothing = np.full((len(mean), PAST, *mean.shape[2:]), np.nan)
    return _middle_of_weeks(np.concatenate([nothing, mean], axis=1), 1)


def _middle_of_weeks(mean: Floats, least: int) -> Floats:
    """Return the same for all days but the first `PAST`; NaN where fewer than `least` weeks are known."""
    days = mean.shape[1]
    shape = (len(mean), days - PAST, *mean.shape[2:])
    total, count = np.zeros(shape), np.zeros(shape)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for week in range(1, WEEKS + 1):
        past = mean[:, PAST - 7 * week : days - 7 * week]
        known = np.isfinite(past)
        count += known
        total += np.where(known, past, 0.0)
        low, high = np.fmin(low, past), np.fmax(high, past)
    many = count >= LEAST_WEEKS
    inner = total - np.where(many, low, 0.0) - np.where(many, high, 0.0)
    middle: Floats = np.where(count >= least, inner / np.maximum(count - 2.0 * many, 1.0), np.nan)
    return middle


def _day_before(values: Floats) -> Floats:
    """Sum over the day that ends a day before each hour, of shape (P, D, 24) as `values`.

    Added up within days, so that the result does not depend, not by a bit, on how many days are looked at.
    """
    begun = np.cumsum(values, axis=2)
    out = np.zeros_like(values)
    out[:, 1:] = begun[:, :-1]
    out[:, 2:] += begun[:, :-2, -1:] - begun[:, :-2]
    return out
