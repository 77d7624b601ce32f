"""Demand on a dense wall-clock grid, where the mean of any window of slots costs four look-ups.

A row is a series (a place, or the pool), a column is a slot of the local clock: column ``local // step - origin``. Values are
kept as whole millionths in prefix sums of 64-bit integers. Integer sums do not depend on the order in which values arrive
and survive wrap-around, so a table filled value by value equals one filled at once, bit for bit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNIT", "Lookback", "to_units"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# one unit of demand in the integer sums: 2**20, about a millionth
UNIT = float(1 << 20)
_LARGEST = float(1 << 41)


def to_units(values: Any) -> Ints:
    """Demand as whole millionths; what lies outside +-2e12 is clipped."""
    clipped = np.clip(np.asarray(values, dtype=np.float64), -_LARGEST, _LARGEST)
    return np.rint(clipped * UNIT).astype(np.int64)


class Lookback:
    """Values of `rows` series over `columns` slots, unknown until told.

    >>> table = Lookback(rows=1, columns=4)
    >>> table.put_many([0, 0, 0], [0, 1, 3], to_units([2.0, 4.0, 9.0]))
    >>> table.mean(np.array([0]), np.array([0]), np.array([3])).tolist()
    [3.0]
    >>> table.at(np.array([0]), np.array([2])).tolist()
    [nan]
    """

    __slots__ = ("_counts", "_sums")

    def __init__(self, rows: int, columns: int) -> None:
        self._sums = np.zeros((rows, columns + 1), dtype=np.int64)
        self._counts = np.zeros((rows, columns + 1), dtype=np.int32)

    @property
    def rows(self) -> int:
        """How many series there is room for."""
        return int(self._sums.shape[0])

    @property
    def columns(self) -> int:
        """How many slots there is room for."""
        return int(self._sums.shape[1]) - 1

    def unit(self, row: int, column: int) -> int | None:
        """Value of one cell in millionths, ``None`` where unknown."""
        if self._counts[row, column + 1] == self._counts[row, column]:
            return None
        step: Ints = self._sums[row, column + 1 : column + 2] - self._sums[row, column : column + 1]
        return int(step[0])

    def put(self, row: int, column: int, units: int) -> None:
        """Set one cell; a second value replaces the first."""
        known = self.unit(row, column)
        self._sums[row, column + 1 :] += np.int64(units - (known or 0))
        if known is None:
            self._counts[row, column + 1 :] += np.int32(1)

    def put_many(self, rows: Any, columns: Any, units: Any) -> None:
        """Set cells that were unknown so far, each at most once."""
        values = np.zeros((self.rows, self.columns), dtype=np.int64)
        known = np.zeros((self.rows, self.columns), dtype=np.int32)
        values[rows, columns] = units
        known[rows, columns] = 1
        self._sums[:, 1:] += np.cumsum(values, axis=1)
        self._counts[:, 1:] += np.cumsum(known, axis=1, dtype=np.int32)

    def grow(self, rows: int) -> None:
        """Make room for `rows` series."""
        missing = rows - self.rows
        if missing > 0:
            self._sums = np.concatenate([self._sums, np.zeros((missing, self.columns + 1), dtype=np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros((missing, self.columns + 1), dtype=np.int32)])

    def forget(self, columns: int) -> None:
        """Drop the oldest `columns` slots; as many unknown ones appear at the end."""
        kept = max(self.columns + 1 - columns, 1)
        for table in (self._sums, self._counts):
            last = table[:, -1:].copy()
            table[:, :kept] = table[:, self.columns + 1 - kept :].copy()
            table[:, kept:] = last

    def at(self, rows: Ints, columns: Ints, last: Ints | None = None) -> Floats:
        """Value of each cell; NaN where unknown, outside the table, or after column `last`."""
        inside = (columns >= 0) & (columns < self.columns)
        if last is not None:
            inside &= columns <= last
        cell = np.where(inside, columns, 0)
        inside = inside & (self._counts[rows, cell + 1] > self._counts[rows, cell])
        return np.where(inside, (self._sums[rows, cell + 1] - self._sums[rows, cell]) / UNIT, np.nan)

    def mean(self, rows: Ints, first: Ints, end: Ints) -> Floats:
        """Mean of the known values in columns `first` up to, not including, `end`; NaN where none is known."""
        low = np.clip(first, 0, self.columns)
        high = np.maximum(np.clip(end, 0, self.columns), low)
        count = self._counts[rows, high] - self._counts[rows, low]
        total = (self._sums[rows, high] - self._sums[rows, low]) / UNIT
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
