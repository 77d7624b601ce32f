"""A user's timestamps as epoch seconds: numbers, datetimes, ISO strings, numpy and Polars scalars; naive ones are in the grid's zone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.timegrid import TimeGrid

__all__ = ["epoch_of", "epochs_of"]

Floats = NDArray[np.float64]


def epoch_of(stamp: Any, grid: TimeGrid) -> float:
    """Epoch seconds of one timestamp; a repeated hour of a naive one is its first.

    >>> epoch_of("2016-07-07T09:39:02+01:00", TimeGrid("UTC", 3600))
    1467880742.0

    Raises
    ------
    TypeError, ValueError
        It is no point in time.
    """
    if isinstance(stamp, float | int) and not isinstance(stamp, bool):
        return float(stamp)
    if isinstance(stamp, str):
        stamp = datetime.fromisoformat(stamp)
    if isinstance(stamp, np.datetime64):
        stamp = stamp.astype("datetime64[us]").item()
    if isinstance(stamp, np.generic) and stamp.dtype.kind in "fiu":
        return float(stamp.item())
    if not isinstance(stamp, datetime):
        raise TypeError(
            f"{stamp!r} is no timestamp. Give epoch seconds, a datetime or an ISO 8601 string, as '2026-01-31T08:00:00+00:00'."
        )
    if stamp.tzinfo is not None:
        return stamp.timestamp()
    wall = np.datetime64(stamp, "us").astype(np.int64)
    whole, rest = divmod(int(wall), 1_000_000)
    return float(grid.epoch(np.array([whole]))[0]) + rest / 1e6


def epochs_of(stamps: Sequence[Any] | NDArray[Any], grid: TimeGrid) -> Floats:
    """Epoch seconds of many timestamps; the same object again costs nothing."""
    if isinstance(stamps, np.ndarray):
        if stamps.dtype.kind in "fiu":
            return stamps.astype(np.float64)
        if stamps.dtype.kind == "M":
            wall = stamps.astype("datetime64[us]").astype(np.int64)
            return grid.epoch(wall // 1_000_000).astype(np.float64) + (wall % 1_000_000) / 1e6
    found = np.empty(len(stamps))
    last, value = None, 0.0
    for position, stamp in enumerate(stamps):
        if stamp is not last or position == 0:
            last, value = stamp, epoch_of(stamp, grid)
        found[position] = value
    return found
