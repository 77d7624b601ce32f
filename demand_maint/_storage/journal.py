"""The writing half of the journal: one per process, a memory-mapped record per observation.

Contract. After ``kill -9`` at any instant every record whose call returned is there, once; a half-written slot is recognised.
After power loss at most what was logged since the last ``fdatasync`` is gone (default every 30 s, ``durability="power"`` for
every flush). Flips in drained blocks (crc32 written by the drain) and in sealed segments (sha256) are detected; the undrained
tail is only range-checked.
"""

import os
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.disk import FileLock
from demand_maint._storage.door import Door
from demand_maint._storage.journal_lanes import Block, BlockCursor, BlockLane, Held, MemoryRing, RecordLane, exhausted
from demand_maint._storage.journal_words import FIRST_CODE, WriterWords
from demand_maint._storage.segments import COMMITTED, block_bytes
from demand_maint._storage.stamps import place_key, shown, stamp_reader
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import MonitorConfig
from demand_maint.core.observations import ACTUAL, PAIR, PREDICTION, SERVED, VOID
from demand_maint.errors import RecordError
from demand_maint.log import get_logger

__all__ = ["JOURNAL", "LOCK_NAME", "WORDS_NAME", "Journal", "LogActual", "LogPair", "LogPrediction"]

JOURNAL = "logs/journal"
LOCK_NAME = "writer.lock"
WORDS_NAME = "places.jsonl"
_NAN = float("nan")
_EXAMPLES = 8
_RING_RECORDS = 200_000
_RETRY_SECONDS = 1.0
_BLOCK_BYTES = 1 << 20

_log = get_logger("journal")
_journals: "weakref.WeakSet[Journal]" = weakref.WeakSet()


class LogPair(Protocol):
    """Record a prediction and what really happened."""

    def __call__(self, place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        """Record both; never raises unless the journal is strict.

        Parameters
        ----------
        place_id
            int or str.
        timestamp
            Of the predicted moment: datetime, ISO text or seconds since 1970; naive ones are in the configured zone.
        predicted, actual
            In units of demand.
        """


class LogPrediction(Protocol):
    """Record a prediction whose truth comes later."""

    def __call__(self, place_id: Any, timestamp: Any, predicted: Any, features: Any = None) -> None:
        """Record it, with the feature row it was made from where given (tuple, list, float32 array or mapping)."""


class LogActual(Protocol):
    """Record what really happened."""

    def __call__(self, place_id: Any, timestamp: Any, actual: Any) -> None:
        """Record it; it meets its prediction by place and slot."""


class Journal:
    """Writes one process's observations below ``logs/journal/<writer>/``; nothing is made on disk before the first.

    Parameters
    ----------
    door
        The root's door.
    config
        Durability and sizes.
    zone
        Of naive timestamps.
    strict
        Raise `RecordError` for what is no observation instead of counting it.

    Attributes
    ----------
    log, log_prediction, log_actual
        The hot path: about the price of a method call, no system call, safe from any thread.
    examples
        The last few refused values, in words.
    """

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
        # what the hot path needs to append a row with features; shared with the lane of blocks
        self._lane = BlockCursor()
        self._float_rows: dict[int, tuple[Callable[..., None], int, int]] = {}
        self._raw_rows: dict[int, tuple[Callable[..., None], int, int]] = {}
        self._reset()
        self._bind()
        _journals.add(self)

    # state

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
        """Records and blocks handed out; changes whenever something was logged."""
        return (self._records.position() if self._records else 0), self._lane.rows

    def set_version(self, number: int, features: Sequence[str] | None = None) -> None:
        """Stamp the champion `number` into records from now on; `features` name its feature rows."""
        with self._lock:
            self._version = int(number)
            if features is not None:
                self.name_features(tuple(features))
            self._set_tags(self._version)

    def name_features(self, names: tuple[str, ...]) -> None:
        """Name the columns of feature rows that come without names."""
        with self._lock:
            if names != self._feature_names:
                self._feature_names = names
                self._float_rows.clear()
                self._raw_rows.clear()

    def count_refused(self, what: str, number: int) -> None:
        """Count rows that were refused before they came here."""
        self.refused[what] = self.refused.get(what, 0) + number

    # many rows at once

    def log_served(
        self,
        places: Sequence[Any],
        timestamps: Any,
        served: NDArray[np.float64],
        members: NDArray[np.float32] | None,
        snapshot: int = 0,
        features: NDArray[np.float32] | None = None,
        *,
        champion: NDArray[np.float64] | None = None,
    ) -> None:
        """Record what `ModelHandle.predict` returned, before its truth is known; column 0 of `members` is the champion.

        Parameters
        ----------
        places, timestamps
            One per row; a single timestamp stands for all.
        served
            What was returned, (n,).
        members
            Raw predictions of the line-up, (n, K).
        snapshot
            Serving snapshot that names them.
        features
            Rows they were made from, (n, F).
        champion
            The champion's own predictions where float32 is not exact enough; else column 0 of `members`, else `served`.
        """
        own = champion if champion is not None else (
            members[:, 0].astype(np.float64) if members is not None and members.shape[1] else served
        )  # fmt: skip
        try:
            times, timed = self.read_times(timestamps, len(served))
            try:
                codes, good = self.encode(places)
            except OSError as error:
                self._hold_served(places, times, timed, (own, served, members, features), snapshot, error)
                return
            self._write_rows(SERVED, codes, times, own, served, members, features, snapshot, good & timed)
        except Exception as error:
            self._refuse("served", error)

    def _hold_served(
        self,
        places: Sequence[Any],
        times: NDArray[np.float64],
        good: NDArray[np.bool_],
        columns: tuple[Any, Any, Any, Any],
        snapshot: int,
        error: OSError,
    ) -> None:
        """Keep served rows in memory, since not even their places can be written down."""
        keys: list[int | str] = []
        for i, place in enumerate(places):
            try:
                keys.append(place_key(place))
            except TypeError as refused:
                good[i] = False
                self._refuse("place", refused)
        own, served, members, features = (None if column is None else column[good] for column in columns)
        keys = [key for key, fine in zip(keys, good, strict=False) if fine] if len(keys) == len(good) else keys
        empty = np.zeros(len(keys), dtype=np.uint32)
        block = Block(SERVED, self._version, snapshot, 0, empty, times[good], own, served, members, features)
        with self._lock:
            self._degrade(error)
            self._ring.put((block, keys), len(keys))

    def log_columns(
        self,
        codes: NDArray[np.uint32],
        times: NDArray[np.float64],
        predicted: NDArray[np.float64] | None,
        actual: NDArray[np.float64] | None,
        features: NDArray[np.float32] | None = None,
    ) -> None:
        """Record many rows whose places are codes from `encode` and whose times are epoch seconds."""
        kind = PAIR if predicted is not None and actual is not None else PREDICTION if actual is None else ACTUAL
        nothing = np.full(len(codes), _NAN) if kind != PAIR else None
        self._write_rows(kind, codes, times, predicted if predicted is not None else nothing,
                         actual if actual is not None else nothing, None, features, 0, None)  # fmt: skip

    def encode(self, places: Sequence[Any]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Codes of places in this writer's dictionary, and which of them are places at all."""
        codes = self._codes
        try:
            out = np.fromiter((codes[place] for place in places), dtype=np.uint32, count=len(places))
            good = np.ones(len(out), dtype=bool)
            if not (out < FIRST_CODE).any():
                return out, good
        except (KeyError, TypeError):
            pass
        out = np.zeros(len(places), dtype=np.uint32)
        good = np.ones(len(places), dtype=bool)
        for i, place in enumerate(places):
            try:
                out[i] = self._code(place)
            except TypeError as error:
                good[i] = False
                self._refuse("place", error)
        return out, good

    # care

    def open(self, places: Sequence[Any] = ()) -> None:
        """Make the first segment now, and name `places`: for a thread, so that the first records of a loop touch no disk."""
        with self._lock:
            try:
                if self._writer is None and not self.closed:
                    self._open_next()
            except OSError as error:
                self._degrade(error)
        self.encode(places)

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
            lanes = [lane for lane in (self._records, self._blocks) if lane is not None]
            paths = [path for lane in lanes for path in sorted(lane.unsynced)]
            for lane in lanes:
                current = sorted(lane.unsynced)[-1:]
                lane.unsynced = set(current)
            words = self._words
        if words is not None:
            words.sync()
        for path in paths:
            try:
                self._door.sync_file(path)
            except FileNotFoundError:
                continue  # sealed meanwhile
        if self._writer is not None and paths:
            self._door.sync_dir(f"{JOURNAL}/{self._writer}")

    def close(self) -> None:
        """Make what was logged durable and let the leader have it; further records are dropped and counted."""
        if self.closed:
            return
        with self._lock:
            if self._reason is not None:
                self._try_heal(now=True)
            self._stop()
            self.closed = True
        try:
            self.sync()
        finally:
            self._release()

    # inside

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._writer: str | None = None
        self._records: RecordLane | None = None
        self._blocks: BlockLane | None = None
        self._words: WriterWords | None = None
        self._lane.reset(self._lock)
        self._float_rows.clear()
        self._raw_rows.clear()
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

    def _bind(self) -> None:
        """Make the hot path: closures over what they need, since a cell costs less than an attribute."""
        codes, read, pack, slow = self._codes, self._stamp, Struct("@IIddd").pack_into, self._log_slowly
        void = self._void
        handout: Callable[[], tuple[Any, int]] = exhausted
        memo: tuple[Any, float] = (None, 0.0)
        pair_tag, prediction_tag, actual_tag = PAIR << 16, PREDICTION << 16, ACTUAL << 16
        bools = (bool, np.bool_)
        nan, float32 = _NAN, np.dtype(np.float32)
        lane, float_rows, raw_rows = self._lane, self._float_rows, self._raw_rows
        version = 0

        def log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
            nonlocal memo
            mapped, offset = None, 0
            try:
                last, time = memo
                if timestamp is not last:
                    time = read(timestamp)
                    memo = (timestamp, time)
                code = codes[place_id]
                if code < 2 and place_id.__class__ in bools:
                    raise TypeError
                mapped, offset = handout()
                pack(mapped, offset, code, pair_tag, predicted, actual, time)
            except Exception:
                void(mapped, offset)
                slow(PAIR, place_id, timestamp, predicted, actual)

        def log_prediction(place_id: Any, timestamp: Any, predicted: Any, features: Any = None) -> None:
            nonlocal memo
            if features is not None:
                try:
                    last, time = memo
                    if timestamp is not last:
                        time = read(timestamp)
                        memo = (timestamp, time)
                    code = codes[place_id]
                    if code < 2 and place_id.__class__ in bools:
                        raise TypeError
                    if features.__class__ is tuple or features.__class__ is list:
                        count, row = len(features), features
                        pack_row, size, tail = float_rows[count]
                    elif features.dtype is float32 and features.ndim == 1:
                        count, row = len(features), (features.tobytes(),)
                        pack_row, size, tail = raw_rows[count]
                    else:
                        raise TypeError
                    with lane.lock:
                        at = lane.at
                        if at + size > lane.end:
                            raise IndexError
                        after = (lane.handed - lane.left()) & 0xFFFFFFFF
                        pack_row(lane.view, at, size, 1, after, 0, version, 0, count, tail,
                                 code, predicted, nan, time, *row, COMMITTED)  # fmt: skip
                        lane.at = at + size
                        lane.rows += 1
                except Exception:
                    with_features(place_id, timestamp, predicted, features)
                return
            mapped, offset = None, 0
            try:
                last, time = memo
                if timestamp is not last:
                    time = read(timestamp)
                    memo = (timestamp, time)
                code = codes[place_id]
                if code < 2 and place_id.__class__ in bools:
                    raise TypeError
                mapped, offset = handout()
                pack(mapped, offset, code, prediction_tag, predicted, nan, time)
            except Exception:
                void(mapped, offset)
                slow(PREDICTION, place_id, timestamp, predicted, nan)

        def log_actual(place_id: Any, timestamp: Any, actual: Any) -> None:
            nonlocal memo
            mapped, offset = None, 0
            try:
                last, time = memo
                if timestamp is not last:
                    time = read(timestamp)
                    memo = (timestamp, time)
                code = codes[place_id]
                if code < 2 and place_id.__class__ in bools:
                    raise TypeError
                mapped, offset = handout()
                pack(mapped, offset, code, actual_tag, nan, actual, time)
            except Exception:
                void(mapped, offset)
                slow(ACTUAL, place_id, timestamp, nan, actual)

        def set_handout(function: Callable[[], tuple[Any, int]]) -> None:
            nonlocal handout
            handout = function

        def get_handout() -> Callable[[], tuple[Any, int]]:
            return handout

        def set_tags(number: int) -> None:
            nonlocal pair_tag, prediction_tag, actual_tag, version
            version = number
            pair_tag, prediction_tag, actual_tag = (number | kind << 16 for kind in (PAIR, PREDICTION, ACTUAL))

        with_features = self._log_with_features
        self._set_handout, self._get_handout, self._set_tags, self._pack = set_handout, get_handout, set_tags, pack
        if self.strict:
            self._bind_strict(log, log_prediction, log_actual)
        else:
            self.log, self.log_prediction, self.log_actual = log, log_prediction, log_actual

    def _bind_strict(self, log: LogPair, log_prediction: LogPrediction, log_actual: LogActual) -> None:
        def checked(name: str, value: Any) -> None:
            if not np.isfinite(_number(value)):
                raise RecordError(
                    f"{name}={shown(value)} is no number of demand. Log only finite numbers, or drop strict=True."
                )

        def strict_log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
            checked("predicted", predicted)
            checked("actual", actual)
            log(place_id, timestamp, predicted, actual)

        def strict_prediction(place_id: Any, timestamp: Any, predicted: Any, features: Any = None) -> None:
            checked("predicted", predicted)
            log_prediction(place_id, timestamp, predicted, features)

        def strict_actual(place_id: Any, timestamp: Any, actual: Any) -> None:
            checked("actual", actual)
            log_actual(place_id, timestamp, actual)

        self.log, self.log_prediction, self.log_actual = strict_log, strict_prediction, strict_actual

    def _void(self, mapped: Any, offset: int) -> None:
        """Mark a slot that was handed out but could not be filled, so that nobody waits for it."""
        if mapped is not None:
            self._pack(mapped, offset, 0, VOID << 16, 0.0, 0.0, 1.0)

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
            try:
                mapped, offset = self._get_handout()()
            except StopIteration:
                self._open_next()
                continue
            self._pack(mapped, offset, code, tag, record.predicted, record.actual, record.time)
            return

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
        writer = f"w{int(self._clock.now()):011d}-{os.getpid()}-{secrets.token_hex(3)}"
        directory = f"{JOURNAL}/{writer}"
        self._door.makedirs(directory)
        descriptor = self._door.open_lock(f"{directory}/{LOCK_NAME}")
        FileLock.take(descriptor)
        self._lock_file = descriptor
        self._words = WriterWords(self._door, f"{directory}/{WORDS_NAME}")
        self._records = RecordLane(self._door, directory, writer, self._config.segment_records, self._clock.now)
        self._blocks = BlockLane(self._door, directory, writer, self._clock.now, self._lane)
        self._writer = writer

    def _open_next(self) -> None:
        self._open_writer()
        assert self._records is not None
        self._set_handout(self._records.open_next())
        self._lane.handed, self._lane.left = self._records.counting()
        if self.on_segment is not None:
            self.on_segment()

    def _stop(self) -> None:
        self._set_handout(exhausted)
        self._lane.end = 0

    def _demand(self, value: Any) -> float:
        """`value` as a float, NaN where it is none; the drain counts it for its place."""
        number = _number(value)
        if number != number and value.__class__ is not float:
            self.examples.append(shown(value))
        return number

    def _refuse(self, what: str, error: Exception) -> None:
        if self.strict:
            raise RecordError(str(error)) from error
        self.refused[what] = self.refused.get(what, 0) + 1
        self.examples.append(str(error))

    def _degrade(self, error: OSError) -> None:
        self._failed_at = self._clock.monotonic()
        if self._reason is None:
            self._reason = f"{type(error).__name__}: {error}"
            self._stop()
            _log.warning("journal_degraded", reason=self._reason, remedy="free disk space; records wait in memory")
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

    # rows with columns

    def read_times(self, timestamps: Any, count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Epoch seconds of one timestamp for all rows or one per row, and which of them are times at all."""
        good = np.ones(count, dtype=bool)
        if isinstance(timestamps, np.ndarray) and timestamps.dtype.kind in "fiu":
            out = timestamps.astype(np.float64)
        elif isinstance(timestamps, str) or not isinstance(timestamps, Sequence | np.ndarray):
            return np.full(count, self._stamp(timestamps)), good
        else:
            out = np.zeros(count)
            last, seconds = None, 0.0
            for i, timestamp in enumerate(timestamps):
                if timestamp is not last:
                    try:
                        seconds = self._stamp(timestamp)
                        last = timestamp
                    except Exception as error:
                        good[i] = False
                        self._refuse("timestamp", error)
                        continue
                out[i] = seconds
        return np.broadcast_to(out, (count,)), good

    def _write_rows(
        self,
        kind: int,
        codes: NDArray[np.uint32],
        times: NDArray[np.float64],
        predicted: NDArray[np.float64] | None,
        actual: NDArray[np.float64] | None,
        members: NDArray[np.float32] | None,
        features: NDArray[np.float32] | None,
        snapshot: int,
        good: NDArray[np.bool_] | None,
    ) -> None:
        columns = [codes, times, predicted, actual, members, features]
        if good is not None and not good.all():
            columns = [column[good] if column is not None else None for column in columns]
        wide = [np.atleast_2d(c) if c is not None else None for c in columns[4:]]
        per_row = 28 + 4 * sum(c.shape[1] for c in wide if c is not None)
        step = max(_BLOCK_BYTES // per_row, 1)
        with self._lock:
            if self.closed:
                self._ring.dropped += len(columns[0])
                return
            for start in range(0, len(columns[0]), step):
                rows = slice(start, start + step)
                part = [c[rows] if c is not None else None for c in [*columns[:4], *wide]]
                self._write_part(kind, snapshot, part)

    def _write_part(self, kind: int, snapshot: int, part: list[Any]) -> None:
        codes, times, predicted, actual, members, features = part
        block = Block(kind, self._version, snapshot, 0, codes, times, predicted, actual, members, features)
        try:
            if self._reason is not None and not self._try_heal():
                raise OSError(self._reason)
            self._write_block(block)
        except OSError as error:
            self._degrade(error)
            names = {code: place for place, code in self._codes.items()}
            self._ring.put((block, [names[int(code)] for code in codes]), len(times))

    def _write_block(self, block: Block) -> None:
        self._open_writer()
        assert self._blocks is not None and self._words is not None and self._records is not None
        schema = block.schema
        if block.features is not None and block.features.shape[1] == len(self._feature_names):
            schema = self._words.schema(self._feature_names)
        if schema != block.schema:
            block = Block(block.kind, block.version, block.snapshot, schema, block.places, block.times,
                          block.predicted, block.actual, block.members, block.features)  # fmt: skip
        self._blocks.write(block, self._records.position())
        self._lane.rows += len(block.times)

    def _log_with_features(self, place_id: Any, timestamp: Any, predicted: Any, features: Any) -> None:
        names = self._feature_names
        try:
            if isinstance(features, Mapping):
                names = tuple(features)
                features = tuple(features.values())
            packer, values = _row_packer(features)
            time = self._stamp(timestamp)
            with self._lock:
                code = self._codes.get(place_id)
                if code is None or code < FIRST_CODE:
                    code = self._code(place_id)
                blocks, words, records = self._blocks, self._words, self._records
                if self._reason is None and blocks is not None and words is not None and records is not None:
                    count = packer.count
                    schema = words.schema(names) if len(names) == count else 0
                    if names is self._feature_names:
                        known = self._raw_rows if packer.raw else self._float_rows
                        known[count] = (packer.pack, packer.size, PREDICTION | schema << 8)
                    blocks.write_packed(
                        packer.pack, packer.size,
                        (packer.size, 1, records.position() & 0xFFFFFFFF, 0, self._version, 0, count,
                         PREDICTION | schema << 8, code, predicted, _NAN, time, *values, COMMITTED),
                    )  # fmt: skip
                    self._lane.rows += 1
                    return
            raise OSError(self._reason or "not open yet")
        except Exception:
            self._features_slowly(place_id, timestamp, predicted, features, names)

    def _features_slowly(
        self, place_id: Any, timestamp: Any, predicted: Any, features: Any, names: tuple[str, ...]
    ) -> None:
        try:
            row = np.array([[_number(value) for value in features]], dtype=np.float64).astype(np.float32)
            time = np.array([self._stamp(timestamp)])
            place = place_key(place_id)
        except Exception as error:
            self._refuse("features", error)
            return
        value = np.array([self._demand(predicted)])
        with self._lock:
            if self.closed:
                self._ring.dropped += 1
                return
            try:
                if self._reason is not None and not self._try_heal():
                    raise OSError(self._reason)
                code = np.array([self._code(place)], dtype=np.uint32)
                assert self._words is not None
                schema = self._words.schema(names) if len(names) == row.shape[1] else 0
                self._write_block(
                    Block(PREDICTION, self._version, 0, schema, code, time, value, np.array([_NAN]), None, row)
                )
            except OSError as error:
                self._degrade(error)
                empty = np.zeros(1, dtype=np.uint32)
                block = Block(PREDICTION, self._version, 0, 0, empty, time, value, np.array([_NAN]), None, row)
                self._ring.put((block, [place]))


class _RowPacker:
    """Packs one block of one row with `count` features."""

    __slots__ = ("count", "pack", "raw", "size")

    def __init__(self, count: int, *, raw: bool) -> None:
        body = f"{4 * count}s" if raw else f"{count}f"
        packing = Struct(f"@IIIIHHHHI4xddd{body}{'4x' if count % 2 else ''}Q")
        self.count, self.raw = count, raw
        self.size = packing.size
        self.pack = packing.pack_into
        assert packing.size == block_bytes(1, 0, count)


_packers: dict[tuple[int, bool], _RowPacker] = {}


def _row_packer(features: Any) -> tuple[_RowPacker, Any]:
    """Return how to pack a feature row, and its values as that wants them."""
    kind = features.__class__
    raw = False
    if kind is tuple or kind is list:
        count = len(features)
    else:
        row = np.ascontiguousarray(features, dtype=np.float32).reshape(-1)
        count, features, raw = len(row), (row.tobytes(),), True
    packer = _packers.get((count, raw))
    if packer is None:
        packer = _packers[count, raw] = _RowPacker(count, raw=raw)
    return packer, features


def _number(value: Any) -> float:
    """`value` as a float; NaN for text, None and whatever else is none."""
    if isinstance(value, str | bytes) or value is None:
        return _NAN
    try:
        return float(value)
    except Exception:  # somebody's object in somebody's collector
        return _NAN


def _renew_in_child() -> None:
    for journal in list(_journals):
        journal._after_fork()  # noqa: SLF001 - the same module's own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
