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

from demand_maint.core.key_index import ascending_keys, in_turns, make_keys, split_keys
from demand_maint.core.observation_events import (
    ACTUAL,
    PAIR,
    PREDICTION,
    SERVED,
    VOID,
    Events,
    Outcome,
    Truths,
    alike,
    all_finite,
    is_uniform,
)
from demand_maint.core.records import MaturedBatch
from demand_maint.core.row_columns import IS_ASSUMED, IS_KNOWN, IS_MATURE, IS_PREDICTED, IS_SERVED, RowColumns
from demand_maint.core.row_state import RowState, joined_batches
from demand_maint.core.seasons import Seasons
from demand_maint.core.timegrid import TimeGrid

__all__ = ["ACTUAL", "PAIR", "PREDICTION", "SERVED", "VOID", "Events", "Outcome", "RowBuffer", "Truths"]


_STRETCH = 1 << 17

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint32]


class RowBuffer:
    """Rows of the recent window: at most 39 bytes each, and what was served beside those that came through the model handle.

    Parameters
    ----------
    grid
        Slots.
    season_seconds
        Distance of the seasonal-naive reference.
    horizon_seconds
        A truth is late, and a prediction unmatched, when it is not known this long after its slot has ended; a truth of which
        only the drain tells is late when the drain before came too late already.
    began
        When the first truth of all could come in; what was due before that was filled in afterwards and is not late.
    """

    def __init__(self, grid: TimeGrid, season_seconds: int, horizon_seconds: int, began: float = 0.0) -> None:
        self._grid = grid
        self._season = season_seconds
        self._horizon = horizon_seconds
        self._columns = RowColumns()
        self._seasons = Seasons(self._columns, grid, season_seconds)
        self.floor = 0
        self.began = began

    def __len__(self) -> int:
        return self._columns.used

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in memory, room for growth not counted."""
        return self._columns.nbytes

    # taking in

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more."""
        self._columns.reserve(rows)

    def ingest(self, events: Events) -> Outcome:
        """Take events in; whatever they change is told, nothing else is."""
        quick = (
            self._ingest_new_pairs(events)
            or self._ingest_awaited(events)
            or self._columns.take_served(events, self.floor)
        )
        return quick if quick is not None else self._ingest_any(events)

    def _ingest_new_pairs(self, events: Events) -> Outcome | None:
        """Complete pairs in order of time, each key new: nothing to look up but the season before."""
        if not len(events) or events.served is not None or events.kind[0] != PAIR or not is_uniform(events.kind):
            return None
        if int(events.slot[0]) << 32 | int(events.place[0]) <= self._columns.index.newest:
            return None
        keys = ascending_keys(events.place, events.slot, events.rhythm)
        if keys is None or int(events.slot[0]) < self.floor or not all_finite(events.predicted, events.actual):
            return None
        if int(events.slot[-1]) >= int(events.slot[0]) + self._season:
            return None
        naive = self._seasons.find(events.place, events.slot, int(events.slot[-1]))
        rows = slice(self._columns.append(keys, IS_MATURE), self._columns.used)
        self._columns.version[rows] = events.version
        self._columns.predicted[rows] = events.predicted
        self._columns.actual[rows] = events.actual
        if naive.strides != (0,):  # else there is none yet
            self._columns.put_naive(rows, naive)
        self._columns.observed[rows] = events.observed_at
        batch = MaturedBatch(
            events.place,
            events.slot,
            events.version,
            events.predicted,
            events.predicted,
            events.actual,
            naive,
            np.empty((len(events), 0), dtype=np.float32),
            alike(0, len(events), np.uint32),
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
            rhythm=events.rhythm,
        )

    def _ingest_awaited(self, events: Events) -> Outcome | None:
        """Truths in order of time of predictions that wait for them, logged in that order as well: nothing is replaced."""
        if not len(events) or events.served is not None or not is_uniform(events.kind):
            return None
        if events.kind[0] not in (ACTUAL, PAIR) or int(events.slot[0]) < self.floor:
            return None
        keys = ascending_keys(events.place, events.slot, events.rhythm)
        rows = self._columns.index.stretch(keys) if keys is not None else None
        if rows is None or not is_uniform(self._columns.flags[rows]):
            return None
        flags = int(self._columns.flags[rows.start])
        # a pair completes what was served; of any other prediction it may be a new one
        if flags not in (
            (IS_PREDICTED, IS_PREDICTED | IS_SERVED) if events.kind[0] == ACTUAL else (IS_PREDICTED | IS_SERVED,)
        ):
            return None
        if not all_finite(events.actual, events.actual if events.kind[0] == ACTUAL else events.predicted):
            return None
        place, slot, actual = events.place, events.slot, events.actual
        self._columns.actual[rows] = actual
        self._columns.observed[rows] = events.observed_at
        self._columns.flags[rows] = flags | IS_KNOWN  # last, since others may be reading
        naive = self._seasons.find(place, slot, int(slot[-1]))
        if naive.strides != (0,):  # else there is none yet
            self._columns.put_naive(rows, naive)
        late = self._late(slot, events.observed_from)
        out = Outcome(
            truths=Truths(place, slot, actual, late, actual),
            counts={"records": len(events), "late": int(np.count_nonzero(late))},
        )
        if flags & IS_SERVED:
            added = self._columns.served_batch(place, slot, rows)
        else:
            predicted = self._columns.predicted[rows].copy()
            nothing = np.empty((len(events), 0), dtype=np.float32), alike(0, len(events), np.uint32)
            added = MaturedBatch(
                place,
                slot,
                self._columns.version[rows],
                predicted,
                predicted,
                actual,
                naive,
                *nothing,
                events.observed_at,
            )
        leaning = self._restate_leaning(place, slot, np.ones(len(events), dtype=bool), np.arange(rows.start, rows.stop))
        if leaning is None:
            out.added, out.all_new, out.rhythm = added, True, events.rhythm
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
        unique, turns = in_turns(keys)
        rows = self._columns.rows_of(unique)
        before = self._columns.values(rows)
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
        flags, kind, value = self._columns.flags[at], events.kind[chosen], events.predicted[chosen]
        has = (flags & IS_PREDICTED) != 0
        served = (flags & IS_SERVED) != 0
        same = has & (value == self._columns.served_values(at))
        confirms = has & (((kind == PAIR) & (served | same)) | ((kind == PREDICTION) & served & same))
        take = good_prediction & ~confirms
        counts["replaced"] = counts.get("replaced", 0) + int((take & has).sum())
        flags = np.where(take, (flags | IS_PREDICTED) & ~np.uint8(IS_SERVED), flags)
        if take.any():
            self._columns.predicted[at[take]] = value[take]
            self._columns.version[at[take]] = events.version[chosen[take]]
            through_handle = take & (kind == SERVED)
            if through_handle.any():
                flags[through_handle] |= IS_SERVED
                self._columns.keep_extras(at[through_handle], events.take(chosen[through_handle]))
        known = ((flags & IS_KNOWN) != 0) & ((flags & IS_ASSUMED) == 0)
        actual = events.actual[chosen]
        again = good_actual & known
        corrected = again & (actual != self._columns.actual[at])
        counts["duplicates"] = counts.get("duplicates", 0) + int((again & ~corrected).sum())
        counts["corrected"] = counts.get("corrected", 0) + int(corrected.sum())
        put = good_actual & (~known | corrected)
        self._columns.actual[at[put]] = actual[put]
        self._columns.observed[at[put]] = events.observed_at[chosen[put]]
        flags = np.where(put, (flags | IS_KNOWN) & ~np.uint8(IS_ASSUMED), flags)
        self._columns.flags[at] = flags
        repeated: NDArray[np.intp] = chosen[again]
        return repeated

    def assume_zero(self, now: float) -> Outcome:
        """Let every prediction whose truth has not come by its horizon mature with an actual of 0."""
        limit = int(np.floor(now)) - self._grid.step - self._horizon
        rows, keys = self._columns.window(0, limit)
        waiting = (self._columns.flags[rows] & IS_MATURE) == IS_PREDICTED
        rows, keys = rows[waiting], keys[waiting]
        out = Outcome(counts={"assumed_zero": len(rows)})
        if len(rows):
            before = self._columns.values(rows)
            self._columns.flags[rows] |= IS_KNOWN | IS_ASSUMED
            self._columns.actual[rows] = 0.0
            self._columns.observed[rows] = np.full(len(rows), int(now))
            place, slot = split_keys(keys)
            self._conclude(place, slot, rows, before, np.zeros(len(rows)), out)
        return out

    # reading

    def pending(self, now: float) -> tuple[int, int, int]:
        """Predictions still waiting, those of them past the horizon, and truths without a prediction."""
        waiting = orphans = 0
        for start in range(0, self._columns.used, _STRETCH):  # so that what is worked out in between stays in the cache
            flags = self._columns.flags[start : min(start + _STRETCH, self._columns.used)] & IS_MATURE
            waiting += int(np.count_nonzero(flags == IS_PREDICTED))
            orphans += int(np.count_nonzero(flags == IS_KNOWN))
        if not waiting:
            return 0, 0, orphans
        rows, _ = self._columns.window(0, int(now) - self._grid.step - self._horizon + 1)
        return waiting, int(((self._columns.flags[rows] & IS_MATURE) == IS_PREDICTED).sum()), orphans

    def naive(self, place: Codes, slot: Ints) -> Floats:
        """Seasonal-naive forecasts of any keys, as known now; NaN where there is none."""
        return self._seasons.find(place, slot)

    def seasons_before(self, slot: int) -> tuple[int, int]:
        """Slots at the same wall-clock time one and two seasons before."""
        return self._seasons.before(slot)

    def truth_at(self, place: int, slot: int) -> float:
        """Return the known actual of one key, NaN where there is none."""
        return self._seasons.truth_at(place, slot)

    def frozen(self) -> "RowBuffer":
        """Return a reader's copy, to be read in another thread while this one is changed; it shares the columns."""
        twin = copy(self)
        columns = self._columns.frozen()
        twin._columns, twin._seasons = columns, self._seasons.over(columns)  # noqa: SLF001 - its own class
        return twin

    def use_reference(self, reference: Callable[[Codes, Ints], Floats], end: int) -> None:
        """Let truths from before the journal stand in as the season before, up to the slot `end`.

        Parameters
        ----------
        reference
            Actuals of places and slots, NaN where unknown.
        end
            The last slot that has one.
        """
        self._seasons.use_reference(reference, end)

    def rows(self, start: int, end: int, *, matured: bool = True) -> MaturedBatch:
        """Rows with `start` <= slot < `end` in order of their key; those without truth have a NaN there if asked for."""
        at, keys = self._columns.window(start, end)
        wanted = IS_MATURE if matured else IS_PREDICTED
        chosen = (self._columns.flags[at] & wanted) == wanted
        at, keys = at[chosen], keys[chosen]
        place, slot = split_keys(keys)
        return self._columns.batch(place, slot, self._columns.values(at))

    def newest_rows_from(self, count: int) -> int:
        """Slot from which on there are about `count` rows, at least as many where there are so many."""
        keys = self._columns.index.newest_keys(count)
        return int(keys.min()) >> 32 if len(keys) else 0

    def truths(self, start: int, end: int) -> tuple[Codes, Ints, Floats]:
        """Keys with a known actual in [`start`, `end`): place codes, slots, actuals."""
        at, keys = self._columns.window(start, end)
        known = (self._columns.flags[at] & IS_KNOWN) != 0
        place, slot = split_keys(keys[known])
        return place, slot, self._columns.actual[at[known]]

    def drop_before(self, slot: int) -> dict[str, int]:
        """Forget rows before `slot`; predictions that never met their truth are counted on the way."""
        self.floor = max(self.floor, slot)
        gone, _ = self._columns.window(0, slot)
        if not len(gone):
            return {}
        flags = self._columns.flags[gone] & IS_MATURE
        counts = {"unmatched": int((flags == IS_PREDICTED).sum()), "orphans": int((flags == IS_KNOWN).sum())}
        rows, keys = self._columns.window(slot, 1 << 32)
        self._columns.keep_only(rows, keys)
        return counts

    # inside

    def _late(self, slot: Ints, observed_from: Floats) -> NDArray[np.bool_]:
        """Which truths of ascending slots came late even where they were logged right after their writer was read before."""
        patience = self._grid.step + self._horizon
        if len(slot) and is_uniform(observed_from) and float(observed_from[0]) <= int(slot[0]) + patience:
            return np.zeros(len(slot), dtype=bool)
        due = slot + patience
        late: NDArray[np.bool_] = (observed_from > due) & (due >= self.began)
        return late

    def _conclude(self, place: Codes, slot: Ints, rows: Ints, before: RowState, since: Floats, out: Outcome) -> None:
        """Compare the rows with what they were, restate those that lean on their truths, and fill `out`."""
        after = self._columns.values(rows)
        known_before, known_after = (before.flags & IS_KNOWN) != 0, (after.flags & IS_KNOWN) != 0
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
        had, has = (before.flags & IS_PREDICTED) != 0, (after.flags & IS_PREDICTED) != 0
        moved = had & (before.version != after.version)
        if (fresh := has & ~had).any():
            out.expected = (place[fresh], slot[fresh])
        if moved.any():
            put = fresh | moved
            out.predicted = (place[put], slot[put], after.version[put])
            out.unpredicted = (place[moved], slot[moved], before.version[moved])
        elif out.expected is not None:
            out.predicted = (*out.expected, after.version[fresh])
        # the naive forecasts of these rows, and of rows that lean on truths that are new or changed
        mature = (after.flags & IS_MATURE) == IS_MATURE
        touched = np.flatnonzero(mature)
        after.naive[touched] = self._seasons.find(place[touched], slot[touched])
        self._columns.put_naive(rows[touched], after.naive[touched])
        was = (before.flags & IS_MATURE) == IS_MATURE
        differs = was & mature & before.differs(after)
        retract, add = was & differs, mature & (~was | differs)
        retracted = [self._columns.batch(place[retract], slot[retract], before.take(retract))]
        added = [self._columns.batch(place[add], slot[add], after.take(add))]
        leaning = self._restate_leaning(place, slot, new | changed, rows)
        if leaning is not None:
            retracted.append(leaning[0])
            added.append(leaning[1])
        out.retracted, out.added = joined_batches(retracted), joined_batches(added)
        if out.truths is not None and out.added is added[0] and (new == add).all():  # the rows are the same
            place, slot, actual = out.added.place, out.added.slot, out.added.actual
            out.truths = Truths(place, slot, actual, out.truths.late, actual)

    def _restate_leaning(
        self, place: Codes, slot: Ints, changed: NDArray[np.bool_], own: Ints
    ) -> tuple[MaturedBatch, MaturedBatch] | None:
        """Rows one or two seasons after changed truths, as they were and as they are now."""
        leaning = self._seasons.leaning(place[changed], slot[changed]) if changed.any() else None
        if leaning is None:
            return None
        rows, keys = leaning
        mature = ((self._columns.flags[rows] & IS_MATURE) == IS_MATURE) & ~np.isin(rows, own)
        rows, keys = rows[mature], keys[mature]
        if not len(rows):
            return None
        their_place, their_slot = split_keys(keys)
        before = self._columns.values(rows)
        naive = self._seasons.find(their_place, their_slot)
        differs = ~((naive == before.naive) | (np.isnan(naive) & np.isnan(before.naive)))
        if not differs.any():
            return None
        rows, their_place, their_slot, before = (
            rows[differs],
            their_place[differs],
            their_slot[differs],
            before.take(differs),
        )
        self._columns.put_naive(rows, naive[differs])
        return (
            self._columns.batch(their_place, their_slot, before),
            self._columns.batch(their_place, their_slot, self._columns.values(rows)),
        )
