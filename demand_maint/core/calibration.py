"""Level calibration: how much higher than forecast demand runs, per place, right now.

A model that learned last quarter's level is mostly right about shape and wrong about height. The ratio of discounted sums of
actuals and raw forecasts corrects the height; it is shrunk to the pooled ratio, because a quiet place says little by itself.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["LevelCalibration", "daily_discounts", "discounts", "effective_days"]

Floats = NDArray[np.float64]


def discounts(ages: Floats, half_life_days: float) -> Floats:
    """Weight of evidence that is `ages` days old: half at the half-life, then ever more slowly less.

    Hyperbolic, because demand changes at every speed at once: yesterday counts most, and last month is not forgotten.

    >>> discounts(np.array([0.0, 2.0, 4.0, 18.0]), 2.0).round(2).tolist()
    [1.0, 0.5, 0.33, 0.1]
    """
    return np.asarray(half_life_days / (half_life_days + np.maximum(ages, 0.0)), dtype=np.float64)


@lru_cache(maxsize=256)
def daily_discounts(days: int, half_life_days: float) -> Floats:
    """`discounts` of `days` days in a row, the newest last; not to be written to.

    >>> daily_discounts(3, 2.0).round(2).tolist()
    [0.5, 0.67, 1.0]
    """
    found = discounts(np.arange(days - 1, -1, -1, dtype=np.float64), half_life_days)
    found.flags.writeable = False
    return found


@lru_cache(maxsize=256)
def effective_days(days: float, half_life_days: float) -> float:
    """How many full days `days` of discounted evidence amount to.

    >>> round(effective_days(2.0, 2.0), 2), round(effective_days(36.0, 2.0), 2)
    (1.67, 6.4)
    """
    return float(discounts(np.arange(days), half_life_days).sum())


@dataclass(frozen=True, slots=True)
class LevelCalibration:
    """Discounted ratio of actual to forecast per place, shrunk to the pool.

    Parameters
    ----------
    half_life_days
        Age at which a day's evidence counts half (`discounts`).
    prior_days
        A place's own ratio and the pooled one weigh the same when the place has this many days of evidence of the average
        place's size.
    unit_days
        The pooled ratio and 1 weigh the same when the pool has this many days of evidence: a new model is believed to be right.
    low, high
        No level leaves this range.

    Examples
    --------
    >>> levels = LevelCalibration(prior_days=0.0, unit_days=0.0).levels(np.array([120.0, 50.0]), np.array([100.0, 100.0]), days=7.0)
    >>> levels.round(2).tolist()
    [1.2, 0.5, 0.85]
    """

    half_life_days: float = 1.0
    prior_days: float = 3.0
    unit_days: float = 0.5
    low: float = 0.3
    high: float = 3.0

    def levels(self, actual: Floats, forecast: Floats, days: float) -> Floats:
        """Levels of P places, and the pooled one as last element.

        Parameters
        ----------
        actual, forecast
            (P,) discounted sums of the truth and of the raw forecasts, the latter counted from zero up.
        days
            How long evidence has been coming in, in days.
        """
        total = float(forecast.sum())
        span = max(effective_days(days, self.half_life_days), 1.0)
        unit = self.unit_days * total / span
        pooled = (float(actual.sum()) + unit) / (total + unit) if total > 0 else 1.0
        seen = forecast > 0
        average = total / max(int(seen.sum()), 1) / span
        prior = self.prior_days * average
        every = np.empty(len(forecast) + 1)
        every.fill(pooled)
        np.divide(actual + prior * pooled, forecast + prior, out=every[:-1], where=seen)
        every[~np.isfinite(every)] = 1.0
        return np.minimum(np.maximum(every, self.low), self.high)
