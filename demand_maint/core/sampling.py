"""From rows to daily blocks: sums by local day and place, pairs of daily errors, and which days a holdout consists of.

Demand errors of one day hang together, so every comparison of models counts days, not rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["DaySums", "PairedDays", "holdout_days", "paired_days"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PairedDays:
    """Errors of two models over the same rows, by day.

    Attributes
    ----------
    day
        (D,) local days since 1970-01-01, ascending; days without rows are not among them.
    champion, challenger
        (D,) sums of absolute errors.
    n
        (D,) rows behind them.
    """

    day: Integers
    champion: Floats
    challenger: Floats
    n: Floats

    def __len__(self) -> int:
        return len(self.day)

    def select(self, keep: NDArray[np.bool_]) -> Self:
        """Only the days where `keep` is true."""
        return type(self)(self.day[keep], self.champion[keep], self.challenger[keep], self.n[keep])

    def matured(self, *, since: int | None = None, before: int | None = None, coverage: float = 0.8) -> Self:
        """Days from `since` until the one before `before` that have at least `coverage` of a usual day's rows."""
        keep = self.n > 0
        if since is not None:
            keep &= self.day >= since
        if before is not None:
            keep &= self.day < before
        usual = np.sort(self.n[keep])
        if len(usual):
            median = (usual[(len(usual) - 1) // 2] + usual[len(usual) // 2]) / 2
            keep &= self.n >= coverage * median
        return self.select(keep)


def paired_days(day: Integers, champion: Floats, challenger: Floats) -> PairedDays:
    """Daily sums of two models' absolute errors per row; rows where either is missing count for neither.

    >>> pairs = paired_days(np.array([5, 5, 6]), np.array([1.0, 2.0, np.nan]), np.array([2.0, 2.0, 1.0]))
    >>> pairs.day.tolist(), pairs.champion.tolist(), pairs.challenger.tolist()
    ([5], [3.0], [4.0])
    """
    both = np.isfinite(champion) & np.isfinite(challenger)
    days, position = np.unique(np.asarray(day, dtype=np.int64)[both], return_inverse=True)
    size = len(days)
    return PairedDays(
        days,
        np.bincount(position, champion[both], size).astype(np.float64),
        np.bincount(position, challenger[both], size).astype(np.float64),
        np.bincount(position, minlength=size).astype(np.float64),
    )


def holdout_days(
    day: Integers, predicted: Integers, matured: Integers, *, before: int, wanted: int = 7, coverage: float = 0.8
) -> tuple[int, int] | None:
    """Choose the newest `wanted` days whose truth is in: first day and the day after the last; ``None`` where there are not so many.

    Parameters
    ----------
    day
        (D,) local days, ascending.
    predicted, matured
        (D,) rows that were predicted on each, and those of them whose truth has arrived.
    before
        Today; a day that is not over is not judged.
    coverage
        A day counts when at least this share of its rows has truth.
    """
    good = (day < before) & (predicted > 0) & (matured >= coverage * predicted)
    chosen = day[good][-wanted:]
    if len(chosen) < wanted:
        return None
    return int(chosen[0]), int(chosen[-1]) + 1


class DaySums:
    """Sums over rows by (slot, field, local day, place) for the newest days; a window that moves forward with the data.

    Adding is O(fields) per row; the order of rows does not matter, and what was added can be taken out again.

    Parameters
    ----------
    fields
        Sums kept for each row.
    days
        Length of the window; rows older than that are counted in `too_old` and left out.
    """

    __slots__ = ("data", "fields", "newest", "oldest_seen", "too_old")

    def __init__(self, fields: int, days: int) -> None:
        self.fields = fields
        self.data: Floats = np.zeros((0, fields, days, 0))
        self.newest: int | None = None
        self.oldest_seen: int | None = None
        self.too_old = 0

    @property
    def days(self) -> int:
        """Length of the window."""
        return int(self.data.shape[2])

    @property
    def places(self) -> int:
        """Places seen so far."""
        return int(self.data.shape[3])

    @property
    def day(self) -> Integers:
        """(D,) the days of the window, ascending."""
        newest = self.newest if self.newest is not None else 0
        return np.arange(newest - self.days + 1, newest + 1, dtype=np.int64)

    @property
    def span(self) -> float:
        """Days from the oldest row seen to the newest, both included."""
        if self.newest is None or self.oldest_seen is None:
            return 0.0
        return float(min(self.newest - self.oldest_seen + 1, self.days))

    def grow(self, *, slots: int = 0, places: int = 0) -> None:
        """Make room; what is there stays."""
        more = (max(slots - self.data.shape[0], 0), max(places - self.places, 0))
        if more[0] or more[1]:
            self.data = np.pad(self.data, ((0, more[0]), (0, 0), (0, 0), (0, more[1])))

    def advance(self, newest: int) -> None:
        """Move the window so that `newest` is its last day; it never moves back."""
        if self.newest is not None:
            steps = min(newest - self.newest, self.days)
            if steps <= 0:
                return
            self.data[:, :, : self.days - steps] = self.data[:, :, steps:]
            self.data[:, :, self.days - steps :] = 0.0
        self.newest = newest

    def place_in(self, day: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Position of each day in the window, and which are inside; the window moves to the newest first."""
        if len(day):
            self.advance(int(day.max()))
        if self.newest is None:
            return day, np.zeros(len(day), dtype=bool)
        position = day - (self.newest - self.days + 1)
        return position, position >= 0

    def add(self, slots: Sequence[int], position: Integers, place: NDArray[np.intp], values: Floats) -> None:
        """Add `values` (fields, n, slots) of rows inside the window, row by row, so that it is the same however they are batched."""
        size = self.days * self.places
        # a cell of a slot and field, then the one of each row in it
        table = (np.array(slots) * self.fields + np.arange(len(values))[:, None]) * size
        flat = table[:, None, :] + (position * self.places + place)[:, None]
        np.add.at(self.data.reshape(-1), flat.reshape(-1), values.reshape(-1))

    def clear(self, slot: int) -> None:
        """Forget what `slot` held."""
        self.data[slot] = 0.0
