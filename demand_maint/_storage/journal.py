"""The writing half of the journal: one per process, a memory-mapped record per observation.

Contract. After ``kill -9`` at any instant every record whose call returned is there, once; a half-written slot is recognised.
After power loss at most what was logged since the last ``fdatasync`` is gone (default every 30 s, ``durability="power"`` for
every flush). Flips in drained blocks (crc32 written by the drain) and in sealed segments (sha256) are detected; the undrained
tail is only range-checked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.journal_calls import LogActual, LogPair, LogPrediction
from demand_maint._storage.journal_core import JOURNAL, LOCK_NAME, WORDS_NAME, JournalCore
from demand_maint._storage.journal_lanes import LARGEST_BLOCK, Block
from demand_maint._storage.journal_rows import number_of, row_bytes, row_packer
from demand_maint._storage.journal_stretch import void_block
from demand_maint._storage.journal_words import FIRST_CODE
from demand_maint._storage.segments import COMMITTED, MOST_FEATURES
from demand_maint._storage.stamps import place_key
from demand_maint.core.observations import ACTUAL, PAIR, PREDICTION, SERVED

__all__ = ["JOURNAL", "LOCK_NAME", "WORDS_NAME", "Journal", "LogActual", "LogPair", "LogPrediction"]

_NAN = float("nan")
_IDS = frozenset({int, str})


class Journal(JournalCore):
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

    def open(self, places: Sequence[Any] = ()) -> None:
        """Make the first segments now, and name `places`: for a thread, so that the first records of a loop touch no disk."""
        with self._lock:
            try:
                if self._writer is None and not self.closed:
                    self._open_next()
                if self._blocks is not None and self._words is not None:
                    self._blocks.prepare(first=True)
                    self._words.schema(self._feature_names)
            except OSError as error:
                self._degrade(error)
            try:
                self.encode(places)
            except OSError as error:
                self._degrade(error)

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
            if len(served) == 1 and self._write_served(places[0], timestamps, own, served, members, features, snapshot):
                return
            times, timed = self.read_times(timestamps, len(served))
            try:
                codes, good = self.encode(places)
            except OSError as error:
                self._hold_served(places, times, timed, (own, served, members, features), snapshot, error)
                return
            self._write_rows(SERVED, codes, times, own, served, members, features, snapshot, good & timed)
        except Exception as error:
            self._refuse("served", error)

    def _write_served(
        self,
        place: Any,
        timestamp: Any,
        own: NDArray[np.float64],
        served: NDArray[np.float64],
        members: NDArray[np.float32] | None,
        features: NDArray[np.float32] | None,
        snapshot: int,
    ) -> bool:
        """Write one row as a block packed by one call, as `predict_overhead` pays for; tell whether it was so ordinary a row."""
        try:
            code = self._codes.get(place, 0)
        except TypeError:
            return False
        if timestamp.__class__ is np.ndarray:
            timestamp = timestamp.item()
        if code < FIRST_CODE or timestamp.__class__ is not float:
            return False
        member_bytes = b"" if members is None else row_bytes(members)
        feature_bytes = b"" if features is None else row_bytes(features)
        width = len(feature_bytes) // 4
        packer = row_packer(len(member_bytes) // 4 + width)
        time, first, second = self._stamp(timestamp), own.item(), served.item()
        with self._lock:
            blocks, records, words = self._blocks, self._records, self._words
            if self.closed or self._reason is not None or blocks is None or records is None or words is None:
                return False
            schema = words.schema(self._feature_names) if width and width == len(self._feature_names) else 0
            shape = packer.shape(self._version, SERVED | schema << 8, len(member_bytes) // 4)
            try:
                after = records.position() & 0xFFFFFFFF
                blocks.write_row(
                    packer, after, snapshot, shape, code, first, second, time, member_bytes + feature_bytes
                )
            except OSError:  # as for many rows, which also know what to do then
                return False
        return True

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
            out = np.fromiter(map(codes.__getitem__, places), dtype=np.uint32, count=len(places))
            good = np.ones(len(out), dtype=bool)
            # True is a key like 1, and no place
            if _IDS.issuperset(map(type, places)) or not (out < FIRST_CODE).any():
                return out, good
        except (KeyError, TypeError):
            pass
        keys: list[int | str | None] = []
        for place in places:
            try:
                keys.append(place_key(place))
            except TypeError as error:
                keys.append(None)
                self._refuse("place", error)
        self._learn([key for key in dict.fromkeys(keys) if key is not None and key not in codes])
        good = np.array([key is not None for key in keys], dtype=bool)
        return np.array([0 if key is None else codes[key] for key in keys], dtype=np.uint32), good

    def _learn(self, places: list[int | str]) -> None:
        """Write places down that may be new, all in one go: a call of the system for each would cost more than its records."""
        if places:
            with self._lock:
                self._open_writer()
                assert self._words is not None
                new = [place for place in places if place not in self._codes]
                self._codes.update(zip(new, self._words.add_places(new), strict=True))

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
        return out if out.shape == (count,) else np.broadcast_to(out, (count,)), good

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
        columns: list[Any] = [codes, times, predicted, actual, members, features]
        if good is not None and not good.all():
            columns = [column[good] if column is not None else None for column in columns]
        count = len(columns[0])
        per_row = 28 + 4 * sum(column.shape[1] for column in columns[4:] if column is not None)
        step = max(LARGEST_BLOCK // per_row, 1)
        with self._lock:
            if self.closed:
                self._ring.dropped += count
                return
            for start in range(0, count, step):
                rows = slice(start, start + step)
                self._write_part(kind, snapshot, [c[rows] if c is not None else None for c in columns])

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

    def _log_row_slowly(self, place_id: Any, timestamp: Any, predicted: Any, features: Any) -> None:
        names = self._feature_names
        try:
            if isinstance(features, Mapping):
                names = tuple(features)
                features = tuple(features.values())
            raw = row_bytes(features)
            packer = row_packer(len(raw) // 4)
            time = self._stamp(timestamp)
            with self._lock:
                code = self._codes.get(place_id)
                if code is None or code < FIRST_CODE:
                    code = self._code(place_id)
                blocks, words, records = self._blocks, self._words, self._records
                if self._reason is None and blocks is not None and words is not None and records is not None:
                    tail = PREDICTION | (words.schema(names) if len(names) == packer.count else 0) << 8
                    shape = packer.shape(self._version, tail)
                    offsets, view = blocks.lay_out(packer.size, packer.count).slots
                    at = next(offsets)
                    try:
                        packer.pack(
                            view, at, packer.front, records.position() & 0xFFFFFFFF, 0, shape, code, predicted, _NAN, time, raw,
                            COMMITTED,
                        )  # fmt: skip
                    except Exception:
                        void_block(view, at, packer.count)
                        raise
                    if names is self._feature_names:
                        self._lane.row_kinds[len(raw)] = (offsets, view, packer.pack, packer.front, shape)
                    return
            raise OSError(self._reason or "not open yet")
        except Exception:
            self._features_slowly(place_id, timestamp, predicted, features, names)

    def _features_slowly(
        self, place_id: Any, timestamp: Any, predicted: Any, features: Any, names: tuple[str, ...]
    ) -> None:
        try:
            row = np.array([[number_of(value) for value in features]], dtype=np.float64).astype(np.float32)
            if row.shape[1] > MOST_FEATURES:
                raise ValueError(f"{row.shape[1]} features are more than the {MOST_FEATURES} a row may have.")
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
