"""Every decision with its evidence, one JSON object per line in ``logs/decisions/YYYY-MM.jsonl``."""

import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from demand_maint._storage.door import Door
from demand_maint._storage.layout import DECISIONS
from demand_maint.clock import Clock, SystemClock

__all__ = ["DecisionJournal"]

_NAME = re.compile(r"(\d{4})-(\d{2})\.jsonl")


class DecisionJournal:
    """An append-only journal; a line torn by a kill is skipped by the reader and ended by the next writer.

    Parameters
    ----------
    door
        The root's door.
    clock
        Stamps entries that bring no ``at``.
    """

    __slots__ = ("_clock", "_door")

    def __init__(self, door: Door, clock: Clock | None = None) -> None:
        self._door = door
        self._clock = clock or SystemClock()

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry; its ``at`` (epoch seconds) names the month it goes to. NaN becomes null, odd objects their text."""
        at = float(entry.get("at", self._clock.now()))
        line = msgspec.json.encode({**entry, "at": at}, enc_hook=_plain) + b"\n"
        month = _month(at)
        try:
            self._door.append(f"{DECISIONS}/{month}.jsonl", line)
        except FileNotFoundError:
            self._door.makedirs(DECISIONS)
            self._door.append(f"{DECISIONS}/{month}.jsonl", line)

    def read(self, since: float | None = None, until: float | None = None) -> Iterator[dict[str, Any]]:
        """Entries with ``since <= at < until`` (epoch seconds), in the order they were written."""
        first = _month(since) if since is not None else ""
        last = _month(until) if until is not None else "~"
        for name in self._door.listdir(DECISIONS):
            if not _NAME.fullmatch(name) or not first <= name[:7] <= last:
                continue
            for line in self._door.read_bytes(f"{DECISIONS}/{name}").splitlines():
                entry = _parse(line)
                at = entry.get("at") if entry is not None else None
                if entry is None or not isinstance(at, int | float):
                    continue
                if (since is None or at >= since) and (until is None or at < until):
                    yield entry


def _month(epoch: float) -> str:
    year, month = time.gmtime(epoch)[:2]
    return f"{year:04d}-{month:02d}"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)  # numpy scalars
    return item() if callable(item) else str(value)
