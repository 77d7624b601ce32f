"""A disk that does everything for real and keeps a trace of it, to be cut at any point later.

The model is strict POSIX: bytes of a file are durable only after its fsync, a directory's entries only after the directory's.
"""

import os
from pathlib import Path
from typing import Any

from demand_maint._storage.disk import Disk

Op = tuple[Any, ...]
ROOT_INODE = 0


class RecordingDisk(Disk):
    """Records what changes below `root`.

    Ops are ``("add", directory, name, inode)``, ``("del", directory, name)``, ``("move", directory, name, directory, name, inode)``,
    ``("data", inode, offset, bytes)``, ``("cut", inode, size)``, ``("sync", inode)``, ``("syncdir", inode)``, ``("ack", anything)``.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.trace: list[Op] = []
        self.directories: set[int] = {ROOT_INODE}
        self._inodes: dict[str, int] = {self.root: ROOT_INODE}
        self._open: dict[int, tuple[int, str]] = {}
        self._appending: set[int] = set()
        self._next = ROOT_INODE + 1

    def ack(self, what: Any) -> None:
        """Note that something was acknowledged to the caller."""
        self.trace.append(("ack", what))

    def skips(self, kind: str, path: str) -> bool:
        """Whether this sync is left out; a mutant says yes."""
        return False

    def create(self, path: str) -> int:
        return self._opened(super().create(path), path)

    def open_append(self, path: str) -> int:
        descriptor = self._opened(super().open_append(path), path)
        self._appending.add(descriptor)
        return descriptor

    def open_update(self, path: str) -> int:
        return self._opened(super().open_update(path), path)

    def open_lock(self, path: str) -> int:
        return self._opened(super().open_lock(path), path)

    def write(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        inode, _ = self._open[descriptor]
        offset = os.fstat(descriptor).st_size if descriptor in self._appending else os.lseek(descriptor, 0, os.SEEK_CUR)
        super().write(descriptor, data)
        self.trace.append(("data", inode, offset, bytes(data)))

    def truncate(self, descriptor: int, size: int) -> None:
        super().truncate(descriptor, size)
        self.trace.append(("cut", self._open[descriptor][0], size))

    def sync(self, descriptor: int) -> None:
        inode, path = self._open[descriptor]
        if not self.skips("sync", path):
            self.trace.append(("sync", inode))

    def sync_dir(self, path: str) -> None:
        if path in self._inodes and not self.skips("syncdir", path):
            self.trace.append(("syncdir", self._inodes[path]))

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        self._inodes[target] = self._inodes[source]
        self.trace.append(("add", *self._place(target), self._inodes[target]))

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        inode = self._inodes.pop(source)
        for path in [path for path in self._inodes if path.startswith(source + "/")]:
            self._inodes[target + path[len(source) :]] = self._inodes.pop(path)
        self._inodes[target] = inode
        self.trace.append(("move", *self._place(source), *self._place(target), inode))

    def unlink(self, path: str) -> None:
        super().unlink(path)
        del self._inodes[path]
        self.trace.append(("del", *self._place(path)))

    def make_dir(self, path: str) -> None:
        super().make_dir(path)
        if path != self.root:
            self.directories.add(self._added(path))

    def remove_dir(self, path: str) -> None:
        super().remove_dir(path)
        del self._inodes[path]
        self.trace.append(("del", *self._place(path)))

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._appending.discard(descriptor)
        super().close(descriptor)

    def adopt(self) -> None:
        """Take the tree that is there as durable."""
        for folder, names, files in os.walk(self.root):
            for name in names:
                self.directories.add(self._added(f"{folder}/{name}"))
            for name in files:
                inode = self._added(f"{folder}/{name}")
                self.trace += [("data", inode, 0, Path(folder, name).read_bytes()), ("sync", inode)]
            self.trace.append(("syncdir", self._inodes[folder]))

    def _opened(self, descriptor: int, path: str) -> int:
        if path not in self._inodes:
            self._added(path)
        self._open[descriptor] = (self._inodes[path], path)
        return descriptor

    def _added(self, path: str) -> int:
        inode = self._inodes[path] = self._next
        self._next += 1
        self.trace.append(("add", *self._place(path), inode))
        return inode

    def _place(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        return self._inodes[parent], name
