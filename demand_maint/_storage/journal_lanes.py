"""Where a writer's rows go: a lane of single records, a lane of column blocks, and memory while the disk refuses both."""

import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from demand_maint._storage.door import Door
from demand_maint._storage.journal_rows import RowPacker
from demand_maint._storage.journal_stretch import Stretch
from demand_maint._storage.segments import (
    BLOCK_HEAD,
    COMMITTED,
    HEADER_BYTES,
    RECORD_BYTES,
    SegmentHead,
    block_bytes,
    block_offsets,
    head_line,
)
from demand_maint.core.observations import ACTUAL, PAIR

__all__ = [
    "LARGEST_BLOCK",
    "NO_SLOTS",
    "Block",
    "BlockCursor",
    "BlockLane",
    "Held",
    "MemoryRing",
    "RecordLane",
    "RowKinds",
    "Slots",
]

_PAGE = 4096
_STEP = 1 << 17
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, which the mmap module does not name yet
_COMMIT_WORD = COMMITTED.to_bytes(8, "little")
# offsets of slots, each of which only one caller gets, since `next` of a range iterator is one step of the interpreter; and
# the segment they are in
Slots = tuple[Iterator[int], Any]
NO_SLOTS: Slots = (iter(()), None)
# by the length of a row of features, bytes: the slots, how to pack, and the two constant parts of the block's head
RowKinds = dict[int, tuple[Iterator[int], memoryview, Callable[..., None], bytes, bytes]]
LARGEST_BLOCK = 1 << 22
_BLOCK_SEGMENT = HEADER_BYTES + LARGEST_BLOCK + _PAGE
_BY_CALL = 1 << 16  # from here on one system call is cheaper than the faults of as many fresh pages


@dataclass(frozen=True, slots=True)
class Block:
    """Rows written in one go; `places` as codes of the writer."""

    kind: int
    version: int
    snapshot: int
    schema: int
    places: Any
    times: Any
    predicted: Any
    actual: Any
    members: Any
    features: Any


class RecordLane:
    """Segments of 32-byte slots, handed out by one atomic call; a spare is prepared ahead."""

    def __init__(self, door: Door, directory: str, writer: str, capacity: int, now: Callable[[], float]) -> None:
        self._door = door
        self._directory = directory
        self._writer = writer
        self._now = now
        self.capacity = capacity
        self.number = -1
        self._offsets: Iterator[int] = iter(())
        self._spare: tuple[str, mmap.mmap] | None = None
        self._making = threading.Lock()  # the background thread prepares while the hot path may roll over
        self._made = 0
        self.unsynced: set[str] = set()
        self.mapped: mmap.mmap | None = None

    def open_next(self) -> Slots:
        """Return the slots of the next segment.

        Raises
        ------
        OSError
            The disk has no room for another segment.
        """
        with self._making:
            path, mapped = self._spare or self._make()
            self._spare = None
        self.number += 1
        self.mapped = mapped
        self.unsynced.add(path)
        offsets = iter(range(HEADER_BYTES, HEADER_BYTES + self.capacity * RECORD_BYTES, RECORD_BYTES))
        self._offsets = offsets
        return offsets, mapped

    def prepare(self) -> None:
        """Have a spare ready, its pages touched."""
        with self._making:
            if self._spare is None:
                self._spare = self._make()

    def position(self) -> int:
        """How many records were handed out so far, all segments together."""
        left = self._offsets.__length_hint__()  # type: ignore[attr-defined]  # a range iterator has it
        return (self.number + 1) * self.capacity - left if self.number >= 0 else 0

    def counting(self) -> tuple[int, Callable[[], int]]:
        """Return the records that will have been handed out when this segment is full, and how many of them are left."""
        return (self.number + 1) * self.capacity, self._offsets.__length_hint__  # type: ignore[attr-defined]  # as above

    def _make(self) -> tuple[str, mmap.mmap]:
        path = f"{self._directory}/r{self._made:08d}.seg"
        self._door.unlink(path, missing_ok=True)  # half made by an attempt that met a full disk
        head = SegmentHead(
            layout="records", writer=self._writer, number=self._made, capacity=self.capacity, created_at=self._now()
        )
        size = HEADER_BYTES + self.capacity * RECORD_BYTES
        mapped = self._door.create_mapped(path, size, head_line(head))
        self._made += 1
        _touch(mapped)
        return path, mapped


class BlockCursor:
    """Where the next block goes; all but the slots it lays out is for the holder of the writer's lock."""

    __slots__ = ("_rows", "_stretch", "at", "end", "row_kinds", "view")

    def __init__(self) -> None:
        self.row_kinds: RowKinds = {}
        self.reset()

    def reset(self) -> None:
        """Begin with no room."""
        self.forget_kinds()
        self.at = self.end = self._rows = 0
        self._stretch: Stretch | None = None
        self.view: memoryview = memoryview(b"")

    @property
    def rows(self) -> int:
        """Rows that went into blocks."""
        stretch = self._stretch
        return self._rows + (stretch.used if stretch is not None else 0)

    def count(self, rows: int) -> None:
        """Count rows of a block."""
        self._rows += rows

    def forget_kinds(self) -> None:
        """Have the next row of features ask again."""
        self.row_kinds.clear()

    def lay_out(self, size: int, features: int) -> Stretch:
        """Make slots of the rest of the segment; the caller holds the writer's lock and has seen that there is room."""
        self._stretch = Stretch(self.view, self.at, self.end, size, features)
        return self._stretch

    def take_back(self) -> None:
        """End the slots, so that other blocks can follow."""
        stretch = self._stretch
        if stretch is not None:
            self.forget_kinds()
            self.at, used = stretch.close()
            self._stretch = None
            self._rows += used


class BlockLane:
    """Segments of column blocks; the caller holds the writer's lock."""

    def __init__(
        self,
        door: Door,
        directory: str,
        writer: str,
        now: Callable[[], float],
        cursor: BlockCursor,
        begun: Callable[[], object] = lambda: None,
    ) -> None:
        self._begun = begun
        self._door = door
        self._directory = directory
        self._writer = writer
        self._now = now
        self._cursor = cursor
        self._made = 0
        self._spare: tuple[str, memoryview] | None = None
        self._making = threading.Lock()
        self._path = ""
        self.unsynced: set[str] = set()

    def prepare(self, *, first: bool = False) -> None:
        """Have a spare ready, its pages touched; the first only where asked for, since not everybody writes blocks."""
        with self._making:
            if self._spare is None and (self._made or first):
                self._spare = self._make(_BLOCK_SEGMENT, touch=True)

    def write(self, block: Block, after: int) -> None:
        """Append a block; when this returns, it survives the end of the process.

        Raises
        ------
        OSError
            The disk has no room for another segment.
        """
        rows = len(block.times)
        members = block.members.shape[1] if block.members is not None else 0
        features = block.features.shape[1] if block.features is not None else 0
        need = block_bytes(rows, members, features)
        view = self._room(need)
        at = self._cursor.at
        offsets = block_offsets(rows, members, features)
        head = BLOCK_HEAD.pack(
            need, rows, after & 0xFFFFFFFF, block.snapshot, block.version, members, features,
            block.kind | block.schema << 8,
        )  # fmt: skip
        parts: list[tuple[int, Any]] = [(0, head)]
        for offset, values, dtype in zip(
            offsets,
            (block.places, block.predicted, block.actual, block.times, block.members, block.features),
            (np.uint32, np.float64, np.float64, np.float64, np.float32, np.float32),
            strict=False,
        ):
            if values is not None and values.size:
                parts.append((offset, np.ascontiguousarray(values, dtype=dtype).reshape(-1).view(np.uint8)))
        if need >= _BY_CALL:
            self._door.write_at(self._path, _without_gaps([*parts, (need - 8, _COMMIT_WORD)]), at)
        else:
            for offset, part in parts:
                view[at + offset : at + offset + len(part)] = memoryview(part)
            view[at + need - 8 : at + need] = _COMMIT_WORD
        self._cursor.at = at + need
        self._cursor.count(rows)

    def write_row(self, packer: RowPacker, *columns: Any) -> None:
        """Append a block of one row by one call, with what its packer takes between front and commit word; else as `write`."""
        view = self._room(packer.size)
        packer.pack(view, self._cursor.at, packer.front, *columns, COMMITTED)
        self._cursor.at += packer.size
        self._cursor.count(1)

    def lay_out(self, size: int, features: int) -> Stretch:
        """Return slots for rows of one size."""
        self._room(size)
        return self._cursor.lay_out(size, features)

    def _room(self, need: int) -> memoryview:
        cursor = self._cursor
        cursor.take_back()
        if cursor.at + need <= cursor.end:
            return cursor.view
        with self._making:
            spare, self._spare = self._spare, None
            if spare is not None and HEADER_BYTES + need <= len(spare[1]):
                path, view = spare
            else:
                if spare is not None:  # segments are filled in the order of their numbers
                    self._door.unlink(spare[0], missing_ok=True)
                path, view = self._make(max(_BLOCK_SEGMENT, HEADER_BYTES + (need + _PAGE - 1) // _PAGE * _PAGE))
        cursor.view, cursor.at, cursor.end = view, HEADER_BYTES, len(view)
        self._path = path
        self.unsynced.add(path)
        self._begun()
        return view

    def _make(self, size: int, *, touch: bool = False) -> tuple[str, memoryview]:
        path = f"{self._directory}/b{self._made:08d}.seg"
        self._door.unlink(path, missing_ok=True)  # half made by an attempt that met a full disk
        head = SegmentHead(
            layout="blocks", writer=self._writer, number=self._made, capacity=size, created_at=self._now()
        )
        mapped = self._door.create_mapped(path, size, head_line(head))
        view = memoryview(mapped)
        self._made += 1
        if touch:
            _touch(mapped)
        return path, view


def _touch(mapped: mmap.mmap) -> None:
    """Take the page faults of a segment here, not in the caller; in steps that hold nobody up."""
    try:
        for offset in range(0, len(mapped), _STEP):
            mapped.madvise(_POPULATE_WRITE, offset, min(_STEP, len(mapped) - offset))
    except (OSError, ValueError, AttributeError):  # not Linux, or one before 5.14
        for offset in range(HEADER_BYTES, len(mapped), _PAGE):
            mapped[offset] = 0


def _without_gaps(parts: list[tuple[int, Any]]) -> list[Any]:
    """Buffers one after the other, with zeros where a column ends before the next begins."""
    out: list[Any] = []
    at = 0
    for offset, part in parts:
        if offset > at:
            out.append(bytes(offset - at))
        out.append(part)
        at = offset + len(part)
    return out


@dataclass(frozen=True, slots=True)
class Held:
    """One record that waits for the disk; the place is kept by its id, since its code may not be written down yet."""

    kind: int
    version: int
    place: int | str
    time: float
    predicted: float
    actual: float


@dataclass(slots=True)
class MemoryRing:
    """What is kept while the disk refuses: bounded, predictions given up before actuals, the oldest first."""

    limit: int
    dropped: int = 0
    _predictions: deque[Any] = field(default_factory=deque)
    _truths: deque[Any] = field(default_factory=deque)
    _rows: int = 0

    def __len__(self) -> int:
        return self._rows

    def put(self, item: Any, rows: int = 1) -> None:
        """Keep a `Held` record, or a block of `rows` rows."""
        truth = isinstance(item, Held) and item.kind in {PAIR, ACTUAL}
        (self._truths if truth else self._predictions).append((item, rows))
        self._rows += rows
        while self._rows > self.limit:
            _, gone = (self._predictions or self._truths).popleft()
            self._rows -= gone
            self.dropped += gone

    def take(self) -> Any | None:
        """Return the oldest prediction, then the oldest truth; ``None`` when empty."""
        if not self._rows:
            return None
        item, rows = (self._predictions or self._truths)[0]
        return item, rows

    def done(self) -> None:
        """Let go of what `take` returned."""
        _, rows = (self._predictions or self._truths).popleft()
        self._rows -= rows
