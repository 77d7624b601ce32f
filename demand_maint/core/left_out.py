"""Which truth counts nowhere: stretches of a place's time in which its feed was broken, and what is not known to be sound yet."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["FOR_EVER", "LeftOut", "Stretch"]

Stretch = tuple[int, int]
FOR_EVER = (1 << 32) - 1  # beyond every slot


@dataclass(slots=True)
class LeftOut:
    """Stretches of slots, epoch seconds, by place code.

    Attributes
    ----------
    closed
        Of faults: ``(first, end)`` in order, apart from each other.
    since
        From when on nothing counts until further notice.
    """

    closed: dict[int, tuple[Stretch, ...]] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)

    def copy(self) -> "LeftOut":
        """Return an equal one that changes for itself."""
        return LeftOut(dict(self.closed), dict(self.since))

    def close(self, code: int, first: int, end: int) -> None:
        """Leave out what a place says from `first` until `end`, for good."""
        self.closed[code] = _joined([*self.closed.get(code, ()), (first, end)])

    def overlaps(self, code: int, first: int, end: int) -> bool:
        """Whether some of that is left out for good already."""
        return any(begin < end and first < last for begin, last in self.closed.get(code, ()))

    def stretches(self, code: int) -> tuple[Stretch, ...]:
        """All that is left out of a place."""
        closed, since = self.closed.get(code, ()), self.since.get(code)
        return closed if since is None else _joined([*closed, (since, FOR_EVER)])

    def rows(self, place: NDArray[np.integer], slot: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which rows (n,) are left out; ``None`` where no row is."""
        if not len(slot) or not (self.closed or self.since):
            return None
        first, last = int(slot.min()), int(slot.max())
        out: NDArray[np.bool_] | None = None
        for code in self.closed.keys() | self.since.keys():
            for begin, end in self.stretches(code):
                if begin <= last and end > first:
                    here = (place == code) & (slot >= begin) & (slot < end)
                    out = here if out is None else out | here
        return out

    def changed(self, before: "LeftOut") -> dict[int, Stretch]:
        """By place, between which slots other rows count than `before`."""
        found = {}
        for code in {*self.closed, *self.since, *before.closed, *before.since}:
            differing = set(self.stretches(code)) ^ set(before.stretches(code))
            if differing:
                found[code] = min(first for first, _ in differing), max(end for _, end in differing)
        return found

    def forget(self, before: int) -> None:
        """Let go what ended before that slot."""
        for code, stretches in list(self.closed.items()):
            if stretches[0][1] < before:
                kept = tuple(stretch for stretch in stretches if stretch[1] >= before)
                if kept:
                    self.closed[code] = kept
                else:
                    del self.closed[code]

    def every(self) -> tuple[tuple[int, int, int], ...]:
        """Place code, first and end of all that is left out for good."""
        return tuple((code, *stretch) for code, stretches in sorted(self.closed.items()) for stretch in stretches)


def _joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Stretches in order; those that touch or overlap are one."""
    joined: list[Stretch] = []
    for first, end in sorted(stretches):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((first, end))
    return tuple(joined)
