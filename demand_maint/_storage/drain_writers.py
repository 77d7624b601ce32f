"""Who writes below a root, which segments each has, and how far they were read."""

from collections.abc import Callable, Sequence

from demand_maint._storage.disk import FileLock
from demand_maint._storage.door import Door
from demand_maint._storage.drain_notes import DRAINED
from demand_maint._storage.drain_rows import Segment, SegmentCursor, WriterState, has_block_begun, plausible, unread
from demand_maint._storage.journal import JOURNAL, LOCK_NAME
from demand_maint._storage.segments import has_block, read_head
from demand_maint.clock import SystemClock
from demand_maint.log import get_logger

__all__ = ["Writers"]

_log = get_logger("drain")


class Writers:
    """The writers of a root as seen so far; directories are listed when they have changed.

    Parameters
    ----------
    door
        The root's door.
    alive
        Name of the writer that this very process logs with, which nobody has to ask whether it lives; ``None`` for none.

    Attributes
    ----------
    known
        Writers by name.
    damaged
        Segments that cannot be read.
    """

    def __init__(self, door: Door, alive: Callable[[], str | None]) -> None:
        self._door = door
        self._alive = alive
        self.known: dict[str, WriterState] = {}
        self._cursors: dict[str, SegmentCursor] = {}
        self.damaged: list[str] = []
        self._finished: set[str] = set()
        self._looked: dict[str, float] = {}
        self._prefix = str(door.root)
        self._clock = SystemClock()  # compared with the stamps of the file system
        self._stamps: dict[str, int] = {}
        self._gone: set[str] = set()

    def cursors(self) -> dict[str, list[int]]:
        """Progress per segment path, for saving."""
        return {path: [cursor.done, *cursor.holes] for path, cursor in self._cursors.items()}

    def looked(self) -> dict[str, float]:
        """When each writer was read last, for saving."""
        return self._looked | {name: writer.looked for name, writer in self.known.items() if writer.looked}

    def restore(
        self, cursors: dict[str, list[int]], finished: Sequence[str] = (), looked: dict[str, float] | None = None
    ) -> None:
        """Go on from what `cursors` and `looked` said; segments that are `finished` are sealed and not looked at again."""
        self._looked = dict(looked or {})
        self._finished = set(finished)
        self._cursors = {path: SegmentCursor(done, list(holes)) for path, (done, *holes) in cursors.items()}
        self.known.clear()
        self._stamps.clear()
        self._gone.clear()

    def drop(self, paths: list[str]) -> None:
        """Forget segments that are gone."""
        self._gone.difference_update(paths)
        for path in paths:
            self._cursors.pop(path, None)
            for writer in self.known.values():
                writer.segments.pop(path, None)

    def missing(self, *, look: bool = True) -> list[str]:
        """Segments that were begun and are gone: somebody else has sealed them. Without `look`, as it was seen last."""
        if look:
            self.notice()
        return [path for path in self._cursors if path in self._gone]

    def notice(self) -> None:
        """Look into those directories in which names may have come or gone."""
        try:
            if self._changed(JOURNAL):
                names = self._door.listdir(JOURNAL)
                for name in names:
                    self.named(name)
                self._gone.update(path for path in self._cursors if path.split("/")[-2] not in names)
            for writer in self.known.values():
                if self._changed(f"{JOURNAL}/{writer.name}"):
                    self.look_into(writer)
        except BaseException:  # what could not be looked at has to be looked at again
            self._stamps.clear()
            raise

    def _changed(self, directory: str) -> bool:
        """Whether names may have come or gone in a directory since this was asked last."""
        try:
            stamp = self._door.disk.stat(f"{self._prefix}/{directory}").st_mtime_ns
        except FileNotFoundError:
            self._stamps.pop(directory, None)
            return True
        now = self._clock.now() * 1e9
        # two changes within one tick of the file system's clock have one stamp: trust it once it is old enough
        same = self._stamps.get(directory) == stamp
        if now - stamp > 1e8:
            self._stamps[directory] = stamp
        else:
            self._stamps.pop(directory, None)
        return not same

    def segments(self) -> list[tuple[WriterState, Segment, bool]]:
        """Every known segment, and whether all that will ever be in it has been read."""
        out: list[tuple[WriterState, Segment, bool]] = []
        for writer in self.known.values():
            dead = self.is_dead(writer)
            lane = _lane(writer)
            for segment in writer.segments.values():
                # one that died a moment ago may have written more since it was read
                done = _is_full(segment, lane) or (dead and not unread(segment, dead=True))
                out.append((writer, segment, done))
        return out

    def forget(self, writer: WriterState, segment: Segment) -> None:
        """Remove a sealed segment from the disk."""
        self._finished.add(segment.path)
        writer.segments.pop(segment.path, None)
        self._cursors.pop(segment.path, None)
        self._remove(segment.path)

    def remove_finished(self) -> None:
        """Remove segments whose removal was interrupted."""
        for path in list(self._finished):
            self._remove(path)

    def _remove(self, path: str) -> None:
        self._door.unlink(path, missing_ok=True)
        self._door.unlink(path + DRAINED, missing_ok=True)
        self._finished.discard(path)

    def unsealed(self) -> set[str]:
        """Paths of the segments whose rows are still to be taken from the journal, as far as they were read."""
        found: set[str] = set()
        for writer in self._door.listdir(JOURNAL):
            names = self._door.listdir(f"{JOURNAL}/{writer}")
            found |= {f"{JOURNAL}/{writer}/{name}" for name in names if name.endswith(".seg")}
        return found - self._finished

    def remove_dead(self) -> None:
        """Remove the directories of writers that are gone and whose rows are all sealed."""
        for name, writer in list(self.known.items()):
            if not writer.segments and self.is_dead(writer):
                left = [entry for entry in self._door.listdir(f"{JOURNAL}/{name}") if entry.endswith(".seg")]
                if not left:
                    self._door.rmtree(f"{JOURNAL}/{name}")
                    del self.known[name]
                    self._looked.pop(name, None)

    def named(self, name: str) -> WriterState:
        """Return what is known of a writer."""
        writer = self.known.get(name)
        if writer is None:
            writer = self.known[name] = WriterState(name, looked=self._looked.get(name, 0.0))
        return writer

    def is_dead(self, writer: WriterState) -> bool:
        """Whether nobody will write there any more."""
        if writer.name == self._alive():
            return False
        path = f"{JOURNAL}/{writer.name}/{LOCK_NAME}"
        if not writer.dead and self._door.exists(path):
            descriptor = self._door.open_lock(path)
            try:
                writer.dead = FileLock.take(descriptor)
            finally:
                self._door.disk.close(descriptor)
        else:
            writer.dead = True
        return writer.dead

    def look_into(self, writer: WriterState) -> None:
        """Map segments that are new, and notice those that are gone."""
        directory, known = f"{JOURNAL}/{writer.name}", len(writer.segments)
        names = self._door.listdir(directory)
        there = {f"{directory}/{name}" for name in names}
        self._gone -= there
        self._gone.update(path for path in self._cursors if path.startswith(f"{directory}/") and path not in there)
        for name in names:
            path = f"{directory}/{name}"
            if not name.endswith(".seg") or path in writer.segments or path in self.damaged or path in self._finished:
                continue
            try:
                data = memoryview(self._door.open_mapped(path))
            except (OSError, ValueError):  # being made just now, or gone
                self._stamps.pop(directory, None)
                continue
            head = read_head(data)
            if head is None or head.format > 1 or not plausible(head, len(data)):
                if any(data[:64]):
                    self.damaged.append(path)
                    _log.warning("segment_unreadable", segment=path)
                else:
                    self._stamps.pop(directory, None)
                continue
            cursor = self._cursors.setdefault(path, SegmentCursor())
            writer.segments[path] = Segment(path, head, data, cursor)
        if len(writer.segments) > known:  # where there is a new one, others may have been filled
            lane = _lane(writer)
            for segment in writer.segments.values():
                segment.over = _is_full(segment, lane) and not unread(segment, dead=True)


def _lane(writer: WriterState) -> int:
    """Return the number of the segment that blocks go into; a spare may lie ahead of where the last one is."""
    return max((one.head.number for one in writer.segments.values() if has_block_begun(one)), default=-1)


def _is_full(segment: Segment, lane: int) -> bool:
    """Whether everything its writer will ever have put there has been read, as long as that one lives."""
    if segment.is_records:
        return segment.cursor.done >= segment.head.capacity and not segment.cursor.holes
    return segment.head.number < lane and not has_block(segment.data, segment.at)
