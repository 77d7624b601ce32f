"""Events in, matured rows out: how predictions and truths of a key meet, in whatever order they come.

A *key* is a place and a slot. It has at most one prediction (the last one) and one truth (the last one). What the sums hold is
a function of those alone, never of the order of arrival:

1. The four-argument call completes a prediction that `ModelHandle.predict` journalled and does not replace it.
2. Any other prediction of another value replaces the one before it, and is counted.
3. An actual for a key that has one is a duplicate (the same value) or a correction (another one); both are counted.
4. The seasonal-naive forecast of a row is the truth one season before, else two seasons before, as known now.
"""

from collections.abc import Callable
from copy import copy

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.key_index import KeyIndex, make_keys, split_keys
from demand_maint.core.observation_events import (
    ACTUAL,
    PAIR,
    PREDICTION,
    SERVED,
    VOID,
    Events,
    Outcome,
    Truths,
    is_uniform,
)
from demand_maint.core.records import MaturedBatch
from demand_maint.core.row_state import RowState, grown, joined_batches
from demand_maint.core.timegrid import TimeGrid

__all__ = ["ACTUAL", "PAIR", "PREDICTION", "SERVED", "VOID", "Events", "Outcome", "RowBuffer", "Truths"]


_PREDICTED, _KNOWN, _SERVED, _ASSUMED = 1, 2, 4, 8
_MATURE = _PREDICTED | _KNOWN
_STRETCH = 1 << 17
DST = 7200  # more than any clock is put forward or back

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint32]


class RowBuffer:
    """Rows of the recent window: 39 bytes each, and what was served beside those that came through the model handle.

    Parameters
    ----------
    grid
        Slots.
    season_seconds
        Distance of the seasonal-naive reference.
    horizon_seconds
        A truth is late, and a prediction unmatched, when it is not known this long after its slot has ended; a truth of which
        only the drain tells is late when the drain before came too late already.
    """

    def __init__(self, grid: TimeGrid, season_seconds: int, horizon_seconds: int) -> None:
        self._grid = grid
        self._season = season_seconds
        self._horizon = horizon_seconds
        self._index = KeyIndex()
        self._rows = 0
        self._version = np.empty(0, dtype=np.uint16)
        self._flags = np.empty(0, dtype=np.uint8)
        self._predicted = np.empty(0)
        self._actual = np.empty(0)
        self._naive = np.empty(0)
        self._observed = np.empty(0, dtype=np.uint32)
        # only once something was served through the handle: position of a row's extras, -1 for none
        self._extra: NDArray[np.int32] | None = None
        self._served = np.empty(0)
        self._snapshot = np.empty(0, dtype=np.uint32)
        self._members = np.empty((0, 0), dtype=np.float32)
        self._extras = 0
        self.floor = 0
        # truths from before the journal: (places, slots) -> actuals, NaN where unknown; and the last slot that has one
        self.reference: Callable[[Codes, Ints], Floats] | None = None
        self.reference_end = -1

    def __len__(self) -> int:
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in memory, room for growth not counted."""
        a_row = sum(
            column.itemsize for column in (self._version, self._flags, self._predicted, self._actual, self._naive)
        )
        a_row += self._observed.itemsize + (self._extra.itemsize if self._extra is not None else 0)
        return self._rows * a_row + self._index.nbytes + self._extras * (12 + 4 * self._members.shape[1])

    # taking in

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more."""
        self._make_room(self._rows + rows)
        self._index.reserve(self._rows + rows)

    def ingest(self, events: Events) -> Outcome:
        """Take events in; whatever they change is told, nothing else is."""
        quick = self._ingest_new_pairs(events) or self._ingest_awaited(events)
        return quick if quick is not None else self._ingest_any(events)

    def _ingest_new_pairs(self, events: Events) -> Outcome | None:
        """Complete pairs in order of time, each key new: nothing to look up but the season before."""
        if not len(events) or events.served is not None or events.kind[0] != PAIR or not is_uniform(events.kind):
            return None
        keys = make_keys(events.place, events.slot)
        if int(keys[0]) <= self._index.newest or int(events.slot[0]) < self.floor:
            return None
        if not (keys[1:] > keys[:-1]).all() or not _all_finite(events.predicted, events.actual):
            return None
        if int(events.slot[-1]) >= int(events.slot[0]) + self._season:
            return None
        naive = self._find_naive(events.place, events.slot)
        first = self._append(keys)
        rows = slice(first, self._rows)
        self._version[rows] = events.version
        self._flags[rows] = _MATURE
        self._predicted[rows] = events.predicted
        self._actual[rows] = events.actual
        self._naive[rows] = naive
        self._observed[rows] = events.observed_at
        batch = MaturedBatch(
            events.place,
            events.slot,
            events.version,
            events.predicted,
            events.predicted,
            events.actual,
            naive,
            np.empty((len(events), 0), dtype=np.float32),
            np.broadcast_to(np.uint32(0), (len(events),)),
            events.observed_at,
        )
        late = self._late(events.slot, events.observed_from)
        return Outcome(
            added=batch,
            predicted=(events.place, events.slot, events.version),
            expected=(events.place, events.slot),
            truths=Truths(events.place, events.slot, events.actual, late, events.actual),
            counts={"records": len(events), "late": int(np.count_nonzero(late))},
            all_new=True,
        )

    def _ingest_awaited(self, events: Events) -> Outcome | None:
        """Truths in order of time of predictions that wait for them, logged in that order as well: nothing is replaced."""
        if not len(events) or events.served is not None or not is_uniform(events.kind):
            return None
        if events.kind[0] not in (ACTUAL, PAIR) or int(events.slot[0]) < self.floor:
            return None
        keys = make_keys(events.place, events.slot)
        rows = self._index.stretch(keys) if (keys[1:] > keys[:-1]).all() else None
        if rows is None or not is_uniform(self._flags[rows]):
            return None
        flags = int(self._flags[rows.start])
        # a pair completes what was served; of any other prediction it may be a new one
        if flags not in ((_PREDICTED, _PREDICTED | _SERVED) if events.kind[0] == ACTUAL else (_PREDICTED | _SERVED,)):
            return None
        if not _all_finite(events.actual, events.actual if events.kind[0] == ACTUAL else events.predicted):
            return None
        place, slot, actual = events.place, events.slot, events.actual
        self._actual[rows] = actual
        self._observed[rows] = events.observed_at
        self._flags[rows] = flags | _KNOWN  # last, since others may be reading
        naive = self._naive[rows] = self._find_naive(place, slot)
        late = self._late(slot, events.observed_from)
        out = Outcome(
            truths=Truths(place, slot, actual, late, actual),
            counts={"records": len(events), "late": int(np.count_nonzero(late))},
        )
        if flags & _SERVED:
            added = self._batch(place, slot, self._values(np.arange(rows.start, rows.stop)))
        else:
            predicted = self._predicted[rows].copy()
            nothing = np.empty((len(events), 0), dtype=np.float32), np.broadcast_to(np.uint32(0), (len(events),))
            added = MaturedBatch(
                place,
                slot,
                self._version[rows].copy(),
                predicted,
                predicted,
                actual,
                naive,
                *nothing,
                events.observed_at,
            )
        leaning = self._restate_leaning(place, slot, np.ones(len(events), dtype=bool), np.arange(rows.start, rows.stop))
        if leaning is None:
            out.added, out.all_new = added, True
        else:
            out.retracted, out.added = leaning[0], joined_batches([added, leaning[1]])
        return out

    def _ingest_any(self, events: Events) -> Outcome:
        counts: dict[str, int] = {"records": len(events)}
        out = Outcome(counts=counts)
        is_prediction = (events.kind == PREDICTION) | (events.kind == SERVED) | (events.kind == PAIR)
        is_actual = (events.kind == ACTUAL) | (events.kind == PAIR)
        good_prediction = is_prediction & np.isfinite(events.predicted)
        good_actual = is_actual & np.isfinite(events.actual)
        bad = is_actual & ~good_actual
        if bad.any():
            counts["invalid_actuals"] = int(bad.sum())
            out.invalid = (events.place[bad], events.slot[bad])
        counts["invalid_predictions"] = int((is_prediction & ~good_prediction).sum())
        old = events.slot < self.floor
        counts["too_old"] = int((old & (good_prediction | good_actual)).sum())
        usable = np.flatnonzero((good_prediction | good_actual) & ~old)
        if not len(usable):
            return out
        if len(usable) < len(events):
            events = events.take(usable)
            good_prediction, good_actual = good_prediction[usable], good_actual[usable]
        keys = make_keys(events.place, events.slot)
        unique, turns = _turns(keys)
        rows = self._rows_of(unique)
        before = self._state(rows)
        since = np.zeros(len(unique))
        repeats: list[NDArray[np.intp]] = []
        for chosen, group in turns:
            truthful = good_actual[chosen]
            repeated = self._take_turn(events, chosen, rows[group], good_prediction[chosen], truthful, counts)
            since[group[truthful]] = events.observed_from[chosen[truthful]]
            if len(repeated):
                repeats.append(repeated)
        if repeats:
            at = np.concatenate(repeats)
            out.repeated = (events.place[at], events.slot[at])
        place, slot = split_keys(unique)
        self._conclude(place, slot, rows, before, since, out)
        return out

    def _take_turn(
        self,
        events: Events,
        chosen: NDArray[np.intp],
        at: Ints,
        good_prediction: NDArray[np.bool_],
        good_actual: NDArray[np.bool_],
        counts: dict[str, int],
    ) -> NDArray[np.intp]:
        """Apply at most one event to each of the rows `at`; return the events that repeat an actual."""
        flags, kind, value = self._flags[at], events.kind[chosen], events.predicted[chosen]
        has = (flags & _PREDICTED) != 0
        served = (flags & _SERVED) != 0
        same = has & (value == self._served_values(at))
        confirms = has & (((kind == PAIR) & (served | same)) | ((kind == PREDICTION) & served & same))
        take = good_prediction & ~confirms
        counts["replaced"] = counts.get("replaced", 0) + int((take & has).sum())
        flags = np.where(take, (flags | _PREDICTED) & ~np.uint8(_SERVED), flags)
        if take.any():
            self._predicted[at[take]] = value[take]
            self._version[at[take]] = events.version[chosen[take]]
            through_handle = take & (kind == SERVED)
            if through_handle.any():
                flags[through_handle] |= _SERVED
                self._keep_extras(at[through_handle], events, chosen[through_handle])
        known = ((flags & _KNOWN) != 0) & ((flags & _ASSUMED) == 0)
        actual = events.actual[chosen]
        again = good_actual & known
        corrected = again & (actual != self._actual[at])
        counts["duplicates"] = counts.get("duplicates", 0) + int((again & ~corrected).sum())
        counts["corrected"] = counts.get("corrected", 0) + int(corrected.sum())
        put = good_actual & (~known | corrected)
        self._actual[at[put]] = actual[put]
        self._observed[at[put]] = events.observed_at[chosen[put]]
        flags = np.where(put, (flags | _KNOWN) & ~np.uint8(_ASSUMED), flags)
        self._flags[at] = flags
        repeated: NDArray[np.intp] = chosen[again]
        return repeated

    def assume_zero(self, now: float) -> Outcome:
        """Let every prediction whose truth has not come by its horizon mature with an actual of 0."""
        limit = int(np.floor(now)) - self._grid.step - self._horizon
        rows, keys = self._window(0, limit)
        waiting = (self._flags[rows] & _MATURE) == _PREDICTED
        rows, keys = rows[waiting], keys[waiting]
        out = Outcome(counts={"assumed_zero": len(rows)})
        if len(rows):
            before = self._state(rows)
            self._flags[rows] |= _KNOWN | _ASSUMED
            self._actual[rows] = 0.0
            self._observed[rows] = int(now)
            place, slot = split_keys(keys)
            self._conclude(place, slot, rows, before, np.zeros(len(rows)), out)
        return out

    # reading

    def pending(self, now: float) -> tuple[int, int, int]:
        """Predictions still waiting, those of them past the horizon, and truths without a prediction."""
        waiting = orphans = 0
        for start in range(0, self._rows, _STRETCH):  # so that what is worked out in between stays in the cache
            flags = self._flags[start : min(start + _STRETCH, self._rows)] & _MATURE
            waiting += int(np.count_nonzero(flags == _PREDICTED))
            orphans += int(np.count_nonzero(flags == _KNOWN))
        if not waiting:
            return 0, 0, orphans
        rows, _ = self._window(0, int(now) - self._grid.step - self._horizon + 1)
        return waiting, int(((self._flags[rows] & _MATURE) == _PREDICTED).sum()), orphans

    def naive(self, place: Codes, slot: Ints) -> Floats:
        """Seasonal-naive forecasts of any keys, as known now; NaN where there is none."""
        return self._find_naive(place, slot)

    def seasons_before(self, slot: int) -> tuple[int, int]:
        """Slots at the same wall-clock time one and two seasons before."""
        slots = np.array((slot,))
        return int(self._shift(slots, -self._season)[0]), int(self._shift(slots, -2 * self._season)[0])

    def truth_at(self, place: int, slot: int) -> float:
        """Return the known actual of one key, NaN where there is none."""
        row = self._index.row_of(max(slot, 0) << 32 | place)
        if row >= 0 and self._flags[row] & _KNOWN:
            return float(self._actual[row])
        if self.reference is not None and slot <= self.reference_end:
            return float(self.reference(np.array((place,), dtype=np.uint32), np.array((slot,)))[0])
        return np.nan

    def frozen(self) -> "RowBuffer":
        """Return a reader's copy, to be read in another thread while this one is changed; it shares the columns.

        Rows keep their place in a column until it is replaced by a new one, a row's truth is written before the flag that says
        it is known, and rows that are new are beyond those whose keys the copy holds.
        """
        twin = copy(self)
        twin._index = self._index.frozen()  # noqa: SLF001 - its own class
        return twin

    def rows(self, start: int, end: int, *, matured: bool = True) -> MaturedBatch:
        """Rows with `start` <= slot < `end` in order of their key; those without truth have a NaN there if asked for."""
        at, keys = self._window(start, end)
        wanted = _MATURE if matured else _PREDICTED
        chosen = (self._flags[at] & wanted) == wanted
        at, keys = at[chosen], keys[chosen]
        place, slot = split_keys(keys)
        return self._batch(place, slot, self._values(at))

    def newest_rows_from(self, count: int) -> int:
        """Slot from which on there are about `count` rows, at least as many where there are so many."""
        keys = self._index.newest_keys(count)
        return int(keys.min()) >> 32 if len(keys) else 0

    def truths(self, start: int, end: int) -> tuple[Codes, Ints, Floats]:
        """Keys with a known actual in [`start`, `end`): place codes, slots, actuals."""
        at, keys = self._window(start, end)
        known = (self._flags[at] & _KNOWN) != 0
        place, slot = split_keys(keys[known])
        return place, slot, self._actual[at[known]]

    def drop_before(self, slot: int) -> dict[str, int]:
        """Forget rows before `slot`; predictions that never met their truth are counted on the way."""
        self.floor = max(self.floor, slot)
        gone, _ = self._window(0, slot)
        if not len(gone):
            return {}
        flags = self._flags[gone] & _MATURE
        counts = {"unmatched": int((flags == _PREDICTED).sum()), "orphans": int((flags == _KNOWN).sum())}
        rows, keys = self._window(slot, 1 << 32)
        self._compact(rows, keys)
        return counts

    # inside

    def _compact(self, rows: Ints, keys: NDArray[np.uint64]) -> None:
        self._index = KeyIndex()
        self._index.append(keys, 0)
        self._version, self._flags = self._version[rows], self._flags[rows]
        self._predicted, self._actual = self._predicted[rows], self._actual[rows]
        self._naive, self._observed = self._naive[rows], self._observed[rows]
        if self._extra is not None:
            extra = self._extra[rows]
            kept = np.flatnonzero(extra >= 0)
            old = extra[kept]
            extra[kept] = np.arange(len(kept))
            self._served, self._snapshot, self._members = self._served[old], self._snapshot[old], self._members[old]
            self._extra, self._extras = extra, len(kept)
        self._rows = len(rows)

    def _window(self, start: int, end: int) -> tuple[Ints, NDArray[np.uint64]]:
        start, end = max(start, 0), min(max(end, 0), (1 << 32) - 1)
        return self._index.between(start << 32, end << 32)

    def _append(self, keys: NDArray[np.uint64]) -> int:
        """Make rows for new ascending `keys`; return the first."""
        first, need = self._rows, self._rows + len(keys)
        self._make_room(need)
        self._flags[first:need] = 0
        if self._extra is not None:
            self._extra[first:need] = -1
        self._index.append(keys, first)
        self._rows = need
        return first

    def _make_room(self, need: int) -> None:
        if need > len(self._flags):
            room = max(need, len(self._flags) + len(self._flags) // 2, 4096)
            for name in ("_version", "_flags", "_predicted", "_actual", "_naive", "_observed"):
                setattr(self, name, grown(getattr(self, name), self._rows, room))
            if self._extra is not None:
                self._extra = grown(self._extra, self._rows, room)

    def _rows_of(self, unique: NDArray[np.uint64]) -> Ints:
        """Row of each of the ascending keys, made where there is none."""
        rows = self._index.find(unique)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            first = self._append(unique[missing])
            rows[missing] = np.arange(first, self._rows)
            self._predicted[first : self._rows] = np.nan
            self._actual[first : self._rows] = np.nan
            self._naive[first : self._rows] = np.nan
            self._version[first : self._rows] = 0
        return rows

    def _keep_extras(self, at: Ints, events: Events, chosen: NDArray[np.intp]) -> None:
        if events.served is None or events.snapshot is None or events.members is None:
            raise ValueError("Served events come with what was served.")
        if self._extra is None:
            self._extra = np.full(len(self._flags), -1, dtype=np.int32)
        members = events.members[chosen]
        first, need = self._extras, self._extras + len(at)
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
        self._served[first:need] = events.served[chosen]
        self._snapshot[first:need] = events.snapshot[chosen]
        self._members[first:need] = np.nan
        self._members[first:need, : members.shape[1]] = members
        self._extra[at] = np.arange(first, need)
        self._extras = need

    def _served_values(self, at: Ints) -> Floats:
        """Return what the collector was given: the champion's own prediction unless the handle served another value."""
        values: Floats = self._predicted[at]
        if self._extra is not None:
            chosen = (self._flags[at] & _SERVED) != 0
            values[chosen] = self._served[self._extra[at[chosen]]]
        return values

    def _values(self, at: Ints) -> RowState:
        extra = None
        if self._extra is not None:
            extra = np.where((self._flags[at] & _SERVED) != 0, self._extra[at], -1)
        return RowState(
            self._flags[at],
            self._version[at],
            self._predicted[at],
            self._served_values(at),
            self._actual[at],
            self._naive[at],
            self._observed[at].astype(np.float64),
            extra,
        )

    _state = _values

    def _batch(self, place: Codes, slot: Ints, state: RowState) -> MaturedBatch:
        members = np.empty((len(slot), 0), dtype=np.float32)
        snapshot = np.zeros(len(slot), dtype=np.uint32)
        if state.extra is not None and (state.extra >= 0).any():
            through = state.extra >= 0
            members = np.full((len(slot), self._members.shape[1]), np.nan, dtype=np.float32)
            members[through] = self._members[state.extra[through]]
            snapshot[through] = self._snapshot[state.extra[through]]
        actual = np.where((state.flags & _KNOWN) != 0, state.actual, np.nan)
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

    def _find_naive(self, place: Codes, slot: Ints) -> Floats:
        out = np.full(len(slot), np.nan)
        want = np.arange(len(slot))
        for distance in (self._season, 2 * self._season):
            if not len(want):
                break
            if self._begins_later(slot, distance):
                continue
            whole = len(want) == len(slot)
            back = self._shift(slot if whole else slot[want], -distance)
            places = place if whole else place[want]
            keys = make_keys(places, np.maximum(back, 0))
            if self.reference is not None and int(back.min()) <= self.reference_end:
                out[want] = self.reference(places, back)
            if int(keys.min()) > self._index.newest:
                want = np.flatnonzero(np.isnan(out))
                continue
            rows = self._index.find(keys)
            hit = rows >= 0
            if not hit.all():
                rows = rows[hit]
                found = want[hit]
            else:
                found = want
            known = (self._flags[rows] & _KNOWN) != 0
            if not known.all():
                rows, found = rows[known], found[known]
            if len(found) == len(out):
                return self._actual[rows]
            out[found] = self._actual[rows]
            want = np.flatnonzero(np.isnan(out))
        return out

    def _shift(self, slot: Ints, seconds: int) -> Ints:
        return slot + seconds if self._grid.zone == "UTC" else self._grid.shift(slot, seconds)

    def _begins_later(self, slot: Ints, distance: int) -> bool:
        """Whether everything known begins after all that lies `distance` before `slot`."""
        latest = int(slot.max()) - distance + DST
        return latest > self.reference_end + 2 * DST and latest << 32 < self._index.oldest

    def _late(self, slot: Ints, observed_from: Floats) -> NDArray[np.bool_]:
        """Which truths came late even where they were logged right after their writer was read before."""
        patience = self._grid.step + self._horizon
        if len(slot) and float(observed_from.max()) <= int(slot.min()) + patience:
            return np.zeros(len(slot), dtype=bool)
        late: NDArray[np.bool_] = observed_from > slot + patience
        return late

    def _conclude(self, place: Codes, slot: Ints, rows: Ints, before: RowState, since: Floats, out: Outcome) -> None:
        """Compare the rows with what they were, restate those that lean on their truths, and fill `out`."""
        after = self._values(rows)
        known_before, known_after = (before.flags & _KNOWN) != 0, (after.flags & _KNOWN) != 0
        new = known_after & ~known_before
        changed = known_after & known_before & (before.actual != after.actual)
        late = self._late(slot, since)
        if new.any():
            out.truths = Truths(place[new], slot[new], after.actual[new], late[new], after.actual[new])
            out.counts["late"] = int(late[new].sum())
        if changed.any():
            out.restated = Truths(
                place[changed], slot[changed], after.actual[changed], late[changed], before.actual[changed]
            )
        had, has = (before.flags & _PREDICTED) != 0, (after.flags & _PREDICTED) != 0
        moved = had & (before.version != after.version)
        if (fresh := has & ~had).any():
            out.expected = (place[fresh], slot[fresh])
        if (put := fresh | moved).any():
            out.predicted = (place[put], slot[put], after.version[put])
        if moved.any():
            out.unpredicted = (place[moved], slot[moved], before.version[moved])
        # the naive forecasts of these rows, and of rows that lean on truths that are new or changed
        mature = (after.flags & _MATURE) == _MATURE
        touched = np.flatnonzero(mature)
        self._naive[rows[touched]] = self._find_naive(place[touched], slot[touched])
        after.naive[touched] = self._naive[rows[touched]]
        was = (before.flags & _MATURE) == _MATURE
        differs = was & mature & before.differs(after)
        retract, add = was & differs, mature & (~was | differs)
        retracted = [self._batch(place[retract], slot[retract], before.take(retract))]
        added = [self._batch(place[add], slot[add], after.take(add))]
        leaning = self._restate_leaning(place, slot, new | changed, rows)
        if leaning is not None:
            retracted.append(leaning[0])
            added.append(leaning[1])
        out.retracted, out.added = joined_batches(retracted), joined_batches(added)

    def _restate_leaning(
        self, place: Codes, slot: Ints, changed: NDArray[np.bool_], own: Ints
    ) -> tuple[MaturedBatch, MaturedBatch] | None:
        """Rows one or two seasons after changed truths, as they were and as they are now."""
        newest = self._index.newest
        if not changed.any() or newest < 0 or int(slot[changed].min()) + self._season - 7200 > newest >> 32:
            return None
        # where clocks change, more than one slot has the same wall clock time
        around = (0,) if self._grid.zone == "UTC" else (-3600, -1800, 0, 1800, 3600)
        keys = np.concatenate(
            [
                make_keys(place[changed], self._grid.shift(slot[changed], distance) + aside)
                for distance in (self._season, 2 * self._season)
                for aside in around
            ]
        )
        keys = np.unique(keys)
        rows = self._index.find(keys)
        found = rows >= 0
        rows, keys = rows[found], keys[found]
        mature = ((self._flags[rows] & _MATURE) == _MATURE) & ~np.isin(rows, own)
        rows, keys = rows[mature], keys[mature]
        if not len(rows):
            return None
        their_place, their_slot = split_keys(keys)
        before = self._values(rows)
        naive = self._find_naive(their_place, their_slot)
        differs = ~((naive == before.naive) | (np.isnan(naive) & np.isnan(before.naive)))
        if not differs.any():
            return None
        rows, their_place, their_slot, before = (
            rows[differs],
            their_place[differs],
            their_slot[differs],
            before.take(differs),
        )
        self._naive[rows] = naive[differs]
        return (
            self._batch(their_place, their_slot, before),
            self._batch(their_place, their_slot, self._values(rows)),
        )


def _all_finite(first: Floats, second: Floats) -> bool:
    """Whether all values are numbers, by their sum; one of numbers too large for that is looked at again by others."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(first.sum() + second.sum()))


def _turns(
    keys: NDArray[np.uint64],
) -> tuple[NDArray[np.uint64], list[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    """Return the keys, ascending, each once; and events with the position of their key, turn by turn, no key twice in a turn."""
    if (keys[1:] > keys[:-1]).all():
        everything = np.arange(len(keys))
        return keys, [(everything, everything)]
    order = np.argsort(keys, kind="stable")
    unique, starts = np.unique(keys[order], return_index=True)
    group = np.repeat(np.arange(len(unique)), np.diff(starts, append=len(order)))
    rank = np.arange(len(order)) - starts[group]
    turns = []
    for turn in range(int(rank.max()) + 1):
        here = rank == turn
        turns.append((order[here], group[here]))
    return unique, turns
