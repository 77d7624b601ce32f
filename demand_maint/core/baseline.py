"""The error a champion is expected to make, and how that expectation is found, kept and renewed.

A baseline comes from rows the champion was not trained on: the holdout of its training, else its first 14 days of service. It
is renewed from weeks in control only, slowly, so that a slow decline cannot hide in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from demand_maint.core.difficulty import log_error_against, usual_and_spread
from demand_maint.core.feed import FeedState
from demand_maint.core.fresh import fresh_errors
from demand_maint.core.sound import sound_blocks
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline
from demand_maint.core.view import DAY, HOUR, Floats, MetricsView, local_days

__all__ = [
    "FIRST_DAYS",
    "baseline_from_days",
    "baseline_from_errors",
    "due_refresh",
    "first_days_baseline",
    "refreshed_baseline",
]

#: Days of service that make a baseline where no holdout did.
FIRST_DAYS = 14
#: Share of the rows that need a seasonal-naive forecast; of the first 14 days only half can have one, and some are missing.
LEAST_NAIVE = 0.3
#: Least days behind a noise estimate.
LEAST_DAYS = 5
#: Largest relative change of `skill` by one refresh; a refresh follows the season, it never swallows a drift.
REFRESH_STEP = 0.05
#: Days a refresh looks at, and the least between two of them.
REFRESH_DAYS = 28


def baseline_from_days(
    days: Mapping[str, Floats], *, since: float, until: float, source: str = "holdout"
) -> Baseline | None:
    """Return the baseline of daily sums (fields of `SUM_FIELDS`, arrays (D,)), ``None`` without rows.

    Without ``fresh_error`` among them it does not say where the sequential test starts.
    """
    n = float(days["n"].sum())
    if n <= 0:
        return None
    naive_n = float(days["naive_n"].sum())
    naive_total = float(days["naive_abs_error"].sum())
    own_total = float(days["abs_error_naive"].sum())
    adjusted = naive_n >= LEAST_NAIVE * n and naive_total > 0 and own_total > 0
    centre, scale, log_days = _log_start(days) if adjusted and "fresh_error" in days else (None, None, 0)
    return structs.replace(
        Baseline(mae=float(days["abs_error"].sum()) / n),
        skill=own_total / naive_total if adjusted else None,
        naive_mae=naive_total / naive_n if adjusted else None,
        log_scale=scale,
        log_centre=centre,
        log_days=log_days,
        n=int(n),
        days=int((days["n"] > 0).sum()),
        since=since,
        until=until,
        source=source,
    )


def _log_start(days: Mapping[str, Floats]) -> tuple[float | None, float | None, int]:
    """Return centre and scale the sequential test is to start with, and the days behind them.

    Days with at least half the usual rows count; few of them tell no scale.
    """
    rows = days["naive_n"]
    enough = rows > 0.5 * np.median(rows[rows > 0])
    values = log_error_against(
        days["fresh_error"] / np.where(enough, days["n"], np.nan),
        days["naive_abs_error"] / np.where(enough, rows, np.nan),
        days["abs_actual"] / np.where(enough, days["n"], 1.0),
    )
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None, None, 0
    centre, scale = usual_and_spread(values)
    return centre, scale if len(values) >= LEAST_DAYS else None, len(values)


def baseline_from_errors(
    timestamps: Floats,
    errors: Floats,
    naive_abs_errors: Floats,
    actuals: Floats,
    grid: TimeGrid,
    *,
    places: NDArray[Any] | None = None,
    source: str = "out_of_sample",
) -> Baseline | None:
    """Return the baseline of single out-of-sample rows.

    Parameters
    ----------
    timestamps
        Epoch seconds, (n,).
    errors, naive_abs_errors
        Signed errors of the model, absolute ones of the seasonal-naive forecast, (n,); NaN where there was no such forecast.
    actuals
        The truth, (n,).
    grid
        Tells the local days.
    places
        Place of each row, (n,), ids of any kind; without it the sequential test is not told where to start.
    """
    finite = np.isfinite(errors)
    if not finite.any():
        return None
    stamps, own, naive = timestamps[finite], np.abs(errors[finite]), naive_abs_errors[finite]
    known = np.isfinite(naive)
    day = grid.day_of_hours(stamps // HOUR)  # as the monitor counts
    day = day - day.min()
    count = int(day.max()) + 1

    def daily(values: Floats, rows: np.ndarray) -> Floats:
        return np.bincount(day[rows], weights=values[rows], minlength=count).astype(np.float64)

    every = np.ones(len(own), dtype=bool)
    days = {
        "n": daily(np.ones_like(own), every),
        "abs_error": daily(own, every),
        "naive_n": daily(np.ones_like(own), known),
        "naive_abs_error": daily(naive, known),
        "abs_error_naive": daily(own, known),
        "abs_actual": daily(np.abs(actuals[finite]), every),
    }
    if places is not None:
        days["fresh_error"] = _fresh_by_day(places[finite], stamps, errors[finite], grid)
    return baseline_from_days(days, since=float(stamps.min()), until=float(stamps.max()), source=source)


def _fresh_by_day(places: NDArray[Any], stamps: Floats, errors: Floats, grid: TimeGrid) -> Floats:
    """Sum up the fresh errors of rows by local day, (D,)."""
    names, code = np.unique(places, return_inverse=True)
    hour = (stamps // HOUR).astype(np.int64)
    hours = np.arange(hour.min(), hour.max() + 1)
    cell = code * len(hours) + hour - hours[0]
    shape, size = (len(names), len(hours)), len(names) * len(hours)
    rows = np.bincount(cell, minlength=size).astype(np.float64).reshape(shape)
    day = grid.day_of_hours(hours)
    follows = np.diff(day, prepend=day[0] - 1) == 0
    summed = np.bincount(cell, weights=errors, minlength=size).astype(np.float64).reshape(shape)
    fresh = fresh_errors(rows, summed, follows)
    return np.bincount(day - day[0], weights=fresh.sum(axis=0)).astype(np.float64)


def first_days_baseline(
    view: MetricsView,
    *,
    since: float,
    now: float,
    champion: int | None = None,
    feed: FeedState | None = None,
    season: float = 7 * DAY,
    days: int = FIRST_DAYS,
) -> tuple[Baseline | None, int]:
    """Return the baseline of the champion's first `days` full days with truth after `since`, and how many there are yet.

    Parameters
    ----------
    feed
        What is wrong with the truth of these days is left out.
    season
        Distance of the seasonal-naive reference, seconds.
    """
    numbers, edges = local_days(view.grid, since, now)
    if len(numbers) == 0:
        return None, 0
    view.sums.find_fresh(view.grid)
    blocks = sound_blocks(view, edges, champion, 0, feed or FeedState(), season)
    filled = np.flatnonzero(blocks["n"] > 0)
    if len(filled) < days:
        return None, len(filled)
    last = int(filled[days - 1])
    reference = {name: values[: last + 1] for name, values in blocks.items()}
    start, end = float(edges[0] * HOUR), float(edges[last + 1] * HOUR)
    return baseline_from_days(reference, since=start, until=end, source="first_days"), days


def refreshed_baseline(
    baseline: Baseline, days: Mapping[str, Floats], in_control: np.ndarray, *, since: float, until: float
) -> Baseline | None:
    """Return `baseline` moved towards what the last weeks show, ``None`` where they may not be used.

    Only a period that is wholly in control counts (`in_control`, bool (D,): no alarm, no warning, no feed fault), of at
    least 28 days. The skill moves by at most 5 %: what is lost slowly stays visible against the promotion's baseline.
    """
    if len(in_control) < REFRESH_DAYS or not bool(np.all(in_control)):
        return None
    fresh = baseline_from_days(days, since=since, until=until, source="refreshed")
    if fresh is None:
        return None
    if baseline.skill is None or fresh.skill is None:
        low, high = baseline.mae * (1 - REFRESH_STEP), baseline.mae * (1 + REFRESH_STEP)
        return structs.replace(fresh, mae=min(max(fresh.mae, low), high))
    low, high = baseline.skill * (1 - REFRESH_STEP), baseline.skill * (1 + REFRESH_STEP)
    skill = min(max(fresh.skill, low), high)
    return structs.replace(fresh, skill=skill, mae=fresh.mae * skill / fresh.skill)


def due_refresh(
    view: MetricsView,
    baseline: Baseline,
    calm_days: int,
    excluded: Sequence[tuple[int, int, int]],
    *,
    now: float,
    champion: int | None,
    since: float | None,
) -> Baseline | None:
    """Return the baseline to go on with where a refresh is due, else ``None``.

    Due means: the present one is older than 28 days, the last 28 whole days were served by this champion, the sequential test
    did not warn on any of them, and no feed fault fell into them.

    Parameters
    ----------
    calm_days, excluded
        From `DriftState` and `FeedState`.
    """
    numbers, edges = local_days(view.grid, now - REFRESH_DAYS * DAY, now)
    start, end = float(edges[0] * HOUR), float(edges[-1] * HOUR)
    known_until = baseline.until if baseline.until is not None else since
    old = known_until is None or known_until <= start
    own = since is None or since <= start
    if not old or not own or calm_days < len(numbers) or len(numbers) < REFRESH_DAYS:
        return None
    view.sums.find_fresh(view.grid)
    faulty = np.array([any(f < edges[d + 1] and e > edges[d] for _, f, e in excluded) for d in range(len(numbers))])
    return refreshed_baseline(baseline, view.sums.blocks(edges, champion), ~faulty, since=start, until=end)
