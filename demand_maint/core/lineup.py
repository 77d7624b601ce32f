"""The line-up: forecasters that all predict every row, scored on every truth, weighed by their discounted errors.

Prediction with expert advice (Vovk 1990; Cesa-Bianchi and Lugosi, *Prediction, Learning, and Games*, 2006): a member's weight
falls exponentially with its discounted regret in standard errors, as `weighing` says.

Rules
1. Everything is kept as sums by (version, local day, place), so late, shuffled and corrected truth changes nothing but the
   sums it belongs to, and an actual costs O(members).
2. A member is measured against what was served on the very rows it predicted; a missing value costs it nothing.
3. A newcomer starts beside what is served, behind it where its own out-of-sample figures are worse; its levels start from its own
   out-of-sample sums.
4. A suspended place (feed fault) keeps the weights and levels it had before the fault. Its truth from the fault's first hour on
   counts nowhere, and truth that may turn out to be faulty does not count yet: the sums are always those of the other rows alone.
5. Weights and levels change at most once an hour, all at once, as a numbered snapshot.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from demand_maint.config import ServingConfig
from demand_maint.core.doubt import Doubt
from demand_maint.core.left_out import FOR_EVER, Stretch
from demand_maint.core.lineup_state import (
    ACTUAL,
    CALIBRATED_REGRET,
    FIELDS,
    FORECAST,
    LOSS,
    REFERENCE,
    REGRET,
    SERVED,
    Levels,
    LineUpState,
    N,
    Seat,
    dump,
    load,
)
from demand_maint.core.newcomer import seeds, skill
from demand_maint.core.observation_events import is_uniform
from demand_maint.core.records import MaturedBatch
from demand_maint.core.sampling import DaySums, PairedDays
from demand_maint.core.serving import NAIVE, Member, Place, ServingSnapshot
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import ModelMetadata
from demand_maint.core.weighing import Weigher, regret

__all__ = ["LineUp"]

Floats = NDArray[np.float64]
Chosen = slice | NDArray[np.intp]  # rows of a batch
Tables = dict[int, NDArray[np.float32]]  # levels by the number of their snapshot
UNKNOWN: Levels = ((), np.empty((0, 0), dtype=np.float32))
WINDOW_DAYS = 36
MAX_MEMBERS = 8
MAX_SEATS = 12  # versions remembered, the naive among them
KEPT_LEVELS = 72  # snapshots whose levels are remembered, to score calibrated values of late truth
ROWS_AT_ONCE = 8192  # members' figures of so many rows fit into a processor's cache


class LineUp:
    """Scores, levels and weights of a line-up; a tracker for the monitor's drain.

    Parameters
    ----------
    grid
        Tells local days.
    serving
        Half-lives, sharpness, priors and warm-up, in days.
    calibrate
        Whether each model also stands level-calibrated.
    """

    def __init__(self, grid: TimeGrid, serving: ServingConfig | None = None, *, calibrate: bool = True) -> None:
        self._grid = grid
        self._serving = serving if serving is not None else ServingConfig()
        self._calibrate = calibrate
        self._state = LineUpState(sums=DaySums(FIELDS, WINDOW_DAYS))
        self._state.sums.grow(slots=1)
        # the drain's thread adds, the maintenance thread asks for snapshots
        self._lock = threading.RLock()

    # --- who sits in it -------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[int, ...]:
        """Versions in the order of journalled values: champion first, the naive (0) last."""
        return self._state.columns

    @property
    def latest(self) -> ServingSnapshot | None:
        """The newest snapshot."""
        return self._state.latest

    def seat(
        self,
        versions: Sequence[int],
        metadata: Mapping[int, ModelMetadata],
        *,
        at: float,
        places: Sequence[Place] = (),
    ) -> bool:
        """Say which versions are in the line-up, the champion first; whether that changed anything.

        A version that sits already keeps its scores; one that was here before and is remembered gets them back.
        """
        with self._lock:
            state = self._state
            columns = (*dict.fromkeys(versions), 0)
            if columns == state.columns:
                return False
            day = self._grid.day_of(at)
            for version in columns:
                if version not in state.seats:
                    state.seats[version] = self._newcomer(metadata.get(version), day, places)
            state.columns = columns
            state.changed = True
            self._evict()
            return True

    def _newcomer(self, metadata: ModelMetadata | None, day: int, places: Sequence[Place]) -> Seat:
        taken = {seat.slot for seat in self._state.seats.values()} | {SERVED}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        self._state.sums.grow(slots=slot + 1, places=len(places))
        self._state.sums.clear(slot)
        actual, forecast = seeds(metadata, places)
        claim = self._weigher.claim(skill(metadata))
        return Seat(slot=slot, day=day, claim=claim, actual=actual, forecast=forecast)

    def _evict(self) -> None:
        state = self._state
        gone = [version for version in state.seats if version not in state.columns]
        for version in sorted(gone, key=lambda version: state.seats[version].day):
            if len(state.seats) < MAX_SEATS:
                return
            del state.seats[version]

    # --- evidence -------------------------------------------------------------------------------------------------------

    def update(self, batch: MaturedBatch) -> None:
        """Count rows whose truth has arrived, in any order, however late."""
        with self._lock:
            self._count(batch, 1.0)

    def retract(self, batch: MaturedBatch) -> None:
        """Take rows out again, as before counting them once more with a corrected actual."""
        with self._lock:
            self._count(batch, -1.0)

    def _count(self, batch: MaturedBatch, sign: float) -> None:
        state, sums = self._state, self._state.sums
        sane = np.isfinite(batch.actual) & np.isfinite(batch.served)
        # nothing has a truth before it happened: one stamp in the far future would age all evidence away
        sane &= ~(batch.slot > batch.observed_at + 86400.0)
        left_out = state.left_out.rows(batch.place, batch.slot)
        if left_out is not None:
            sane &= ~left_out
        if not sane.all():
            batch = batch.take(sane)
        if not len(batch):
            return
        day, place = self._grid.day(batch.slot), batch.place.astype(np.intp)
        sums.grow(places=int(place.max()) + 1)
        position, inside = sums.place_in(day)
        if not inside.all():
            sums.too_old += int(len(day) - inside.sum())
            batch, day, position, place = batch.take(inside), day[inside], position[inside], place[inside]
            if not len(batch):
                return
        oldest = int(day.min())
        sums.oldest_seen = oldest if sums.oldest_seen is None else min(sums.oldest_seen, oldest)
        actual, served = batch.actual, batch.served
        what = np.empty((2, len(batch), 1))
        what[N], what[LOSS, :, 0] = sign, sign * np.abs(served - actual)
        sums.add([SERVED], position, place, what)
        state.rows += len(batch)
        for here, columns, tables in self._alike(batch):
            values, versions, levels = self._values(batch, here, columns, tables, place[here])
            self._score(versions, values, levels, position[here], place[here], actual[here], served[here], sign)

    def _alike(self, batch: MaturedBatch) -> Iterator[tuple[Chosen, tuple[int, ...], Tables]]:
        """Rows whose snapshots have the same columns, these, and the levels by snapshot; no columns where none is known."""
        for start in range(0, len(batch), ROWS_AT_ONCE):
            here = slice(start, start + ROWS_AT_ONCE)
            numbers = batch.snapshot[here]
            found: dict[tuple[int, ...], Tables] = {}
            for number in (numbers[:1] if is_uniform(numbers) else np.unique(numbers)).tolist():
                columns, table = (self._state.levels_of(number) if batch.members.shape[1] else None) or UNKNOWN
                found.setdefault(columns, {})[number] = table
            for columns, tables in found.items():
                yield np.isin(numbers, list(tables)).nonzero()[0] + start if len(found) > 1 else here, columns, tables

    def _values(
        self, batch: MaturedBatch, rows: Chosen, columns: tuple[int, ...], tables: Tables, place: NDArray[np.intp]
    ) -> tuple[Floats, tuple[int, ...], Floats]:
        """Raw values (n, K) of `rows`, whose they are, and the levels (n, K) that were in force."""
        if not columns:
            return self._champion_values(batch, rows)
        width = min(len(columns), batch.members.shape[1])
        values = np.empty((len(place), len(columns)))
        values[:, :width], values[:, width:] = batch.members[rows, :width], np.nan
        if 0 in columns:
            naive, told = values[:, columns.index(0)], batch.naive[rows]
            if self.left_out:  # what was told of the season before was wrong there
                told = np.where(np.isin(place, list(self.left_out)), np.nan, told)
            np.copyto(naive, told, where=~np.isfinite(naive))
        levels = np.empty(values.shape)
        for number, table in tables.items():
            mine = batch.snapshot[rows] == number if len(tables) > 1 else slice(None)
            levels[mine] = table[np.minimum(place[mine], len(table) - 1)]
        return values, columns, levels

    def _champion_values(self, batch: MaturedBatch, rows: Chosen) -> tuple[Floats, tuple[int, ...], Floats]:
        """Rows without a line-up: the champion of each, and the naive."""
        version = batch.version[rows]
        versions = (*(int(v) for v in np.unique(version) if v), 0)
        values = np.full((len(version), len(versions)), np.nan)
        for column, number in enumerate(versions[:-1]):
            mine = version == number
            values[mine, column] = batch.predicted[rows][mine]
        values[:, -1] = batch.naive[rows]
        return values, versions, np.ones(values.shape)

    def _score(
        self,
        versions: tuple[int, ...],
        values: Floats,
        levels: Floats,
        position: NDArray[np.int64],
        place: NDArray[np.intp],
        actual: Floats,
        served: Floats,
        sign: float,
    ) -> None:
        """Count what the values (n, K) of versions say of them; one that is missing says nothing."""
        seats = self._state.seats
        seated = [column for column, version in enumerate(versions) if version in seats]
        if not seated:
            return
        if len(seated) < len(versions):
            values, levels = values[:, seated], levels[:, seated]
        fine = np.isfinite(values)
        value = values if fine.all() else np.where(fine, values, 0.0)
        served, actual = served[:, None], actual[:, None]
        fields = np.empty((FIELDS, *value.shape))
        fields[N] = 1.0
        fields[LOSS] = np.abs(value - actual)
        fields[REFERENCE] = np.abs(served - actual)
        fields[REGRET : CALIBRATED_REGRET + 1] = regret(np.stack([value, value * levels]), served, actual)
        fields[ACTUAL] = actual
        fields[FORECAST] = np.maximum(value, 0.0)
        if value is not values or sign < 0:
            fields *= fine * sign
        self._state.sums.add([seats[versions[column]].slot for column in seated], position, place, fields)

    # --- feed faults ----------------------------------------------------------------------------------------------------

    def suspend(self, doubt: Doubt, rows: Callable[[int, int], MaturedBatch]) -> bool:
        """Freeze exactly the places in fault, and count exactly the rows that are beyond doubt.

        What a place said since its values went wrong is left out, also after it is well again; what was only doubted counts as
        soon as it is not any more. Truth that is right, but comes late or in part, counts: the place is frozen all the same.

        Parameters
        ----------
        doubt
            What the feed told last.
        rows
            All rows between two epoch seconds whose truth is known.

        Returns
        -------
        bool
            Whether other rows count than before.
        """
        with self._lock:
            state, left = self._state, self._state.left_out
            before = left.copy()
            for code in [code for code in state.frozen if code not in doubt.faults]:
                del state.frozen[code]
                state.changed = True
            for code, since in doubt.faults.items():
                if code in doubt.wrong:
                    begun = left.since.get(code, since) if code in state.frozen else since
                    left.close(code, begun, max(begun, doubt.until))
                if code not in state.frozen:
                    state.frozen[code] = state.row_before(code, since if code in doubt.wrong else FOR_EVER)
                    state.changed = True
            # what comes next from a place in fault waits for the next look
            left.since = dict.fromkeys(doubt.wrong, doubt.until) | doubt.since
            for code, first, end in doubt.past:
                if code not in doubt.faults and not left.overlaps(code, first, end):
                    left.close(code, first, end)
            if state.sums.newest is not None:
                left.forget(self._day_start(state.sums.newest - WINDOW_DAYS))
            changed = left.changed(before)
            self._recount(changed, rows)
            return bool(changed)

    @property
    def suspended(self) -> tuple[int, ...]:
        """Codes of the frozen places."""
        return tuple(sorted(self._state.frozen))

    @property
    def left_out(self) -> dict[int, tuple[Stretch, ...]]:
        """By place code, stretches of slots whose truth counts nowhere; a new one after each change."""
        return self._state.left_out.closed

    def _recount(self, changed: Mapping[int, Stretch], rows: Callable[[int, int], MaturedBatch]) -> None:
        """Count whole days of places anew from their rows."""
        if not changed:
            return
        sums, spans = self._state.sums, {}
        oldest = (sums.newest or 0) - sums.days + 1
        for code, (first, end) in changed.items():
            day, after = self._grid.day_of(first), None if end == FOR_EVER else self._grid.day_of(end - 1) + 1
            spans[code] = self._day_start(day), FOR_EVER if after is None else self._day_start(after)
            if code < sums.places:
                cleared = slice(max(day - oldest, 0), None if after is None else max(after - oldest, 0))
                sums.data[:, :, cleared, code] = 0.0
        every = rows(min(first for first, _ in spans.values()), max(end for _, end in spans.values()))
        wanted = np.zeros(len(every), dtype=bool)
        for code, (first, end) in spans.items():
            wanted |= (every.place == code) & (every.slot >= first) & (every.slot < end)
        counted = self._state.rows
        self._count(every.take(wanted.nonzero()[0]), 1.0)
        self._state.rows = counted

    def _day_start(self, day: int) -> int:
        return int(self._grid.day_start(np.array([day]))[0])

    # --- snapshots ------------------------------------------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """Whether `snapshot` would make a new one."""
        state = self._state
        if not state.columns:
            return False
        if state.latest is None or state.changed:
            return True
        # also where a clock that was wrong has been put back
        later = now // 3600 > state.latest.at // 3600 or now < state.latest.at - 3600
        return state.rows != state.rows_then and later

    def recall(self, snapshots: Iterable[ServingSnapshot]) -> None:
        """Know these published snapshots, oldest first: what journal rows that name them mean, and which rows count nowhere.

        For a state that was lost, before all truth is counted again.
        """
        with self._lock:
            for snapshot in snapshots:
                self.seat(snapshot.columns[:-1], {}, at=snapshot.at, places=snapshot.places)
                self._state.remember(snapshot, KEPT_LEVELS)
                for stretch in snapshot.left_out:
                    self._state.left_out.close(*stretch)

    def snapshot(self, now: float, places: Sequence[Place], *, after: int = 0) -> ServingSnapshot | None:
        """Make the next snapshot, or ``None`` where nothing is due: at most one an hour of `now`, or when members changed.

        Parameters
        ----------
        now
            Epoch second, of the same clock that stamps the evidence.
        places
            Ids by code, as `ModelMonitor.places`.
        after
            A number that was used already, should this state not know of it.
        """
        with self._lock:
            if not self.due(now):
                return None
            state = self._state
            state.sums.grow(places=len(places))
            members = self._members()
            weights, levels = self._weigher.tables(members)
            ids = tuple(places)
            number = max(after, 0 if state.latest is None else state.latest.number) + 1
            if len(weights) > len(ids) + 1:
                rows = [*range(len(ids)), -1]
                weights, levels = weights[rows], levels[rows]
            left_out = state.left_out.every()
            made = ServingSnapshot(number, float(now), state.columns, members, ids, weights, levels, left_out)
            state.remember(made, KEPT_LEVELS)
            return made

    @property
    def _weigher(self) -> Weigher:
        return Weigher(self._state, self._serving)

    def _members(self) -> tuple[Member, ...]:
        """List the averaged forecasters, at most `MAX_MEMBERS`; the naive always has its place."""
        models = [version for version in self.columns if version]
        kinds = (False, True) if self._calibrate else (False,)
        wanted = [Member(version, calibrated) for version in models for calibrated in kinds]
        return (*wanted[: MAX_MEMBERS - 1], NAIVE)

    # --- pairs ----------------------------------------------------------------------------------------------------------

    def paired_days(self, champion: int, challenger: int) -> PairedDays:
        """Daily errors of two versions over the rows both predicted, truth that is left out apart."""
        with self._lock:
            return self._state.pairs(champion, challenger)

    def day_of(self, epoch: float) -> int:
        """Local day of an epoch second."""
        return self._grid.day_of(epoch)

    # --- persistence ----------------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """All of the state."""
        with self._lock:
            return dump(self._state)

    def restore(self, payload: bytes) -> None:
        """Become what `encode` was called on."""
        with self._lock:
            self._state = load(payload)
