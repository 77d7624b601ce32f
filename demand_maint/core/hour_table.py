"""Sums per (place, hour) in one dense block per hour, with the totals of each hour kept beside them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HOUR", "HourTable", "Layout"]

HOUR = 3600
Layout = tuple[str, ...]
_SPARSE = 4  # a batch touching this many times more cells than it has rows is added cell by cell


class HourTable:
    """Additive figures of rows, kept per hour and place.

    Parameters
    ----------
    fields
        Names of the figures, in the order in which they are kept.
    lowest, highest
        Names among them that keep a minimum or a maximum instead of a sum.

    Notes
    -----
    An hour is ``epoch seconds // 3600``. Hours are kept in order; each is an array (fields, places), so that a window is a
    slice and a query over all places reads `totals`, one line per hour.
    """

    __slots__ = ("_data", "_hours", "_n", "_special", "_totals", "fields", "places")

    def __init__(self, fields: Layout, lowest: Layout = (), highest: Layout = ()) -> None:
        self.fields = fields
        self.places = 0
        self._n = 0
        self._special: dict[int, Any] = {fields.index(name): np.minimum for name in lowest}
        self._special |= {fields.index(name): np.maximum for name in highest}
        self._hours = np.empty(0, dtype=np.int64)
        self._data = np.empty((0, len(fields), 0))
        self._totals = np.empty((0, len(fields)))

    @property
    def hours(self) -> NDArray[np.int64]:
        """Hours that hold anything, ascending."""
        return self._hours[: self._n]

    @property
    def data(self) -> NDArray[np.float64]:
        """Figures as (hours, fields, places)."""
        return self._data[: self._n, :, : self.places]

    @property
    def totals(self) -> NDArray[np.float64]:
        """Figures over all places as (hours, fields)."""
        return self._totals[: self._n]

    def add(
        self, place: NDArray[Any], hour: NDArray[np.int64], columns: Mapping[str, NDArray[np.float64] | None]
    ) -> None:
        """Add rows: one value per row for each named figure, or ``None`` to count rows; other figures stay."""
        if not len(hour):
            return
        first, last = int(hour[0]), int(hour[-1])
        if first == last and (hour == first).all():
            self._add_hour(first, place, columns)
            return
        present = np.unique(hour)
        width = int(place.max()) + 1
        self._reserve(present, width)
        at = np.searchsorted(self.hours, present)
        row = np.searchsorted(present, hour)
        cell = row * width + place
        if len(present) * width > _SPARSE * len(hour):
            self._add_cells(cell, at, width, columns)
            return
        for name, values in columns.items():
            field = self.fields.index(name)
            if field in self._special:
                operate = self._special[field]
                part = np.full(len(present) * width, self._neutral(field))
                operate.at(part, cell, values)
                part = part.reshape(len(present), width)
                self._data[at, field, :width] = operate(self._data[at, field, :width], part)
                self._totals[at, field] = operate(self._totals[at, field], operate.reduce(part, axis=1))
            else:
                part = np.bincount(cell, values, len(present) * width).reshape(len(present), width)
                self._data[at, field, :width] += part
                self._totals[at, field] += part.sum(axis=1)

    def _add_hour(self, hour: int, place: NDArray[Any], columns: Mapping[str, NDArray[np.float64] | None]) -> None:
        if self._n and self._hours[self._n - 1] == hour and int(place.max()) < self.places:
            at = self._n - 1
        else:
            self._reserve(np.array([hour]), int(place.max()) + 1)
            at = int(np.searchsorted(self.hours, hour))
        block, total = self._data[at], self._totals[at]
        for name, values in columns.items():
            field = self.fields.index(name)
            if field in self._special:
                operate = self._special[field]
                operate.at(block[field], place, values)
                total[field] = operate(total[field], operate.reduce(values))
            else:
                part = np.bincount(place, values)
                block[field, : len(part)] += part
                total[field] += part.sum()

    def _add_cells(
        self, cell: NDArray[Any], at: NDArray[Any], width: int, columns: Mapping[str, NDArray[np.float64] | None]
    ) -> None:
        cells, inverse = np.unique(cell, return_inverse=True)
        rows, places = at[cells // width], cells % width
        for name, values in columns.items():
            field = self.fields.index(name)
            if field in self._special:
                operate = self._special[field]
                part = np.full(len(cells), self._neutral(field))
                operate.at(part, inverse, values)
                self._data[rows, field, places] = operate(self._data[rows, field, places], part)
                operate.at(self._totals, (rows, field), part)
            else:
                part = np.bincount(inverse, values, len(cells))
                self._data[rows, field, places] += part
                np.add.at(self._totals, (rows, field), part)

    def _neutral(self, field: int) -> float:
        operate = self._special.get(field)
        return 0.0 if operate is None else (np.inf if operate is np.minimum else -np.inf)

    def _fresh(self, hours: int, places: int) -> NDArray[np.float64]:
        block = np.zeros((hours, len(self.fields), places))
        for field in self._special:
            block[:, field] = self._neutral(field)
        return block

    def _reserve(self, hours: NDArray[np.int64], places: int) -> None:
        """Make room for `hours` (unique, ascending) and at least `places` places."""
        wide = self._data.shape[2]
        if places > wide:
            wide = max(places, wide + wide // 2, 8)
            grown = self._fresh(self._data.shape[0], wide)
            grown[:, :, : self._data.shape[2]] = self._data
            self._data = grown
        self.places = max(self.places, places)
        known = self.hours
        if self._n and len(hours) == 1 and known[-1] == hours[0]:
            return
        new = hours[~np.isin(hours, known, assume_unique=True)]
        if not len(new):
            return
        need = self._n + len(new)
        in_order = not self._n or new[0] > known[-1]
        if need > len(self._hours) or not in_order:
            merged = np.sort(np.concatenate([known, new]))
            room = max(need, len(self._hours), min(2 * need, need + 512))
            data, totals = self._fresh(room, wide), self._fresh(room, 1)[:, :, 0]
            moved = np.searchsorted(merged, known)
            data[moved] = self._data[: self._n]
            totals[moved] = self._totals[: self._n]
            grown_hours = np.empty(room, dtype=np.int64)
            grown_hours[:need] = merged
            self._hours, self._data, self._totals = grown_hours, data, totals
        else:
            self._hours[self._n : need] = new
        self._n = need

    def span(self, start: int, end: int) -> slice:
        """Rows of the hours in [`start`, `end`)."""
        low, high = np.searchsorted(self.hours, (start, end))
        return slice(int(low), int(max(low, high)))

    def drop_before(self, hour: int) -> None:
        """Forget everything before `hour`."""
        at = int(np.searchsorted(self.hours, hour))
        if at:
            keep = self._n - at
            self._hours[:keep] = self._hours[at : self._n].copy()
            self._data[:keep] = self._data[at : self._n].copy()
            self._totals[:keep] = self._totals[at : self._n].copy()
            self._data[keep : self._n] = self._fresh(1, 1)
            self._totals[keep : self._n] = self._fresh(1, 1)[:, :, 0]
            self._n = keep

    def gather(self, targets: NDArray[np.int64]) -> None:
        """Move the first ``len(targets)`` hours into the hours `targets` (ascending, each at or before its source)."""
        count = len(targets)
        if not count:
            return
        starts = np.flatnonzero(np.diff(targets, prepend=targets[0] - 1))
        merged = len(starts)
        if merged == count and (targets == self.hours[:count]).all():
            return
        tail = self._n - count
        data, totals = self._fresh(merged + tail, self._data.shape[2]), self._fresh(merged + tail, 1)[:, :, 0]
        for source, target in ((self._data, data), (self._totals, totals)):
            for field in range(len(self.fields)):
                operate = self._special.get(field, np.add)
                target[:merged, field] = operate.reduceat(source[:count, field], starts, axis=0)
            target[merged:] = source[count : self._n]
        self._hours = np.concatenate([targets[starts], self.hours[count:]])
        self._data, self._totals, self._n = data, totals, merged + tail

    def parts(self) -> tuple[list[Any], list[NDArray[Any]]]:
        """Shape and arrays for saving."""
        return [self._n, self.places], [self.hours, np.ascontiguousarray(self.data), self.totals]

    def load(self, shape: list[Any], arrays: list[NDArray[Any]]) -> None:
        """Take over what `parts` gave."""
        self._n, self.places = int(shape[0]), int(shape[1])
        self._hours, self._data, self._totals = (array.copy() for array in arrays)
