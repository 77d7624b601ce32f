"""Own errors (`core.own_errors`) by version, place and local day: found from hours, and for good before those are merged.

An own error follows from a day's hours and from the demand of the month before, so it is no sum over rows. It is found anew
whenever one of these hours has changed, until they are merged into days.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.block_memo import BlockMemo
from demand_maint.core.hour_table import HOUR, Cells, HourTable
from demand_maint.core.ordinary import ordinary_forecast, reach
from demand_maint.core.own_errors import OWN_FIELDS, own_errors
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.view import FeedView
from demand_maint.core.wall_hours import wall_hours

__all__ = ["SAMPLE", "OwnSums", "sample_step"]

#: Of more places than this an even sample is looked at (`benchmarks.detector_scorecard --costs`).
SAMPLE = 128
#: Days looked at at a time, so that no table of all places and hours is made.
_CHUNK = 28
_PARTS = ("hours", "data", "totals")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Memo = BlockMemo[tuple[int, int]]


def sample_step(places: int) -> int:
    """Return of how many places one is looked at; doubled as there are more, so that a later sample is part of an earlier one.

    >>> sample_step(128), sample_step(129), sample_step(1000)
    (1, 2, 8)
    """
    step = 1
    while places > step * SAMPLE:
        step *= 2
    return step


class OwnSums:
    """What was found of each version, and what of it is settled."""

    __slots__ = ("_kept", "_memos", "_settled")

    def __init__(self) -> None:
        self._kept: dict[int, HourTable] = {}
        self._memos: dict[tuple[int, int], Memo] = {}
        # local day before which they are found for good; 0: none are
        self._settled = 0

    def by_place(
        self,
        tables: Mapping[int, HourTable],
        feed: FeedView,
        edges: Ints,
        grid: TimeGrid,
        lag: int,
        every: int,
        champion: int | None,
        first_day: int,
    ) -> Floats:
        """Return the figures of `OWN_FIELDS` in each of D local days between D + 1 `edges` (hours), (3, P, D)."""
        out = np.zeros((len(OWN_FIELDS), -(-feed.places // every), max(len(edges) - 1, 0)))
        for number, table in tables.items():
            wanted = edges if champion is None or number == champion else edges[: first_day + 1]
            at = table.hours.searchsorted(wanted)
            filled = np.flatnonzero(at[1:] > at[:-1])
            if len(filled):
                first, end = int(filled[0]), int(filled[-1]) + 1
                part = self._of_version(number, table, feed, edges[first : end + 1], grid, lag, every)
                out[:, : part.shape[1], first:end] += part[:, : out.shape[1]]
        return out

    def settle(self, tables: Mapping[int, HourTable], feed: FeedView, before: int, grid: TimeGrid, lag: int) -> None:
        """Find for good what cannot be found once the hours of days before `before` are merged."""
        first, newest = feed.day_span(grid)
        end = min(before + reach(lag), newest)
        every = sample_step(feed.places)
        for day in range(max(self._settled, first), end, _CHUNK):
            last = min(day + _CHUNK, end)
            edges = grid.day_start(np.arange(day, last + 1)) // HOUR
            for number, table in tables.items():
                memo = self._memos.get((number, every))
                known = None if memo is None else memo.known(edges, partial(_changed, table, feed, edges, grid, lag))
                found = _find(table, feed, day, last, grid, lag, every) if known is None else known
                at, place = np.nonzero(found[:, 0])
                if len(at):
                    cells = Cells(place * every, edges[at] * HOUR)
                    kept = self._kept.setdefault(number, HourTable(OWN_FIELDS))
                    kept.add(cells, {name: cells.sum(found[at, i, place]) for i, name in enumerate(OWN_FIELDS)})
        self._settled = max(self._settled, end)

    def _of_version(
        self, number: int, table: HourTable, feed: FeedView, edges: Ints, grid: TimeGrid, lag: int, every: int
    ) -> Floats:
        """Return the figures (3, P, D) of one version."""
        days = grid.day_of_hours(edges[:-1])
        old = int(days.searchsorted(self._settled))
        begun = max(old, int(days.searchsorted(feed.day_span(grid)[0])))
        out = np.zeros((len(OWN_FIELDS), -(-max(table.places, 1) // every), len(days)))
        kept = self._kept.get(number)
        if old and kept is not None:
            at = kept.hours.searchsorted(edges[: old + 1])
            for day in range(old):  # at most one line a day
                if at[day + 1] > at[day]:
                    line = kept.data[at[day], :, ::every]
                    out[:, : line.shape[1], day] = line
        if begun < len(days):
            memo = self._memos.setdefault((number, every), BlockMemo())
            left = edges[begun:]
            found = memo.blocks(
                left,
                (table.changes, feed.changes),
                partial(_changed, table, feed, left, grid, lag),
                lambda begin, end: _in_parts(
                    table, feed, int(days[begun]) + begin, int(days[begun]) + end, grid, lag, every
                ),
            )
            out[:, :, begun:] = found.transpose(1, 2, 0)
        return out

    def forget(self, hour: int, versions: Mapping[int, HourTable]) -> None:
        """Forget everything before `hour`, and versions that are not among `versions` any more."""
        self._kept = {number: table for number, table in self._kept.items() if number in versions}
        self._memos = {asked: memo for asked, memo in self._memos.items() if asked[0] in versions}
        for table in self._kept.values():
            table.drop_before(hour)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Facts and arrays for saving."""
        shapes: dict[str, Any] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for number, table in self._kept.items():
            shapes[str(number)], lines = table.parts()
            arrays |= {f"own.{number}.{name}": line for name, line in zip(_PARTS, lines, strict=True)}
        return {"settled": self._settled, "shapes": shapes}, arrays

    def load(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `parts` gave; what was here before is gone."""
        self._kept, self._memos, self._settled = {}, {}, int(facts["settled"])
        for number, shape in facts["shapes"].items():
            table = self._kept[int(number)] = HourTable(OWN_FIELDS)
            table.load(shape, [arrays[f"own.{number}.{name}"] for name in _PARTS])


def _changed(
    table: HourTable, feed: FeedView, edges: Ints, grid: TimeGrid, lag: int, since: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which of the local days between `edges` depend on hours that changed after the changes `since`."""
    back = reach(lag)
    first = int(grid.day_of_hours(edges[:1])[0])
    lookback = grid.day_start(np.arange(first - back, first)) // HOUR
    changes = np.concatenate([[0], np.cumsum(feed.changed(np.concatenate([lookback, edges]), since[1]))])
    own = table.changed(table.hours.searchsorted(edges), since[0])
    return np.asarray(own | (changes[back + 1 :] > changes[: -back - 1]))


def _in_parts(table: HourTable, feed: FeedView, first: int, end: int, grid: TimeGrid, lag: int, every: int) -> Floats:
    """Return the figures of the local days [`first`, `end`) from hours, (D, 3, P)."""
    parts = [_find(table, feed, part, min(part + _CHUNK, end), grid, lag, every) for part in range(first, end, _CHUNK)]
    return np.concatenate(parts)


def _find(table: HourTable, feed: FeedView, first: int, end: int, grid: TimeGrid, lag: int, every: int) -> Floats:
    """Return the same of a few days."""
    known, demand = feed.wall_hours(first - reach(lag), end, grid, every)
    actual, forecast = ordinary_forecast(known, demand, lag)
    rows, error = wall_hours(table, ("n", "error"), first, end, grid, every)
    places = min(rows.shape[0], actual.shape[0])
    found = own_errors(rows[:places], error[:places], actual[:places], forecast[:places])
    out = np.zeros((end - first, len(OWN_FIELDS), rows.shape[0]))
    out[:, :, :places] = found.transpose(2, 0, 1)
    return out
