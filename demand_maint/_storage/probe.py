"""Does this file system have what the promises stand on: `link` that refuses a taken name, and `flock` that excludes."""

import errno

from demand_maint._storage.door import Door
from demand_maint.errors import UnsupportedFilesystemError

__all__ = ["check_filesystem"]

_UNSUPPORTED = {
    errno.EPERM,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOLCK,
    errno.EINVAL,
    errno.EMLINK,
    errno.EXDEV,
    errno.EBADF,
}


def check_filesystem(door: Door, rel: str) -> None:
    """Try links and locks in a temporary directory inside `rel`, which is made where it is missing.

    Raises
    ------
    UnsupportedFilesystemError
        With the reason, where one of them does not do what it should.
    """
    door.makedirs(rel)
    with door.building_dir(rel) as work:
        door.write_new(f"{work}/first", b"", sync=False)
        _check_link(door, work)
        _check_lock(door, work)


def _check_link(door: Door, work: str) -> None:
    try:
        made = door.link_new(f"{work}/first", f"{work}/second")
        taken = not door.link_new(f"{work}/first", f"{work}/second")
    except OSError as error:
        _refuse(door, f"hard links fail with {error.strerror or error}", error)
    else:
        if not made or not taken:
            _refuse(door, "a hard link replaced a name that was taken, so two deploys could get one number", None)


def _check_lock(door: Door, work: str) -> None:
    first = door.open_lock(f"{work}/first")
    second = door.open_lock(f"{work}/first")
    try:
        if not door.disk.lock(first) or door.disk.lock(second):
            _refuse(door, "flock lets two holders in, so two maintainers could train at once", None)
    except OSError as error:
        _refuse(door, f"flock fails with {error.strerror or error}", error)
    finally:
        door.disk.close(first)
        door.disk.close(second)


def _refuse(door: Door, reason: str, error: OSError | None) -> None:
    if error is not None and error.errno not in _UNSUPPORTED:
        raise error
    raise UnsupportedFilesystemError(
        f"The file system of {door.root} cannot keep a registry: {reason}. Put the root on a local disk (ext4, xfs, btrfs, apfs)."
    ) from error
