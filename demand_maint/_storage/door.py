"""The file-system door: the only way from this package to a disk.

Every path is relative to one root and checked; nothing is read or written outside, whatever a path, a link or a metadata file
says. What is not finished yet carries a name that starts with `TEMP`, and its maker holds a lock on it: `sweep` removes those
that nobody holds any more.
"""

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from demand_maint._storage.below import path_below
from demand_maint._storage.disk import Disk
from demand_maint._storage.reading import read_regular_file
from demand_maint.errors import PathError

__all__ = ["TEMP", "Door", "Stamp", "UnconfirmedWriteError"]

TEMP = ".tmp-"
#: Which file has a name, and when and how long it was written: as long as this is the same, so is a file that is only ever replaced.
Stamp = tuple[int, int, int]
_stamp_of = attrgetter("st_ino", "st_mtime_ns", "st_size")
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}


class UnconfirmedWriteError(OSError):
    """The new name is there, but the disk did not confirm that it will survive a power loss."""


class Door:
    """The file system below `root`.

    Parameters
    ----------
    root
        Folder that nothing leaves; it is made on the first write.
    disk
        The raw calls.
    """

    __slots__ = ("_prefix", "disk", "root")

    def __init__(self, root: str | Path, disk: Disk | None = None) -> None:
        if "\0" in os.fspath(root):
            raise PathError("A root with a NUL character is no path.")
        self.root = Path(root).resolve()
        self.disk = disk or Disk()
        self._prefix = os.fspath(self.root)

    def path(self, rel: str) -> Path:
        """Absolute path of `rel`, checked: for children and libraries that open files themselves."""
        return Path(self._safe(rel))

    # reading

    def read_bytes(self, rel: str, limit: int | None = None) -> bytes:
        """Return the content of a regular file of at most `limit` bytes."""
        return read_regular_file(self._safe(rel), limit, self.disk)

    def exists(self, rel: str) -> bool:
        """Whether there is an entry of this name, a dangling link included."""
        try:
            self.entry(rel)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def which(self, rel: str, names: Sequence[str]) -> list[bool]:
        """Whether there are entries of these names in a directory."""
        self._safe(f"{rel}/{names[0]}")  # checks what is above them all
        found: list[bool] = []
        for name in names:
            try:
                self.disk.stat(path_below(self._prefix, f"{rel}/{name}")[0])
                found.append(True)
            except (FileNotFoundError, NotADirectoryError):
                found.append(False)
        return found

    def is_dir(self, rel: str) -> bool:
        """Whether this is a directory itself, and no link to one."""
        try:
            return stat.S_ISDIR(self.entry(rel).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def entry(self, rel: str) -> os.stat_result:
        """Facts about the entry itself; a link is not followed."""
        return self.disk.stat(self._safe(rel))

    def stamp(self, rel: str) -> Stamp | None:
        """Return what tells one state of a file from the next; ``None`` where there is none."""
        try:
            return _stamp_of(self.entry(rel))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def listdir(self, rel: str = ".") -> list[str]:
        """Sorted names in a directory; none where it is missing."""
        try:
            return sorted(self.disk.list(self._safe(rel)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    # writing

    def makedirs(self, rel: str = ".") -> None:
        """Make a directory and those above it, durably."""
        path = self._safe(rel)
        missing: list[str] = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for one in reversed(missing):
            try:
                self.disk.make_dir(one)
            except FileExistsError:
                if not os.path.isdir(one):
                    raise
            self.disk.sync_dir(os.path.dirname(one))

    def write_new(self, rel: str, data: bytes, *, sync: bool = True) -> None:
        """Write a file that was not there; half a file never stays. The directory is left for the caller to sync."""
        path = self._safe(rel)
        descriptor = self.disk.create(path)
        try:
            self._fill(descriptor, path, data, sync=sync)
        finally:
            self.disk.close(descriptor)

    def replace(self, rel: str, data: bytes | bytearray | memoryview, *, head: bytes = b"", sync: bool = True) -> Stamp:
        """Put `head` and `data` in the place of whatever was there, in one step; return the stamp of what is there then."""
        target = self._safe(rel)
        with self._temporary(rel) as (descriptor, temp):
            if head:
                self.disk.write(descriptor, head)
            self.disk.write(descriptor, data)
            if sync:
                self.disk.sync(descriptor)
            stamp = _stamp_of(self.disk.facts(descriptor))
            self.disk.rename(temp, target)
        if sync:
            self.disk.sync_dir(os.path.dirname(target))
        return stamp

    def put_if_absent(self, rel: str, data: bytes) -> bool:
        """Give complete, durable content a name that nobody had; ``False`` where somebody was first.

        Raises
        ------
        UnconfirmedWriteError
            The name is there, but its directory could not be synced.
        """
        target = self._safe(rel)
        with self._temporary(rel) as (descriptor, temp):
            self.disk.write(descriptor, data)
            self.disk.sync(descriptor)
            try:
                self.disk.link(temp, target)
            except FileExistsError:
                return False
            try:
                self.disk.sync_dir(os.path.dirname(target))
            except OSError as error:
                raise UnconfirmedWriteError(error.errno, error.strerror, target) from error
        return True

    def append(self, rel: str, data: bytes, *, sync: bool = False) -> None:
        """Add `data` in one write; a torn last line of somebody who died is ended first."""
        path = self._safe(rel)
        descriptor = self.disk.open_append(path)
        try:
            torn = self.disk.read_last(descriptor) not in {b"", b"\n"}
            self.disk.write(descriptor, b"\n" + data if torn else data)
            if sync:
                self.disk.sync(descriptor)
        finally:
            self.disk.close(descriptor)
        if sync:
            self.disk.sync_dir(os.path.dirname(path))

    def link_new(self, src: str, dst: str) -> bool:
        """Give a file a second name; ``False`` where it is taken. The directory is left for the caller to sync."""
        try:
            self.disk.link(self._safe(src), self._safe(dst))
        except FileExistsError:
            return False
        return True

    def rename(self, src: str, dst: str) -> None:
        """Move and make it durable; a file that was at `dst` is replaced."""
        source, target = self._safe(src), self._safe(dst)
        self.disk.rename(source, target)
        self.disk.sync_dir(os.path.dirname(target))
        if os.path.dirname(source) != os.path.dirname(target):
            self.disk.sync_dir(os.path.dirname(source))

    def rename_new(self, src: str, dst: str) -> bool:
        """Move a directory to a name that nobody has; ``False`` where it is taken by anything but an empty directory."""
        try:
            self.rename(src, dst)
        except OSError as error:
            if error.errno in _TAKEN and self.exists(dst):
                return False
            raise
        return True

    def unlink(self, rel: str, *, missing_ok: bool = False) -> None:
        """Remove a file or a link."""
        try:
            self.disk.unlink(self._safe(rel))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmtree(self, rel: str) -> None:
        """Remove a directory and what is in it; links in it are removed, not followed."""
        self._remove(self._safe(rel))

    def sync_file(self, rel: str) -> None:
        """Make the content of a file durable."""
        descriptor = self.disk.open_update(self._safe(rel))
        try:
            self.disk.sync(descriptor)
        finally:
            self.disk.close(descriptor)

    def sync_dir(self, rel: str) -> None:
        """Make the entries of a directory durable."""
        self.disk.sync_dir(self._safe(rel))

    def create_mapped(self, rel: str, size: int, head: bytes = b"") -> mmap.mmap:
        """Make a new file of `head` and zero bytes with its blocks reserved, and map it.

        The head is written by a call: the first touch of a fresh mapping would make all its pages at once.
        """
        path = self._safe(rel)
        descriptor = self.disk.create(path)
        try:
            self.disk.allocate(descriptor, size)
            if head:
                self.disk.write_at(descriptor, [head], 0)
            return self.disk.map(descriptor, size)
        except BaseException:
            self._discard(path)
            raise
        finally:
            self.disk.close(descriptor)

    def open_mapped(self, rel: str) -> mmap.mmap:
        """Map a whole existing file for reading and writing."""
        descriptor = self.disk.open_update(self._safe(rel))
        try:
            size = self.disk.regular_size(descriptor)
            if size is None:
                raise PathError(f"{rel} is no regular file.")
            return self.disk.map(descriptor, size)
        finally:
            self.disk.close(descriptor)

    def open_copy(self, rel: str) -> mmap.mmap:
        """Map a whole existing file for reading; what is written to the mapping stays in memory."""
        descriptor = self.disk.open_read(self._safe(rel))
        try:
            size = self.disk.regular_size(descriptor)
            if not size:
                raise PathError(f"{rel} is empty or no regular file.")
            return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY)
        finally:
            self.disk.close(descriptor)

    def write_at(self, rel: str, parts: Sequence[Any], offset: int) -> None:
        """Write buffers into an existing file, in their order; cheaper than through a mapping where there is much to write."""
        descriptor = self.disk.open_update(self._safe(rel))
        try:
            self.disk.write_at(descriptor, parts, offset)
        finally:
            self.disk.close(descriptor)

    def write_frame(self, rel: str, writer: Callable[[Path], object]) -> None:
        """Let a library write a file by its path, then put it in place in one step."""
        target = self._safe(rel)
        with self._temporary(rel) as (_, temp):
            writer(Path(temp))
            descriptor = self.disk.open_update(temp)
            try:
                self.disk.sync(descriptor)
            finally:
                self.disk.close(descriptor)
            self.disk.rename(temp, target)
        self.disk.sync_dir(os.path.dirname(target))

    @contextmanager
    def building_dir(self, parent: str) -> Iterator[str]:
        """Make a locked temporary directory in `parent` (yields its relative path), removed unless it was renamed away."""
        rel, descriptor = self._new_directory(parent)
        path = self._safe(rel)
        try:
            yield rel
        finally:
            self._remove_quietly(path)
            if descriptor is not None:
                self.disk.close(descriptor)

    def sweep(self, rel: str, *, keep: Callable[[str], bool] = lambda _: False) -> list[str]:
        """Remove temporary entries directly in `rel` whose maker is gone, except those `keep` names; tell which."""
        removed: list[str] = []
        for name in self.listdir(rel):
            if not name.startswith(TEMP) or keep(name):
                continue
            entry = name if rel == "." else f"{rel}/{name}"
            if self._remove_unused(self._safe(entry)):
                removed.append(entry)
        if removed:
            self.sync_dir(rel)
        return removed

    def open_lock(self, rel: str) -> int:
        """Return a descriptor of a lock file, made where it is missing and never removed."""
        return self.disk.open_lock(self._safe(rel))

    def open_directory(self, rel: str) -> int:
        """Return a descriptor of a directory, for locking."""
        return self.disk.open_read(self._safe(rel))

    # inside

    def _safe(self, rel: str) -> str:
        path, above = path_below(self._prefix, rel)
        for one in above:
            try:
                if stat.S_ISLNK(os.lstat(one).st_mode):
                    raise PathError(f"{one} is a symbolic link, which could leave {self._prefix}. Use a bind mount.")
            except (FileNotFoundError, NotADirectoryError):
                break
        return path

    @contextmanager
    def _temporary(self, rel: str) -> Iterator[tuple[int, str]]:
        descriptor, temp = self._new_file(rel)
        try:
            yield descriptor, temp
        finally:
            if os.path.lexists(temp):
                self._discard(temp)
            self.disk.close(descriptor)

    def _new_file(self, rel: str) -> tuple[int, str]:
        """Make a temporary file for `rel` and hold it; one that a sweep was faster to take is made again."""
        parent, _, name = rel.rpartition("/")
        while True:
            temp = self._safe(f"{parent}/{_temp_name(name)}" if parent else _temp_name(name))
            try:
                descriptor = self.disk.create(temp)
            except FileNotFoundError:
                self.makedirs(parent or ".")
                continue
            if self._is_held(descriptor, temp):
                return descriptor, temp

    def _new_directory(self, parent: str) -> tuple[str, int | None]:
        while True:
            rel = f"{parent}/{_temp_name('building')}"
            path = self._safe(rel)
            self.disk.make_dir(path)
            if os.name == "nt":  # opens no directories
                return rel, None
            try:
                descriptor = self.disk.open_read(path)
            except FileNotFoundError:
                continue
            except OSError:
                self._remove_quietly(path)
                raise
            if self._is_held(descriptor, path):
                return rel, descriptor

    def _is_held(self, descriptor: int, path: str) -> bool:
        """Lock what was just made; where a sweep has it or had it, close it and say ``False``."""
        try:
            mine = self.disk.lock(descriptor)
        except OSError:  # no locks of this kind here, so nobody sweeps by them
            mine = True
        if mine and os.path.lexists(path):
            return True
        self.disk.close(descriptor)
        return False

    def _fill(self, descriptor: int, path: str, data: bytes, *, sync: bool) -> None:
        try:
            self.disk.write(descriptor, data)
            if sync:
                self.disk.sync(descriptor)
        except BaseException:
            self._discard(path)
            raise

    def _discard(self, path: str) -> None:
        with contextlib.suppress(OSError):  # already in place, or left for the sweep of the next start
            self.disk.unlink(path)

    def _remove_quietly(self, path: str) -> None:
        with contextlib.suppress(OSError):  # the sweep of the next start removes what is left
            self._remove(path)

    def _remove(self, path: str) -> None:
        """Remove an entry and what is in it; what somebody else removed meanwhile is gone as well."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(self.disk.stat(path).st_mode):
                self.disk.unlink(path)
                return
            for name in self.disk.list(path):
                self._remove(os.path.join(path, name))
            self.disk.remove_dir(path)

    def _remove_unused(self, path: str) -> bool:
        """Remove a temporary entry that nobody holds, holding it meanwhile."""
        try:
            descriptor = self.disk.open_read(path)
        except FileNotFoundError:
            return False
        except OSError:  # a link, or a directory on Windows
            self._remove(path)
            return True
        try:
            with contextlib.suppress(OSError):  # no locks of this kind here
                if not self.disk.lock(descriptor):
                    return False
            self._remove(path)
            return True
        finally:
            self.disk.close(descriptor)


def _temp_name(name: str) -> str:
    return f"{TEMP}{os.urandom(6).hex()}-{name}"
