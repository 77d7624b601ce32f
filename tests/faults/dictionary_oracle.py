"""The monitor's rules on plain dictionaries: slow, obvious, and compared with the real thing."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from demand_maint.core.timegrid import TimeGrid

Key = tuple[Any, int]


@dataclass
class Row:
    """What is known of one key."""

    predicted: float | None = None
    served: float | None = None
    through_handle: bool = False
    version: int = 0
    actual: float | None = None


@dataclass
class Oracle:
    """Predictions and truths by (place, slot)."""

    grid: TimeGrid
    season: int
    rows: dict[Key, Row] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.back = cache(lambda slot, seasons: int(self.grid.shift(np.array([slot]), -seasons * self.season)[0]))
        self.floor = cache(lambda time: int(self.grid.floor(np.array([time]))[0]))

    def key(self, place: Any, time: float) -> Key:
        """The key a time of a place falls into."""
        return place, self.floor(time)

    def predict(self, place: Any, time: float, value: float, version: int, *, pair: bool = False) -> None:
        """A logged prediction, or the prediction of a four-argument call."""
        row = self.rows.setdefault(self.key(place, time), Row())
        if row.predicted is not None:
            same = row.served == value
            if (pair and (row.through_handle or same)) or (not pair and row.through_handle and same):
                return
            self.counts["replaced"] += 1
        row.predicted = row.served = value
        row.version, row.through_handle = version, False

    def serve(self, place: Any, time: float, own: float, served: float, version: int) -> None:
        """A prediction through the handle."""
        row = self.rows.setdefault(self.key(place, time), Row())
        self.counts["replaced"] += row.predicted is not None
        row.predicted, row.served, row.version, row.through_handle = own, served, version, True

    def observe(self, place: Any, time: float, actual: float) -> None:
        """A logged actual."""
        row = self.rows.setdefault(self.key(place, time), Row())
        if row.actual is not None:
            self.counts["duplicates" if row.actual == actual else "corrected"] += 1
        row.actual = actual

    def naive(self, key: Key) -> float | None:
        """The truth one season before, else two."""
        place, slot = key
        for seasons in (1, 2):
            found = self.rows.get((place, self.back(slot, seasons)))
            if found is not None and found.actual is not None:
                return found.actual
        return None

    def sums(self, start: float = 0, end: float = 1e12, version: int | None = None) -> dict[str, float]:
        """The figures of `WindowSums` over slots in a range."""
        out: defaultdict[str, float] = defaultdict(float)
        for key, row in self.rows.items():
            if not start <= key[1] < end or row.predicted is None or (version is not None and row.version != version):
                continue
            out["predictions"] += 1
            if row.actual is None:
                continue
            assert row.served is not None
            error = row.predicted - row.actual
            out["n"] += 1
            out["abs_error"] += abs(error)
            out["error"] += error
            out["sq_error"] += error * error
            out["abs_actual"] += abs(row.actual)
            out["served_n"] += 1
            out["served_abs_error"] += abs(row.served - row.actual)
            naive = self.naive(key)
            if naive is not None:
                out["naive_n"] += 1
                out["naive_abs_error"] += abs(naive - row.actual)
                out["abs_error_naive"] += abs(error)
        return dict(out)
