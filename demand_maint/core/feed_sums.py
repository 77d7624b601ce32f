"""Hourly sums of the truth itself, per (place, hour): what tells a broken feed from a broken model."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.block_memo import BlockMemo
from demand_maint.core.hour_table import Cells, HourTable
from demand_maint.core.metrics import add_between, reduce_between
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.wall_hours import wall_hours

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
_NEVER = 1 << 40


class FeedSums:
    """Sums of actuals per (place code, hour).

    Notes
    -----
    `n` counts keys whose truth is known, `total` sums it; `invalid` counts values that are no numbers, `duplicates` repeated
    actuals of one key (the same value or a corrected one), `late` truths that came after the horizon, `expected` keys that
    were predicted. `minimum` and `maximum` only widen: a corrected extreme stays in them. They are infinite where `n` is 0.
    """

    __slots__ = ("_memo", "_table")

    def __init__(self) -> None:
        self._table = HourTable(FEED_FIELDS, lowest=("minimum",), highest=("maximum",))
        self._memo: BlockMemo[int] = BlockMemo()

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

    @property
    def changes(self) -> int:
        """Number of the newest change."""
        return self._table.changes

    def changed(self, edges: NDArray[np.int64], since: int) -> NDArray[np.bool_]:
        """Which blocks between `edges` (hours) were changed after the change `since`."""
        return self._table.changed(self._table.hours.searchsorted(edges), since)

    def day_span(self, grid: TimeGrid) -> tuple[int, int]:
        """First and newest local day whose hours are known."""
        hours = self._table.hours
        if not len(hours):
            return _NEVER, _NEVER
        first, newest = grid.day_of_hours(hours[[0, -1]]).tolist()
        return first, newest

    def wall_hours(self, first: int, end: int, grid: TimeGrid, every: int = 1) -> NDArray[np.float64]:
        """Return rows and summed demand of the local days [`first`, `end`), of `every` so many places one; (2, P, D, 24)."""
        return wall_hours(self._table, ("n", "total"), first, end, grid, every)

    def total(self, name: str) -> float:
        """One additive figure over everything kept."""
        return float(self._table.totals[:, FEED_FIELDS.index(name)].sum())

    def drop_before(self, hour: int) -> None:
        """Forget everything before `hour`."""
        self._table.drop_before(hour)

    def hours_before(self, hour: int) -> NDArray[np.int64]:
        """Hours before `hour` that hold anything, ascending."""
        return self._table.hours[: int(np.searchsorted(self._table.hours, hour))]

    def gather(self, targets: NDArray[np.int64]) -> None:
        """Move the oldest ``len(targets)`` hours to `targets`, as hours to days."""
        self._table.gather(targets)

    def parts(self) -> tuple[list[Any], dict[str, NDArray[Any]]]:
        """Shape and arrays for saving."""
        shape, (hours, data, totals) = self._table.parts()
        return shape, {"hours": hours, "data": data, "totals": totals}

    def load(self, shape: list[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `parts` gave; what was here before is gone."""
        self._table.load(shape, [arrays[name] for name in ("hours", "data", "totals")])
        self._memo = BlockMemo()
