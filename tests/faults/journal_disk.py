"""A recording disk for mapped files: what was stored into a mapping is a write that no call tells of, so it is looked for."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recording_disk import RecordingDisk


class JournalDisk(RecordingDisk):
    """Records stores into files that were made to be mapped, each changed stretch as one write."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._mapped: dict[int, tuple[mmap.mmap, bytes]] = {}

    def allocate(self, descriptor: int, size: int) -> None:
        super().allocate(descriptor, size)
        self.trace.append(("cut", self._open[descriptor][0], size))

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        mapped = super().map(descriptor, size)
        inode, _ = self._open[descriptor]
        self._mapped.setdefault(inode, (mapped, bytes(mapped)))
        return mapped

    def write_at(self, descriptor: int, parts: Sequence[Any], offset: int) -> None:
        super().write_at(descriptor, parts, offset)
        self.look()
        inode, _ = self._open[descriptor]
        if inode not in self._mapped:
            self.trace.append(("data", inode, offset, b"".join(bytes(part) for part in parts)))

    def sync(self, descriptor: int) -> None:
        self.look()
        super().sync(descriptor)

    def look(self) -> None:
        """Record what was stored since the last look."""
        for inode, (mapped, before) in self._mapped.items():
            now = bytes(mapped)
            if now != before:
                changed = [at for at in range(len(now)) if now[at] != before[at]]
                first, last = changed[0] // 8 * 8, changed[-1] // 8 * 8 + 8
                self.trace.append(("data", inode, first, now[first:last]))
                self._mapped[inode] = mapped, now
