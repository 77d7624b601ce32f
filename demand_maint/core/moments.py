"""Moments and spans in plain words, in UTC."""

from datetime import UTC, datetime, timedelta

__all__ = ["age_words", "stamp"]

DAY, HOUR = 86400.0, 3600.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stamp(at: float | None) -> str:
    """Epoch seconds as a moment to the minute.

    >>> stamp(0.0)
    '1970-01-01 00:00 UTC'
    """
    if at is None:
        return "an unknown time"
    try:
        return f"{_EPOCH + timedelta(seconds=at):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError):  # past the year 9999, or no number at all
        return f"a time that no calendar knows ({at:g} s)"


def age_words(seconds: float) -> str:
    """Say how old something is; what has not happened yet is a matter of clocks and zones.

    >>> age_words(7200.0), age_words(-7200.0)
    ('2 hours old', 'of a time 2 hours ahead: check the clock, and `zone` for times that come without one')
    """
    if seconds > -HOUR:  # a slot that is still filling
        return f"{_span(max(seconds, 0.0))} old"
    return f"of a time {_span(-seconds)} ahead: check the clock, and `zone` for times that come without one"


def _span(seconds: float) -> str:
    if seconds < 2 * HOUR:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / HOUR:.0f} hours" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"
