"""Sums of the errors without what a broken feed said, and without what seasonal-naive forecasts took from that."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.feed import FeedState, merged
from demand_maint.core.metrics import WindowSums
from demand_maint.core.view import HOUR, SUM_FIELDS, Floats, MetricsView, WindowView

__all__ = ["sound_blocks", "sound_window"]

_NAIVE = ("naive_n", "naive_abs_error", "abs_error_naive")
_OTHERS = tuple(name for name in SUM_FIELDS if name not in _NAIVE)


def sound_window(
    view: MetricsView, start: int, end: int, version: int | None, feed: FeedState, season: float
) -> WindowView:
    """Return sums over ``start <= hour < end``.

    Parameters
    ----------
    season
        Distance of the seasonal-naive reference, seconds.
    """
    sums = view.sums.window(start, end, version)
    if not feed.excluded:
        return sums
    left = {name: getattr(sums, name) for name in SUM_FIELDS}
    for place, first, last, fields in _unsound(feed, season):
        if first < end and last > start:
            part = view.sums.window(max(first, start), min(last, end), version, place)
            for name in fields:
                left[name] -= getattr(part, name)
    return WindowSums(**left)


def sound_blocks(
    view: MetricsView, edges: NDArray[np.int64], champion: int | None, first_day: int, feed: FeedState, season: float
) -> dict[str, Floats]:
    """Return sums over each of D days between D + 1 `edges` (hours), arrays of shape (D,).

    Parameters
    ----------
    champion, first_day
        From that position on rows of this version count, before it everybody's; without a champion all do.
    """
    blocks = {name: values.copy() for name, values in view.sums.blocks(edges, champion).items()}
    if first_day > 0 and champion is not None:
        for name, values in view.sums.blocks(edges[: first_day + 1], None).items():
            blocks[name][:first_day] = values
    for place, first, last, fields in _unsound(feed, season):
        for day in np.flatnonzero((edges[:-1] < last) & (edges[1:] > first)):
            whose = champion if day >= first_day else None
            part = view.sums.window(int(max(first, edges[day])), int(min(last, edges[day + 1])), whose, place)
            for name in fields:
                blocks[name][day] -= getattr(part, name)
    return blocks


def _unsound(feed: FeedState, season: float) -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
    """Place code, first and end hour, and the figures that say nothing there: all while the feed is broken, the naive ones also a season later."""
    for stretch in feed.excluded:
        yield *stretch, _OTHERS
    # an hour more on either side, since clocks may change in between
    hours = round(season / HOUR)
    later = [(place, first + hours - 1, last + hours + 1) for place, first, last in feed.wrong]
    for stretch in merged([*feed.excluded, *later]):
        yield *stretch, _NAIVE
