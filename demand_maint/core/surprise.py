"""How unusual the demand of a day was, whatever anybody predicted.

*Surprise*, in units of demand: how far the day of a place lay from the median of the same weekday one to four weeks before; the
mean over places, weighted by rows. It comes from truths alone, so no model can hide in it.
"""

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.feed import FeedState
from demand_maint.core.ordinary import WEEKS, median_of_weeks
from demand_maint.core.own_sums import sample_step
from demand_maint.core.view import Floats, MetricsView

__all__ = ["DemandMemory", "day_surprises", "surprises"]

#: How far the rows of a day may be from their usual number, for its mean to be compared.
SAME_ROWS = 0.1
#: Days before its own that a day's figures look at.
LOOKBACK = 7 * WEEKS


def day_surprises(rows: Floats, demand: Floats) -> Floats:
    """Return the surprise of each day, (D,); NaN where half of the day's rows have no past to compare with.

    Parameters
    ----------
    rows, demand
        Rows and their summed demand per place and day, (P, D).

    Examples
    --------
    >>> demand = np.full((1, 16), 10.0)
    >>> demand[0, 15] = 13.0
    >>> day_surprises(np.ones((1, 16)), demand)[13:].tolist()
    [0.0, 0.0, 3.0]
    """
    counts = np.where(rows > 0, rows, np.nan)
    mean = demand / counts
    # the mean of half a day is no mean of a day
    whole = np.abs(counts / median_of_weeks(counts) - 1.0) <= SAME_ROWS
    odd = np.where(whole, np.abs(mean - median_of_weeks(mean)), np.nan)
    return _mean(odd, rows)


class DemandMemory:
    """The surprise of days, and the rows and demand of places they were found from."""

    __slots__ = ("_demand", "_edges", "_found", "_rows")

    def __init__(self) -> None:
        self._edges: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._rows = self._demand = np.empty((0, 0))
        self._found: Floats = np.empty(0)

    def day_surprises(self, edges: NDArray[np.int64], rows: Floats, demand: Floats) -> Floats:
        """Return what `day_surprises` does, worked out from the first day on that is another one than the last time."""
        gone, same = self._same(edges, rows, demand)
        first = max(same - LOOKBACK, 0)
        surprise = day_surprises(rows[:, first:], demand[:, first:])
        if same:
            surprise = np.concatenate([self._found[gone : gone + same], surprise[same - first :]])
        self._edges, self._rows, self._demand, self._found = edges, rows, demand, surprise
        return surprise

    def _same(self, edges: NDArray[np.int64], rows: Floats, demand: Floats) -> tuple[int, int]:
        """Return how many of the days known are before `edges`, and how many of those behind them are still the same."""
        gone = int(np.searchsorted(self._edges, edges[0]))
        shared = min(len(self._edges) - 1 - gone, len(edges) - 1)
        if shared <= 0 or len(rows) != len(self._rows) or self._rows[:, :gone].any():
            return 0, 0
        here, there = slice(0, shared), slice(gone, gone + shared)
        other = (rows[:, here] != self._rows[:, there]) | (demand[:, here] != self._demand[:, there])
        differs = np.flatnonzero(other.any(axis=0) | (edges[here] != self._edges[there]))
        return gone, int(differs[0]) if len(differs) else shared


def surprises(
    view: MetricsView, edges: NDArray[np.int64], feed: FeedState, memory: DemandMemory | None = None
) -> tuple[Floats, Floats]:
    """Return the surprise (D,) of each of D local days between D + 1 `edges` (hours), and the rows per place looked at, (P, D).

    Feed faults are left out. With the `memory` of an earlier call, only days that are new or other ones are worked out.
    """
    step = sample_step(len(view.places))
    if len(edges) < 2:
        return np.empty(0), np.empty((0, 0))
    blocks = view.sums.blocks_by_place(edges, fields=("n", "abs_actual"), every=step, keep=True)
    counts, demand = blocks["n"].copy(), blocks["abs_actual"]
    for place, begin, end in feed.excluded:
        if place % step == 0 and place // step < len(counts):
            counts[place // step, (edges[:-1] < end) & (edges[1:] > begin)] = 0.0
    return (memory or DemandMemory()).day_surprises(edges, counts, demand), counts


def _mean(values: Floats, rows: Floats) -> Floats:
    known = np.isfinite(values)
    weight = np.where(known, rows, 0.0)
    total = weight.sum(axis=0)
    enough = (total > 0) & (total >= 0.5 * rows.sum(axis=0))
    mean: Floats = np.where(
        enough, (np.where(known, values, 0.0) * weight).sum(axis=0) / np.where(enough, total, 1.0), np.nan
    )
    return mean
