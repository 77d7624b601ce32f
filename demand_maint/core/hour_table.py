"""Sums per (place, hour) in one dense block per hour, with the totals of each hour kept beside them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.rounds import Rhythm, Rounds, find_rounds

__all__ = ["HOUR", "Cells", "HourTable", "Layout"]

HOUR = 3600
Layout = tuple[str, ...]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_LEAST_HOURS = 32
_FEW = 4096  # cells
_MANY = 512  # rows from which on it pays to look for rounds
_SPARSE = 4  # rows that touch this many times more cells than they are many are summed cell by cell


class Cells:
    """Which (hour, place) each row of a batch falls into; sums of rows per cell.

    Where rows are many for their hours and places, a *part* has one value per cell of that whole rectangle; where they are
    few, one per cell that they touch. `rhythm` is that of the rows, where it is known.
    """

    __slots__ = ("_counts", "_index", "_length", "_rounds", "dense", "first", "hours", "places", "rows", "width")

    def __init__(self, place: NDArray[Any], slot: Ints, rhythm: Rhythm | None = None) -> None:
        self.rows = len(slot)
        places, slots = (place, slot) if rhythm is None else (rhythm.places, rhythm.one_each(slot))
        self.width = int(places.max()) + 1
        in_order = bool((slots[1:] >= slots[:-1]).all())
        oldest, newest = (slots[0], slots[-1]) if in_order else (slots.min(), slots.max())
        self.first, last = int(oldest) // HOUR, int(newest) // HOUR
        count = last - self.first + 1
        self.dense = count * self.width <= max(_SPARSE * self.rows, 4096)
        self._counts: Floats | None = None
        self._rounds: Rounds | None = None
        if self.dense:
            self.hours = np.arange(self.first, last + 1)
            self._length = count * self.width
            self.places: Ints | None = None
            if in_order and (rhythm is not None or self.rows >= _MANY):
                begins = np.searchsorted(slots, self.hours[1:] * HOUR)
                if rhythm is not None:
                    begins = begins * len(places) - rhythm.begun
                self._rounds = find_rounds(place, [0, *begins.tolist(), self.rows], rhythm)
            if self._rounds is None:
                self._index = place.astype(np.intp)
                if count > 1:
                    self._index += (slot // HOUR - self.first) * self.width
            return
        cell = (slot // HOUR - self.first) * self.width + place
        cells, self._index = np.unique(cell, return_inverse=True)
        self._length = len(cells)
        self.hours = cells // self.width + self.first
        self.places = cells % self.width

    @property
    def counts(self) -> Floats:
        """Rows per cell."""
        if self._counts is None:
            if self._rounds is not None:
                self._counts = np.zeros(self._length)
                self._rounds.count(self._counts.reshape(len(self.hours), self.width))
            else:
                self._counts = np.bincount(self._index, minlength=self._length).astype(np.float64)
        return self._counts

    @property
    def longest(self) -> int:
        """Most rows that `sums` asks figures of at a time."""
        if self._rounds is None:
            return self.rows
        return max(int(rows.stop - rows.start) for rows in self._rounds.runs)

    def sums(self, figures: Callable[[slice], Iterable[tuple[str, NDArray[Any]]]]) -> dict[str, Floats]:
        """Return sums per cell of named figures of rows; what `figures` tells of some rows at a time stays in the cache."""
        if self._rounds is None:
            return {name: self.sum(values) for name, values in figures(slice(None))}
        out: dict[str, Floats] = {}
        for hour, rows in enumerate(self._rounds.runs):
            for name, values in figures(rows):
                part = out.get(name)
                if part is None:
                    part = out[name] = np.zeros(self._length)
                self._rounds.fold_run(hour, values, np.add, part[hour * self.width : (hour + 1) * self.width])
        return out

    def sum(self, values: NDArray[Any]) -> Floats:
        """Sum of `values`, one per row, per cell."""
        if self._rounds is not None:
            out = np.zeros((len(self.hours), self.width))
            self._rounds.fold(values, np.add, out)
            return out.reshape(-1)
        # weighted, so that the result is float64 whatever its stub says
        return np.asarray(np.bincount(self._index, values, self._length), dtype=np.float64)

    def extreme(self, values: Floats, operate: Any, table: Floats) -> None:
        """Widen `table`, one value per cell, by `values`."""
        if self._rounds is not None:
            self._rounds.fold(values, operate, table.reshape(len(self.hours), self.width))
            return
        known = table.take(self._index)
        better = np.flatnonzero(values < known if operate is np.minimum else values > known)
        if len(better):
            operate.at(table, self._index[better], values[better])


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

    Attributes
    ----------
    changes
        Number of the newest change; each hour knows which was its last.
    """

    __slots__ = (
        "_changed",
        "_data",
        "_field",
        "_forgot",
        "_hours",
        "_n",
        "_special",
        "_totals",
        "changes",
        "fields",
        "places",
    )

    def __init__(self, fields: Layout, lowest: Layout = (), highest: Layout = ()) -> None:
        self.fields = fields
        self._field = {name: i for i, name in enumerate(fields)}
        self.places = 0
        self._n = 0
        self._special: dict[int, Any] = {fields.index(name): np.minimum for name in lowest}
        self._special |= {fields.index(name): np.maximum for name in highest}
        self._hours = np.empty(0, dtype=np.int64)
        self._data = np.empty((0, len(fields), 0))
        self._totals = np.empty((0, len(fields)))
        self._changed = np.empty(0, dtype=np.int64)
        self.changes = 0
        # the change after which every block may be another: hours went, or places came
        self._forgot = 0

    @property
    def hours(self) -> Ints:
        """Hours that hold anything, ascending."""
        return self._hours[: self._n]

    @property
    def data(self) -> Floats:
        """Figures as (hours, fields, places)."""
        return self._data[: self._n, :, : self.places]

    @property
    def totals(self) -> Floats:
        """Figures over all places as (hours, fields)."""
        return self._totals[: self._n]

    def add(self, cells: Cells, parts: Mapping[str, Floats], extremes: Mapping[str, Floats] | None = None) -> None:
        """Add `parts`, one value per cell; widen the `extremes`, one value per row."""
        self.changes += 1
        if cells.dense:
            rows = self._rows_of(cells.hours, cells.width)
            self._changed[rows] = self.changes
            shape = (len(cells.hours), cells.width)
            if len(parts) > 1 and shape[0] * shape[1] <= _FEW:  # in one go: what a call costs is more than what it does
                fields = [self._field[name] for name in parts]
                grids = np.array(list(parts.values())).reshape(-1, *shape)
                self._data[rows, fields, : cells.width] += grids.swapaxes(0, 1)
                self._totals[rows, fields] += grids.sum(axis=2).T
                parts = {}
            for name, part in parts.items():
                grid = part.reshape(shape)
                field = self._field[name]
                self._data[rows, field, : cells.width] += grid
                self._totals[rows, field] += grid.sum(axis=1)
            for name, values in (extremes or {}).items():
                field = self._field[name]
                table = np.ascontiguousarray(self._data[rows, field, : cells.width]).reshape(-1)
                cells.extreme(values, self._special[field], table)
                self._data[rows, field, : cells.width] = table.reshape(shape)
                self._totals[rows, field] = self._special[field].reduce(self._data[rows, field], axis=1)
            return
        self._widen(cells.width)
        self._reserve(np.unique(cells.hours))
        hours = self.hours.searchsorted(cells.hours)
        self._changed[hours] = self.changes
        for name, part in parts.items():
            self._data[hours, self._field[name], cells.places] += part
            np.add.at(self._totals[:, self._field[name]], hours, part)
        for name, values in (extremes or {}).items():
            field = self._field[name]
            table = self._data[hours, field, cells.places]
            cells.extreme(values, self._special[field], table)
            self._data[hours, field, cells.places] = table
            self._special[field].at(self._totals[:, field], hours, table)

    def put(self, name: str, at: int, values: Floats) -> None:
        """Let a figure be `values`, (hours, places), from the hour at position `at` on; it follows from others, so nothing changed."""
        field, hours = self._field[name], slice(at, at + len(values))
        self.data[hours, field] = values
        self.totals[hours, field] = values.sum(axis=1)

    def _neutral(self, field: int) -> float:
        operate = self._special.get(field)
        return 0.0 if operate is None else (np.inf if operate is np.minimum else -np.inf)

    def _clear(self, block: Floats) -> Floats:
        """Let a block (hours, fields, ...) hold nothing."""
        block[...] = 0.0
        for field in self._special:
            block[:, field] = self._neutral(field)
        return block

    def _fresh(self, hours: int, places: int) -> Floats:
        return self._clear(np.empty((hours, len(self.fields), places)))

    def _rows_of(self, hours: Ints, places: int) -> slice:
        """Where the `hours`, one after the other, are for at least `places` places, with room made for those that are not."""
        self._widen(places)
        first, count, known = int(hours[0]), len(hours), self.hours
        at = int(known.searchsorted(first))
        # ascending and unique: where the ends are there, so is all between
        if at + count > len(known) or known[at] != first or known[at + count - 1] != first + count - 1:
            self._reserve(hours)
            at = int(self.hours.searchsorted(first))
        return slice(at, at + count)

    def _widen(self, places: int) -> None:
        """Make room for at least `places` places."""
        wide = self._data.shape[2]
        if places > wide:
            wide = max(places, wide + wide // 2, 8)
            grown = np.empty((len(self._data), len(self.fields), wide))
            self._clear(grown[: self._n])[:, :, : self.places] = self.data
            self._data = grown
        if places > self.places:
            self.places, self._forgot = places, self.changes  # every block has another shape

    def _reserve(self, hours: Ints) -> None:
        """Make room for `hours` (unique, ascending)."""
        if not len(hours):
            return
        known, count = self.hours, len(hours)
        at = int(np.searchsorted(known, hours[0]))
        if np.array_equal(known[at : at + count], hours):  # mostly all are there
            return
        there = self._n - at
        if there < count and np.array_equal(known[at:], hours[:there]):  # or follow those that are
            self._add_hours(hours[there:])
        else:
            self._insert_hours(np.setdiff1d(hours, known, assume_unique=True))

    def _add_hours(self, new: Ints) -> None:
        """Make room for hours behind all others; what is beyond them is not touched before it is needed."""
        need = self._n + len(new)
        if need > len(self._hours):
            room = max(need, _LEAST_HOURS, min(2 * need, need + 512))
            hours = np.empty(room, dtype=np.int64)
            data, totals = np.empty((room, *self._data.shape[1:])), np.empty((room, len(self.fields)))
            changed = np.empty(room, dtype=np.int64)
            hours[: self._n], data[: self._n], totals[: self._n] = self.hours, self._data[: self._n], self.totals
            changed[: self._n] = self._changed[: self._n]
            self._hours, self._data, self._totals, self._changed = hours, data, totals, changed
        self._hours[self._n : need] = new
        self._clear(self._data[self._n : need])
        self._clear(self._totals[self._n : need])
        self._n = need

    def _insert_hours(self, new: Ints) -> None:
        """Make room for hours between others."""
        known = self.hours
        merged = np.sort(np.concatenate([known, new]))
        data, totals = self._fresh(len(merged), self._data.shape[2]), self._fresh(len(merged), 1)[:, :, 0]
        moved = np.searchsorted(merged, known)
        data[moved], totals[moved] = self._data[: self._n], self.totals
        changed = np.full(len(merged), self.changes)
        changed[moved] = self._changed[: self._n]
        self._hours, self._data, self._totals, self._n = merged, data, totals, len(merged)
        self._changed = changed

    def changed(self, at: NDArray[np.intp], since: int) -> NDArray[np.bool_]:
        """Which blocks (B,) between neighbouring ascending positions `at` (B + 1,) were changed after the change `since`."""
        out = np.full(max(len(at) - 1, 0), since < self._forgot)
        blocks = at.searchsorted(self.changed_hours(since), side="right") - 1
        out[blocks[(blocks >= 0) & (blocks < len(out))]] = True
        return out

    def changed_hours(self, since: int) -> NDArray[np.intp]:
        """Positions of the hours that were changed after the change `since`, ascending."""
        return (self._changed[: self._n] > since).nonzero()[0]

    def span(self, start: int, end: int) -> slice:
        """Rows of the hours in [`start`, `end`)."""
        hours = self.hours
        low, high = int(hours.searchsorted(start)), int(hours.searchsorted(end))
        return slice(low, max(low, high))

    def drop_before(self, hour: int) -> None:
        """Forget everything before `hour`."""
        at = int(np.searchsorted(self.hours, hour))
        if at:
            keep = self._n - at
            self._hours[:keep] = self._hours[at : self._n].copy()
            self._data[:keep] = self._data[at : self._n].copy()
            self._totals[:keep] = self._totals[at : self._n].copy()
            self._n = keep
            self._changed[:keep] = self._changed[at : at + keep].copy()
            self.changes += 1
            self._forgot = self.changes

    def gather(self, targets: Ints) -> None:
        """Move the first ``len(targets)`` hours into the hours `targets` (ascending, each at or before its source)."""
        count = len(targets)
        moving = targets != self.hours[:count]
        if not moving.any():
            return
        # what was gathered before stays where it is
        first = int(self.hours.searchsorted(targets[moving.argmax()]))
        targets = targets[first:]
        starts = np.flatnonzero(np.diff(targets, prepend=targets[0] - 1))
        end = first + len(starts)
        self.changes += 1
        for table in (self._data, self._totals):
            merged = np.add.reduceat(table[first:count], starts, axis=0)
            for field, operate in self._special.items():
                merged[:, field] = operate.reduceat(table[first:count, field], starts, axis=0)
            _close_up(table, count, self._n, end)
            table[first:end] = merged
        for line, fresh in ((self._hours, targets[starts]), (self._changed, self.changes)):
            _close_up(line, count, self._n, end)
            line[first:end] = fresh
        self._n -= count - end

    def parts(self) -> tuple[list[Any], list[NDArray[Any]]]:
        """Shape and arrays for saving."""
        return [self._n, self.places], [self.hours, np.ascontiguousarray(self.data), self.totals]

    def load(self, shape: list[Any], arrays: list[NDArray[Any]]) -> None:
        """Take over what `parts` gave; arrays that can be written to are kept and change with the table."""
        self._n, self.places = int(shape[0]), int(shape[1])
        self._hours, self._data, self._totals = (np.require(array, requirements=("C", "W")) for array in arrays)
        self.changes += 1
        self._changed = np.full(self._n, self.changes)
        self._forgot = self.changes


def _close_up(table: NDArray[Any], first: int, end: int, to: int) -> None:
    """Move the rows `first` .. `end` back to begin at `to`; along one axis, so that numpy needs no copy in between."""
    row = table[0].size
    flat = table.reshape(-1)
    flat[to * row : (to + end - first) * row] = flat[first * row : end * row]
