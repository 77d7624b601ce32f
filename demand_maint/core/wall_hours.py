"""Hours of a table as a calendar: local days by the 24 hours of the clock on the wall."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.hour_table import HOUR, HourTable
from demand_maint.core.timegrid import TimeGrid

__all__ = ["wall_hours"]


def wall_hours(
    table: HourTable, names: Sequence[str], first: int, end: int, grid: TimeGrid, every: int = 1
) -> NDArray[np.float64]:
    """Return some figures of the local days [`first`, `end`), of `every` so many places one; (figures, P, D, 24).

    An hour that the clock shows twice is one; one that it leaves out holds nothing.
    """
    edges = grid.day_start(np.array([first, end])) // HOUR
    span = table.span(int(edges[0]), int(edges[1]))
    hours = (end - first) * 24
    at = np.clip(grid.hour_of_hours(table.hours[span]) - first * 24, 0, hours - 1)
    places = -(-table.places // every)
    out = np.zeros((len(names), hours, places))
    once = bool((at[1:] > at[:-1]).all())
    for i, name in enumerate(names):
        values = table.data[span, table.fields.index(name), ::every]
        if once:
            out[i][at] = values
        else:
            np.add.at(out[i], at, values)
    return out.transpose(0, 2, 1).reshape(len(names), places, end - first, 24)
