"""Moments and spans in plain words, in UTC."""

from datetime import UTC, datetime, timedelta

__all__ = ["stamp"]

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
