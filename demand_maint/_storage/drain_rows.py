"""What the drain follows: writers and segments as seen so far, and the rows read from them."""

import zlib
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.journal_words import FIRST_CODE
from demand_maint._storage.segments import (
    HEADER_BYTES,
    RECORD_BYTES,
    Rows,
    SegmentHead,
    chosen,
    committed_end,
    has_block,
    is_committed,
    joined,
    next_block,
    read_blocks,
    read_records,
)
from demand_maint.core.observation_events import VOID, alike
from demand_maint.core.rounds import Rhythm

__all__ = [
    "UNKNOWN",
    "DrainedRows",
    "Note",
    "Place",
    "Segment",
    "SegmentCursor",
    "Span",
    "WriterState",
    "as_first_read",
    "block_parts",
    "checksum",
    "gaps",
    "has_block_begun",
    "in_order",
    "plausible",
    "record_rows",
    "stamps_at",
    "stretches",
    "unread",
    "written_order",
]

Place = int | str
UNKNOWN = 0xFFFFFFFF  # the code of a place that was not looked up yet
_AHEAD = 64
# rows from, to; when they were read, and when their writer had been read before (0: never)
Span = tuple[int, int, float, float]


class Note(msgspec.Struct, frozen=True, array_like=True):
    """A line beside a segment: which rows were read, when, what they were, and when their writer had been read before."""

    start: int
    end: int
    read: float
    crc: int
    before: float = 0.0


@dataclass(slots=True)
class SegmentCursor:
    """How far a segment has been read: slots or bytes, and slots below that were not committed yet."""

    done: int = 0
    holes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DrainedRows:
    """Rows of one writer in the order they were logged, with dense place codes of the whole root.

    They were logged between `observed_from`, when the writer had been drained before, and `observed_at`; 0 where it had not.
    `rhythm` says how they come in rounds of one time each, ``None`` where that is not known.
    """

    writer: str
    rows: Rows
    place: NDArray[np.uint32]
    observed_at: NDArray[np.float64]
    observed_from: NDArray[np.float64]
    rhythm: Rhythm | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def moments(self, rows: Rows) -> NDArray[np.float64]:
        """Return the times of the `rows` that these were made of, that of a round once."""
        return rows.time if self.rhythm is None else self.rhythm.one_each(rows.time)


@dataclass(slots=True)
class Segment:
    """A mapped segment and how far it was read."""

    path: str
    head: SegmentHead
    data: memoryview
    cursor: SegmentCursor
    stamps: list[Span] = field(default_factory=list)
    # bytes from, to; earliest and latest time of the blocks there, as far as this process read them
    times: list[Span] = field(default_factory=list)
    # spans that were read and are not written down yet
    unnoted: list[Span] = field(default_factory=list)
    # from here on nothing is noted
    noted: int = 0
    # all that will ever be in it has been read, so a drain need not look into it
    over: bool = False

    @property
    def is_records(self) -> bool:
        return self.head.layout == "records"

    @property
    def at(self) -> int:
        """Byte at which the next block would begin."""
        return max(self.cursor.done, HEADER_BYTES)

    def progress(self) -> tuple[int, list[int], list[Span], list[Span]]:
        """Return how far it was read and what was noted of that."""
        return self.cursor.done, list(self.cursor.holes), list(self.stamps), list(self.unnoted)

    def go_back(self, progress: tuple[int, list[int], list[Span], list[Span]]) -> None:
        """Undo what was read since `progress` was told."""
        self.cursor.done, self.cursor.holes, self.stamps, self.unnoted = progress


@dataclass(slots=True)
class WriterState:
    """A writer's directory as seen so far."""

    name: str
    segments: dict[str, Segment] = field(default_factory=dict)
    codes: NDArray[np.uint32] = field(default_factory=lambda: np.full(FIRST_CODE, UNKNOWN, dtype=np.uint32))
    places: dict[int, Place] = field(default_factory=dict)
    schemas: dict[int, tuple[str, ...]] = field(default_factory=dict)
    words_size: int = -1
    looked: float = 0.0
    dead: bool = False


def as_first_read(parts: list[DrainedRows]) -> list[DrainedRows]:
    """Put rows of several writers in the order in which they were read first; those of one writer keep theirs."""
    pieces: list[tuple[float, DrainedRows]] = []
    newest: dict[str, float] = {}
    for part in parts:
        read = np.maximum(np.maximum.accumulate(part.observed_at), newest.get(part.writer, 0.0))
        newest[part.writer] = float(read[-1])
        edges = [0, *(np.flatnonzero(read[1:] != read[:-1]) + 1).tolist(), len(part)]
        for start, end in pairwise(edges):
            here = slice(start, end)
            columns = part.place[here], part.observed_at[here], part.observed_from[here]
            pieces.append((float(read[start]), DrainedRows(part.writer, chosen(part.rows, here), *columns)))
    return [piece for _, piece in sorted(pieces, key=itemgetter(0))]


def has_block_begun(segment: Segment) -> bool:
    """Whether this is a segment of blocks with at least one in it."""
    return not segment.is_records and has_block(segment.data, HEADER_BYTES)


def plausible(head: SegmentHead, size: int) -> bool:
    if head.layout == "records":
        return size == HEADER_BYTES + head.capacity * RECORD_BYTES
    return head.layout == "blocks" and size == head.capacity


def checksum(segment: Segment, start: int, end: int) -> int:
    if segment.is_records:
        start, end = HEADER_BYTES + start * RECORD_BYTES, HEADER_BYTES + end * RECORD_BYTES
    return zlib.crc32(segment.data[start:end])


def gaps(stamps: list[Span], start: int, end: int) -> list[tuple[int, int]]:
    """Stretches between `start` and `end` of which no note tells."""
    found: list[tuple[int, int]] = []
    at = start
    for low, high, *_ in sorted(stamp for stamp in stamps if stamp[1] > start and stamp[0] < end):
        if low > at:
            found.append((at, low))
        at = max(at, high)
    return [*found, (at, end)] if at < end else found


def stretches(times: list[Span], start: int, end: int, low: float, high: float) -> list[tuple[int, int]]:
    """Stretches between `start` and `end` that may hold times of `low` to `high`: all but those known to hold others.

    >>> stretches([(0, 10, 1.0, 2.0), (10, 20, 3.0, 4.0), (20, 30, 5.0, 6.0)], 0, 40, 3.5, 5.5)
    [(10, 40)]
    """
    # a time that is none is neither before nor behind
    return gaps([span for span in times if span[3] < low or span[2] > high], start, end)


def stamps_at(
    stamps: list[Span], at: NDArray[np.int64], default: tuple[float, float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When rows were read, and when their writer had been read before; `default` where no span tells."""
    if len(at):
        low, high = int(at[0]), int(at[-1])
        for start, end, stamp, since in reversed(stamps):
            if start <= low and high < end and low <= high:  # one span tells of all, as it does of what was just read
                return alike(stamp, len(at)), alike(since, len(at))
    read = np.full(len(at), np.nan if default is None else default[0])
    before = np.full(len(at), 0.0 if default is None else default[1])
    table = np.array(stamps, dtype=np.float64).reshape(-1, 4)
    starts, ends = table[:, 0], table[:, 1]
    if (
        starts[1:] >= ends[:-1]
    ).all():  # as drains leave them: a segment has a span for each, and a search does for all
        span = np.searchsorted(starts, at, side="right") - 1
        told = (span >= 0) & (at < ends[span]) if len(table) else np.zeros(len(at), dtype=np.bool_)
        read[told], before[told] = table[span[told], 2], table[span[told], 3]
    else:
        for start, end, stamp, since in stamps:
            here = (at >= start) & (at < end)
            read[here], before[here] = stamp, since
    if default is None:
        known = read[np.isfinite(read)]
        read[~np.isfinite(read)] = known.max() if len(known) else 0.0
    return read, before


def record_rows(segment: Segment, indices: NDArray[np.int64]) -> tuple[Rows, NDArray[np.int64]]:
    """Rows of some slots without those that were given up, and their slots."""
    if len(indices) and indices[-1] - indices[0] + 1 == len(indices):
        slots = read_records(segment.data, int(indices[0]), int(indices[-1]) + 1)
    else:
        slots = read_records(segment.data, 0, segment.head.capacity)[indices]
    kind = np.ascontiguousarray(slots["kind"])
    after = indices + segment.head.number * segment.head.capacity
    rows = Rows(
        np.ascontiguousarray(slots["place"]),
        np.ascontiguousarray(slots["version"]),
        kind,
        np.ascontiguousarray(slots["predicted"]),
        np.ascontiguousarray(slots["actual"]),
        np.ascontiguousarray(slots["time"]),
        2 * after + 1,
    )
    if kind.all():
        return rows, indices
    return chosen(rows, kind != VOID), indices[kind != VOID]


def block_parts(
    segment: Segment, low: float, high: float
) -> list[tuple[Rows, NDArray[np.float64], NDArray[np.float64]]]:
    """Rows of blocks that were read, those with features of one kind together, and as `stamps_at` when that was.

    Blocks without a time of `low` to `high` may be left out.
    """
    groups: dict[tuple[int, int], list[tuple[Rows, NDArray[np.int64]]]] = {}
    for start, end in stretches(segment.times, HEADER_BYTES, min(segment.cursor.done, len(segment.data)), low, high):
        shapes, at, _ = read_blocks(segment.data[:end], start, over_holes=True)
        begin = 0
        for rows in shapes:
            width = rows.features.shape[1] if rows.features is not None else 0
            groups.setdefault((width, rows.schema), []).append((rows, at[begin : begin + len(rows)]))
            begin += len(rows)
    out: list[tuple[Rows, NDArray[np.float64], NDArray[np.float64]]] = []
    for parts in groups.values():
        where = np.concatenate([at for _, at in parts])
        order = written_order(where)
        rows = chosen(joined([rows for rows, _ in parts], features=True), order)
        out.append((rows, *stamps_at(segment.stamps, where[order])))
    return out


def written_order(at: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Return what brings rows that lie `at` these bytes into the order in which they were written."""
    if len(at) and at.strides != (0,) and (at[1:] < at[:-1]).any():
        return np.argsort(at, kind="stable")
    return slice(None)


def in_order(parts: list[DrainedRows]) -> list[DrainedRows]:
    """Rows of several lanes in the order in which they were logged."""
    parts = sorted(parts, key=lambda part: int(part.rows.after[0]))
    if all(part.rows.after[-1] <= after.rows.after[0] for part, after in pairwise(parts)):
        return parts
    rows = joined([part.rows for part in parts])
    order = np.argsort(rows.after, kind="stable")
    place = np.concatenate([part.place for part in parts])[order]
    observed = np.concatenate([part.observed_at for part in parts])[order]
    before = np.concatenate([part.observed_from for part in parts])[order]
    return [DrainedRows(parts[0].writer, chosen(rows, order), place, observed, before)]


def unread(segment: Segment, *, dead: bool) -> bool:
    """Whether a segment holds committed rows that were not read."""
    data, at, capacity = segment.data, segment.cursor.done, segment.head.capacity
    if not segment.is_records:
        at = segment.at
        return has_block(data, at) or (dead and next_block(data, at) is not None)
    # a slot may be in somebody's hands while later ones are filled: look a little further
    if at < capacity and (is_committed(data, at) or committed_end(data, at, min(capacity, at + _AHEAD)) > at):
        return True
    return any(is_committed(data, hole) for hole in segment.cursor.holes)
