"""The raw calls that change or read a disk, one method each.

`Door` is made of these and of nothing else, so a test that records, fails or cuts every one of them has seen every byte.
Directories cannot be fsynced on Windows; there `sync_dir` does nothing, and the promise for power loss is weaker.
"""

import contextlib
import errno
import mmap
import os
import stat
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["Disk", "FileLock"]

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_BLOCK = 1 << 20

if sys.platform == "win32":
    import msvcrt

    class FileLock:
        """An exclusive lock on the first byte of a file, held as long as its descriptor is open."""

        @staticmethod
        def take(descriptor: int) -> bool:
            """Take the lock if it is free; ``False`` where somebody else has it."""
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno in {errno.EACCES, errno.EDEADLK}:
                    return False
                raise
            return True
else:
    import fcntl

    class FileLock:
        """An exclusive `flock`, held as long as the open file is; unlike ``lockf`` no other descriptor can drop it."""

        @staticmethod
        def take(descriptor: int) -> bool:
            """Take the lock if it is free; ``False`` where somebody else has it."""
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


class Disk:
    """The computer's own file system; every path is absolute and was checked by `Door`."""

    def create(self, path: str) -> int:
        """Make a new file and return its descriptor; `FileExistsError` where the name is taken."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY | _CLOEXEC, 0o644)

    def open_append(self, path: str) -> int:
        """Open for appending, making the file where it is missing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NOFOLLOW | _BINARY | _CLOEXEC, 0o644)

    def open_update(self, path: str) -> int:
        """Open an existing file for reading and writing in place."""
        return os.open(path, os.O_RDWR | _NOFOLLOW | _BINARY | _CLOEXEC)

    def open_lock(self, path: str) -> int:
        """Open a lock file, making it where it is missing; its content is kept."""
        return os.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW | _BINARY | _CLOEXEC, 0o644)

    def open_read(self, path: str) -> int:
        """Open a file or a directory for reading; a FIFO does not block."""
        return os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _BINARY | _CLOEXEC)

    def write(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at the descriptor's position."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[:_BLOCK]) :]

    def write_at(self, descriptor: int, parts: Sequence[Any], offset: int) -> None:
        """Write all `parts` (buffers) from byte `offset` on, in their order."""
        if not hasattr(os, "pwritev"):
            os.lseek(descriptor, offset, os.SEEK_SET)
            for part in parts:
                self.write(descriptor, part)
            return
        left = [memoryview(part).cast("B") for part in parts if len(part)]
        while left:
            done = os.pwritev(descriptor, left, offset)
            offset += done
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if done:
                left[0] = left[0][done:]

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut or extend the open file to `size` bytes."""
        os.ftruncate(descriptor, size)

    def allocate(self, descriptor: int, size: int) -> None:
        """Reserve the blocks of the first `size` bytes, so that a mapped write cannot meet a full disk."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
            os.pwrite(descriptor, bytes(size), 0) if hasattr(os, "pwrite") else os.write(descriptor, bytes(size))

    def map(self, descriptor: int, size: int) -> mmap.mmap:
        """Map `size` bytes of the open file for reading and writing."""
        return mmap.mmap(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Make the content of the open file durable."""
        os.fsync(descriptor)

    def sync_dir(self, path: str) -> None:
        """Make the entries of a directory durable."""
        if sys.platform == "win32":
            return
        descriptor = os.open(path, os.O_RDONLY | _DIRECTORY | _CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, descriptor: int) -> bool:
        """Take the exclusive lock of the open file; ``False`` where somebody else has it."""
        return FileLock.take(descriptor)

    def link(self, source: str, target: str) -> None:
        """Give the file a second name; `FileExistsError` where it is taken."""
        os.link(source, target, follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        """Move a file over `target`, or a directory to a free or empty one, in one step."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """Remove one name of a file."""
        os.unlink(path)

    def make_dir(self, path: str) -> None:
        """Make one directory."""
        os.mkdir(path, 0o755)

    def remove_dir(self, path: str) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def list(self, path: str) -> list[str]:
        """Names in a directory, unordered."""
        return os.listdir(path)

    def stat(self, path: str) -> os.stat_result:
        """Facts about the entry itself; a symbolic link is not followed."""
        return os.lstat(path)

    def read(self, descriptor: int, size: int) -> bytes:
        """Read up to `size` bytes at the descriptor's position, fewer only at the end of the file."""
        parts: list[bytes] = []
        while size > 0 and (part := os.read(descriptor, min(size, _BLOCK))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read_last(self, descriptor: int) -> bytes:
        """Return the last byte of the open file; nothing where it is empty."""
        size = os.fstat(descriptor).st_size
        if size == 0:
            return b""
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        return os.read(descriptor, 1)

    def regular_size(self, descriptor: int) -> int | None:
        """Size of the open file, bytes; ``None`` where it is no regular file."""
        facts = os.fstat(descriptor)
        return facts.st_size if stat.S_ISREG(facts.st_mode) else None

    def facts(self, descriptor: int) -> os.stat_result:
        """Facts about the open file."""
        return os.fstat(descriptor)

    def close(self, descriptor: int) -> None:
        """Close; what mattered was synced before, so an error here tells nothing new."""
        with contextlib.suppress(OSError):
            os.close(descriptor)
