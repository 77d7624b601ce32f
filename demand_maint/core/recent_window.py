"""When rows become too old to be kept in memory."""

from typing import NamedTuple

import numpy as np

from demand_maint.core.timegrid import TimeGrid

__all__ = ["RecentWindow", "outgrown"]

DAY = 86400


class RecentWindow(NamedTuple):
    """Slots (epoch seconds): where the window of recent rows begins, and from where on rows stay, since a reference lies before it."""

    floor: int
    keep: int


def outgrown(kept_from: int, newest: float, days: int, season: int, grid: TimeGrid) -> RecentWindow | None:
    """Return the window to shrink to, ``None`` while little would be gained: what stays has to be moved.

    Parameters
    ----------
    kept_from
        Slot from which on rows are kept.
    newest
        Where the window ends.
    days
        Its length.
    season
        Seconds; the naive forecasts of the window reach back two.
    """
    edge, at_once = newest - days * DAY, max(days // 10, 1) * DAY
    if edge - 2 * season <= kept_from + at_once:
        return None
    floor = int(grid.day_start(grid.day(np.array([max(edge, 0)])))[0])
    keep = floor - 2 * season
    return RecentWindow(floor, max(keep, 0)) if keep > kept_from + at_once else None
