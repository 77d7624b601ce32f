"""Slots of wall-clock time in one zone, vectorised.

Keys are floored to the step in the configured zone, so that a stamp of 08:25:42 meets the one of 08:00 a week before, also
across a change of daylight saving. Times are epoch seconds (UTC) throughout; *local* seconds are the wall clock read as if it
were UTC.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

__all__ = ["TimeGrid"]

Seconds = NDArray[np.int64]
HOUR = 3600
DAY = 86400
MEAN_YEAR = 31_556_952


class TimeGrid:
    """Slots of `step` seconds in `zone`.

    >>> grid = TimeGrid("Europe/London", 3600)
    >>> grid.floor([1_467_880_742.0]).tolist()
    [1467878400]
    """

    __slots__ = ("_stretch", "_utc", "step", "zone")

    def __init__(self, zone: str, step: int) -> None:
        self.zone = zone
        self.step = step
        self._utc = zone == "UTC"
        # the newest moments from and up to which one offset was found to hold, and that; one value, since others may be asking
        self._stretch = (0, 0, 0)

    def local(self, epochs: Any) -> Seconds:
        """Wall-clock seconds of `epochs` (any shape)."""
        whole = np.floor(np.asarray(epochs, dtype=np.float64)).astype(np.int64)
        return whole if self._utc else whole + self._offsets(whole)

    def epoch(self, local: Any) -> Seconds:
        """Epoch seconds of wall-clock seconds; a repeated hour is its first, a skipped one is shifted forward."""
        wall = np.asarray(local, dtype=np.int64)
        if self._utc or wall.size == 0:
            return wall
        one = self._one_offset(int(wall.min()) - DAY, int(wall.max()) + DAY)
        if one is not None:
            return wall - one
        # An offset is right where it maps back to itself; try the one before the nearest change first, so the first wins.
        before = self._offsets(wall - DAY)
        early = wall - before
        late = wall - self._offsets(wall + DAY)
        return np.where(
            self._offsets(early) == before, early, np.where(self._offsets(late) + late == wall, late, early)
        )

    def floor(self, epochs: Any) -> Seconds:
        """First second of the slot that each of `epochs` falls into.

        Slots up to one hour long are counted from the offset in force, so the two passes of a repeated hour stay apart.
        """
        whole = np.floor(np.asarray(epochs, dtype=np.float64)).astype(np.int64)
        if self._utc:
            return whole - whole % self.step
        wall = whole + self._offsets(whole)
        down = wall % self.step
        return whole - down if self.step <= 3600 else self.epoch(wall - down)

    def shift(self, slots: Any, seconds: int) -> Seconds:
        """Slots at the same wall-clock time `seconds` later (earlier where negative)."""
        return self.epoch(self.local(slots) + seconds)

    def day(self, epochs: Any) -> Seconds:
        """Local calendar day of each of `epochs`, in days since 1970-01-01."""
        return self.local(epochs) // DAY

    def day_of(self, epoch: float) -> int:
        """Local calendar day of one moment (quicker than `day` for one)."""
        if self._utc:
            return int(epoch // DAY)
        one = self._one_offset(int(epoch // 1), int(epoch // 1))
        return int(epoch // 1 + one) // DAY if one is not None else int(self.day(np.array([epoch]))[0])

    def hour_of_hours(self, hours: Any) -> Seconds:
        """Hour on the wall clock, since 1970-01-01, that each of the `hours` since 1970-01-01T00Z ends in.

        Where clocks differ by half an hour, a local day begins within such an hour, which is the first of that day.

        >>> TimeGrid("Asia/Kolkata", 3600).hour_of_hours([18, 19]).tolist()
        [24, 25]
        """
        return self.local(np.asarray(hours, dtype=np.int64) * HOUR + HOUR - 1) // HOUR

    def day_of_hours(self, hours: Any) -> Seconds:
        """Local calendar day that each of the `hours` since 1970-01-01T00Z is counted to: that in which it ends."""
        return self.hour_of_hours(hours) // 24

    def day_start(self, days: Any) -> Seconds:
        """Epoch second at which each local calendar day begins."""
        return self.epoch(np.asarray(days, dtype=np.int64) * DAY)

    def _offsets(self, epochs: Seconds) -> Seconds:
        if epochs.size == 0:
            return epochs
        oldest, newest = int(epochs.min()), int(epochs.max())
        one = self._one_offset(oldest, newest)
        if one is not None:
            return np.asarray(one)
        starts, offsets = _table(self.zone, _year(oldest) - 1, _year(newest) + 1)
        return offsets[np.maximum(starts.searchsorted(epochs, side="right") - 1, 0)]

    def _one_offset(self, oldest: int, newest: int) -> int | None:
        """Return the offset that holds from one moment to another, ``None`` where it changes between them."""
        begin, end, offset = self._stretch
        if begin <= oldest and newest < end:
            return offset
        starts, offsets = _table(self.zone, _year(oldest) - 1, _year(newest) + 1)
        at = int(starts.searchsorted(oldest, side="right"))
        if not 0 < at < len(starts) or newest >= starts[at]:
            return None
        self._stretch = int(starts[at - 1]), int(starts[at]), int(offsets[at - 1])
        return self._stretch[2]


def _year(epoch: int) -> int:
    """Calendar year of a moment, give or take one."""
    return 1970 + epoch // MEAN_YEAR


def _offset(zone: ZoneInfo, epoch: int) -> int:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=epoch)
    offset = moment.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


@lru_cache(maxsize=64)
def _table(name: str, first: int, last: int) -> tuple[Seconds, Seconds]:
    """Moments from which an offset holds, and those offsets in seconds, over whole years."""
    years = range(max(first, 1900), max(min(last, 2200), 1900) + 1)
    parts = [_transitions(name, year) for year in years]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@lru_cache(maxsize=1024)
def _transitions(name: str, year: int) -> tuple[Seconds, Seconds]:
    """Moments of `year` (UTC) from which an offset holds, its first second included, and those offsets in seconds."""
    zone = ZoneInfo(name)
    begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp())
    starts, offsets = [begin], [_offset(zone, begin)]
    for noon in range(begin + DAY, end + 1, DAY):
        if _offset(zone, noon) != offsets[-1]:
            low, high = noon - DAY, noon
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == offsets[-1] else (low, middle)
            if high < end:
                starts.append(high)
                offsets.append(_offset(zone, high))
    return np.array(starts, dtype=np.int64), np.array(offsets, dtype=np.int64)
