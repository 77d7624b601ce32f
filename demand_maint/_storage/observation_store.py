"""Journals, sealed files, saved sums and the live metrics of one root, kept in step.

Order of writing: what a segment held goes into a Parquet file, then the sums and the progress that cover it are saved in one
snapshot, then the segment goes. A crash in between repeats the step; nothing is counted twice, because sums and progress are
one blob.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.drain import Drain
from demand_maint._storage.drain_events import RowsToEvents
from demand_maint._storage.imported import Truth, as_reference, imported_truth
from demand_maint._storage.retelling import Retelling, segment_path
from demand_maint._storage.sealed import SealedHistory
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint.config import Config
from demand_maint.core.live_metrics import LiveMetrics, Tracker
from demand_maint.core.observations import ACTUAL, Events, RowBuffer
from demand_maint.core.packing import pack, unpack
from demand_maint.core.recent_window import outgrown
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import DamagedRegistryError
from demand_maint.log import get_logger

__all__ = ["ObservationStore"]

DAY = 86400
_CHUNK = 262_144
_SAVED_BYTES_A_SECOND = 50_000
_GENTLE_CHUNK = 2_048  # well under half a millisecond with the interpreter held
_PAUSE = 0.0005
_SNAPSHOT = "metrics"
_FORMAT = 5  # of the saved sums: another one is counted again from the rows; 5 tells when the first row came
_log = get_logger("store")


class ObservationStore:
    """Everything known of a root's observations.

    Parameters
    ----------
    door
        The root's door.
    config
        Grid, sizes, retention.
    alive
        Name of the writer that this process logs with, ``None`` for none.
    begins_anew
        Called before rows are counted from the first on, for trackers that have to know more than the rows.
    """

    def __init__(
        self,
        door: Door,
        config: Config,
        grid: TimeGrid,
        alive: Callable[[], str | None] = lambda: None,
        begins_anew: Callable[[], object] = lambda: None,
    ) -> None:
        self.door = door
        self._alive = alive
        self._begins_anew = begins_anew
        self.config = config
        self.grid = grid
        self.sealed = SealedHistory(door)
        self.places: list[int | str] = []
        self.drain_reader = Drain(self.door, self.places, self._alive)
        self.metrics = LiveMetrics(grid, config.season_seconds, config.horizon_seconds)
        self._to_events = RowsToEvents(grid, self._count_invalid)
        self._buffer: RowBuffer | None = None
        self._snapshots = SnapshotStore(door, _SNAPSHOT)
        self._floor = 0
        self._number = 0
        self._opened = False
        self._rebuilt = False
        self._unsaved = 0
        self._gentle = False
        self._saved_trackers: dict[str, bytes] = {}
        self._pristine: dict[str, bytes] = {}
        self.saved_at: float | None = None
        self._saved_bytes = 0
        self.drained_at: float | None = None

    # opening

    @property
    def opened(self) -> bool:
        """Whether the saved sums were taken over."""
        return self._opened

    def open(self, trackers: Mapping[str, Tracker] | None = None) -> None:
        """Take over the newest saved sums, and the state of `trackers` with them; harmless when done before."""
        if self._opened:
            return
        for name, tracker in (trackers or {}).items():
            if name not in self._pristine:
                self._pristine[name] = tracker.encode()
            self.metrics.trackers[name] = tracker
        try:
            self._restore()
        except BaseException:  # half of it would be taken for all of it
            self._let_go()
            raise
        self._opened = True

    def reopen(self) -> None:
        """Start again from what is on disk, as after somebody else has sealed what was being followed."""
        self._opened = False
        self._let_go()
        self.open()

    def _let_go(self) -> None:
        """Know nothing."""
        self.metrics = self._fresh_metrics()
        self._buffer = None
        self._floor = 0
        self.places.clear()
        self.drain_reader = Drain(self.door, self.places, self._alive)

    def add_tracker(self, name: str, tracker: Tracker) -> None:
        """Let `tracker` follow every row that matures from now on, from where its saved state ended."""
        self.open()
        if name in self.metrics.trackers:
            return
        self._pristine[name] = tracker.encode()
        self.metrics.trackers[name] = tracker
        if self._rebuilt or not self._restored(name, tracker):
            self._start_over()

    def _restored(self, name: str, tracker: Tracker) -> bool:
        """Go on from a tracker's saved state, where there is one; whether all is well."""
        data = self._saved_trackers.get(name)
        if data is None:
            return True
        try:
            tracker.restore(data)
        except DamagedRegistryError as error:
            _log.error(
                "tracker_state_damaged", tracker=name, reason=str(error), remedy="it is counted again from the rows"
            )
            return False
        return True

    def _start_over(self) -> None:
        """Count everything again, for the sums and for every tracker."""
        self.metrics = self._fresh_metrics()
        self._rebuild()

    def _fresh_metrics(self) -> LiveMetrics:
        metrics = LiveMetrics(self.grid, self.config.season_seconds, self.config.horizon_seconds)
        metrics.trackers = self.metrics.trackers
        for name, tracker in metrics.trackers.items():
            tracker.restore(self._pristine[name])
        metrics.generation = self.metrics.generation + 1
        metrics.past_changes, metrics.past_truths = self.metrics.past_changes + 1, self.metrics.past_truths + 1
        return metrics

    def _restore(self) -> None:
        found = self._snapshots.newest()
        if found is None:
            if self.sealed.names():
                self._rebuild()
            else:
                self._begins_anew()
            return
        self._number, data = found
        self._number = max(self._number, *self._snapshots.numbers())
        facts, arrays = unpack(data)
        grid = [self.grid.zone, self.grid.step, self.config.season_seconds, self.config.horizon_seconds]
        if facts.get("format") != _FORMAT or facts["grid"] != grid:
            _log.warning("sums_rebuilt", reason="zone, step, season, horizon or the format of saved sums changed")
            self._rebuild()
            return
        self.places[:] = facts["places"]
        self.drain_reader = Drain(self.door, self.places, self._alive)
        self.drain_reader.restore(facts["cursors"], facts["finished"], facts.get("looked"))
        self.metrics.load(facts, arrays)
        self.saved_at, self._floor = facts["saved_at"], facts["floor"]
        self._saved_bytes = len(data)
        self._saved_trackers = {name: arrays[f"tracker.{name}"].tobytes() for name in facts["trackers"]}
        if not all(self._restored(name, tracker) for name, tracker in self.metrics.trackers.items()):
            self._start_over()
            return
        gone = self.drain_reader.writers.missing()
        if any(self._sealed_name(path) for path in gone):  # an older snapshot: what it leads up to is sealed already
            _log.warning("sums_rebuilt", reason="the newest snapshot was lost")
            self._start_over()
            return
        for path in gone:
            _log.error("segment_gone", segment=path)
        self.drain_reader.writers.drop(gone)

    def _sealed_name(self, path: str) -> bool:
        writer, segment = path.split("/")[-2:]
        return any(name.endswith(f"-{writer}-{segment.removesuffix('.seg')}.parquet") for name in self.sealed.names())

    def _rebuild(self) -> None:
        """Count everything again from the sealed files; the journals follow with the next drain."""
        _log.warning("rebuilding_sums", files=len(self.sealed.names()))
        self._rebuilt = True
        self._saved_trackers = {}
        self._begins_anew()
        buffer = self._buffer = self.metrics.new_buffer()
        self.drain_reader.restore({})
        self.use_reference(buffer)
        drained = np.inf
        for events in filter(len, self.events_since(None)):
            if events.observed_at[-1] > drained:
                self._pass_ended(drained, retold=True)
            drained = float(events.observed_at[-1])
            self._ingest(buffer, events)
            self._unsaved += len(events)  # so that it is saved, and not done again at the next start
        sealed = [m for name in self.sealed.names() if (m := self.sealed.manifest(name)) is not None]
        unsealed = self.drain_reader.writers.unsealed()
        self.drain_reader.restore({}, [path for m in sealed if (path := segment_path(m)) not in unsealed])

    # draining

    @property
    def buffer(self) -> RowBuffer:
        """Rows of the recent window, read from disk where they are not in memory yet."""
        self.open()
        if self._buffer is None:
            self._buffer = self._load_buffer()
        return self._buffer

    @property
    def loaded(self) -> bool:
        """Whether the rows of the recent window are in memory."""
        return self._buffer is not None

    def is_small_part(self, start: float, end: float) -> bool:
        """Whether the files that overlap a range hold less than half of the recent window."""
        self.open()
        return 2 * self._rows_in(start, end) < self._rows_in(self._floor, None)

    def _rows_in(self, start: float, end: float | None) -> int:
        manifests = [self.sealed.manifest(name) for name in self.sealed.names(start, end)]
        return sum(manifest.rows for manifest in manifests if manifest is not None)

    @property
    def complete_from(self) -> float:
        """Slot from which on the rows in memory, their naive forecasts included, are all there are."""
        floor = self.buffer.floor
        return floor + 2 * self.config.season_seconds if floor else 0

    def has_new(self) -> bool:
        """Whether a drain would find anything."""
        self.open()
        return self.drain_reader.has_new()

    def drain(self, now: float, *, lead: bool, gentle: bool) -> int:
        """Count what was logged; return rows that matured."""
        self.open()
        self.drain_reader.look()
        gone = self.drain_reader.writers.missing(look=False)
        if gone or (lead and self._snapshots.numbers()[-1:] not in ([], [self._number])):
            self.reopen()  # somebody else led meanwhile
            self.drain_reader.look()
        matured = 0
        self.drained_at = now
        self._gentle, self.drain_reader.rest = gentle, self.rest
        self.drain_reader.most = 4 * _GENTLE_CHUNK if gentle else 4 * _CHUNK
        if (
            self._buffer is None and self.drain_reader.has_new()
        ):  # before they are read, or they would be taken in twice
            self._buffer = self._load_buffer()
        for part in self.drain_reader.read(now, look=False) if self._buffer is not None else ():
            if len(part.rows) and part.rows.kind[0] != ACTUAL:  # truths mostly find their rows there
                self.buffer.reserve(self.drain_reader.ahead)
            for events in self._to_events.chunks(part, _GENTLE_CHUNK if gentle else _CHUNK):
                matured += self._ingest(self.buffer, events)
                self._unsaved += len(events)
                del events  # the next ones find its memory: fresh memory costs more than what is worked out in it
                self.rest()
        if lead:
            self._note_order()
        return matured + self._pass_ended(now)

    def _note_order(self) -> None:
        try:
            self.drain_reader.note_order()
        except OSError as error:  # tried again with the next drain
            _log.warning("drain_notes_failed", reason=str(error))

    def rest(self) -> None:
        """Hand the interpreter to the event loop, where the last drain was told to: without it others wait for 5 ms."""
        if self._gentle:
            time.sleep(_PAUSE)

    def _count_invalid(self, rows: int) -> None:
        self.metrics.counts["invalid_timestamps"] += rows

    def _ingest(self, buffer: RowBuffer, events: Events) -> int:
        return self.metrics.take(buffer, events) if len(events) else 0

    def _pass_ended(self, now: float, *, retold: bool = False) -> int:
        """Let what was waited for long enough be zero, and forget what is old; return rows that matured.

        A pass that is told again waits with the first until there is something to forget.
        """
        buffer, newest, config = self._buffer, self.metrics.newest_slot, self.config
        window = None
        if buffer is not None and newest is not None:
            # one stamp in the far future is no reason to forget the rest
            window = outgrown(
                buffer.floor, min(newest, now), config.monitor.buffer_days, config.season_seconds, self.grid
            )
        matured = 0
        if config.missing_actual == "zero" and newest is not None and (window or not retold):
            rows = self.buffer if buffer is None else buffer  # the former asks for what may just be counted again
            matured = self.metrics.apply(rows.assume_zero(now))
        if buffer is not None and window is not None:
            for name, number in buffer.drop_before(window.keep).items():
                self.metrics.counts[name] += number
            self.metrics.compact(window.floor)
            oldest = (window.floor + (config.monitor.buffer_days - config.monitor.records_days) * DAY) // 3600
            self.metrics.sums.drop_before(oldest)
            self.metrics.feed.drop_before(oldest)
        return matured

    def _load_buffer(self) -> RowBuffer:
        """Replay the recent window as it was drained."""
        metrics = self.metrics
        buffer = metrics.new_buffer()
        buffer.floor = self._floor
        self.use_reference(buffer)
        if metrics.newest_slot is None:
            return buffer
        buffer.reserve(self._rows_in(self._floor, None))
        for events in self.events_since(self._floor):
            buffer.ingest(events)
        if self.config.missing_actual == "zero" and self.saved_at is not None:
            buffer.assume_zero(self.saved_at)
        return buffer

    def use_reference(self, buffer: RowBuffer) -> None:
        """Let imported demand stand in as the season before, where the journal does not reach back that far."""
        frames = self.sealed.imported()
        if not frames:
            return
        place, slot, actual = self.imported_truth(frames)
        if len(place):
            buffer.use_reference(as_reference(place, slot, actual), int(slot.max()))

    def imported_truth(self, frames: list[pl.DataFrame]) -> Truth:
        """Place codes, slots and finite actuals of imported frames."""
        return imported_truth(frames, self.drain_reader.code_of, self.grid)

    def events_since(self, start: float | None, end: float | None = None) -> Iterator[Events]:
        """Events read so far, in the order in which they were drained: sealed files that overlap the range, then journals."""
        return Retelling(self.door, self.sealed, lambda: self.drain_reader, self._to_events.events).since(start, end)

    # saving

    def save(self, now: float, finished: Sequence[str] = ()) -> None:
        """Keep sums, progress and trackers in one snapshot."""
        self.drain_reader.flush_all_notes()
        facts, arrays = self.metrics.state()
        self.rest()
        trackers = {name: tracker.encode() for name, tracker in self.metrics.trackers.items()}
        trackers = {name: data for name, data in self._saved_trackers.items() if name not in trackers} | trackers
        facts |= {
            "format": _FORMAT,
            "floor": self._buffer.floor if self._buffer is not None else self._floor,
            "grid": [self.grid.zone, self.grid.step, self.config.season_seconds, self.config.horizon_seconds],
            "places": self.places,
            "cursors": {path: at for path, at in self.drain_reader.writers.cursors().items() if path not in finished},
            "looked": self.drain_reader.writers.looked(),
            # sealed; whoever reads this removes what is left of them
            "finished": list(finished),
            "trackers": list(trackers),
            "saved_at": now,
        }
        arrays |= {f"tracker.{name}": np.frombuffer(data, dtype=np.uint8) for name, data in trackers.items()}
        payload = pack(facts, arrays)
        self.rest()
        self._snapshots.save(self._number + 1, payload)
        self._number += 1
        self.saved_at = now
        self._saved_bytes = len(payload)
        self._unsaved = 0

    @property
    def unsaved(self) -> int:
        """Events counted since the last save."""
        return self._unsaved

    def due(self, now: float, seconds: float) -> bool:
        """Whether segments wait to be sealed, or the last save is older than `seconds`; a large state is saved less often.

        What is not saved is read again from the journal, which takes a moment; to write the state of a thousand places every
        minute would wear out a disk.
        """
        if any(done for _, _, done in self.drain_reader.writers.segments()):
            return True
        apart = max(seconds, self._saved_bytes / _SAVED_BYTES_A_SECOND)
        return bool(self._unsaved) and (self.saved_at is None or now - self.saved_at >= apart or now < self.saved_at)

    def seal(self, now: float) -> list[str]:
        """Turn finished segments into Parquet, save, and let the segments go; return the files made."""
        self.drain_reader.writers.remove_finished()
        finished = [(w, s) for w, s, done in self.drain_reader.writers.segments() if done]
        made: list[str] = []
        for writer, segment in finished:
            if not self.drain_reader.notes.agree(segment):
                self.sealed.keep_copy(segment.path)
            self.rest()
            stem = segment.path.rpartition("/")[2].removesuffix(".seg")
            for i, part in enumerate(self.drain_reader.reread_segment(writer, segment)):
                self.rest()
                name = self.sealed.seal(
                    part.writer,
                    f"{stem}.{i}" if i else stem,
                    part.rows,
                    part.place,
                    part.observed_at,
                    part.observed_from,
                    self.places,
                    writer.schemas.get(part.rows.schema, ()),
                )
                made += [name] if name else []
                self.rest()
        if finished:
            self.save(now, [segment.path for _, segment in finished])
            for writer, segment in finished:
                self.drain_reader.writers.forget(writer, segment)
        self.drain_reader.writers.remove_dead()
        return made

    def retain(self, now: float) -> list[str]:
        """Let sealed files go whose newest row is past retention, and never those of the window in use."""
        newest = self.metrics.newest_slot
        if newest is None:
            return []
        monitor = self.config.monitor
        window = monitor.buffer_days * DAY + 3 * self.config.season_seconds
        edge = min(now, newest)
        gone = self.sealed.ended_before(edge - max(monitor.records_days * DAY, window))
        for name in gone:
            self.sealed.remove(name)
        for name in self.sealed.ended_before(edge - max(monitor.features_days * DAY, window)):
            self.sealed.strip_features(name)
        return gone
