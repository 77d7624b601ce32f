"""Journal segments: preallocated, memory-mapped files that a writer fills and the drain reads.

Format 1. The first 4096 bytes hold one line of JSON. Two layouts follow:

``records``
    Slots of 32 bytes: place u32, version u16, kind u8, flags u8, predicted f64, actual f64, timestamp f64. The timestamp is
    the commit word: it is stored last, and 0.0 is stored as -0.0, so that all its bits are 0 only where nothing was committed.
``blocks``
    Blocks of columns, for many rows at once and for rows with features: a head of 24 bytes, place u32, predicted f64, actual
    (or served) f64, timestamp f64, members f32, features f32, each padded to 8 bytes, and a commit word at the end.

A reader of format N also reads N-1; the recipe would stand here.
"""

import struct
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from demand_maint.core.observation_events import PAIR, SERVED, VOID, Events, alike
from demand_maint.core.rounds import Rhythm

__all__ = [
    "BLOCK_HEAD",
    "COMMITTED",
    "HEADER_BYTES",
    "MOST_FEATURES",
    "RECORD",
    "RECORD_BYTES",
    "Rows",
    "SegmentHead",
    "block_bytes",
    "block_offsets",
    "chosen",
    "committed_end",
    "has_block",
    "head_line",
    "is_committed",
    "joined",
    "next_block",
    "read_blocks",
    "read_head",
    "read_records",
    "to_events",
]

SEGMENT_FORMAT = 1
HEADER_BYTES = 4096
RECORD_BYTES = 32
RECORD = np.dtype(
    [
        ("place", "<u4"),
        ("version", "<u2"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("predicted", "<f8"),
        ("actual", "<f8"),
        ("time", "<f8"),
    ]
)
# length, rows, records written before, snapshot, version, members, features, kind + 256 * schema
BLOCK_HEAD = struct.Struct("@IIIIHHHH")
MOST_FEATURES = 0xFFFF
COMMITTED = 0x444D_424C_4F43_4B31
_HEAD_BYTES = BLOCK_HEAD.size
_WORD = struct.Struct("@Q")
_CHUNK = 4096


class SegmentHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment says of itself."""

    layout: str
    writer: str
    number: int
    capacity: int
    created_at: float
    format: int = SEGMENT_FORMAT


def head_line(head: SegmentHead) -> bytes:
    """Return the first bytes of a segment."""
    return msgspec.json.encode(head) + b"\n"


def read_head(data: memoryview | bytes) -> SegmentHead | None:
    """Return what a segment says of itself; ``None`` where that is unreadable."""
    line, newline, _ = bytes(data[:HEADER_BYTES]).partition(b"\n")
    if not newline:
        return None
    try:
        return msgspec.json.decode(line, type=SegmentHead)
    except msgspec.MsgspecError:
        return None


@dataclass(frozen=True, slots=True)
class Rows:
    """Events as a writer put them down: place codes of the writer, times not yet floored.

    `members`, `snapshot`, `features` are ``None`` where no row has them; `schema` numbers the feature names in the writer's
    dictionary. `after` orders the rows of all lanes of a writer: twice its number and one for a record, twice the number of
    records before it for a block.
    """

    place: NDArray[np.uint32]
    version: NDArray[np.uint16]
    kind: NDArray[np.uint8]
    predicted: NDArray[np.float64]
    actual: NDArray[np.float64]
    time: NDArray[np.float64]
    after: NDArray[np.int64]
    members: NDArray[np.float32] | None = None
    snapshot: NDArray[np.uint32] | None = None
    features: NDArray[np.float32] | None = None
    schema: int = 0

    def __len__(self) -> int:
        return len(self.time)


def read_records(data: memoryview, start: int, stop: int) -> NDArray[np.void]:
    """Slots `start` to `stop` of a ``records`` segment, as an array of `RECORD` over the mapped bytes."""
    return np.frombuffer(data, dtype=RECORD, count=stop - start, offset=HEADER_BYTES + start * RECORD_BYTES)


def committed_end(data: memoryview, start: int, capacity: int) -> int:
    """One past the last committed slot at or after `start`, looking ahead as far as writers can be apart."""
    end = start
    while start < capacity:
        stop = min(start + _CHUNK, capacity)
        if is_committed(data, stop - 1):
            end = start = stop
            continue
        words = np.frombuffer(
            data, dtype=np.uint64, count=(stop - start) * 4, offset=HEADER_BYTES + start * RECORD_BYTES
        )
        done = words[3::4]
        return start + int(np.flatnonzero(done)[-1]) + 1 if done.any() else end
    return end


def is_committed(data: memoryview, slot: int) -> bool:
    """Whether a slot of a ``records`` segment has its commit word."""
    return bool(_WORD.unpack_from(data, HEADER_BYTES + slot * RECORD_BYTES + RECORD_BYTES - 8)[0])


def block_offsets(rows: int, members: int, features: int) -> tuple[int, int, int, int, int, int, int]:
    """Offsets in a block of place, predicted, actual, timestamp, members, features and the commit word."""
    place = _HEAD_BYTES
    predicted = place + _padded(4 * rows)
    actual = predicted + 8 * rows
    time = actual + 8 * rows
    member = time + 8 * rows
    feature = member + 4 * rows * members
    return place, predicted, actual, time, member, feature, _padded(feature + 4 * rows * features)


def block_bytes(rows: int, members: int, features: int) -> int:
    """Size of a block, bytes."""
    return block_offsets(rows, members, features)[-1] + 8


def _padded(size: int) -> int:
    return (size + 7) & ~7


def has_block(data: memoryview, at: int) -> bool:
    """Whether a committed block begins at byte `at`."""
    if at + _HEAD_BYTES + 8 > len(data):
        return False
    length, rows, _, _, _, members, features, _ = BLOCK_HEAD.unpack_from(data, at)
    if length == 0 or at + length > len(data) or length != block_bytes(rows, members, features):
        return False
    return int.from_bytes(data[at + length - 8 : at + length], "little") == COMMITTED


def next_block(data: memoryview, at: int) -> int | None:
    """Where the next committed block begins after one at byte `at` that was never finished."""
    start = at + 8
    words = np.frombuffer(data, dtype=np.uint64, count=max(len(data) - start, 0) // 8, offset=min(start, len(data)))
    for end in np.flatnonzero(words == COMMITTED).tolist():
        lengths = (words[: end + 1] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        whole = np.flatnonzero(lengths == (end + 1 - np.arange(end + 1)) * 8)
        for begin in whole.tolist():
            if has_block(data, start + 8 * begin):
                return start + 8 * int(begin)
    return None


def read_blocks(data: memoryview, at: int, *, over_holes: bool = False) -> tuple[list[Rows], NDArray[np.int64], int]:
    """Return committed blocks from byte `at` of a segment on, those of one shape together; where each row's block begins, and the end.

    Blocks are in their order within a part, not across parts. `over_holes` goes on behind a block that its writer did not live
    to finish.
    """
    runs: dict[bytes, list[NDArray[np.int64]]] = {}
    size = len(data)
    while at + _HEAD_BYTES + 8 <= size:
        length, rows, _, _, _, members, features, tail = BLOCK_HEAD.unpack_from(data, at)
        sound = length != 0 and at + length <= size and length == block_bytes(rows, members, features)
        repeat = _alike(data, at, length) if sound else 0
        if repeat == 0:
            found = next_block(data, at) if over_holes else None
            if found is None:
                break
            at = found
            continue
        if tail & 0xFF != VOID:
            shape = bytes(data[at : at + 8]) + bytes(data[at + 16 : at + _HEAD_BYTES])
            runs.setdefault(shape, []).append(at + np.arange(repeat, dtype=np.int64) * length)
        at += length * repeat
    out: list[Rows] = []
    starts: list[NDArray[np.int64]] = []
    for offsets in runs.values():
        begins = np.concatenate(offsets)
        rows_of_shape = _columns(data, begins)
        out.append(rows_of_shape)
        starts.append(_each(begins, len(rows_of_shape) // len(begins)))
    where = starts[0] if len(starts) == 1 else np.concatenate(starts) if starts else np.empty(0, dtype=np.int64)
    return out, where, at


def _alike(data: memoryview, at: int, length: int) -> int:
    """How many committed blocks of the same head shape follow each other."""
    end = at + length
    if int.from_bytes(data[end - 8 : end], "little") != COMMITTED:
        return 0
    if data[at : at + 8] != data[end : end + 8]:
        return 1  # blocks of different shapes mostly take turns: arrays for one block would cost far more than it
    most = (len(data) - at) // length
    words = np.frombuffer(data, dtype=np.uint8, count=most * length, offset=at).reshape(most, length)
    step = 1
    count = 0
    while count < most:
        part = words[count : count + step]
        heads = np.ascontiguousarray(part[:, :_HEAD_BYTES])
        first = np.ascontiguousarray(words[0, :_HEAD_BYTES])
        same = (heads[:, :8] == first[:8]).all(axis=1) & (heads[:, 16:] == first[16:]).all(axis=1)
        committed = np.ascontiguousarray(part[:, -8:]).view(np.uint64)[:, 0] == COMMITTED
        good = same & committed
        if not good.all():
            return count + int(np.argmin(good))
        count += len(part)
        step = min(step * 4, 4096)
    return count


def _columns(data: memoryview, begins: NDArray[np.int64]) -> Rows:
    """Rows of the blocks of one shape that begin at these bytes."""
    first, repeat = int(begins[0]), len(begins)
    length, rows, _, _, version, members, features, tail = BLOCK_HEAD.unpack_from(data, first)
    place, predicted, actual, time, member, feature, _ = block_offsets(rows, members, features)
    raw: NDArray[np.uint8] | None = None  # a lone block is read where it is
    if repeat > 1 and int(begins[-1]) - first == length * (repeat - 1):
        raw = np.frombuffer(data, dtype=np.uint8, count=repeat * length, offset=first).reshape(repeat, length)
    elif repeat > 1:
        words = np.frombuffer(data, dtype=np.uint64, count=len(data) // 8)
        raw = words[(begins // 8)[:, None] + np.arange(length // 8)].view(np.uint8)
    column = partial(_column, data, first, raw)
    kind = tail & 0xFF
    total = rows * repeat
    heads = column(0, _HEAD_BYTES // 4, np.uint32).reshape(repeat, -1)
    return Rows(
        column(place, rows, np.uint32),
        alike(version, total, np.uint16),
        alike(kind, total, np.uint8),
        column(predicted, rows, np.float64),
        column(actual, rows, np.float64),
        column(time, rows, np.float64),
        _each(2 * heads[:, 2].astype(np.int64), rows),
        column(member, rows * members, np.float32).reshape(total, members) if members else None,
        _each(heads[:, 3], rows),
        column(feature, rows * features, np.float32).reshape(total, features) if features else None,
        tail >> 8,
    )


def _column(
    data: memoryview, first: int, raw: NDArray[np.uint8] | None, offset: int, count: int, dtype: Any
) -> NDArray[Any]:
    """Return `count` values at byte `offset` of the block at byte `first`, or of each of the blocks `raw`."""
    if raw is None:
        return np.frombuffer(data, dtype=dtype, count=count, offset=first + offset)
    width = count * np.dtype(dtype).itemsize
    values: NDArray[Any] = np.ascontiguousarray(raw[:, offset : offset + width]).view(dtype).reshape(-1)
    return values


def _each(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """Each of the values of blocks for each of their rows."""
    return alike(values[0], rows, values.dtype) if len(values) == 1 else np.repeat(values, rows)


def chosen(rows: Rows, here: Any) -> Rows:
    """Return some of the rows, by slice, mask or positions."""
    return Rows(
        rows.place[here],
        rows.version[here],
        rows.kind[here],
        rows.predicted[here],
        rows.actual[here],
        rows.time[here],
        rows.after[here],
        None if rows.members is None else rows.members[here],
        None if rows.snapshot is None else rows.snapshot[here],
        None if rows.features is None else rows.features[here],
        rows.schema,
    )


def joined(parts: list[Rows], *, features: bool = False) -> Rows:
    """Rows of all parts; their features too where asked for (then all parts have the same)."""
    if len(parts) == 1:
        return parts[0]
    total = sum(len(part) for part in parts)
    width = max((part.members.shape[1] for part in parts if part.members is not None), default=0)
    members = None
    if width:
        members = np.full((total, width), np.nan, dtype=np.float32)
        at = 0
        for part in parts:
            if part.members is not None:
                members[at : at + len(part), : part.members.shape[1]] = part.members
            at += len(part)
    snapshots = [part.snapshot if part.snapshot is not None else np.zeros(len(part), dtype=np.uint32) for part in parts]
    rows_of_features = [part.features for part in parts if part.features is not None] if features else []
    return Rows(
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.version for part in parts]),
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.actual for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.after for part in parts]),
        members,
        np.concatenate(snapshots),
        np.concatenate(rows_of_features) if rows_of_features else None,
        parts[0].schema,
    )


def to_events(
    rows: Rows,
    place: NDArray[np.uint32],
    slot: NDArray[np.int64],
    observed_at: NDArray[np.float64],
    observed_from: NDArray[np.float64],
    rhythm: Rhythm | None = None,
) -> Events:
    """Events for the buffer, from rows whose places and slots have been worked out."""
    kinds = rows.kind[:1] if rows.kind.strides == (0,) else rows.kind
    if not (kinds == SERVED).any():
        return Events(
            place, slot, rows.kind, rows.version, rows.predicted, rows.actual, observed_at, observed_from, rhythm=rhythm
        )
    members = rows.members if rows.members is not None else np.empty((len(rows), 0), dtype=np.float32)
    snapshot = rows.snapshot if rows.snapshot is not None else np.zeros(len(rows), dtype=np.uint32)
    actual = np.where(rows.kind == SERVED, np.nan, rows.actual)
    return Events(
        place, slot, rows.kind, rows.version, rows.predicted, actual, observed_at, observed_from,
        rows.actual, snapshot, members, rhythm,
    )  # fmt: skip


assert RECORD.itemsize == RECORD_BYTES
assert PAIR == 1
