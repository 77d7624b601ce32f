"""What the drain writes down beside a segment: which rows it read, when, their crc32, and when their writer had been read before.

One JSON array per line, ``[start, end, observed_at, crc32, observed_from]`` (without the last in files of earlier releases).
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._storage.drain_rows import Note, Segment, checksum, gaps, stamps_at

__all__ = ["DRAINED", "DrainNotes"]

DRAINED = ".drained"
Floats = NDArray[np.float64]


class DrainNotes:
    """The notes of a root."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def observed(self, segment: Segment, at: NDArray[np.int64], stamp: float, since: float) -> tuple[Floats, Floats]:
        """When rows of a segment were read, and when their writer had been read before; now where nothing is noted."""
        if not segment.stamps:
            self.read_into(segment)
        return stamps_at(segment.stamps, at, (stamp, since))

    def add(self, segment: Segment, spans: list[tuple[int, int]], stamp: float, since: float) -> None:
        """Remember which rows were read when, as far as that does not stand beside the segment already."""
        if not segment.stamps:
            self.read_into(segment)
        for first, last in spans:
            # mostly behind all that was noted, which then need not be gone through
            missing = [(first, last)] if first >= segment.noted else gaps(segment.stamps, first, last)
            new = [(start, end, stamp, since) for start, end in missing]
            segment.stamps += new
            segment.unnoted += new
            segment.noted = max(segment.noted, last)

    def write_down(self, segment: Segment) -> None:
        """Append what was remembered and does not stand there yet."""
        if segment.unnoted:
            lines = [
                msgspec.json.encode([start, end, stamp, checksum(segment, start, end), since]) + b"\n"
                for start, end, stamp, since in segment.unnoted
            ]
            self._door.append(segment.path + DRAINED, b"".join(lines))
            segment.unnoted = []

    def read_into(self, segment: Segment) -> None:
        """Take over what stands beside a segment."""
        noted = [(note.start, note.end, note.read, note.before) for note in self.read(segment.path)]
        segment.stamps = noted + segment.unnoted
        segment.noted = max((end for _, end, *_ in segment.stamps), default=0)

    def read(self, path: str) -> list[Note]:
        """Return what stands beside a segment."""
        try:
            data = self._door.read_bytes(path + DRAINED)
        except FileNotFoundError:
            return []
        out: list[Note] = []
        for line in data.split(b"\n"):
            try:
                out.append(msgspec.json.decode(line, type=Note))
            except msgspec.MsgspecError:
                continue
        return out

    def agree(self, segment: Segment) -> bool:
        """Whether the rows that were drained are still what was read then."""
        return all(
            note.end > segment.head.capacity or checksum(segment, note.start, note.end) == note.crc
            for note in self.read(segment.path)
        )
