"""Rows that come in rounds over the same places, as a collector logs them: summed round by round, not row by row.

A sum over rounds is one addition of whole rows, a fifth of what a sum by index costs (`python -m benchmarks.batch`); and what
rows of a round have in common is worked out once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rhythm", "Rounds", "find_rhythm", "find_rounds"]

#: Rounds an hour must have on average before summing them together pays.
_LEAST = 4
Floats = NDArray[np.float64]
Places = NDArray[np.intp] | slice


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How rows come in rounds, each over the same places in the same order.

    Parameters
    ----------
    places
        Places of a whole round.
    begun
        Rows of the first round that came before these rows.
    """

    places: NDArray[Any]
    begun: int

    def after(self, rows: int) -> Self:
        """Return the rhythm of what comes after so many rows."""
        return type(self)(self.places, (self.begun + rows) % len(self.places))

    def of_other(self, places: NDArray[Any]) -> Self:
        """Return the same for places known by other codes."""
        return type(self)(places, self.begun)

    def one_each(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of the first row of each round, of one value per row."""
        if not self.begun:
            return values[:: len(self.places)]
        return np.concatenate([values[:1], values[len(self.places) - self.begun :: len(self.places)]])

    def spread(self, values: NDArray[Any], rows: int) -> NDArray[Any]:
        """One value per row, of one per round."""
        return np.repeat(values, len(self.places))[self.begun : self.begun + rows]

    def repeated(self, rows: int) -> NDArray[Any]:
        """Places of so many rows."""
        return np.tile(self.places, (self.begun + rows - 1) // len(self.places) + 1)[self.begun : self.begun + rows]


def find_rhythm(place: NDArray[Any], time: NDArray[np.float64]) -> Rhythm | None:
    """Return how rows come in rounds that share a time; ``None`` where they do not, or where there are few rounds.

    Examples
    --------
    >>> rhythm = find_rhythm(np.array([1, 3] * 4), np.array([0, 60, 60, 120, 120, 180, 180, 240.0]))
    >>> rhythm.places.tolist(), rhythm.begun
    ([3, 1], 1)
    """
    size = _round_size(place)
    if not size:
        return None
    changed = np.flatnonzero(time[1:size] != time[0])
    lead = int(changed[0]) + 1 if len(changed) else size
    whole = lead + (len(time) - lead) // size * size
    rounds = time[lead:whole].reshape(-1, size)
    together = (rounds == rounds[:, :1]).all() and (time[:lead] == time[0]).all() and (time[whole:] == time[-1]).all()
    return Rhythm(np.concatenate([place[lead:size], place[:lead]]), size - lead) if together else None


class Rounds:
    """The rows of each hour as whole rounds and the beginning of one more.

    Parameters
    ----------
    places
        Places of the first round, each once; later ones are the same in the same order.
    edges
        Where the rows of each hour begin, and the end of the last.
    begun
        Rows of the first round that came before these rows.
    """

    __slots__ = ("_runs", "_size")

    def __init__(self, places: NDArray[np.intp], edges: Sequence[int], begun: int = 0) -> None:
        size = self._size = len(places)
        # begin, end of whole rounds, end; places of a whole round, and of the one that is only begun
        self._runs: list[tuple[int, int, int, Places, Places]] = []
        for begin, end in pairwise(edges):
            turn = (begun + begin) % size  # the round this run begins in has gone on to this place
            mine = places if turn == 0 else np.concatenate([places[turn:], places[:turn]])
            whole = begin + (end - begin) // size * size
            self._runs.append((begin, whole, end, _span(mine), mine[: end - whole]))

    def fold(self, values: NDArray[Any], operate: np.ufunc, out: Floats) -> None:
        """Bring `values`, one per row, into `out` (hours, places) by a ufunc such as ``np.add``."""
        for hour, rows in enumerate(self.runs):
            self.fold_run(hour, values[rows], operate, out[hour])

    @property
    def runs(self) -> list[slice]:
        """Rows of each hour."""
        return [slice(begin, end) for begin, _, end, _, _ in self._runs]

    def fold_run(self, hour: int, values: NDArray[Any], operate: np.ufunc, line: Floats) -> None:
        """Bring `values` of the rows of one hour, the how-manieth of these, into its `line` (places,)."""
        begin, whole, end, places, rest = self._runs[hour]
        count = whole - begin
        if count:
            line[places] = operate(line[places], operate.reduce(values[:count].reshape(-1, self._size), axis=0))
        if end > whole:
            line[rest] = operate(line[rest], values[count:])

    def count(self, out: Floats) -> None:
        """Add the number of rows to `out` (hours, places)."""
        for line, (begin, whole, end, places, rest) in zip(out, self._runs, strict=True):
            line[places] += (whole - begin) // self._size
            line[rest] += float(end > whole)


def _span(places: NDArray[np.intp]) -> Places:
    """Places as a slice where they follow each other, as those of a root that knows no others do."""
    first, count = int(places[0]), len(places)
    return slice(first, first + count) if (places == np.arange(first, first + count)).all() else places


def _round_size(place: NDArray[Any]) -> int:
    """After how many rows the same places come again in the same order; 0 where they do not, or only few times."""
    again = place[1 : len(place) // _LEAST + 1] == place[0]
    size = int(again.argmax()) + 1 if again.any() else 0
    return size if size and (place[size:] == place[:-size]).all() else 0


def find_rounds(place: NDArray[Any], edges: Sequence[int], rhythm: Rhythm | None = None) -> Rounds | None:
    """Return the rounds that rows come in; ``None`` where they do not, or where there are few in an hour.

    Parameters
    ----------
    place
        Place codes, (n,).
    edges
        Where the rows of each hour begin, and the end of the last.
    rhythm
        That of the rows, where it is known.

    Examples
    --------
    >>> rounds = find_rounds(np.array([3, 1] * 4 + [3]), [0, 9])
    >>> out = np.zeros((1, 4))
    >>> rounds.fold(np.ones(9), np.add, out)
    >>> out.tolist()
    [[0.0, 4.0, 0.0, 5.0]]
    """
    size = len(rhythm.places) if rhythm is not None else _round_size(place)
    if not size or size * _LEAST * (len(edges) - 1) > len(place):
        return None
    first = (rhythm.places if rhythm is not None else place[:size]).astype(np.intp)
    if int(np.bincount(first).max()) > 1:
        return None
    return Rounds(first, edges, rhythm.begun if rhythm is not None else 0)
