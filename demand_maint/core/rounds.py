"""Rows that come in rounds over the same places, as a collector logs them: summed round by round, not row by row.

A sum over rounds is one addition of whole rows, a fifth of what a sum by index costs (`python -m benchmarks.batch`).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rounds", "find_rounds"]

#: Rounds an hour must have on average before summing them together pays.
_LEAST = 4
Floats = NDArray[np.float64]
Places = NDArray[np.intp] | slice


class Rounds:
    """The rows of each hour as whole rounds and the beginning of one more.

    Parameters
    ----------
    places
        Places of the first round, each once; later ones are the same in the same order.
    edges
        Where the rows of each hour begin, and the end of the last.
    """

    __slots__ = ("_runs", "_size")

    def __init__(self, places: NDArray[np.intp], edges: Sequence[int]) -> None:
        size = self._size = len(places)
        # begin, end of whole rounds, end; places of a whole round, and of the one that is only begun
        self._runs: list[tuple[int, int, int, Places, Places]] = []
        for begin, end in pairwise(edges):
            turn = begin % size  # the round this run begins in has gone on to this place
            mine = places if turn == 0 else np.concatenate([places[turn:], places[:turn]])
            whole = begin + (end - begin) // size * size
            self._runs.append((begin, whole, end, _span(mine), mine[: end - whole]))

    def fold(self, values: NDArray[Any], operate: np.ufunc, out: Floats) -> None:
        """Bring `values`, one per row, into `out` (hours, places) by a ufunc such as ``np.add``."""
        for line, (begin, whole, end, places, rest) in zip(out, self._runs, strict=True):
            if whole > begin:
                rounds = values[begin:whole].reshape(-1, self._size)
                line[places] = operate(line[places], operate.reduce(rounds, axis=0))
            if end > whole:
                line[rest] = operate(line[rest], values[whole:end])

    def count(self, out: Floats) -> None:
        """Add the number of rows to `out` (hours, places)."""
        for line, (begin, whole, end, places, rest) in zip(out, self._runs, strict=True):
            line[places] += (whole - begin) // self._size
            line[rest] += float(end > whole)


def _span(places: NDArray[np.intp]) -> Places:
    """Places as a slice where they follow each other, as those of a root that knows no others do."""
    first, count = int(places[0]), len(places)
    return slice(first, first + count) if (places == np.arange(first, first + count)).all() else places


def find_rounds(place: NDArray[Any], edges: Sequence[int]) -> Rounds | None:
    """Return the rounds that rows come in; ``None`` where they do not, or where there are few in an hour.

    Parameters
    ----------
    place
        Place codes, (n,).
    edges
        Where the rows of each hour begin, and the end of the last.

    Examples
    --------
    >>> rounds = find_rounds(np.array([3, 1] * 4 + [3]), [0, 9])
    >>> out = np.zeros((1, 4))
    >>> rounds.fold(np.ones(9), np.add, out)
    >>> out.tolist()
    [[0.0, 4.0, 0.0, 5.0]]
    """
    again = np.flatnonzero(place[1 : len(place) // _LEAST + 1] == place[0])
    if not len(again):
        return None
    size = int(again[0]) + 1
    if size * _LEAST * (len(edges) - 1) > len(place) or not (place[size:] == place[:-size]).all():
        return None
    first = place[:size].astype(np.intp)
    if int(np.bincount(first).max()) > 1:
        return None
    return Rounds(first, edges)
