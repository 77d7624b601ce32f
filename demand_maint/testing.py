"""Test doubles that users need too: a clock that moves when told, and demand that drifts when told."""

import numpy as np
import polars as pl

__all__ = ["VirtualClock", "drifting_stream"]


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


def drifting_stream(
    *,
    places: int = 3,
    days: int = 120,
    step: int = 3600,
    start: float = 1_704_067_200.0,
    shift_day: int | None = None,
    shift: float = 1.0,
    shifted_places: int | None = None,
    noise: float = 0.15,
    seed: int = 0,
) -> pl.DataFrame:
    """Demand with a daily and a weekly shape that changes its level on one day.

    Parameters
    ----------
    places, days, step
        Number of places, length in days, seconds per slot.
    start
        Epoch second of the first slot; the default is 2024-01-01T00:00:00Z.
    shift_day, shift
        From this day on demand is multiplied by `shift` and its daily peak moves by three hours; ``None`` never shifts.
    shifted_places
        How many places shift; ``None`` for all of them.
    noise
        Relative standard deviation of multiplicative noise.
    seed
        Equal seeds give equal streams.

    Returns
    -------
    DataFrame
        ``place_id`` (int64, from 1), ``timestamp`` (epoch seconds, float64), ``actual`` (float64, never negative).

    Examples
    --------
    >>> drifting_stream(places=2, days=1, step=21600, noise=0.0)["actual"].round(1).to_list()
    [19.7, 40.0, 60.3, 40.0, 29.5, 60.0, 90.5, 60.0]
    """
    rng = np.random.default_rng(seed)
    slots = np.arange(0, days * 86400, step, dtype=np.float64)
    day = slots // 86400
    hour = slots % 86400 / 3600.0
    weekend = np.isin(day % 7, (5, 6))
    frames = []
    for place in range(places):
        moved = np.zeros(len(slots), dtype=bool)
        if shift_day is not None and (shifted_places is None or place < shifted_places):
            moved = day >= shift_day
        peak = 12.0 + np.where(moved, 3.0, 0.0)
        shape = 1.0 + 0.5077 * np.cos(2 * np.pi * (hour - peak) / 24.0)
        level = 20.0 * (place + 2) * np.where(weekend, 0.7, 1.0) * np.where(moved, shift, 1.0)
        wobble = np.maximum(1.0 + noise * rng.standard_normal(len(slots)), 0.0)
        frames.append(
            pl.DataFrame(
                {
                    "place_id": np.full(len(slots), place + 1),
                    "timestamp": start + slots,
                    "actual": level * shape * wobble,
                }
            )
        )
    return pl.concat(frames)
