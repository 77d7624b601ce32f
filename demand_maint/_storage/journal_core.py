"""What a writer is: its directory, its lanes, what it does when the disk refuses, when the process forks, and at the end."""

import contextlib
import math
import os
import secrets
import threading
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from demand_maint._storage.disk import FileLock
from demand_maint._storage.door import Door
from demand_maint._storage.journal_calls import LogActual, LogPair, LogPrediction, introduce, strict_calls
from demand_maint._storage.journal_hot import bind, pack_record
from demand_maint._storage.journal_lanes import (
    NO_SLOTS,
    Block,
    BlockCursor,
    BlockLane,
    Held,
    MemoryRing,
    RecordLane,
    Slots,
)
from demand_maint._storage.journal_rows import number_of
from demand_maint._storage.journal_words import WriterWords
from demand_maint._storage.stamps import place_key, shown, stamp_reader
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import MonitorConfig
from demand_maint.errors import RecordError
from demand_maint.log import get_logger

__all__ = ["JOURNAL", "LOCK_NAME", "WORDS_NAME", "JournalCore"]

JOURNAL = "logs/journal"
LOCK_NAME = "writer.lock"
WORDS_NAME = "places.jsonl"
_NAN = float("nan")
_EXAMPLES = 8
_RING_RECORDS = 200_000
_RETRY_SECONDS = 1.0

_log = get_logger("journal")
_journals: "weakref.WeakSet[JournalCore]" = weakref.WeakSet()


class JournalCore(ABC):
    """A writer's state and its slow path; see `Journal`."""

    log: LogPair
    log_prediction: LogPrediction
    log_actual: LogActual

    def __init__(
        self,
        door: Door,
        config: MonitorConfig | None = None,
        *,
        zone: str = "UTC",
        clock: Clock | None = None,
        strict: bool = False,
    ) -> None:
        self._door = door
        self._config = config or MonitorConfig()
        self._clock = clock or SystemClock()
        self.strict = strict
        self.examples: deque[str] = deque(maxlen=_EXAMPLES)
        self.refused: dict[str, int] = {}
        self.on_state: Callable[[str | None, int], None] | None = None
        self.on_segment: Callable[[], None] | None = None
        self.zone = zone
        self._stamp = stamp_reader(zone)
        self._version = 0
        self._feature_names: tuple[str, ...] = ()
        self._codes: dict[Any, int] = {}
        self._ring = MemoryRing(_RING_RECORDS)
        self._failed_at: float | None = None
        self._reason: str | None = None
        self.closed = False
        self._lane = BlockCursor()
        self._slots = NO_SLOTS
        self._reset()
        self._bind()
        _journals.add(self)

    @property
    def writer(self) -> str | None:
        """Name of this process's directory; ``None`` before the first record."""
        return self._writer

    @property
    def degraded(self) -> str | None:
        """Why records stay in memory; ``None`` while the disk takes them."""
        return self._reason

    @property
    def held(self) -> int:
        """Records in memory that wait for the disk."""
        return len(self._ring)

    @property
    def dropped(self) -> int:
        """Records given up while the disk refused them, or logged after `close`."""
        return self._ring.dropped

    def position(self) -> tuple[int, int]:
        """Return how many records and rows in blocks were handed out; changes whenever something was logged."""
        return (self._records.position() if self._records else 0), self._lane.rows

    def set_version(self, number: int, features: Sequence[str] | None = None) -> None:
        """Stamp the champion `number` into records from now on; `features` name its feature rows."""
        with self._lock:
            self._version = int(number)
            if features is not None:
                self.name_features(tuple(features))
            self._hot.set_version(self._version)
            self._lane.forget_kinds()

    def name_features(self, names: tuple[str, ...]) -> None:
        """Name the columns of feature rows that come without names."""
        with self._lock:
            if names != self._feature_names:
                self._feature_names = names
                self._lane.forget_kinds()

    def count_refused(self, what: str, number: int) -> None:
        """Count rows that were refused before they came here."""
        self.refused[what] = self.refused.get(what, 0) + number

    def maintain(self) -> None:
        """Prepare a spare segment, and try again where the disk refused; for a background thread."""
        if self.closed:
            return
        if self._reason is not None:
            with self._lock:
                self._try_heal()
        records, blocks = self._records, self._blocks
        if records is not None and blocks is not None and self._reason is None:
            try:
                records.prepare()
                blocks.prepare()
            except OSError as error:
                _log.debug("spare_segment_failed", reason=str(error))

    def sync(self) -> None:
        """``fdatasync`` what was logged; the hot path is not held up."""
        with self._lock:
            lanes = [(lane, lane.unsynced) for lane in (self._records, self._blocks) if lane is not None]
            for lane, paths in lanes:
                # a thread may still be filling a slot of the segment before the current one
                lane.unsynced = set(sorted(paths)[-2:])
            words = self._words
        try:
            if words is not None:
                words.sync()
            for _, paths in lanes:
                for path in sorted(paths):
                    with contextlib.suppress(FileNotFoundError):  # sealed meanwhile
                        self._door.sync_file(path)
            if self._writer is not None and any(paths for _, paths in lanes):
                self._door.sync_dir(f"{JOURNAL}/{self._writer}")
        except OSError:
            with self._lock:
                for lane, paths in lanes:
                    lane.unsynced |= paths
            raise

    def close(self) -> None:
        """Make what was logged durable and let the leader have it; further records are dropped and counted."""
        if self.closed:
            return
        with self._lock:
            if self._reason is not None and not self._try_heal(now=True) and self.held:
                _log.error("records_lost", records=self.held, reason=self._reason)
            self._stop()
            self.closed = True
        try:
            self.sync()
        finally:
            self._release()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._writer: str | None = None
        self._records: RecordLane | None = None
        self._blocks: BlockLane | None = None
        self._words: WriterWords | None = None
        self._lane.reset()
        self._lock_file: int | None = None

    def _release(self) -> None:
        descriptor, self._lock_file = self._lock_file, None
        if descriptor is not None:
            self._door.disk.close(descriptor)

    def _after_fork(self) -> None:
        """Give the child a fresh writer: the mapped memory is the parent's."""
        self._release()
        self._stop()
        self._codes.clear()
        self._reset()
        self._ring = MemoryRing(_RING_RECORDS)
        self._reason = self._failed_at = None

    def _log_slowly(self, kind: int, place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        """Do what the hot path could not: a new place, the next segment, a value that is no number, a refusing disk."""
        try:
            place, time = place_key(place_id), self._stamp(timestamp)
        except Exception as error:
            self._refuse("record", error)
            return
        values = [self._demand(value) for value in (predicted, actual)]
        with self._lock:
            try:
                if self.closed:
                    self._ring.dropped += 1
                    return
                if self._reason is not None and not self._try_heal():
                    raise OSError(self._reason)
                self._put(Held(kind, self._version, place, time, values[0], values[1]))
            except OSError as error:
                self._degrade(error)
                self._ring.put(Held(kind, self._version, place, time, values[0], values[1]))

    def _put(self, record: Held) -> None:
        code = self._code(record.place)
        tag = record.version | record.kind << 16
        while True:
            offsets, mapped = self._slots
            for offset in offsets:
                pack_record(mapped, offset, code, tag, record.predicted, record.actual, record.time)
                return
            self._open_next()

    def _code(self, place_id: Any) -> int:
        place = place_key(place_id)
        code = self._codes.get(place)
        if code is None:
            with self._lock:
                code = self._codes.get(place)
                if code is None:
                    self._open_writer()
                    assert self._words is not None
                    code = self._words.add_place(place)
                    self._codes[place] = code
        return code

    def _open_writer(self) -> None:
        """Make this process's directory and lock it for life."""
        if self._writer is not None:
            return
        try:
            writer, directory, descriptor = self._new_directory()
        except FileNotFoundError:  # the leader took it for a dead writer's, in the moment before there was a lock in it
            writer, directory, descriptor = self._new_directory()
        FileLock.take(descriptor)
        self._lock_file = descriptor
        self._words = WriterWords(self._door, f"{directory}/{WORDS_NAME}")
        self._records = RecordLane(self._door, directory, writer, self._config.segment_records, self._clock.now)
        self._blocks = BlockLane(self._door, directory, writer, self._clock.now, self._lane, self._begun)
        self._writer = writer

    def _new_directory(self) -> tuple[str, str, int]:
        writer = f"w{int(self._clock.now()):011d}-{os.getpid()}-{secrets.token_hex(3)}"
        directory = f"{JOURNAL}/{writer}"
        self._door.makedirs(directory)
        return writer, directory, self._door.open_lock(f"{directory}/{LOCK_NAME}")

    def _open_next(self) -> None:
        self._open_writer()
        assert self._records is not None
        slots = self._records.open_next()
        self._hot.set_counting(self._records.counting())
        self._set_slots(slots)
        self._begun()

    def _begun(self) -> None:
        if self.on_segment is not None:
            self.on_segment()

    def _set_slots(self, slots: Slots) -> None:
        self._slots = slots
        self._hot.set_slots(slots)

    def _stop(self) -> None:
        self._set_slots(NO_SLOTS)
        self._lane.take_back()
        self._lane.end = 0

    def _demand(self, value: Any) -> float:
        """Return `value` as a float, NaN where it is none; the drain counts it for its place."""
        number = number_of(value)
        if math.isnan(number) and value.__class__ is not float:
            self.examples.append(shown(value))
        return number

    def _refuse(self, what: str, error: Exception) -> None:
        if self.strict:
            raise RecordError(str(error)) from error
        if what not in self.refused:  # one line: a feed that is wrong is wrong with every record
            _log.warning("record_refused", reason=str(error), remedy="ModelMonitor.counts() counts the others")
        self.refused[what] = self.refused.get(what, 0) + 1
        self.examples.append(str(error))

    def _degrade(self, error: OSError) -> None:
        self._failed_at = self._clock.monotonic()
        if self._reason is None:
            self._reason = f"{type(error).__name__}: {error}"
            self._stop()
            _log.warning(
                "journal_degraded",
                reason=self._reason,
                remedy="free disk space, or make the root writable; records wait in memory",
            )
            if self.on_state is not None:
                self.on_state(self._reason, self._ring.dropped)

    def _try_heal(self, *, now: bool = False) -> bool:
        """Write what waits in memory, if the disk takes it again."""
        if self._reason is None:
            return True
        if not now and self._failed_at is not None and self._clock.monotonic() - self._failed_at < _RETRY_SECONDS:
            return False
        try:
            while (item := self._ring.take()) is not None:
                self._put_held(item[0])
                self._ring.done()
        except OSError:
            self._failed_at = self._clock.monotonic()
            self._stop()
            return False
        self._reason = self._failed_at = None
        _log.warning("journal_recovered", dropped=self._ring.dropped)
        if self.on_state is not None:
            self.on_state(None, self._ring.dropped)
        return True

    def _put_held(self, item: Any) -> None:
        if isinstance(item, Held):
            self._put(item)
            return
        block, places = item
        codes = np.array([self._code(place) for place in places], dtype=np.uint32)
        self._write_block(Block(block.kind, block.version, block.snapshot, block.schema, codes, block.times,
                                block.predicted, block.actual, block.members, block.features))  # fmt: skip

    def _write_block(self, block: Block) -> None:
        self._open_writer()
        assert self._blocks is not None
        assert self._words is not None
        assert self._records is not None
        schema = block.schema
        if block.features is not None and block.features.shape[1] == len(self._feature_names):
            schema = self._words.schema(self._feature_names)
        if schema != block.schema:
            block = Block(block.kind, block.version, block.snapshot, schema, block.places, block.times,
                          block.predicted, block.actual, block.members, block.features)  # fmt: skip
        self._blocks.write(block, self._records.position())

    def _bind(self) -> None:
        hot = self._hot = bind(self._codes, self._stamp, self._log_slowly, self._log_row_slowly, self._lane.row_kinds)
        calls = (hot.log, hot.log_prediction, hot.log_actual)
        self.log, self.log_prediction, self.log_actual = strict_calls(*calls) if self.strict else calls
        introduce(self.log, self.log_prediction, self.log_actual)

    @abstractmethod
    def _log_row_slowly(self, place_id: Any, timestamp: Any, predicted: Any, features: Any) -> None:
        """Do what the hot path of rows with features could not, the first row in a segment among it."""


def _renew_in_child() -> None:
    for journal in list(_journals):
        journal._after_fork()  # noqa: SLF001 - the same module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
