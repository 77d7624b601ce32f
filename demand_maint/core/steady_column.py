"""A column of rows that mostly have the value of the row before."""

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.observation_events import is_uniform
from demand_maint.core.row_state import grown

__all__ = ["SteadyColumn"]

_FEW = 64
_SHORT = 16  # rows a stretch below which one value a row takes less memory


class SteadyColumn:
    """Values by row, kept as stretches of one value each as long as rows are given theirs in turn, then one by one.

    Rows that one drain reads have one stamp and mostly one version: to write these for each costs a drain of many rows more
    than a tenth of its time. Values of rows that were given none mean nothing.

    Parameters
    ----------
    kind
        Type of the values.

    Examples
    --------
    >>> column = SteadyColumn(np.uint16)
    >>> column.make_room(5)
    >>> column[0:3], column[3:5] = np.array([7]), np.array([8])
    >>> column[1:4].tolist(), column[np.array([4, 0])].tolist()
    ([7, 7, 8], [8, 7])
    >>> column[np.array([0])] = np.array([5])
    >>> column[0:5].tolist()
    [5, 7, 7, 8, 8]
    """

    __slots__ = ("_end", "_kind", "_room", "_rows", "_starts", "_values")

    def __init__(self, kind: Any) -> None:
        self._kind = np.dtype(kind)
        self._room = 0
        # first row and value of each stretch, and the end of the last; or all values
        self._starts: list[int] = [0]
        self._values: list[int] = [0]
        self._end = 0
        self._rows: NDArray[Any] | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of a value, at most."""
        return int(self._kind.itemsize)

    def __getitem__(self, at: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Values of some rows, which stay what they are; a slice has both its ends."""
        if self._rows is not None:
            return self._rows[at].copy() if isinstance(at, slice) else self._rows[at]
        if not isinstance(at, slice):
            return np.array(self._values, self._kind)[np.searchsorted(self._starts, at, side="right") - 1]
        first = bisect_right(self._starts, at.start) - 1
        end = max(bisect_left(self._starts, at.stop), first + 1)
        values = np.array(self._values[first:end], self._kind)
        if len(values) == 1:
            return np.broadcast_to(values[0], (at.stop - at.start,))
        return np.repeat(values, np.diff([at.start, *self._starts[first + 1 : end], at.stop]))

    def __setitem__(self, at: NDArray[np.int64] | slice, values: NDArray[Any]) -> None:
        """Give rows their values, one each or one for all."""
        if self._rows is None and isinstance(at, slice) and at.start >= self._end and is_uniform(values):
            value = int(values[0])
            if value != self._values[-1]:
                self._starts.append(at.start)
                self._values.append(value)
            self._end = at.stop
            if len(self._starts) > max(_FEW, self._end // _SHORT):
                self._spelled_out()
            return
        self._spelled_out()[at] = values

    def make_room(self, room: int) -> None:
        """Expect so many rows."""
        self._room = room
        if self._rows is not None:
            self._rows = grown(self._rows, len(self._rows), room)

    def _spelled_out(self) -> NDArray[Any]:
        """Return all values, one by one from now on."""
        if self._rows is None:
            rows = np.zeros(self._room, self._kind)
            rows[: self._end] = self[0 : self._end]
            self._rows = rows
        return self._rows

    def kept(self, rows: NDArray[np.int64] | slice) -> "SteadyColumn":
        """Return a column of some rows only; of a slice those from its start on."""
        new = SteadyColumn(self._kind)
        if self._rows is None and isinstance(rows, slice):
            first = bisect_right(self._starts, rows.start) - 1
            new._starts = [max(start - rows.start, 0) for start in self._starts[first:]]
            new._values, new._end = self._values[first:], max(self._end - rows.start, 0)
            new._room = self._room - rows.start
        else:
            new._rows = self._spelled_out()[rows]
            new._room = len(new._rows)
        return new
