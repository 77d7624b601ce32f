"""How hard a day was: the error it deserved, and the champion's error against it.

Dividing by the error of a seasonal-naive forecast takes the season out, and puts that forecast's own bad luck in: a day is
called hard because *last week's* was odd. So a day is mostly measured by an ordinary forecast (`core.ordinary`), which no model
has a part in either, and of the model's error only what is its own counts (`core.own_errors`). Where there is not yet the past
for an ordinary forecast, the naive error and the level of demand tell, and what was fresh in the model's error (`core.fresh`).

The powers 0.7 and 0.2 were chosen on the shipped bikes, those beside own errors on the bikes of 2010 to 2014.

A day on which demand itself is as it never is (a holiday nobody listed) says nothing about the model: the world has changed,
for a week or for good, and only time tells which. It is set aside, nine days in a row at most: a week and its weekends.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.core.feed import FeedState
from demand_maint.core.ordinary import days_ahead
from demand_maint.core.own_sums import sample_step
from demand_maint.core.recurrence import Recurrence
from demand_maint.core.sound import sound_blocks
from demand_maint.core.surprise import DemandMemory, surprises
from demand_maint.core.view import DAY, Floats, MetricsView

__all__ = [
    "DailySeries",
    "OwnDays",
    "SeriesMemory",
    "daily_series",
    "deserved_log_error",
    "log_error_against",
    "own_share",
    "set_aside",
    "usual_and_spread",
]

NAIVE_POWER = 0.7
LEVEL_POWER = 0.2
#: Powers of the ordinary and of the naive error, both in roots of demand, beside own errors.
ORDINARY_POWER = 0.55
NAIVE_BESIDE = 0.1
#: Share of the demand below which an ordinary forecast makes no error to compare with.
NO_ERROR = 0.002
#: Days after which it is known what judging by own errors mostly changes.
SETTLED = 28
#: Standard deviations above the usual from which the naive error counts in full.
TAIL = 1.0
#: The same from which a day's surprise, as a share of its demand, sets it aside; the least such change; days in a row at most.
UNUSUAL = 3.0
LEAST_CHANGE = 0.1
LONGEST = 9
#: Half-life of what is usual, days.
HALF_LIFE = 28.0
PULL = 1.0 - 0.5 ** (1.0 / HALF_LIFE)
#: A day with fewer rows than this share of the median day is no day to judge by.
LEAST_ROWS = 0.5


class OwnDays(Struct, frozen=True):
    """The model's own error and the ordinary forecast's per row (`core.own_errors`) of D days, (D,) each; NaN where unknown."""

    own: Floats
    ordinary: Floats


class DailySeries(Struct, frozen=True):
    """One figure per local day (arrays of length D): the log error against the deserved one, NaN where there is none.

    `adjusted` tells whether it could be taken against the deserved error at all, `share` is what judging by own errors took
    from it, `aside` which days are set aside.
    """

    values: Floats
    starts: Floats
    rows: Floats
    share: Floats
    aside: NDArray[np.bool_]
    adjusted: bool = True


class SeriesMemory:
    """What was worked out for days that are mostly still the same the next time."""

    __slots__ = ("demand", "hard", "unusual")

    def __init__(self) -> None:
        self.demand = DemandMemory()
        self.hard = Recurrence(_next_usual)
        self.unusual = Recurrence(_next_usual)


def deserved_log_error(naive: Floats, level: Floats, memory: SeriesMemory | None = None) -> Floats:
    """Log of the error that each day deserved by the naive forecast's, up to a constant.

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
    above, spread = _above_usual(logs, (memory or SeriesMemory()).hard)
    beyond = (1.0 - NAIVE_POWER) * (above - TAIL * spread)
    return deserved + np.where(beyond > 0, beyond, 0.0)


def own_share(whole: Floats, naive: Floats, level: Floats, days: OwnDays) -> Floats:
    """Return what judging by own errors takes from the figure of whole ones, (D,); zero where own errors are unknown.

    Measured from its mean over the first days that have it, so that a stream starts, and goes on where it has gaps, with its
    whole errors.

    Parameters
    ----------
    whole
        Log of the model's mean fresh error over `deserved_log_error` per day, (D,).
    naive, level
        As there.
    """
    share = np.zeros(len(whole))
    known = np.isfinite(whole) & (days.own > 0) & (days.ordinary > NO_ERROR * np.sqrt(level))
    if not known.any():
        return share
    root = np.sqrt(level[known])
    own = np.log(days.own[known]) - ORDINARY_POWER * np.log(days.ordinary[known])
    taken = whole[known] - own + NAIVE_BESIDE * np.log(naive[known] / root)
    share[known] = taken - taken[:SETTLED].mean()
    return share


def set_aside(level: Floats, surprise: Floats, memory: SeriesMemory | None = None) -> NDArray[np.bool_]:
    """Return the days (D,) whose demand was so unusual that they say nothing about the model."""
    relative = surprise / np.maximum(level, 1e-9)
    above, spread = _above_usual(relative, (memory or SeriesMemory()).unusual)
    known = np.isfinite(relative)
    unusual = (above > np.maximum(UNUSUAL * spread, LEAST_CHANGE))[known]
    position = np.arange(len(unusual))
    running = position - np.maximum.accumulate(np.where(unusual, -1, position)) if len(unusual) else position
    aside = np.zeros(len(relative), dtype=bool)
    aside[known] = unusual & (running <= LONGEST)
    return aside


def _above_usual(values: Floats, memory: Recurrence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Return how far each day lies above a running usual value, and the spread about that then; NaN where unknown, (D,) each."""
    above, spreads = np.full(len(values), np.nan), np.full(len(values), np.nan)
    first = values[np.isfinite(values)][:28]
    if len(first) < 7:
        return above, spreads
    usual = _median(first)
    spread = max(1.4826 * _median(np.abs(first - usual)), 0.02)
    known = ~np.isnan(values)
    found = memory.run((usual, spread), values[known])[1]
    above[known], spreads[known] = found[:, 0], found[:, 1]
    return above, spreads


def _median(values: Floats) -> float:
    """Return the median of at least one value (quicker than numpy's)."""
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle] if len(values) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle]))


def _next_usual(state: tuple[float, float], value: float) -> tuple[tuple[float, float], tuple[float, float]]:
    usual, spread = state
    distance = value - usual
    usual += PULL * min(max(distance, -2.5 * spread), 2.5 * spread)
    wider = max(spread + PULL / 2 * (1.2533 * min(abs(distance), 3.0 * spread) - spread), 0.02)
    return (usual, wider), (distance, spread)


def log_error_against(
    error: Floats, naive: Floats, level: Floats, own: OwnDays | None = None, surprise: Floats | None = None
) -> Floats:
    """Log of each day's mean fresh error over the deserved one, up to a constant, (D,); NaN where unknown or set aside."""
    values = np.log(np.where(error > 0, error, np.nan)) - deserved_log_error(naive, level)
    if own is not None:
        values -= own_share(values, naive, level, own)
    if surprise is not None:
        values[set_aside(level, surprise)] = np.nan
    return values


def usual_and_spread(values: Floats) -> tuple[float, float]:
    """Return where the daily figures of a reference period lie, and their standard deviation; odd days have no say.

    The mean of the middle three fifths, and the mean distance from it without the largest tenth.

    >>> usual_and_spread(np.array([0.0, 0.1, -0.1, 0.1, -0.1, 0.0, 9.0]))[0]
    0.02
    """
    known = np.sort(values[np.isfinite(values)])
    cut = len(known) // 5
    usual = float(known[cut : len(known) - cut].mean())
    distance = np.sort(np.abs(known - usual))
    left = len(known) // 10
    # for normal figures the mean distance is 0.798 deviations, 0.657 without the largest tenth
    return usual, float(distance[: len(distance) - left].mean()) * (1.52 if left else 1.2533)


def daily_series(
    view: MetricsView,
    edges: NDArray[np.int64],
    champion: int | None,
    first_day: int,
    feed: FeedState,
    *,
    adjusted: bool,
    horizon: float = DAY,
    season: float = 7 * DAY,
    memory: SeriesMemory | None = None,
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
    horizon
        How long before its time a forecast is wanted, seconds.
    season
        Distance of the seasonal-naive reference, seconds.
    memory
        Of the days judged before; with it only what is new is worked out.
    """
    memory = memory or SeriesMemory()
    day_count = len(edges) - 1
    view.sums.find_fresh(view.grid)
    blocks = sound_blocks(view, edges, champion, first_day, feed, season)
    adjusted = adjusted and bool(blocks["naive_n"].sum() >= LEAST_ROWS * blocks["n"].sum())
    rows = blocks["naive_n"] if adjusted else blocks["n"]
    filled = rows[rows > 0]
    enough = rows > LEAST_ROWS * (_median(filled) if len(filled) else np.inf)
    counted = np.maximum(blocks["n"], 1.0)
    error = np.where(enough, blocks["fresh_error"] / counted, np.nan)
    logs = np.log(np.where(error > 0, error, np.nan))
    if adjusted:
        naive = np.where(enough, blocks["naive_abs_error"] / np.where(enough, rows, 1.0), np.nan)
        level = np.where(blocks["n"] > 0, blocks["abs_actual"] / counted, 0.0)
        surprise, counts = surprises(view, edges, feed, memory.demand)
        own = _own_days(view, edges, champion, first_day, days_ahead(horizon), counts)
        values = logs - deserved_log_error(naive, level, memory)
        share, aside = own_share(values, naive, level, own), set_aside(level, surprise, memory)
        values = values - share
        values[aside] = np.nan
    else:
        values = logs
        share, aside = np.zeros(day_count), np.zeros(day_count, dtype=bool)
    starts = edges[:day_count].astype(np.float64) * 3600.0
    return DailySeries(values, starts, rows, share, aside, adjusted)


def _own_days(
    view: MetricsView,
    edges: NDArray[np.int64],
    champion: int | None,
    first_day: int,
    lag: int,
    counts: Floats,
) -> OwnDays:
    """Return own and ordinary error of each day; NaN where they are known of less than half of the rows.

    Parameters
    ----------
    counts
        Rows per place looked at, (P, D), those of faulty feeds left out.
    """
    step = sample_step(len(view.places))
    sums = view.sums.own_by_place(view.feed, edges, view.grid, lag, champion, first_day, step)
    counts = counts[: len(sums["n"])]
    judged = np.where(counts > 0, sums["n"][: len(counts)], 0.0)
    rows = judged.sum(axis=0)
    enough = (rows > 0) & (rows >= LEAST_ROWS * counts.sum(axis=0))
    own, ordinary = (
        np.where(
            enough,
            np.where(judged > 0, sums[name][: len(counts)], 0.0).sum(axis=0) / np.where(enough, rows, 1.0),
            np.nan,
        )
        for name in ("own", "ordinary")
    )
    return OwnDays(own, ordinary)
