"""The columns of the recent window's rows, and where the row of a key is."""

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.key_index import KeyIndex, make_keys
from demand_maint.core.observation_events import SERVED, Events, Outcome, is_uniform
from demand_maint.core.records import MaturedBatch
from demand_maint.core.round_keys import RoundKeys
from demand_maint.core.row_state import RowState, grown
from demand_maint.core.steady_column import SteadyColumn

__all__ = ["HAS_NAIVE", "IS_ASSUMED", "IS_KNOWN", "IS_MATURE", "IS_PREDICTED", "IS_SERVED", "RowColumns"]

#: Flags of a row: predicted; truth known; predicted through the model handle; truth assumed to be 0; a season before was looked up.
IS_PREDICTED, IS_KNOWN, IS_SERVED, IS_ASSUMED, HAS_NAIVE = 1, 2, 4, 8, 16
IS_MATURE = IS_PREDICTED | IS_KNOWN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint32]


class RowColumns:
    """Rows in the order in which their keys were met: at most 39 bytes each, and beside some what was served.

    Attributes
    ----------
    used
        How many rows there are; the columns have room for more.
    index
        Rows by key.
    version, flags, predicted, actual, naive, observed
        The columns; what the last four hold means something only where the flags say so. As long as nothing is known a season
        before, there is no `naive`.
    """

    def __init__(self) -> None:
        self.used = 0
        self.index = KeyIndex()
        self.predicted = self.actual = self.naive = np.empty(0)
        self.observed, self.version = SteadyColumn(np.uint32), SteadyColumn(np.uint16)
        self.flags = np.empty(0, dtype=np.uint8)
        # only once something was served through the handle: position of a row's extras, -1 for none
        self._extra: NDArray[np.int32] | None = None
        self._served = np.empty(0)
        self._snapshot = np.empty(0, dtype=np.uint32)
        self._members = np.empty((0, 0), dtype=np.float32)
        self._extras = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in memory, room for growth not counted."""
        columns = (self.version, self.flags, self.predicted, self.actual, self.naive, self.observed)
        a_row = sum(column.itemsize for column in columns) + (self._extra.itemsize if self._extra is not None else 0)
        return self.used * a_row + self.index.nbytes + self._extras * (12 + 4 * self._members.shape[1])

    def frozen(self) -> "RowColumns":
        """Return the rows there are now, for a reader in another thread; the columns are shared.

        Rows keep their place in a column until it is replaced by a new one, a row's truth is written before the flag that says
        it is known, and rows that are new are beyond those whose keys the copy holds.
        """
        twin = copy(self)
        twin.index = self.index.frozen()
        return twin

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more."""
        self._make_room(self.used + rows)
        self.index.reserve(self.used + rows)

    def keep_only(self, rows: Ints, keys: NDArray[np.uint64]) -> None:
        """Forget all but `rows`, whose ascending keys are `keys`."""
        self.index = KeyIndex()
        self.index.append(keys, 0)
        here = _as_slice(rows, self.used)
        self.version, self.observed = self.version.kept(here), self.observed.kept(here)
        self.naive = self.naive[here] if len(self.naive) else self.naive
        self.flags, self.predicted, self.actual = self.flags[here], self.predicted[here], self.actual[here]
        if self._extra is not None:
            extra = self._extra[here].copy()  # others may be reading the one there was
            kept = (extra[: len(rows)] >= 0).nonzero()[0]
            there = _as_slice(extra[kept], self._extras)
            extra[kept] = np.arange(len(kept))
            self._served, self._snapshot, self._members = (
                self._served[there],
                self._snapshot[there],
                self._members[there],
            )
            self._extra, self._extras = extra, len(kept)
        self.used = len(rows)

    def window(self, start: int, end: int) -> tuple[Ints, NDArray[np.uint64]]:
        """Rows and keys with `start` <= slot < `end`, by key."""
        start, end = max(start, 0), min(max(end, 0), (1 << 32) - 1)
        return self.index.between(start << 32, end << 32)

    def append(self, keys: NDArray[np.uint64] | RoundKeys, flags: int = 0) -> int:
        """Make rows with these `flags` for new ascending `keys`; return the first."""
        first, need = self.used, self.used + len(keys)
        self._make_room(need)
        self.flags[first:need] = flags
        if self._extra is not None:
            self._extra[first:need] = -1
        self.index.append(keys, first)
        self.used = need
        return first

    def _make_room(self, need: int) -> None:
        if need > len(self.flags):
            room = max(need, len(self.flags) + len(self.flags) // 2, 4096)
            for name in ("flags", "predicted", "actual"):
                setattr(self, name, grown(getattr(self, name), self.used, room))
            if len(self.naive):
                self.naive = grown(self.naive, self.used, room)
            self.version.make_room(room)
            self.observed.make_room(room)
            if self._extra is not None:
                self._extra = grown(self._extra, self.used, room)

    def rows_of(self, unique: NDArray[np.uint64]) -> Ints:
        """Row of each of the ascending keys, made where there is none."""
        rows = self.index.find(unique)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            first = self.append(unique[missing])
            rows[missing] = np.arange(first, self.used)
            self.predicted[first : self.used] = np.nan
            self.actual[first : self.used] = np.nan
        return rows

    def take_served(self, events: Events, floor: int) -> Outcome | None:
        """Take in predictions that were served, in order of time from `floor` on, each key new: nothing has to be looked up."""
        if not len(events) or events.served is None or events.kind[0] != SERVED or not is_uniform(events.kind):
            return None
        keys = make_keys(events.place, events.slot)
        if int(keys[0]) <= self.index.newest or int(events.slot[0]) < floor or not (keys[1:] > keys[:-1]).all():
            return None
        if not np.isfinite(events.predicted).all():
            return None
        rows = slice(self.append(keys, IS_PREDICTED | IS_SERVED), self.used)
        self.version[rows] = events.version
        self.predicted[rows] = events.predicted
        self.actual[rows] = np.nan
        self.keep_extras(rows, events)
        return Outcome(
            predicted=(events.place, events.slot, events.version),
            expected=(events.place, events.slot),
            counts={"records": len(events)},
        )

    def keep_extras(self, at: Ints | slice, events: Events) -> None:
        """Keep what `events` say was served, for the rows `at`."""
        if events.served is None or events.snapshot is None or events.members is None:
            raise ValueError("Served events come with what was served.")
        if self._extra is None:
            self._extra = np.full(len(self.flags), -1, dtype=np.int32)
        members = events.members
        first, need = self._extras, self._extras + len(events)
        width = max(self._members.shape[1], members.shape[1])
        if need > len(self._served) or width > self._members.shape[1]:
            room = (
                max(need, len(self._served) + len(self._served) // 2, 1024)
                if need > len(self._served)
                else len(self._served)
            )
            self._served, self._snapshot = grown(self._served, first, room), grown(self._snapshot, first, room)
            wide = np.full((room, width), np.nan, dtype=np.float32)
            wide[:first, : self._members.shape[1]] = self._members[:first]
            self._members = wide
        self._served[first:need] = events.served
        self._snapshot[first:need] = events.snapshot
        self._members[first:need] = np.nan
        self._members[first:need, : members.shape[1]] = members
        self._extra[at] = np.arange(first, need)
        self._extras = need

    def served_values(self, at: Ints) -> Floats:
        """Return what the collector was given: the champion's own prediction unless the handle served another value."""
        values: Floats = self.predicted[at]
        if self._extra is not None:
            chosen = (self.flags[at] & IS_SERVED) != 0
            values[chosen] = self._served[self._extra[at[chosen]]]
        return values

    def values(self, at: Ints) -> RowState:
        """Return what the rows `at` are."""
        extra = None
        if self._extra is not None:
            extra = np.where((self.flags[at] & IS_SERVED) != 0, self._extra[at], -1)
        return RowState(
            self.flags[at],
            self.version[at],
            self.predicted[at],
            self.served_values(at),
            self.actual[at],
            self.naive_values(at),
            self.observed[at].astype(np.float64),
            extra,
        )

    def naive_values(self, at: Ints | slice) -> Floats:
        """Return the seasonal-naive forecasts of the rows `at`, NaN where there is none."""
        flags = self.flags[at]
        return (
            np.where((flags & HAS_NAIVE) != 0, self.naive[at], np.nan)
            if len(self.naive)
            else np.full(len(flags), np.nan)
        )

    def put_naive(self, at: Ints | slice, naive: Floats) -> None:
        """Let `naive` be the seasonal-naive forecasts of the rows `at`."""
        if not len(self.naive):
            self.naive = np.empty(len(self.flags))
        self.naive[at] = naive
        self.flags[at] |= HAS_NAIVE  # last, since others may be reading

    def served_batch(self, place: Codes, slot: Ints, rows: slice) -> MaturedBatch:
        """Return rows one after the other whose truth is known and who all were served, as they are now."""
        if self._extra is None:
            raise ValueError("Nothing was served.")
        extra = self._extra[rows]
        first, count = int(extra[0]), len(extra)
        in_turn = int(extra[-1]) - first == count - 1 and bool((extra[1:] > extra[:-1]).all())
        there = slice(first, first + count) if in_turn else extra  # mostly they were also served in that order
        return MaturedBatch(
            place,
            slot,
            self.version[rows],
            self.predicted[rows].copy(),
            self._served[there].copy(),
            self.actual[rows].copy(),
            self.naive_values(rows),
            self._members[there].copy(),
            self._snapshot[there].copy(),
            self.observed[rows].astype(np.float64),
        )

    def batch(self, place: Codes, slot: Ints, state: RowState) -> MaturedBatch:
        """Rows in a state they were or are in, with their keys, for those who follow them."""
        members = np.empty((len(slot), 0), dtype=np.float32)
        snapshot = np.zeros(len(slot), dtype=np.uint32)
        if state.extra is not None and (state.extra >= 0).any():
            through = state.extra >= 0
            members = np.full((len(slot), self._members.shape[1]), np.nan, dtype=np.float32)
            members[through] = self._members[state.extra[through]]
            snapshot[through] = self._snapshot[state.extra[through]]
        actual = np.where((state.flags & IS_KNOWN) != 0, state.actual, np.nan)
        return MaturedBatch(
            place,
            slot,
            state.version,
            state.predicted,
            state.served,
            actual,
            state.naive,
            members,
            snapshot,
            state.observed,
        )


def _as_slice(rows: NDArray[Any], used: int) -> NDArray[Any] | slice:
    """Return a slice where `rows` are the last of `used` rows in their order, as they mostly are: it copies nothing, and leaves room."""
    first = int(rows[0]) if len(rows) else used
    if first + len(rows) == used and (rows[1:] > rows[:-1]).all():
        return slice(first, None)
    return rows
