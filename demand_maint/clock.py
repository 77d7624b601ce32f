"""The only place that reads the computer's clocks.

Everything that decides takes ``now`` as an argument; everything that lives takes a `Clock`.
"""

import time
from typing import Protocol

__all__ = ["Clock", "StoppedClock", "SystemClock"]


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for how long something took."""

    def now(self) -> float:
        """Seconds since 1970-01-01T00:00:00Z."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; its zero means nothing."""


class SystemClock:
    """The computer's own clocks."""

    __slots__ = ()

    def now(self) -> float:
        """Seconds since 1970-01-01T00:00:00Z."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()


class StoppedClock:
    """Stands still: for work that is done as of a moment somebody else has named."""

    __slots__ = ("_now",)

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        """Seconds since 1970-01-01T00:00:00Z."""
        return self._now

    def monotonic(self) -> float:
        """Return the same moment."""
        return self._now
