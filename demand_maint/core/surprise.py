"""How unusual the demand of a day was, whatever anybody predicted.

Two figures a day, in units of demand. *Surprise*: how far the day of a place lay from the median of the same weekday one to
four weeks before. *Turn*: how far that distance moved since the day before, for a model that knows yesterday has yesterday's
surprise in its lags. Both are means over places, weighted by rows. They come from truths alone, so no model can hide in them.
"""

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.feed import FeedState
from demand_maint.core.view import Floats, MetricsView

__all__ = ["SAMPLE", "day_surprises", "surprises"]

WEEKS = 4
#: Of more places than this an even sample is looked at (`benchmarks.detector_scorecard --costs`).
SAMPLE = 128
#: How far the rows of a day may be from their usual number, for its mean to be compared.
SAME_ROWS = 0.1
#: Days read at a time, so that no table of all places and days is made.
CHUNK = 28


def day_surprises(rows: Floats, demand: Floats) -> tuple[Floats, Floats]:
    """Return surprise and turn of each day, (D,) each; NaN where half of the day's rows have no past to compare with.

    Parameters
    ----------
    rows, demand
        Rows and their summed demand per place and day, (P, D).

    Examples
    --------
    >>> demand = np.full((1, 16), 10.0)
    >>> demand[0, 15] = 13.0
    >>> surprise, turn = day_surprises(np.ones((1, 16)), demand)
    >>> surprise[13:].tolist(), turn[13:].tolist()
    ([0.0, 0.0, 3.0], [0.0, 0.0, 3.0])
    """
    counts = np.where(rows > 0, rows, np.nan)
    mean = demand / counts
    # the mean of half a day is no mean of a day
    whole = np.abs(counts / _median_of_weeks(counts) - 1.0) <= SAME_ROWS
    odd = np.where(whole, mean - _median_of_weeks(mean), np.nan)
    return _mean(np.abs(odd), rows), _mean(np.abs(odd - _before(odd, 1)), rows)


def surprises(view: MetricsView, edges: NDArray[np.int64], feed: FeedState) -> tuple[Floats, Floats]:
    """Return surprise and turn of each of D days between D + 1 `edges` (hours); feed faults are left out."""
    step = max(-(-len(view.places) // SAMPLE), 1)
    rows, demand = [], []
    for first in range(0, len(edges) - 1, CHUNK):
        part = edges[first : first + CHUNK + 1]
        blocks = view.sums.blocks_by_place(part, fields=("n", "abs_actual"), every=step)
        rows.append(blocks["n"])
        demand.append(blocks["abs_actual"])
    if not rows:
        return np.empty(0), np.empty(0)
    counts = np.concatenate(rows, axis=1)
    for place, begin, end in feed.excluded:
        if place % step == 0 and place // step < len(counts):
            counts[place // step, (edges[:-1] < end) & (edges[1:] > begin)] = 0.0
    return day_surprises(counts, np.concatenate(demand, axis=1))


def _before(values: Floats, days: int) -> Floats:
    out = np.full_like(values, np.nan)
    out[:, days:] = values[:, :-days]
    return out


def _median_of_weeks(mean: Floats) -> Floats:
    """Median of what is known of the last weeks: of four or three values, all but the extremes are averaged."""
    total, count = np.zeros_like(mean), np.zeros_like(mean)
    low, high = np.full_like(mean, np.inf), np.full_like(mean, -np.inf)
    for week in range(1, WEEKS + 1):
        past = _before(mean, 7 * week)
        known = np.isfinite(past)
        count += known
        total += np.where(known, past, 0.0)
        low, high = np.fmin(low, past), np.fmax(high, past)
    many = count >= 3
    inner = total - np.where(many, low, 0.0) - np.where(many, high, 0.0)
    middle: Floats = np.where(count > 0, inner / np.maximum(count - 2.0 * many, 1.0), np.nan)
    return middle


def _mean(values: Floats, rows: Floats) -> Floats:
    known = np.isfinite(values)
    weight = np.where(known, rows, 0.0)
    total = weight.sum(axis=0)
    enough = (total > 0) & (total >= 0.5 * rows.sum(axis=0))
    mean: Floats = np.where(
        enough, (np.where(known, values, 0.0) * weight).sum(axis=0) / np.where(enough, total, 1.0), np.nan
    )
    return mean
