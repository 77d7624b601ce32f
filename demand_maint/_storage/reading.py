"""Reading a whole file that anybody may have put there: no link, no directory, no FIFO, and no more than a limit."""

import errno
import os
from pathlib import Path

from demand_maint._storage.disk import Disk
from demand_maint.errors import PathError

__all__ = ["FileTooLargeError", "read_regular_file"]


class FileTooLargeError(OSError):
    """The file is larger than the caller wants to read."""

    def __init__(self, path: str, size: int, limit: int) -> None:
        super().__init__(errno.EFBIG, f"File of {size} bytes is over the limit of {limit}", path)


def read_regular_file(path: str | Path, limit: int | None = None, disk: Disk | None = None) -> bytes:
    """Bytes of a regular file, wherever it is; a link, directory or FIFO is refused and never waited for.

    Parameters
    ----------
    limit
        Largest size that is read, bytes; ``None`` for no limit.

    Raises
    ------
    PathError
        Not a regular file.
    FileTooLargeError
        Over `limit`.
    """
    disk = disk or Disk()
    try:
        descriptor = disk.open_read(os.fspath(path))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PathError(f"{path} is a symbolic link. Give the path of the file itself.") from None
        raise
    except ValueError:  # an embedded NUL
        raise PathError(f"{str(path)!r} is no path.") from None
    try:
        size = disk.regular_size(descriptor)
        if size is None:
            raise PathError(f"{path} is no regular file. Give the path of a file.")
        if limit is not None and size > limit:
            raise FileTooLargeError(os.fspath(path), size, limit)
        return disk.read(descriptor, size)
    finally:
        disk.close(descriptor)
