"""Rows that come in rounds over the same places, as a collector logs them: summed round by round, not row by row.

A sum over rounds is one addition of whole rows, a fifth of what a sum by index costs (`python -m benchmarks.batch`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rounds", "find_rounds"]

#: Rounds an hour must have on average before summing them together pays.
_LEAST = 4
Floats = NDArray[np.float64]


class Rounds:
    """Runs of rows within one hour, each of whole rounds and the beginning of one more.

    Parameters
    ----------
    places
        Places of the first round, each once; later ones are the same in the same order.
    edges
        Where the runs begin, and the end of the last.
    hours
        Row of the table for each run, each row once.
    """

    __slots__ = ("_edges", "_hours", "_places", "_size")

    def __init__(self, places: NDArray[np.intp], edges: list[int], hours: list[int]) -> None:
        self._places = places
        self._size = len(places)
        self._edges = edges
        self._hours = hours

    def fold(self, values: NDArray[Any], operate: np.ufunc, out: Floats) -> None:
        """Bring `values`, one per row, into `out` (hours, places) by a ufunc such as ``np.add``."""
        size = self._size
        for hour, begin, end in zip(self._hours, self._edges, self._edges[1:], strict=False):
            turn = begin % size  # the round this run begins in has gone on to this place
            places = self._places if turn == 0 else np.concatenate([self._places[turn:], self._places[:turn]])
            whole = begin + (end - begin) // size * size
            line = out[hour]
            if whole > begin:
                rounds = values[begin:whole].reshape(-1, size)
                line[places] = operate(line[places], operate.reduce(rounds, axis=0))
            if end > whole:
                rest = places[: end - whole]
                line[rest] = operate(line[rest], values[whole:end])


def find_rounds(place: NDArray[Any], hour: NDArray[np.int64]) -> Rounds | None:
    """Return the rounds that rows come in; ``None`` where they do not, or where there are few in an hour.

    Parameters
    ----------
    place
        Place codes, (n,).
    hour
        Row of the table of each, (n,).

    Examples
    --------
    >>> rounds = find_rounds(np.array([3, 1] * 4 + [3]), np.array([0] * 9))
    >>> out = np.zeros((1, 4))
    >>> rounds.fold(np.ones(9), np.add, out)
    >>> out.tolist()
    [[0.0, 4.0, 0.0, 5.0]]
    """
    again = np.flatnonzero(place[1 : len(place) // _LEAST + 1] == place[0])
    if not len(again):
        return None
    size = int(again[0]) + 1
    if not (place[size:] == place[:-size]).all():
        return None
    first = place[:size].astype(np.intp)
    if int(np.bincount(first).max()) > 1:
        return None
    edges = [0, *(np.flatnonzero(hour[1:] != hour[:-1]) + 1).tolist(), len(hour)]
    hours = hour[edges[:-1]].tolist()
    if size * _LEAST * len(hours) > len(place) or len(set(hours)) < len(hours):
        return None
    return Rounds(first, edges, hours)
