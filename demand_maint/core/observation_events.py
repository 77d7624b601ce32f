"""What was logged, and what it changed: events in, outcomes out."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.records import MaturedBatch
from demand_maint.core.rounds import Rhythm

__all__ = [
    "ACTUAL",
    "PAIR",
    "PREDICTION",
    "SERVED",
    "VOID",
    "Events",
    "Outcome",
    "Truths",
    "alike",
    "all_finite",
    "is_uniform",
]

VOID, PAIR, PREDICTION, ACTUAL, SERVED = range(5)
#: Stretches of one kind that are worth taking in one by one.
MOST_STRETCHES = 8

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.uint32]


def is_uniform(values: NDArray[Any]) -> bool:
    """Whether all of the values (at least one) are the same; those that share one place in memory are not looked at."""
    return values.strides == (0,) or bool((values == values[0]).all())


def alike(value: Any, count: int, dtype: Any = np.float64) -> NDArray[Any]:
    """`count` times the same number, in the memory of one, which nobody may write to."""
    return np.ndarray((count,), dtype, np.array(value, dtype=dtype).tobytes(), strides=(0,))


def all_finite(first: Floats, second: Floats) -> bool:
    """Whether all values are numbers, by their sum; one of numbers too large for that is looked at again by others."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(first.sum() + second.sum()))


@dataclass(frozen=True, slots=True)
class Events:
    """Journalled events, one array per column, in the order in which they were logged.

    An event was logged between `observed_from` (0 where that is not known) and `observed_at`.
    `predicted` and `actual` are NaN where an event has none or the value is no number. For `SERVED` events `served`,
    `snapshot` and `members` say what was returned and from what; the three are ``None`` where no event is of that kind.
    `rhythm` says how they come in rounds of one slot each, ``None`` where that is not known.
    """

    place: Codes
    slot: Ints
    kind: NDArray[np.uint8]
    version: NDArray[np.uint16]
    predicted: Floats
    actual: Floats
    observed_at: Floats
    observed_from: Floats
    served: Floats | None = None
    snapshot: Codes | None = None
    members: NDArray[np.float32] | None = None
    rhythm: Rhythm | None = None

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def newest_slot(self) -> int:
        """Latest slot of any."""
        return int((self.slot if self.rhythm is None else self.rhythm.one_each(self.slot)).max())

    def take(self, rows: NDArray[np.intp] | slice) -> "Events":
        """Return some of them."""
        return Events(
            self.place[rows],
            self.slot[rows],
            self.kind[rows],
            self.version[rows],
            self.predicted[rows],
            self.actual[rows],
            self.observed_at[rows],
            self.observed_from[rows],
            None if self.served is None else self.served[rows],
            None if self.snapshot is None else self.snapshot[rows],
            None if self.members is None else self.members[rows],
        )

    def stretches(self) -> "list[Events]":
        """Return them stretch by stretch of one kind, as rounds of predictions and of truths take turns; whole where they are many."""
        if not len(self) or is_uniform(self.kind):
            return [self]
        edges = [0, *((self.kind[1:] != self.kind[:-1]).nonzero()[0] + 1).tolist(), len(self)]
        if len(edges) > MOST_STRETCHES + 1:
            return [self]
        parts = [self.take(slice(start, end)) for start, end in pairwise(edges)]
        return [part if part.kind[0] == SERVED else part.without_served() for part in parts]

    def without_served(self) -> "Events":
        """Return the same where nobody was served."""
        return Events(*(getattr(self, name) for name in self.__slots__[:8]))


@dataclass(frozen=True, slots=True)
class Truths:
    """Keys and their actuals; `before` holds the values they replace."""

    place: Codes
    slot: Ints
    actual: Floats
    late: NDArray[np.bool_]
    before: Floats


@dataclass(slots=True)
class Outcome:
    """What a batch of events changed."""

    added: MaturedBatch | None = None
    retracted: MaturedBatch | None = None
    predicted: tuple[Codes, Ints, NDArray[np.uint16]] | None = None
    unpredicted: tuple[Codes, Ints, NDArray[np.uint16]] | None = None
    expected: tuple[Codes, Ints] | None = None
    truths: Truths | None = None
    restated: Truths | None = None
    repeated: tuple[Codes, Ints] | None = None
    invalid: tuple[Codes, Ints] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    # every truth is a row's first: `added`, `truths` and, where there, `predicted` and `expected` are about the same rows,
    # which have the rhythm of their events
    all_new: bool = False
    rhythm: Rhythm | None = None
