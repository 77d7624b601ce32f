"""How hard was that day? The error a day deserved, and the champion's error against it.

Dividing by the error of a seasonal-naive forecast takes the season out, and puts that forecast's own bad luck in. Measured on
four streams of real model errors, the logarithm of a day's error follows 0.7 times the naive error's and 0.2 times the demand
level's: the ratio to *that* is a fifth to a third quieter than the plain ratio, over a week as over a month. The two numbers
were chosen on those streams, the shipped bikes among them. A day far harder than the last weeks (a holiday) counts in full.
"""

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.core.feed import FeedState
from demand_maint.core.view import Floats, MetricsView

__all__ = ["DailySeries", "daily_series", "deserved_log_error", "log_error_against"]

NAIVE_POWER = 0.7
LEVEL_POWER = 0.2
#: Standard deviations above the usual from which the naive error counts in full.
TAIL = 1.0
#: Half-life of what is usual, days.
HALF_LIFE = 28.0
#: A day with fewer rows than this share of the median day is no day to judge by.
LEAST_ROWS = 0.5


class DailySeries(Struct, frozen=True):
    """One figure per local day (arrays of length D): the log error against the deserved one, NaN where there is none.

    `adjusted` tells whether it could be taken against the deserved error at all.
    """

    values: Floats
    starts: Floats
    rows: Floats
    adjusted: bool = True


def deserved_log_error(naive: Floats, level: Floats) -> Floats:
    """Log of the error that each day deserved, up to a constant.

    Parameters
    ----------
    naive
        Mean absolute error of the seasonal-naive forecast per day, (D,); zero or NaN where unknown.
    level
        Mean absolute demand per day, (D,).

    Returns
    -------
    numpy.ndarray
        (D,), NaN where a day has no such figures.

    Examples
    --------
    >>> deserved_log_error(np.array([10.0, 10.0, 20.0]), np.array([100.0, 100.0, 100.0])).round(2).tolist()
    [2.53, 2.53, 3.02]
    """
    known = (naive > 0) & (level > 0)
    logs = np.log(np.where(known, naive, np.nan))
    deserved = NAIVE_POWER * logs + LEVEL_POWER * np.log(np.where(known, level, np.nan))
    first = logs[known][:28]
    if len(first) == 0:
        return deserved
    usual = float(np.median(first))
    spread = max(1.4826 * float(np.median(np.abs(first - usual))), 0.02)
    pull = 1.0 - 0.5 ** (1.0 / HALF_LIFE)
    tail = np.zeros(len(logs))
    for day, value in enumerate(logs.tolist()):
        if math.isnan(value):
            continue
        above = value - usual
        if len(first) >= 7 and above > TAIL * spread:
            tail[day] = (1.0 - NAIVE_POWER) * (above - TAIL * spread)
        usual += pull * min(max(above, -2.5 * spread), 2.5 * spread)
        spread = max(spread + pull / 2 * (1.2533 * min(abs(above), 3.0 * spread) - spread), 0.02)
    return deserved + tail


def log_error_against(error: Floats, naive: Floats, level: Floats) -> Floats:
    """Log of each day's mean absolute error over the deserved one, up to a constant, (D,); NaN where unknown."""
    return np.log(np.where(error > 0, error, np.nan)) - deserved_log_error(naive, level)


def daily_series(
    view: MetricsView,
    edges: NDArray[np.int64],
    champion: int | None,
    first_day: int,
    feed: FeedState,
    *,
    adjusted: bool,
) -> DailySeries:
    """Return the figure of each of D days between D + 1 `edges` (hours).

    Parameters
    ----------
    first_day
        Position of the champion's first full day: from there on its own rows count, before it everybody's.
    feed
        Stretches whose truth looks wrong are left out.
    adjusted
        Whether to divide by the deserved error; otherwise, and where most rows have no seasonal-naive forecast, it is the log
        error itself.
    """
    day_count = len(edges) - 1
    blocks = {name: values.copy() for name, values in view.sums.blocks(edges, champion).items()}
    if first_day > 0 and champion is not None:
        everyone = view.sums.blocks(edges[: first_day + 1], None)
        for name, values in everyone.items():
            blocks[name][:first_day] = values
    for place, first, last in feed.excluded:
        for day in np.flatnonzero((edges[:-1] < last) & (edges[1:] > first)):
            whose = champion if day >= first_day else None
            part = view.sums.window(int(max(first, edges[day])), int(min(last, edges[day + 1])), whose, place)
            for name in ("n", "naive_n", "abs_error", "abs_error_naive", "naive_abs_error", "abs_actual"):
                blocks[name][day] -= getattr(part, name)
    adjusted = adjusted and bool(blocks["naive_n"].sum() >= LEAST_ROWS * blocks["n"].sum())
    rows = blocks["naive_n"] if adjusted else blocks["n"]
    enough = rows > LEAST_ROWS * (np.median(rows[rows > 0]) if bool((rows > 0).any()) else np.inf)
    safe = np.where(enough, rows, 1.0)
    if adjusted:
        error = np.where(enough, blocks["abs_error_naive"] / safe, np.nan)
        naive = np.where(enough, blocks["naive_abs_error"] / safe, np.nan)
        level = np.where(blocks["n"] > 0, blocks["abs_actual"] / np.maximum(blocks["n"], 1.0), 0.0)
        values = log_error_against(error, naive, level)
    else:
        error = np.where(enough, blocks["abs_error"] / safe, np.nan)
        values = np.log(np.where(error > 0, error, np.nan))
    return DailySeries(values, edges[:day_count].astype(np.float64) * 3600.0, rows, adjusted)
