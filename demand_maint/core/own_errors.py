"""A model's own error: what of it neither the hour before told nor an ordinary forecast shares.

A day on which everybody is wrong says little about a model. So of each error a share of the ordinary forecast's error in that
very hour (`core.ordinary`) is taken away, where the model erred the other way added, before its size is taken. How large errors
are that day, the model's against the ordinary forecast's, is the median of all places; so errors larger by a factor are own
errors larger by that factor, whatever the model is, and one place that goes wrong does not speak for the others.

Errors grow with the demand, less than in proportion: hours, and places, are compared in units of the root of it, since in
units of demand the few busiest of them would be all of a day. And of each error a share of that of the hour before is taken
away (`core.fresh`), a larger one than where errors are all there is, because what a place's luck does to all hours of a day is
mostly shared.

The shares were chosen on the shipped bikes of 2010 to 2014: there the daily figure (`core.difficulty`) scatters by 0.19 where
whole errors against both forecasts scattered by 0.25, and the means of fortnights by 0.06 instead of 0.08. Ten kinds of
degradation by 30 % (larger errors, predictions that are too low, too high, shifted up or down, noisy, noisy in proportion, late
by an hour, mixed with the naive forecast or with yesterday's demand) move it by as many of its standard deviations as before
(too low) to twice as many. In the bikes since, and on the car parks, which were looked at beside them, it scatters by 0.23
instead of 0.31 and by 0.15 instead of 0.21.
"""

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.view import Floats

__all__ = ["OWN_FIELDS", "SHARED", "TOLD", "own_errors"]

#: Rows compared, the model's own error, and the ordinary forecast's error.
OWN_FIELDS = ("n", "own", "ordinary")
#: Share of the ordinary forecast's error that is taken away.
SHARED = 0.4
#: Share of the error of the hour before that is taken away.
TOLD = 0.6


def own_errors(rows: Floats, error: Floats, actual: Floats, forecast: Floats) -> NDArray[np.float64]:
    """Return the figures of `OWN_FIELDS` per place and day, (3, P, D); errors in roots of demand, times rows.

    Parameters
    ----------
    rows, error
        Rows and their summed signed errors per place, local day and hour of its wall clock, (P, D, 24).
    actual, forecast
        Mean demand and its ordinary forecast in the same hours; NaN where unknown.

    Examples
    --------
    >>> rows, actual = np.ones((1, 1, 24)), np.full((1, 1, 24), 50.0)
    >>> n, own, ordinary = own_errors(rows, rows * 10, actual, np.full((1, 1, 24), 50.0))
    >>> n.tolist(), own.round(2).tolist(), ordinary.tolist()
    ([[24.0]], [[10.2]], [[0.0]])
    >>> n, own, ordinary = own_errors(rows, rows * 22, actual, np.full((1, 1, 24), 72.0))
    >>> own.round(2).tolist(), ordinary.round(2).tolist()
    ([[11.22]], [[18.7]])
    """
    both = (rows > 0) & np.isfinite(forecast) & np.isfinite(actual)
    count = np.where(both, rows, 0.0)
    expected = np.where(both, np.abs(forecast), 0.0)
    usual = expected.sum(axis=2, keepdims=True) / np.maximum(both.sum(axis=2, keepdims=True), 1)
    unit = np.sqrt(expected + usual)
    unit = np.where(unit > 0, unit, 1.0)
    own = _fresh(np.where(both, error / np.where(both, rows, 1.0), 0.0) / unit, both)
    ordinary = _fresh(np.where(both, forecast - actual, 0.0) / unit, both)
    size = (np.abs(ordinary) * count).sum(axis=2)
    share = SHARED * _median_ratio((np.abs(own) * count).sum(axis=2), size)
    left = (np.abs(own - share[:, None] * ordinary) * count).sum(axis=2)
    return np.stack([count.sum(axis=2), left, size])


def _fresh(errors: Floats, known: NDArray[np.bool_]) -> Floats:
    fresh = errors.copy()
    fresh[..., 1:] -= TOLD * errors[..., :-1]
    return np.where(known, fresh, 0.0)


def _median_ratio(above: Floats, below: Floats) -> Floats:
    """Return the median of all places' ratios of each day, (D,); zero where no place has one."""
    known = below > 0
    ratios = np.sort(np.where(known, above / np.where(known, below, 1.0), np.inf), axis=0)
    count, days = known.sum(axis=0), np.arange(below.shape[1])
    if not len(ratios):
        return np.zeros(len(days))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(ratios) - 1)
    return np.where(count > 0, 0.5 * (ratios[low, days] + ratios[high, days]), 0.0)
