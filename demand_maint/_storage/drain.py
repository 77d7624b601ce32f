"""The reading half of the journal: what writers have committed and nobody has counted yet.

The drain stamps when it saw a row (the second, and a fraction that tells the order of what was read within it) and writes that
down beside each segment. Only the leader does; a reader
without the lock follows.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._storage.drain_notes import DrainNotes
from demand_maint._storage.drain_places import PlaceDictionary
from demand_maint._storage.drain_rows import (
    DrainedRows,
    Place,
    Segment,
    SegmentCursor,
    WriterState,
    as_first_read,
    block_parts,
    in_order,
    record_rows,
    stamps_at,
    unread,
    written_order,
)
from demand_maint._storage.drain_writers import Writers
from demand_maint._storage.journal import JOURNAL
from demand_maint._storage.segments import (
    Rows,
    chosen,
    committed_end,
    has_block,
    is_committed,
    joined,
    read_blocks,
    read_records,
)

__all__ = ["Drain", "DrainedRows", "Place", "SegmentCursor"]

Floats = NDArray[np.float64]
#: Rows, when they were read, and when their writer had been read before.
Columns = tuple[Rows, Floats, Floats]
_MOST = 1 << 24
_TICK = 2.0**-16


class Drain:
    """Follows every writer of a root.

    Parameters
    ----------
    door
        The root's door.
    places
        Place ids by dense code; grows as new ones are met.
    alive
        Name of the writer that this very process logs with, which nobody has to ask whether it lives; ``None`` for none.

    Attributes
    ----------
    rest
        Called between two segments or parts of one, for those who want to give way.
    most
        Records read at a time.
    ahead
        Rows of the present writer that were read and are still to be handed on, while `read` goes on; its present part included.
    """

    def __init__(self, door: Door, places: list[Place], alive: Callable[[], str | None] = lambda: None) -> None:
        self._door = door
        self.places = places
        self.notes = DrainNotes(door)
        self._dictionary = PlaceDictionary(door, places)
        self.writers = Writers(door, alive)
        self.rest: Callable[[], object] = lambda: None
        self.most = _MOST
        self.ahead = 0
        self._reads_again = True
        self._stamp = -1.0

    def restore(
        self, cursors: dict[str, list[int]], finished: Sequence[str] = (), looked: dict[str, float] | None = None
    ) -> None:
        """Go on from what the writers' `cursors` and `looked` said; segments that are `finished` are not looked at again."""
        self.writers.restore(cursors, finished, looked)
        self._reads_again = True

    def code_of(self, place: Place) -> int:
        """Dense code of a place, made where there is none."""
        return self._dictionary.code_of(place)

    @property
    def known_codes(self) -> dict[Place, int]:
        """Dense code by place."""
        return self._dictionary.codes

    # reading

    def look(self) -> None:
        """Notice what is there: writers, their segments, and who of them is dead.

        The slots of a dead writer will not be filled any more, so what was logged behind them is read. To be told of what was
        read before, ask between this and `read`, which then reads no more than `has_new` says.
        """
        self.writers.notice()
        for writer in self.writers.known.values():
            if not all(segment.is_records for segment in writer.segments.values()):
                self.writers.is_dead(writer)

    def read(self, now: float, *, look: bool = True) -> Iterator[DrainedRows]:
        """Rows committed since the last call, writer by writer in the order in which they were logged.

        The first call reads again what others had read and not saved, in their order as far as that was noted: of a truth and
        its correction by another process the one that came last has to stay.
        """
        if look:
            self.look()
        stamp = self._stamp = self._next_stamp(now)
        writers = [writer for _, writer in sorted(self.writers.known.items())]
        if self._reads_again and len(writers) > 1:
            yield from self._handed_on(as_first_read(self._read_whole(writers, stamp)))
            for writer in writers:
                writer.looked = stamp
        else:
            for writer in writers:
                yield from self._read_writer(writer, stamp)
                writer.looked = stamp
        self._reads_again = False

    def _next_stamp(self, now: float) -> float:
        """Return the second, and a little more where something was read in that second already: stamps tell what came last."""
        stamps = [self._stamp, *self.writers.looked().values()]
        if self._reads_again:
            for writer in self.writers.known.values():
                for segment in writer.segments.values():
                    self.notes.read_into(segment)
                    stamps += [read for _, _, read, _ in segment.stamps]
        second = int(now)
        return max((stamp + _TICK for stamp in stamps if int(stamp) == second), default=float(second))

    def _read_whole(self, writers: list[WriterState], stamp: float) -> list[DrainedRows]:
        before = [(segment, segment.progress()) for writer in writers for segment in writer.segments.values()]
        try:
            return [part for writer in writers for part in self._read_writer(writer, stamp)]
        except BaseException:  # what was read and not handed on is read again
            for segment, progress in before:
                segment.go_back(progress)
            raise

    def has_new(self) -> bool:
        """Whether any writer has committed something that was not read; cheap where nothing was."""
        self.writers.notice()
        return any(
            unread(segment, dead=writer.dead)
            for writer in self.writers.known.values()
            for segment in writer.segments.values()
            if not segment.over
        )

    def reread(self, *, blocks_only: bool = False, low: float = -np.inf, high: float = np.inf) -> Iterator[DrainedRows]:
        """Rows that were read before and are not sealed, as they were stamped then; one part per segment and shape.

        Blocks without a time of `low` to `high` may be left out.
        """
        for name in self._door.listdir(JOURNAL):
            writer = self.writers.named(name)
            self.writers.look_into(writer)
            for segment in list(writer.segments.values()):
                if not (blocks_only and segment.is_records):
                    yield from (part for part in self.reread_segment(writer, segment, low, high) if len(part))

    def reread_named(self, low: float, high: float) -> Iterator[tuple[DrainedRows, tuple[str, ...]]]:
        """As `reread`, with the names of the features of each part; without the records, which have none."""
        for part in self.reread(blocks_only=True, low=low, high=high):
            writer = self.writers.known[part.writer]
            if part.rows.schema not in writer.schemas:
                writer.words_size = -1
                self._dictionary.read(writer)
            yield part, writer.schemas.get(part.rows.schema, ())

    def reread_segment(
        self, writer: WriterState, segment: Segment, low: float = -np.inf, high: float = np.inf
    ) -> list[DrainedRows]:
        """One segment up to its cursor; rows with features of one kind together. Of blocks see `reread`."""
        self.notes.read_into(segment)
        if segment.is_records:
            indices = np.delete(np.arange(min(segment.cursor.done, segment.head.capacity)), segment.cursor.holes)
            rows, kept = record_rows(segment, indices)
            return [self._dictionary.give(writer, rows, *stamps_at(segment.stamps, kept))] if len(rows) else []
        return [self._dictionary.give(writer, *part) for part in block_parts(segment, low, high)]

    # inside

    def _read_writer(self, writer: WriterState, stamp: float) -> Iterator[DrainedRows]:
        # blocks first: a record that is older than a block read here is read here too
        wanted = (one for one in writer.segments.values() if not one.over)
        segments = sorted(
            (one for one in wanted if one.is_records or writer.dead or has_block(one.data, one.at)),
            key=lambda one: (one.is_records, one.head.number),
        )
        before = [(segment, segment.progress()) for segment in segments]
        try:
            records, blocks = self._read_segments(writer, segments, stamp)
        except BaseException:  # what was read and not handed on is read again
            for segment, progress in before:
                segment.go_back(progress)
            raise
        yield from self._handed_on(in_order([*blocks, *records]) if blocks else records)

    def _handed_on(self, parts: list[DrainedRows]) -> Iterator[DrainedRows]:
        """Hand parts on, telling how many rows are ahead."""
        self.ahead = sum(len(part) for part in parts)
        for part in parts:
            yield part
            self.ahead -= len(part)

    def _read_segments(
        self, writer: WriterState, segments: list[Segment], stamp: float
    ) -> tuple[list[DrainedRows], list[DrainedRows]]:
        """Read on in segments of a writer; return what came from records and from blocks."""
        records: list[DrainedRows] = []
        blocks: list[DrainedRows] = []
        since = float(int(min(writer.looked, stamp)))  # the clock may have been put back
        for segment in segments:
            into, more = (records if segment.is_records else blocks), True
            while more:
                done, start = segment.cursor.done, segment.at
                if segment.is_records:
                    found = self._read_records(segment, stamp, since)
                else:
                    found = self._read_blocks(segment, stamp, since, dead=writer.dead)
                parts = [self._dictionary.give(writer, *columns) for columns in found]
                into += [part for part in parts if len(part)]
                if found and not segment.is_records:
                    moments = [part.moments(rows) for part, (rows, _, _) in zip(parts, found, strict=True)]
                    oldest, newest = min(times.min() for times in moments), max(times.max() for times in moments)
                    segment.times.append((start, segment.cursor.done, float(oldest), float(newest)))
                more = segment.is_records and segment.cursor.done - done == self.most
                self.rest()
        return records, blocks

    def _read_records(self, segment: Segment, stamp: float, since: float) -> list[Columns]:
        cursor = segment.cursor
        if cursor.done >= segment.head.capacity and not cursor.holes:
            return []
        end = min(committed_end(segment.data, cursor.done, segment.head.capacity), cursor.done + self.most)
        if end == cursor.done and not cursor.holes:
            return []
        slots = read_records(segment.data, cursor.done, end)
        committed = np.ascontiguousarray(slots["time"]).view(np.uint64) != 0
        indices = np.arange(cursor.done, end)
        late = [hole for hole in cursor.holes if is_committed(segment.data, hole)]
        before = cursor.done
        if committed.all() and not late:
            holes: list[int] = []
        else:
            holes = indices[~committed].tolist()
            indices = np.concatenate([np.array(late, dtype=np.int64), indices[committed]])
        cursor.holes = [hole for hole in cursor.holes if hole not in late] + holes
        cursor.done = end
        spans = [(hole, hole + 1) for hole in late] + ([(before, end)] if end > before else [])
        self.notes.add(segment, spans, stamp, since)
        rows, kept = record_rows(segment, indices)
        return [(rows, *self.notes.observed(segment, kept, stamp, since))]

    def _read_blocks(self, segment: Segment, stamp: float, since: float, *, dead: bool) -> list[Columns]:
        start = segment.at
        shapes, at, end = read_blocks(segment.data, start, over_holes=dead)
        segment.cursor.done = end
        if not shapes:
            return []
        self.notes.add(segment, [(start, end)], stamp, since)
        order = written_order(at)
        if isinstance(order, slice):  # shape after shape, as a round of predictions follows one of truths
            edges = [0, *accumulate(len(rows) for rows in shapes)]
            places = [at[first:last] for first, last in pairwise(edges)]
        else:
            shapes, places = [chosen(joined(shapes), order)], [at[order]]
        return [
            (rows, *self.notes.observed(segment, where, stamp, since))
            for rows, where in zip(shapes, places, strict=True)
        ]

    def note_order(self) -> None:
        """Write down what was read where several write: whose word came last is not to be seen from their journals."""
        if sum(bool(writer.segments) for writer in self.writers.known.values()) > 1:
            self.flush_all_notes()

    def flush_all_notes(self) -> None:
        """Write down everything that was read without the lock."""
        for writer in self.writers.known.values():
            for segment in writer.segments.values():
                self.notes.write_down(segment)

    def verify(self) -> list[str]:
        """Segments with drained rows that are no longer what was read."""
        bad: list[str] = []
        for name in self._door.listdir(JOURNAL):
            writer = self.writers.named(name)
            self.writers.look_into(writer)
            bad.extend(segment.path for segment in writer.segments.values() if not self.notes.agree(segment))
        return bad + self.writers.damaged
