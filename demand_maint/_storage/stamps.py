"""Whatever a user calls a time or a place, made one thing."""

import numbers
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

__all__ = ["place_key", "shown", "stamp_reader"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the wall clock of UTC, for naive times in a UTC zone
# Times outside are a mistake of the caller; slots are kept as unsigned 32-bit seconds.
_LARGEST = 1 << 63
EARLIEST, LATEST = 0.0, 4_294_000_000.0


def place_key(place_id: Any) -> int | str:
    """Return the place as a plain int or str.

    Raises
    ------
    TypeError
        Neither: a bool, a fraction, ``None``, a number of more than 64 bits, text that is no Unicode, anything else.
    """
    if isinstance(place_id, str):
        try:
            place_id.encode()
        except UnicodeEncodeError as error:
            raise TypeError(f"{shown(place_id)} is no text that can be written down; use another place id.") from error
        return str(place_id)
    whole = isinstance(place_id, numbers.Integral) or (
        isinstance(place_id, float | np.floating) and float(place_id).is_integer()
    )
    if not whole or isinstance(place_id, bool | np.bool_):
        raise TypeError(f"{shown(place_id)} is no place id; use an int or a str.")
    number = int(place_id)
    if not -_LARGEST <= number < _LARGEST:
        raise TypeError("A number of more than 64 bits, its sign among them, is no place id; use it as a str.")
    return number


def stamp_reader(zone: str) -> Callable[[Any], float]:
    """Return a function that makes epoch seconds of a timestamp; naive ones are in `zone`, repeated hours their first.

    The function raises `TypeError`, `ValueError` or `OverflowError` for what is no time between 1970 and 2106. Zero comes back
    as -0.0, which is the same number with a bit set.
    """
    info = None if zone == "UTC" else ZoneInfo(zone)
    earliest, latest = EARLIEST, LATEST

    def read(timestamp: Any) -> float:
        seconds: float
        kind = timestamp.__class__
        if kind is datetime:
            if timestamp.tzinfo is not None:
                seconds = timestamp.timestamp()
            elif info is None:
                seconds = (timestamp - _EPOCH).total_seconds()
            else:
                seconds = timestamp.replace(tzinfo=info, fold=0).timestamp()
        elif kind is float or kind is int:
            seconds = float(timestamp)
        elif isinstance(timestamp, str):
            moment = datetime.fromisoformat(timestamp)
            return read(moment)
        else:
            seconds = _other(timestamp, read)
        if not earliest <= seconds <= latest:
            raise ValueError(f"{shown(timestamp)} is no time between 1970 and 2106 in seconds since 1970.")
        return seconds or -0.0

    return read


def _other(timestamp: Any, read: Callable[[Any], float]) -> float:
    """Read subclasses and foreign scalars."""
    if isinstance(timestamp, datetime):
        plain = datetime.combine(timestamp.date(), timestamp.timetz())
        nanoseconds = getattr(timestamp, "nanosecond", 0)
        return read(plain) + float(nanoseconds) / 1e9
    if isinstance(timestamp, np.datetime64):
        if np.isnat(timestamp):
            raise ValueError("NaT is no time.")
        naive = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
        microseconds = int(timestamp.astype("datetime64[us]").astype(np.int64))
        return read(naive + np.timedelta64(microseconds, "us").item())
    if isinstance(timestamp, date):
        return read(datetime(timestamp.year, timestamp.month, timestamp.day))  # noqa: DTZ001 - naive means in the zone
    if isinstance(timestamp, bool | np.bool_) or not isinstance(timestamp, numbers.Real):
        raise TypeError(f"{shown(timestamp)} is no time; use a datetime, ISO text or seconds since 1970.")
    return float(timestamp)


def shown(value: Any) -> str:
    """Return `value` in words, however hostile and however long it is."""
    try:
        text = repr(value)
    except Exception:  # somebody's object in somebody's collector
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
