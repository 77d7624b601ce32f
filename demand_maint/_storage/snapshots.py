"""Numbered, checksummed blobs of state: the newest valid one wins, a damaged one is set aside.

Layout of a file: magic ``DMST``, format u16, two zero bytes, number u64, payload length u64, sha256 of the payload, payload;
little-endian. Format 1 is the first.
"""

import hashlib
import re
import struct

from demand_maint._storage.door import Door
from demand_maint._storage.layout import STATE
from demand_maint.errors import DamagedRegistryError, NewerFormatError, PathError
from demand_maint.log import get_logger

__all__ = ["SNAPSHOT_FORMAT", "SnapshotStore"]

SNAPSHOT_FORMAT = 1
KEPT_LONGER = 1000
_MAGIC = b"DMST"
_HEADER = struct.Struct("<4sHHQQ32s")
_NAME = re.compile(r"(\d{12})\.bin")
_log = get_logger("state")


class SnapshotStore:
    """Snapshots of one thing under ``logs/state/<name>/``.

    Parameters
    ----------
    door
        The root's door.
    name
        One path component.
    keep
        How many of the newest stay.
    every
        Of older ones those whose number is a multiple of this stay too, at most `KEPT_LONGER`; 0 for none.
    """

    __slots__ = ("_dir", "_door", "every", "keep")

    def __init__(self, door: Door, name: str, keep: int = 3, every: int = 0) -> None:
        self._door = door
        self._dir = f"{STATE}/{name}"
        self.keep, self.every = keep, every
        door.path(f"{self._dir}/x")  # a bad name is refused here

    def save(self, number: int, payload: bytes | bytearray | memoryview) -> None:
        """Keep `payload` under `number` (0 or more), durably, and let the oldest go."""
        header = _HEADER.pack(_MAGIC, SNAPSHOT_FORMAT, 0, number, len(payload), hashlib.sha256(payload).digest())
        self._door.replace(self._path(number), payload, head=header)
        older = self.numbers()[: -self.keep]
        longer = [old for old in older if self.every and old % self.every == 0][-KEPT_LONGER:]
        for old in {*older} - {*longer, number}:
            self._door.unlink(self._path(old), missing_ok=True)

    def latest(self) -> tuple[int, bytes] | None:
        """Newest snapshot that is what was written; ``None`` where there is none."""
        found = self.newest()
        return None if found is None else (found[0], bytes(found[1]))

    def newest(self) -> tuple[int, memoryview] | None:
        """Return the same, in place: nothing is copied, and what is written to the payload stays in memory."""
        for number in reversed(self.numbers()):
            payload = self._payload(number)
            if payload is not None:
                return number, payload
        return None

    def load(self, number: int) -> bytes | None:
        """Payload of one snapshot; ``None`` where it is missing or damaged.

        Raises
        ------
        NewerFormatError
            A newer release wrote it.
        """
        payload = self._payload(number)
        return None if payload is None else bytes(payload)

    def _payload(self, number: int) -> memoryview | None:
        rel = self._path(number)
        try:
            return _decode(memoryview(self._door.open_copy(rel)), number, rel)
        except FileNotFoundError:
            return None
        except (DamagedRegistryError, PathError) as error:
            self._set_aside(rel, str(error))
            return None

    def numbers(self) -> list[int]:
        """Numbers there are, ascending."""
        return [int(match[1]) for name in self._door.listdir(self._dir) if (match := _NAME.fullmatch(name))]

    def sweep(self) -> list[str]:
        """Remove what a killed writer left behind."""
        return self._door.sweep(self._dir)

    def _path(self, number: int) -> str:
        return f"{self._dir}/{number:012d}.bin"

    def _set_aside(self, rel: str, reason: str) -> None:
        _log.error("snapshot is damaged and set aside", snapshot=rel, reason=reason)
        try:
            self._door.rename(rel, f"{rel}.damaged")
        except OSError as error:
            _log.warning("damaged snapshot could not be renamed", snapshot=rel, reason=str(error))


def _decode(data: memoryview, number: int, rel: str) -> memoryview:
    if len(data) < _HEADER.size:
        raise DamagedRegistryError(f"{rel} is truncated.")
    magic, version, _, written, length, digest = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise DamagedRegistryError(f"{rel} is no snapshot.")
    if version > SNAPSHOT_FORMAT:
        raise NewerFormatError(f"{rel} has format {version}; this release reads up to {SNAPSHOT_FORMAT}. Upgrade.")
    payload = data[_HEADER.size :]
    if written != number or len(payload) != length or hashlib.sha256(payload).digest() != digest:
        raise DamagedRegistryError(f"{rel} is not what was written.")
    return payload
