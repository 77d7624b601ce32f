"""One maintainer per root: a `flock` held for the maintainer's life.

The lock file is never removed by us. Should somebody else remove it while it is held, a second latch on the ``logs`` directory
itself still keeps others out, and the holder puts the file back. What must never happen twice, a deployment under one number,
does not hang on this lock: the commit is the fence.
"""

import contextlib
import getpass
import json
import math
import os
import socket
import sys
import time
import weakref
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from demand_maint._storage.door import Door
from demand_maint._storage.layout import LOCK_FILE, LOGS
from demand_maint._storage.probe import check_filesystem
from demand_maint.clock import Clock, SystemClock
from demand_maint.errors import DemandMaintError, MaintainerBusyError

__all__ = ["MaintainerLock", "process_identity"]

_POLL_SECONDS = 0.05
_MAX_HOLDER_BYTES = 4096
_held: "weakref.WeakSet[MaintainerLock]" = weakref.WeakSet()


def process_identity() -> str:
    """Return ``user@host``, for the audit trail."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in some containers
        user = f"uid{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"


class MaintainerLock:
    """The right to train, drain sealed data, retire versions and tick in one root.

    Parameters
    ----------
    door
        The root's door.
    who
        What holds it, in words for the one who is refused.
    clock
        For the moment it was taken.
    """

    __slots__ = ("__weakref__", "_clock", "_door", "_file", "_latch", "_who")

    def __init__(self, door: Door, *, who: str = "", clock: Clock | None = None) -> None:
        self._door = door
        self._who = who
        self._clock = clock or SystemClock()
        self._file: int | None = None
        self._latch: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the root; notices, and where it can mends, a lock file that somebody removed."""
        if self._file is None:
            return False
        return self._file_is_ours(self._file) or self._restore_file()

    def acquire(self, blocking_seconds: float = 0) -> None:
        """Take the root, waiting up to `blocking_seconds` for its holder to end.

        Raises
        ------
        MaintainerBusyError
            With pid, host, start and command of the holder.
        UnsupportedFilesystemError
            `flock` does not work here.
        """
        for attempt in range(math.ceil(max(blocking_seconds, 0) / _POLL_SECONDS) + 1):
            if attempt:
                time.sleep(_POLL_SECONDS)
            if self.try_acquire():
                return
        raise MaintainerBusyError(self.holder())

    def try_acquire(self) -> bool:
        """Take the root if it is free. Taking it twice is once."""
        if self.held:
            return True
        self.release()
        if self._file is None and not self._door.exists(LOCK_FILE):
            check_filesystem(self._door, LOGS)
        latch = self._take_latch()
        if latch is None:
            return False
        file = None
        try:
            file = self._take_file()
        finally:
            if file is None:  # also where the disk failed just now: a latch that stays shut would lock everybody out
                self._door.disk.close(latch)
        if file is None:
            return False
        self._file, self._latch = file, latch
        self._write_holder(file)
        _held.add(self)
        return True

    def release(self) -> None:
        """Give it back; harmless when it is not held. The file stays, emptied."""
        _held.discard(self)
        file, latch, self._file, self._latch = self._file, self._latch, None, None
        if file is not None:
            with contextlib.suppress(OSError):  # its content is only words
                self._door.disk.truncate(file, 0)
            self._door.disk.close(file)
        if latch is not None:
            self._door.disk.close(latch)

    def holder(self) -> str:
        """Who holds the root, in words; read from the lock file."""
        try:
            facts = json.loads(self._door.read_bytes(LOCK_FILE, _MAX_HOLDER_BYTES))
            since = datetime.fromtimestamp(float(facts["since"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return f"pid {facts['pid']} on {facts['host']} since {since} ({facts['who']}: {facts['command']})"
        except (OSError, ValueError, KeyError, TypeError, DemandMaintError):
            return "a process that did not say who it is"

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _forget(self) -> None:
        """Close without unlocking: in a forked child the lock belongs to the parent."""
        for descriptor in (self._file, self._latch):
            if descriptor is not None:
                self._door.disk.close(descriptor)
        self._file = self._latch = None

    def _take_latch(self) -> int | None:
        self._door.makedirs(LOGS)
        if sys.platform == "win32":  # directories cannot be opened there, nor open files removed
            return self._door.open_lock(f"{LOCK_FILE}.latch")
        descriptor = self._door.open_directory(LOGS)
        try:
            free = self._door.disk.lock(descriptor)
        except OSError:  # NFS locks files only; then the file alone has to do
            free = True
        if not free:
            self._door.disk.close(descriptor)
            return None
        return descriptor

    def _take_file(self) -> int | None:
        while True:
            descriptor = self._door.open_lock(LOCK_FILE)
            ours = False
            try:
                taken = self._door.disk.lock(descriptor)
                ours = taken and self._file_is_ours(descriptor)
            finally:
                if not ours:
                    self._door.disk.close(descriptor)
            if ours:
                return descriptor
            if not taken:
                return None

    def _file_is_ours(self, descriptor: int) -> bool:
        try:
            there = self._door.entry(LOCK_FILE)
        except FileNotFoundError:
            return False
        ours = os.fstat(descriptor)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _restore_file(self) -> bool:
        try:
            fresh = self._take_file()
        except OSError:
            return False
        if fresh is None:  # somebody got in, which only happens where directories cannot be locked
            self._forget()
            return False
        old, self._file = self._file, fresh
        if old is not None:
            self._door.disk.close(old)
        self._write_holder(fresh)
        return True

    def _write_holder(self, descriptor: int) -> None:
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": self._clock.now(),
            "who": self._who or "maintainer",
            "command": " ".join(sys.argv)[:500],
        }
        with contextlib.suppress(OSError):  # only words: a full disk must not keep the root from being maintained
            self._door.disk.truncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            self._door.disk.write(descriptor, json.dumps(facts).encode())


def _forget_in_child() -> None:
    for lock in list(_held):
        lock._forget()  # noqa: SLF001 - the same module's own class
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
