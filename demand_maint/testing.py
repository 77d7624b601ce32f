"""Test doubles that users need too: a clock that moves when told, a trainer without CatBoost, a stream that drifts."""

__all__ = ["VirtualClock"]


class VirtualClock:
    """A `Clock` that stands still until it is moved; time cannot go back except by `set`, as a wall clock can.

    >>> clock = VirtualClock(start=100.0)
    >>> clock.advance(5)
    >>> clock.now()
    105.0
    """

    __slots__ = ("_monotonic", "_now")

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = float(start)
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since 1970-01-01T00:00:00Z."""
        return self._now

    def monotonic(self) -> float:
        """Seconds this clock was advanced by."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if seconds < 0:
            raise ValueError("Time cannot go back; use set() for a wall clock that was put back.")
        self._now += seconds
        self._monotonic += seconds

    def set(self, epoch: float) -> None:
        """Put the wall clock to `epoch`, as an administrator or NTP does; monotonic time does not move."""
        self._now = float(epoch)
