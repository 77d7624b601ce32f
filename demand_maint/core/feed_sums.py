"""Hourly sums of the truth itself, per (place, hour): what tells a broken feed from a broken model."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.block_memo import BlockMemo
from demand_maint.core.hour_table import HOUR, Cells, HourTable
from demand_maint.core.metrics import add_between, reduce_between
from demand_maint.core.ordinary import REACH, ordinary_errors
from demand_maint.core.timegrid import TimeGrid

__all__ = ["FEED_FIELDS", "FeedSums"]

FEED_FIELDS = (
    "n",
    "total",
    "minimum",
    "maximum",
    "zeros",
    "negatives",
    "invalid",
    "duplicates",
    "late",
    "expected",
)
_ORDINARY = ("ordinary.hours", "ordinary.data", "ordinary.totals")
#: Days looked at at a time, so that no table of all places and hours is made.
_CHUNK = 28
_NEVER = 1 << 40


class FeedSums:
    """Sums of actuals per (place code, hour).

    Notes
    -----
    `n` counts keys whose truth is known, `total` sums it; `invalid` counts values that are no numbers, `duplicates` repeated
    actuals of one key (the same value or a corrected one), `late` truths that came after the horizon, `expected` keys that
    were predicted. `minimum` and `maximum` only widen: a corrected extreme stays in them. They are infinite where `n` is 0.

    What an ordinary forecast would have missed by needs the hours of a month; so it is found for good just before those hours
    are merged into days, and anew for later days whenever it is asked for.
    """

    __slots__ = ("_found_before", "_memo", "_ordinary", "_settled", "_table")

    def __init__(self) -> None:
        self._table = HourTable(FEED_FIELDS, lowest=("minimum",), highest=("maximum",))
        self._ordinary = HourTable(("n", "error"))
        # local day before which the ordinary errors are found for good; 0: none are
        self._settled = 0
        self._memo = BlockMemo()
        # by how many places there are for one that is looked at
        self._found_before: dict[int, BlockMemo] = {}

    def add(
        self,
        place: NDArray[Any],
        slot: NDArray[np.int64],
        actual: NDArray[np.float64],
        late: NDArray[np.bool_],
        cells: Cells | None = None,
        *,
        expected: bool = False,
    ) -> None:
        """Add truths of keys that had none; `cells` are those of the rows where known.

        With `expected` the keys are counted as predicted as well.
        """
        here = cells if cells is not None else Cells(place, slot)
        parts = {"n": here.counts, "total": here.sum(actual)}
        if expected:
            parts["expected"] = here.counts
        lowest = float(actual.min())
        if late.any():
            parts["late"] = here.sum(late)
        if lowest < 0:
            parts["negatives"] = here.sum(actual < 0)
        if lowest <= 0:
            parts["zeros"] = here.sum(actual == 0)
        self._table.add(here, parts, {"minimum": actual, "maximum": actual})

    def restate(
        self, place: NDArray[Any], slot: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64]
    ) -> None:
        """Put corrected truths in the place of earlier ones."""
        here = Cells(place, slot)
        parts = {
            "total": here.sum(after - before),
            "zeros": here.sum((after == 0).astype(np.float64) - (before == 0)),
            "negatives": here.sum((after < 0).astype(np.float64) - (before < 0)),
        }
        self._table.add(here, parts, {"minimum": after, "maximum": after})

    def count(self, name: str, place: NDArray[Any], slot: NDArray[np.int64], cells: Cells | None = None) -> None:
        """Count one of ``invalid``, ``duplicates``, ``expected`` per row; `cells` are those of the rows where known."""
        here = cells if cells is not None else Cells(place, slot)
        self._table.add(here, {name: here.counts})

    def blocks_by_place(self, edges: NDArray[np.int64], *, keep: bool = False) -> dict[str, NDArray[np.float64]]:
        """Each figure over each of the B blocks between B + 1 ascending `edges` (hours); arrays of shape (P, B).

        With `keep` it is remembered for whoever asks for mostly the same blocks again.
        """
        table, at = self._table, self._table.hours.searchsorted(edges)
        if keep:
            changed = partial(table.changed, at)
            out = self._memo.blocks(edges, table.changes, changed, lambda first, end: self._blocks(at[first : end + 1]))
        else:
            out = self._blocks(at)
        return {name: out[:, i, :].T for i, name in enumerate(FEED_FIELDS)}

    def _blocks(self, at: NDArray[np.intp]) -> NDArray[np.float64]:
        """Figures between neighbouring ascending positions `at` (B + 1,), (B, fields, P)."""
        data = self._table.data
        out = add_between(data, at)
        for name, extreme, nothing in (("minimum", np.minimum, np.inf), ("maximum", np.maximum, -np.inf)):
            field = FEED_FIELDS.index(name)
            out[:, field] = reduce_between(extreme, data[:, field], at, nothing)
        return out

    def stretches_by_place(self, edges: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Each figure over the end of each of S stretches, and over the whole of it; arrays of shape (2, S, P).

        Parameters
        ----------
        edges
            Hour at which each stretch begins, its end part begins, and both end, (S, 3).
        """
        data, at = self._table.data, self._table.hours.searchsorted(edges)
        out = np.zeros((2, len(at), len(FEED_FIELDS), self._table.places))
        for name, nothing in (("minimum", np.inf), ("maximum", -np.inf)):
            out[:, :, FEED_FIELDS.index(name)] = nothing
        for stretch, (first, middle, end) in enumerate(at.tolist()):
            for part, begin in enumerate((middle, first)):
                if begin < end:
                    rows, here = data[begin:end], out[part, stretch]
                    np.add.reduce(rows, axis=0, out=here)
                    for name, extreme in (("minimum", np.minimum), ("maximum", np.maximum)):
                        field = FEED_FIELDS.index(name)
                        extreme.reduce(rows[:, field], axis=0, out=here[field])
        return {name: out[:, :, i] for i, name in enumerate(FEED_FIELDS)}

    def hours(self, first: int, end: int) -> dict[str, NDArray[np.float64]]:
        """Each figure of each hour from `first` until `end`; arrays of shape (hours, P)."""
        table = self._table
        span = table.span(first, end)
        out = table.data[span]
        if span.stop - span.start < end - first:  # hours that hold nothing
            out = np.zeros((end - first, len(FEED_FIELDS), table.places))
            for name, nothing in (("minimum", np.inf), ("maximum", -np.inf)):
                out[:, FEED_FIELDS.index(name)] = nothing
            out[table.hours[span] - first] = table.data[span]
        return {name: out[:, i] for i, name in enumerate(FEED_FIELDS)}

    @property
    def places(self) -> int:
        """Places there are figures of, by code."""
        return self._table.places

    def ordinary_by_place(
        self, edges: NDArray[np.int64], grid: TimeGrid, every: int = 1
    ) -> dict[str, NDArray[np.float64]]:
        """Rows (`n`) and error of the ordinary forecast in each of D local days between D + 1 `edges` (hours); (P, D) each."""
        days = grid.day(edges[:-1] * HOUR)
        out = np.zeros((2, -(-self._table.places // every), len(days)))
        old = int(np.searchsorted(days, self._settled))
        kept = add_between(self._ordinary.data[:, :, ::every], np.searchsorted(self._ordinary.hours, edges[: old + 1]))
        out[:, : kept.shape[2], :old] = kept.transpose(1, 2, 0)
        begun = max(old, int(np.searchsorted(days, self._first_day(grid) + REACH)))
        if begun < len(days):
            out[:, :, begun:] = self._found_anew(days[begun:], edges[begun:], grid, every)
        return {"n": out[0], "error": out[1]}

    def _found_anew(
        self, days: NDArray[np.int64], edges: NDArray[np.int64], grid: TimeGrid, every: int
    ) -> NDArray[np.float64]:
        """Rows and ordinary error (2, P, D) of days that are not settled; what has not changed since the last time is known."""
        memo, table = self._found_before.setdefault(every, BlockMemo()), self._table
        changed = partial(self._changed, edges, grid)
        found = memo.blocks(edges, table.changes, changed, partial(self._work_out, int(days[0]), grid, every))
        return found.transpose(1, 2, 0)

    def _changed(self, edges: NDArray[np.int64], grid: TimeGrid, since: int) -> NDArray[np.bool_]:
        """Which of the local days between `edges` depend on hours that changed after the change `since`."""
        first = int(grid.day(edges[:1] * HOUR)[0])
        lookback = grid.day_start(np.arange(first - REACH, first)) // HOUR
        at = self._table.hours.searchsorted(np.concatenate([lookback, edges]))
        changes = np.concatenate([[0], np.cumsum(self._table.changed(at, since))])
        return np.asarray(changes[REACH + 1 :] > changes[: -REACH - 1])

    def _work_out(self, first: int, grid: TimeGrid, every: int, begin: int, end: int) -> NDArray[np.float64]:
        """Rows and ordinary error (D, 2, P) of the days `begin` .. `end` after the day `first`."""
        parts = [
            self._found(first + part, first + min(part + _CHUNK, end), grid, every)
            for part in range(begin, end, _CHUNK)
        ]
        return np.concatenate(parts, axis=2).transpose(2, 0, 1)

    def _once_found(self, first: int, end: int, grid: TimeGrid) -> NDArray[np.float64]:
        """Rows and ordinary error (2, P, D) of the days `first` .. `end`, as they were found before where they were."""
        edges = grid.day_start(np.arange(first, end + 1)) // HOUR
        memo = self._found_before.get(1)
        known = None if memo is None else memo.known(edges, partial(self._changed, edges, grid))
        return self._found(first, end, grid, 1) if known is None else known.transpose(1, 2, 0)

    def settle_ordinary(self, before: int, grid: TimeGrid) -> None:
        """Find for good the ordinary errors of days that cannot be found once the hours of days before `before` are merged."""
        if not len(self._table.hours):
            return
        newest = int(grid.day(self._table.hours[-1:] * HOUR)[0])
        end = min(before + REACH, newest)
        for day in range(max(self._settled, self._first_day(grid) + REACH), end, _CHUNK):
            last = min(day + _CHUNK, end)
            count, error = self._once_found(day, last, grid)
            place, at = np.nonzero(count)
            if len(place):
                cells = Cells(place, grid.day_start(np.arange(day, last))[at])
                self._ordinary.add(cells, {"n": cells.sum(count[place, at]), "error": cells.sum(error[place, at])})
        self._settled = max(self._settled, end)

    def _first_day(self, grid: TimeGrid) -> int:
        hours = self._table.hours
        return int(grid.day(hours[:1] * HOUR)[0]) if len(hours) else _NEVER

    def _found(self, first: int, end: int, grid: TimeGrid, every: int) -> NDArray[np.float64]:
        """Rows and ordinary error of the days [`first`, `end`), from hours; (2, P, D)."""
        begin = first - REACH
        edges = grid.day_start(np.array([begin, end])) // HOUR
        span = self._table.span(int(edges[0]), int(edges[1]))
        wall = grid.local(self._table.hours[span] * HOUR)
        at = np.clip(wall // HOUR - begin * 24, 0, (end - begin) * 24 - 1)
        places = -(-self._table.places // every)
        sums = np.zeros((2, (end - begin) * 24, places))
        once = bool((at[1:] > at[:-1]).all())
        for i, name in enumerate(("n", "total")):
            values = self._table.data[span, FEED_FIELDS.index(name), ::every]
            if once:
                sums[i][at] = values
            else:  # an hour that the clock shows twice is one
                np.add.at(sums[i], at, values)
        rows, demand = sums.transpose(0, 2, 1).reshape(2, places, end - begin, 24)
        return np.stack(ordinary_errors(rows, demand))

    def total(self, name: str) -> float:
        """One additive figure over everything kept."""
        return float(self._table.totals[:, FEED_FIELDS.index(name)].sum())

    def drop_before(self, hour: int) -> None:
        """Forget everything before `hour`."""
        self._table.drop_before(hour)
        self._ordinary.drop_before(hour)

    def hours_before(self, hour: int) -> NDArray[np.int64]:
        """Hours before `hour` that hold anything, ascending."""
        return self._table.hours[: int(np.searchsorted(self._table.hours, hour))]

    def gather(self, targets: NDArray[np.int64]) -> None:
        """Move the oldest ``len(targets)`` hours to `targets`, as hours to days."""
        self._table.gather(targets)

    def parts(self) -> tuple[list[Any], dict[str, NDArray[Any]]]:
        """Facts and arrays for saving."""
        shape, (hours, data, totals) = self._table.parts()
        other, ordinary = self._ordinary.parts()
        arrays = {"hours": hours, "data": data, "totals": totals}
        return [*shape, *other, self._settled], arrays | dict(zip(_ORDINARY, ordinary, strict=True))

    def load(self, shape: list[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `parts` gave; what was here before is gone."""
        self._table.load(shape[:2], [arrays[name] for name in ("hours", "data", "totals")])
        self._ordinary.load(shape[2:4], [arrays[name] for name in _ORDINARY])
        self._settled = int(shape[4])
        self._memo, self._found_before = BlockMemo(), {}
