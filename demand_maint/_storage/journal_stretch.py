"""Slots of one size inside a segment of blocks, handed out without a lock: the hot path of rows with features.

A stretch is opened and ended under the writer's lock. Whoever holds a slot fills it with one call that ends in the commit
word; a slot that was given up gets a block that stands for nothing.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from demand_maint._storage.segments import BLOCK_HEAD, COMMITTED, block_bytes, block_offsets
from demand_maint.core.observations import VOID

__all__ = ["Stretch", "void_block"]

_PATIENCE = 200
_PAUSE = 0.0005


def void_block(view: memoryview, at: int, features: int) -> None:
    """Fill the slot of a row of `features` with a block that nobody counts."""
    size = block_bytes(1, 0, features)
    BLOCK_HEAD.pack_into(view, at, size, 1, 0, 0, 0, 0, features, VOID)
    time_at = at + block_offsets(1, 0, features)[3]
    view[time_at : time_at + 8] = np.float64(1.0).tobytes()
    view[at + size - 8 : at + size] = COMMITTED.to_bytes(8, "little")


class Stretch:
    """The rest of a segment in slots of `size` bytes.

    Attributes
    ----------
    slots
        Offsets of slots that nobody else gets, one per `next`, and the segment that they are in.
    """

    __slots__ = ("_begin", "_features", "_offsets", "_size", "_view", "slots", "stop")

    def __init__(self, view: memoryview, begin: int, end: int, size: int, features: int) -> None:
        self._view, self._begin, self._size, self._features = view, begin, size, features
        self.stop = begin + (end - begin) // size * size
        offsets: Iterator[int] = iter(range(begin, self.stop, size))
        self._offsets = offsets
        self.slots: tuple[Iterator[int], memoryview] = (offsets, view)

    @property
    def used(self) -> int:
        """Slots handed out."""
        left: int = self._offsets.__length_hint__()  # type: ignore[attr-defined]  # a range iterator has it
        return (self.stop - self._begin) // self._size - left

    def close(self) -> tuple[int, int]:
        """Hand out no more, wait for what is being filled; return where the next block goes, and the slots handed out."""
        rest = list(self._offsets)  # one call: nobody gets a slot of these any more
        at = rest[0] if rest else self.stop
        for _ in range(_PATIENCE):
            waiting = self._unfilled(at)
            if not len(waiting):
                break
            time.sleep(_PAUSE)  # lets the thread that holds it go on
        else:
            for slot in waiting:  # given up in between, as by an interrupt
                void_block(self._view, int(slot), self._features)
        return at, (at - self._begin) // self._size

    def _unfilled(self, end: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        count = (end - self._begin) // self._size
        words = np.frombuffer(self._view, dtype=np.uint64, count=count * self._size // 8, offset=self._begin)
        last = words.reshape(count, self._size // 8)[:, -1]
        return self._begin + np.flatnonzero(last != COMMITTED) * self._size
