"""When the next check is due, told by two clocks.

Wall time is what a user means ("every 6 hours", "at 02:00") and what survives a restart and a suspended machine; monotonic
time is what no administrator can put back. A check is due when *either* says so, so that a wall clock set back by a day
silences nothing, and one set forward causes one early check.
"""

from collections.abc import Callable

__all__ = ["DueWatch"]

FUTURE_TOLERANCE = 60.0


class DueWatch:
    """Remembers the next due moment on both clocks.

    Parameters
    ----------
    following
        Wall time (epoch seconds) of the first due moment after a given one.

    Examples
    --------
    >>> watch = DueWatch(lambda at: at + 3600.0)
    >>> watch.begin(now=10_000.0, monotonic=0.0, last=9_000.0)
    >>> watch.due(now=10_000.0, monotonic=0.0), watch.next_at
    (None, 12600.0)
    >>> watch.due(now=400.0, monotonic=2_600.0)  # the wall clock was put back; the time has passed all the same
    'interval (monotonic clock)'
    """

    __slots__ = ("_following", "_monotonic_deadline", "next_at")

    def __init__(self, following: Callable[[float], float]) -> None:
        self._following = following
        self._monotonic_deadline = 0.0
        self.next_at = 0.0

    def begin(self, *, now: float, monotonic: float, last: float | None) -> None:
        """Start from the last check on record; none, or one that lies in the future, means due at once."""
        if last is None or last > now + FUTURE_TOLERANCE:
            self.next_at = now
        else:
            self.next_at = self._following(last)
        self._monotonic_deadline = monotonic + max(self.next_at - now, 0.0)

    def due(self, *, now: float, monotonic: float) -> str | None:
        """Why a check is due, or ``None``."""
        if now >= self.next_at:
            return "interval"
        if monotonic >= self._monotonic_deadline:
            return "interval (monotonic clock)"
        return None

    def checked(self, *, now: float, monotonic: float) -> None:
        """Count from a check that was made at this moment."""
        self.begin(now=now, monotonic=monotonic, last=now)
