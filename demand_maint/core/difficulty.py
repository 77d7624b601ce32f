"""How hard was that day? The champion's daily error against the error the day deserved."""

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.feed import FeedState
from demand_maint.core.view import Floats, MetricsView

__all__ = ["daily_log_ratio"]


def daily_log_ratio(
    view: MetricsView, edges: NDArray[np.int64], champion: int | None, feed: FeedState, *, adjusted: bool
) -> Floats:
    """Log of error over deserved error for each of D days between D + 1 `edges` (hours); NaN where a day has no figure."""
    blocks = {name: values.copy() for name, values in view.sums.blocks(edges, champion).items()}
    for place, first, last in feed.excluded:
        for day in np.flatnonzero((edges[:-1] < last) & (edges[1:] > first)):
            part = view.sums.window(int(max(first, edges[day])), int(min(last, edges[day + 1])), champion, place)
            blocks["n"][day] -= part.n
            blocks["abs_error"][day] -= part.abs_error
            blocks["abs_error_naive"][day] -= part.abs_error_naive
            blocks["naive_abs_error"][day] -= part.naive_abs_error
    top = blocks["abs_error_naive"] if adjusted else blocks["abs_error"]
    bottom = blocks["naive_abs_error"] if adjusted else blocks["n"]
    usable = (top > 0) & (bottom > 0)
    return np.log(np.where(usable, top, np.nan) / np.where(usable, bottom, 1.0))
