"""What blocks of hours came to the last time, so that of many days only those that have changed are added up again."""

from collections.abc import Callable
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockMemo"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mark = TypeVar("Mark")
_NONE = np.empty(0, dtype=np.int64)


class BlockMemo(Generic[Mark]):
    """Remembers the newest answer to one question about blocks between edges (hours).

    Examples
    --------
    >>> asked = []
    >>> def work_out(first: int, end: int) -> Floats:
    ...     asked.append((first, end))
    ...     return np.arange(first, end, dtype=np.float64)
    >>> memo = BlockMemo[int]()
    >>> unchanged = np.zeros(3, dtype=bool)
    >>> memo.blocks(np.array([0, 24, 48, 72]), 1, lambda since: unchanged, work_out).tolist()
    [0.0, 1.0, 2.0]
    >>> memo.blocks(np.array([24, 48, 72, 96]), 1, lambda since: unchanged, work_out).tolist()
    [1.0, 2.0, 2.0]
    >>> asked
    [(0, 3), (2, 3)]
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # one value that is replaced as a whole, since others may be asking
        self._known: tuple[Mark | None, Ints, Floats] = (None, _NONE, np.empty(0))

    def blocks(
        self,
        edges: Ints,
        now: Mark,
        changed: Callable[[Mark], NDArray[np.bool_]],
        work_out: Callable[[int, int], Floats],
    ) -> Floats:
        """Return an array, not to be written to, whose first axis are the B blocks between B + 1 ascending `edges`.

        Parameters
        ----------
        now
            What tells the newest change from others.
        changed
            Tells of each block whether it changed after such a change.
        work_out
            Gives the blocks from one position up to another.
        """
        since, before, found = self._known
        count = max(len(edges) - 1, 0)
        gone = int(before.searchsorted(edges[0])) if count else 0
        shared = min(len(before) - gone, len(edges)) - 1
        if since is None or shared <= 0:
            out = work_out(0, count)
        else:
            same = edges[: shared + 1] == before[gone : gone + shared + 1]
            stale = changed(since)
            stale[:shared] |= ~(same[:-1] & same[1:])
            stale[shared:] = True
            out = np.empty((count, *found.shape[1:]))
            out[:shared] = found[gone : gone + shared]
            for first, end in _runs(stale):
                part = work_out(first, end)
                if part.shape[1:] != out.shape[1:]:  # there are more places now
                    out = work_out(0, count)
                    break
                out[first:end] = part
        out.flags.writeable = False
        self._known = (now, edges, out)
        return out

    def known(self, edges: Ints, changed: Callable[[Mark], NDArray[np.bool_]]) -> Floats | None:
        """Return the blocks between `edges` where all of them were asked for and none has changed since, ``None`` elsewhere."""
        since, before, found = self._known
        first = int(before.searchsorted(edges[0]))
        there = before[first : first + len(edges)]
        if since is None or len(there) < len(edges) or (there != edges).any() or changed(since).any():
            return None
        return found[first : first + len(edges) - 1]


def _runs(wanted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of true ones, from and up to."""
    at = wanted.nonzero()[0]
    if not len(at):
        return []
    breaks = ((at[1:] - at[:-1]) > 1).nonzero()[0] + 1
    edges = [0, *breaks.tolist(), len(at)]
    return [(int(at[first]), int(at[end - 1]) + 1) for first, end in pairwise(edges)]
