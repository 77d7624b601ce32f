"""Seasonal-naive forecasts: the truth one season before, else two."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.key_index import make_keys
from demand_maint.core.observation_events import alike
from demand_maint.core.row_columns import IS_KNOWN, RowColumns
from demand_maint.core.timegrid import TimeGrid

__all__ = ["Seasons"]

DST = 7200  # more than any clock is put forward or back

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint32]


class Seasons:
    """What was a season before, among rows and in what is known from before them.

    Parameters
    ----------
    columns
        The rows.
    grid
        Slots.
    season
        Distance of the reference, seconds.
    """

    def __init__(self, columns: RowColumns, grid: TimeGrid, season: int) -> None:
        self._columns, self._grid, self._season = columns, grid, season
        # truths from before the journal: (places, slots) -> actuals, NaN where unknown; and the last slot that has one
        self._reference: Callable[[Codes, Ints], Floats] | None = None
        self._reference_end = -1

    def over(self, columns: RowColumns) -> "Seasons":
        """Return the same for other rows."""
        twin = Seasons(columns, self._grid, self._season)
        twin._reference, twin._reference_end = self._reference, self._reference_end
        return twin

    def use_reference(self, reference: Callable[[Codes, Ints], Floats], end: int) -> None:
        """Let `reference` stand in where there is no row, for slots up to `end`."""
        self._reference, self._reference_end = reference, end

    def before(self, slot: int) -> tuple[int, int]:
        """Slots at the same wall-clock time one and two seasons before."""
        slots = np.array((slot,))
        return int(self._shift(slots, -self._season)[0]), int(self._shift(slots, -2 * self._season)[0])

    def truth_at(self, place: int, slot: int) -> float:
        """Return the known actual of one key, NaN where there is none."""
        columns = self._columns
        row = columns.index.row_of(max(slot, 0) << 32 | place)
        if row >= 0 and columns.flags[row] & IS_KNOWN:
            return float(columns.actual[row])
        if self._reference is not None and slot <= self._reference_end:
            return float(self._reference(np.array((place,), dtype=np.uint32), np.array((slot,)))[0])
        return np.nan

    def find(self, place: Codes, slot: Ints, newest: int | None = None) -> Floats:
        """Forecasts of any keys, as known now; NaN where there is none. `newest` is the latest slot where that is known."""
        if not len(slot):
            return np.empty(0)
        newest = int(slot.max()) if newest is None else newest
        distances = [d for d in (self._season, 2 * self._season) if not self._begins_later(newest - d)]
        if not distances:
            return alike(np.nan, len(slot))
        out = self._known(place, slot, distances[0])
        if len(distances) > 1 and len(want := np.flatnonzero(np.isnan(out))):
            out[want] = self._known(place[want], slot[want], distances[1])
        return out

    def leaning(self, place: Codes, slot: Ints) -> tuple[Ints, NDArray[np.uint64]] | None:
        """Rows whose forecast may be the truth of these keys, and their keys: those one or two seasons after; ``None`` before any."""
        index = self._columns.index
        if index.newest < 0 or int(slot.min()) + self._season - DST > index.newest >> 32:
            return None
        # where clocks change, more than one slot has the same wall clock time
        around = (0,) if self._grid.zone == "UTC" else (-3600, -1800, 0, 1800, 3600)
        shifted = [self._grid.shift(slot, distance) for distance in (self._season, 2 * self._season)]
        keys = np.unique(np.concatenate([make_keys(place, after + aside) for after in shifted for aside in around]))
        rows = index.find(keys)
        return rows[rows >= 0], keys[rows >= 0]

    def _known(self, place: Codes, slot: Ints, distance: int) -> Floats:
        """Truths `distance` before each key; NaN where there is none."""
        columns = self._columns
        back = self._shift(slot, -distance)
        out = np.full(len(slot), np.nan)
        if self._reference is not None and int(back.min()) <= self._reference_end:
            out[:] = self._reference(place, back)
        keys = make_keys(place, np.maximum(back, 0))
        stretch = columns.index.stretch(keys)
        if stretch is not None:  # the same places reported then as now
            return np.where(columns.flags[stretch] & IS_KNOWN, columns.actual[stretch], out)
        rows = columns.index.find(keys)
        known = rows >= 0
        known[known] = (columns.flags[rows[known]] & IS_KNOWN) != 0
        out[known] = columns.actual[rows[known]]
        return out

    def _shift(self, slot: Ints, seconds: int) -> Ints:
        return slot + seconds if self._grid.zone == "UTC" else self._grid.shift(slot, seconds)

    def _begins_later(self, slot: int) -> bool:
        """Whether everything known begins after all that `slot` can be by the clock."""
        latest = slot + DST
        unknown = not self._columns.used or latest << 32 < self._columns.index.oldest
        return unknown and latest > self._reference_end + 2 * DST
