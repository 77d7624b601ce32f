"""Rows as the journal has them become events: times floored to slots, those without a time counted and left out."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.drain_rows import DrainedRows
from demand_maint._storage.segments import Rows, chosen, to_events
from demand_maint.core.observations import Events
from demand_maint.core.rounds import Rhythm
from demand_maint.core.timegrid import TimeGrid

__all__ = ["RowsToEvents"]

Floats = NDArray[np.float64]
_LATEST = 4_294_000_000.0
_FEW = 1_024


class RowsToEvents:
    """Makes events of rows.

    Parameters
    ----------
    grid
        Slots.
    leave_out
        Told how many rows had no time.
    """

    def __init__(self, grid: TimeGrid, leave_out: Callable[[int], None]) -> None:
        self._grid = grid
        self._leave_out = leave_out

    def chunks(self, part: DrainedRows, size: int) -> Iterator[Events]:
        """Events of a part, so many rows at a time."""
        for start in range(0, len(part.rows), size):
            here = slice(start, start + size)
            rows = chosen(part.rows, here)
            rhythm = part.rhythm.after(start) if part.rhythm is not None else None
            yield self.events(rows, part.place[here], part.observed_at[here], part.observed_from[here], rhythm)

    def events(
        self,
        rows: Rows,
        place: NDArray[np.uint32],
        observed_at: Floats,
        observed_from: Floats,
        rhythm: Rhythm | None = None,
    ) -> Events:
        """Events of rows, whose `rhythm` is given where it is known."""
        times = rows.time if rhythm is None else rhythm.one_each(rows.time)
        if not (len(rows) and times.min() >= 0 and times.max() <= _LATEST):
            sane = (rows.time >= 0) & (rows.time <= _LATEST)
            self._leave_out(int((~sane).sum()))
            rows, times, rhythm = chosen(rows, sane), rows.time[sane], None
            place, observed_at, observed_from = place[sane], observed_at[sane], observed_from[sane]
        slot = self._slots(times)
        slot = slot if rhythm is None else rhythm.spread(slot, len(rows))
        return to_events(rows, place, slot, observed_at, observed_from, rhythm)

    def _slots(self, times: Floats) -> NDArray[np.int64]:
        """Slots of times, which mostly come in runs of equal ones."""
        if len(times) <= _FEW:
            return np.maximum(self._grid.floor(times), 0)
        starts = np.flatnonzero(times[1:] != times[:-1]) + 1
        if len(starts) * 4 > len(times):
            return np.maximum(self._grid.floor(times), 0)
        starts = np.concatenate([[0], starts])[: len(times)]
        return np.repeat(np.maximum(self._grid.floor(times[starts]), 0), np.diff(starts, append=len(times)))
