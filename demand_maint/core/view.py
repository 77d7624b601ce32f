"""What judging needs to see of the monitor: hourly sums, the truth's own sums, places and the grid.

`core/metrics.py` implements these protocols; tests bring doubles. Hours are whole hours since 1970-01-01T00Z, ranges are
half open.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.timegrid import TimeGrid

__all__ = [
    "HOUR",
    "SUM_FIELDS",
    "FeedView",
    "Floats",
    "MetricsView",
    "PlaceId",
    "SumsView",
    "WindowView",
    "local_days",
    "whole_hours",
]

HOUR = 3600
DAY = 86400

PlaceId = int | str
Floats = NDArray[np.float64]

SUM_FIELDS = (
    "n",
    "abs_error",
    "error",
    "sq_error",
    "abs_actual",
    "naive_n",
    "naive_abs_error",
    "abs_error_naive",
    "fresh_error",
    "served_n",
    "served_abs_error",
    "predictions",
)


class WindowView(Protocol):
    """Sums over one window; the names of `SUM_FIELDS`."""

    @property
    def n(self) -> float:
        """Rows whose truth is known."""

    @property
    def abs_error(self) -> float:
        """Sum of absolute errors of the champion's own predictions."""

    @property
    def naive_n(self) -> float:
        """Rows that have a seasonal-naive forecast."""

    @property
    def naive_abs_error(self) -> float:
        """Sum of that forecast's absolute errors."""

    @property
    def abs_error_naive(self) -> float:
        """Sum of the champion's absolute errors on the same rows."""

    @property
    def fresh_error(self) -> float:
        """Sum of fresh errors (`core.fresh`), as of the last `SumsView.find_fresh`."""

    @property
    def served_n(self) -> float:
        """Rows whose served value is known."""

    @property
    def served_abs_error(self) -> float:
        """Sum of the served values' absolute errors."""

    @property
    def predictions(self) -> float:
        """Predictions made, their truth known or not."""


class SumsView(Protocol):
    """Hourly sums per (place code, hour, version)."""

    def find_fresh(self, grid: TimeGrid) -> None:
        """Work out `fresh_error` of the hours whose sums have changed since; `grid` tells the local days."""

    def window(
        self, start_hour: int, end_hour: int, version: int | None = None, place: int | None = None
    ) -> WindowView:
        """Return sums over ``start_hour <= hour < end_hour``."""

    def blocks(self, edges: NDArray[np.int64], version: int | None = None) -> dict[str, Floats]:
        """Return sums over each of the B blocks between B + 1 `edges`; arrays of shape (B,)."""

    def blocks_by_place(
        self,
        edges: NDArray[np.int64],
        version: int | None = None,
        fields: Sequence[str] = SUM_FIELDS,
        every: int = 1,
        *,
        keep: bool = False,
    ) -> dict[str, Floats]:
        """Return the same per place, of `fields` only and of `every` so many places one; arrays of shape (P, B).

        With `keep` it is remembered for whoever asks for mostly the same blocks again.
        """

    def own_by_place(
        self,
        feed: "FeedView",
        edges: NDArray[np.int64],
        grid: TimeGrid,
        lag: int,
        champion: int | None = None,
        first_day: int = 0,
        every: int = 1,
    ) -> dict[str, Floats]:
        """Return n, own and ordinary error (`core.own_errors`) per place and local day, of `every` so many places one; (P, D).

        From the position `first_day` on rows of `champion` count, before it everybody's; without one all do.
        """

    def versions(self, start_hour: int, end_hour: int) -> list[int]:
        """Return versions with rows in the range."""


class FeedView(Protocol):
    """Hourly sums of the truth itself, per (place code, hour)."""

    def blocks_by_place(self, edges: NDArray[np.int64], *, keep: bool = False) -> dict[str, Floats]:
        """Return n, total, minimum, maximum, zeros, negatives, invalid, duplicates, late, expected; arrays (P, B).

        With `keep` it is remembered for whoever asks for mostly the same blocks again.
        """

    def stretches_by_place(self, edges: NDArray[np.int64]) -> dict[str, Floats]:
        """Return the same over the end of each stretch and over its whole, (2, S, P); beginnings, middles and ends in (S, 3)."""

    def hours(self, first: int, end: int) -> dict[str, Floats]:
        """Return the same of each hour from `first` until `end`, (H, P); not to be written to."""

    @property
    def places(self) -> int:
        """Places there are figures of, by code."""

    @property
    def changes(self) -> int:
        """Number of the newest change."""

    def changed(self, edges: NDArray[np.int64], since: int) -> NDArray[np.bool_]:
        """Which blocks between `edges` were changed after the change `since`."""

    def day_span(self, grid: TimeGrid) -> tuple[int, int]:
        """First and newest local day whose hours are known."""

    def wall_hours(self, first: int, end: int, grid: TimeGrid, every: int = 1) -> Floats:
        """Return rows and summed demand of the local days [`first`, `end`), of `every` so many places one; (2, P, D, 24)."""


class MetricsView(Protocol):
    """The monitor as judging sees it."""

    @property
    def sums(self) -> SumsView:
        """Errors."""

    @property
    def feed(self) -> FeedView:
        """Truth."""

    @property
    def places(self) -> Sequence[PlaceId]:
        """Place ids by dense code."""

    @property
    def grid(self) -> TimeGrid:
        """Slots and local days."""

    @property
    def newest(self) -> float | None:
        """Epoch second of the newest record, ``None`` where there is none."""


def whole_hours(now: float, days: float) -> tuple[int, int]:
    """Hours of the window of `days` that ends with the hour `now` falls into.

    >>> whole_hours(7200.0, 1)
    (-21, 3)
    """
    end = int(now // HOUR) + 1
    return end - max(round(days * 24), 1), end


def local_days(grid: TimeGrid, first: float, now: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Local calendar days from the one `first` falls into to the one before `now`'s, and their edges in hours.

    The day that `now` falls into is not over and therefore left out. D days have D + 1 edges.
    """
    days = grid.day(np.array([first, now]))
    return _days_between(grid.zone, int(days[0]), int(days[1]))


@lru_cache(maxsize=64)
def _days_between(zone: str, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    numbers = np.arange(first, last, dtype=np.int64)
    edges = TimeGrid(zone, HOUR).day_start(np.arange(first, last + 1, dtype=np.int64)) // HOUR
    numbers.flags.writeable = edges.flags.writeable = False
    return numbers, edges
