"""Hourly sums of the errors, per (place, hour, champion version): all that health, tests and charts read.

Everything in here is additive, so that a correction is a subtraction and an addition, and a window is a sum over hours.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.core.block_memo import BlockMemo
from demand_maint.core.fresh import fresh_errors
from demand_maint.core.hour_table import Cells, HourTable
from demand_maint.core.observation_events import is_uniform
from demand_maint.core.own_errors import OWN_FIELDS
from demand_maint.core.own_sums import OwnSums
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.view import SUM_FIELDS, FeedView

__all__ = ["HourlySums", "WindowSums", "add_between", "reduce_between"]

Floats = NDArray[np.float64]
#: Values in a row from which a loop over blocks is quicker (`python -m benchmarks.health_check`).
WIDE = 400


class WindowSums(Struct, frozen=True):
    """Sums over a window; errors are in units of demand.

    `abs_error_naive` is the champion's error on those rows that have a seasonal-naive forecast, so that it may be divided by
    `naive_abs_error`. `fresh_error` (`core.fresh`) is as of the last `HourlySums.find_fresh`. `predictions` counts rows with
    or without truth.
    """

    n: float = 0.0
    abs_error: float = 0.0
    error: float = 0.0
    sq_error: float = 0.0
    abs_actual: float = 0.0
    naive_n: float = 0.0
    naive_abs_error: float = 0.0
    abs_error_naive: float = 0.0
    fresh_error: float = 0.0
    served_n: float = 0.0
    served_abs_error: float = 0.0
    predictions: float = 0.0


class HourlySums:
    """Sums per (place code, hour, version).

    Notes
    -----
    What of an error was fresh follows from two hours, so it is no sum over rows: it is worked out when it is asked for, from the
    first hour on whose sums have changed, and for good when hours are merged into days.

    Examples
    --------
    >>> sums = HourlySums()
    >>> sums.window(0, 24).n
    0.0
    """

    __slots__ = ("_found", "_memos", "_merged", "_own", "_scratch", "_tables")

    def __init__(self) -> None:
        self._tables: dict[int, HourTable] = {}
        self._memos: dict[Any, BlockMemo[int]] = {}
        # by version, the number of the change up to which fresh errors are found; before the hour `_merged` hours are days
        self._found: dict[int, int] = {}
        self._merged = 0
        self._own = OwnSums()
        # kept: the first touch of fresh memory costs more than what is worked out in it
        self._scratch = np.empty((2, 0))

    def add(self, batch: MaturedBatch, cells: Cells | None = None, *, predicted: bool = False) -> None:
        """Add rows whose truth has arrived; `cells` are those of the rows where known.

        With `predicted` their predictions are counted as well.
        """
        self._apply(batch, 1.0, cells, predicted=predicted)

    def retract(self, batch: MaturedBatch) -> None:
        """Take back rows that were added before, as they were then."""
        self._apply(batch, -1.0)

    def count_predictions(
        self,
        place: NDArray[Any],
        slot: NDArray[np.int64],
        version: NDArray[Any],
        sign: float = 1.0,
        cells: Cells | None = None,
    ) -> None:
        """Count predictions made, or take the count back with `sign` -1; `cells` are those of the rows where known."""
        for number, chosen in _by_version(version):
            whole = isinstance(chosen, slice)
            here = cells if cells is not None and whole else Cells(place[chosen], slot[chosen])
            self._table(number).add(here, {"predictions": sign * here.counts})

    def find_fresh(self, grid: TimeGrid) -> None:
        """Work out `fresh_error` of the hours whose sums have changed since; `grid` tells the local days."""
        rows, error = SUM_FIELDS.index("n"), SUM_FIELDS.index("error")
        for number, table in self._tables.items():
            changed = table.changed_hours(self._found.get(number, -1))
            self._found[number] = table.changes
            changed = changed[table.hours[changed] >= self._merged]
            if not len(changed):
                continue
            # an hour has a say in the next one
            first, end = int(changed[0]), min(int(changed[-1]) + 2, len(table.hours))
            seen = slice(max(first - 1, 0), end)
            hours = table.hours[seen]
            follows = np.zeros(len(hours), dtype=bool)
            follows[1:] = (np.diff(hours) == 1) & (np.diff(grid.day_of_hours(hours)) == 0)
            fresh = fresh_errors(table.data[seen, rows].T, table.data[seen, error].T, follows).T
            table.put("fresh_error", first, fresh[first - seen.start :])

    def window(
        self, start_hour: int, end_hour: int, version: int | None = None, place: int | None = None
    ) -> WindowSums:
        """Return sums over ``start_hour <= hour < end_hour``; hours since 1970-01-01T00Z."""
        total = np.zeros(len(SUM_FIELDS))
        for table in self._chosen(version):
            span = table.span(start_hour, end_hour)
            if place is None:
                total += table.totals[span].sum(axis=0)
            elif place < table.places:
                total += table.data[span, :, place].sum(axis=0)
        return WindowSums(*total.tolist())

    def blocks(self, edges: NDArray[np.int64], version: int | None = None) -> dict[str, NDArray[np.float64]]:
        """Return sums over each of the B blocks between B + 1 ascending `edges` (hours); arrays of shape (B,)."""
        out = np.zeros((max(len(edges) - 1, 0), len(SUM_FIELDS)))
        for table in self._chosen(version):
            out += add_between(table.totals, np.searchsorted(table.hours, edges))
        return {name: out[:, i] for i, name in enumerate(SUM_FIELDS)}

    def blocks_by_place(
        self,
        edges: NDArray[np.int64],
        version: int | None = None,
        fields: Sequence[str] = SUM_FIELDS,
        every: int = 1,
        *,
        keep: bool = False,
    ) -> dict[str, NDArray[np.float64]]:
        """Return the same per place, of `fields` only and of `every` so many places one; arrays of shape (P, B).

        With `keep` it is remembered for whoever asks for mostly the same blocks again.
        """
        columns = [SUM_FIELDS.index(name) for name in fields]
        places = max((table.places for table in self._tables.values()), default=0)
        out = np.zeros((max(len(edges) - 1, 0), len(fields), -(-places // every)))
        for number, table in self._tables.items():
            if version is not None and number != version:
                continue
            at = table.hours.searchsorted(edges)
            if not len(at) or at[0] == at[-1]:
                continue
            if keep:
                memo = self._memos.setdefault((number, version, tuple(fields), every), BlockMemo())
                blocks = memo.blocks(
                    edges,
                    table.changes,
                    partial(table.changed, at),
                    partial(_some_by_place, table, at, columns, every),
                )
            else:
                blocks = _some_by_place(table, at, columns, every, 0, len(at) - 1)
            out[:, :, : blocks.shape[2]] += blocks
        return {name: out[:, i].T for i, name in enumerate(fields)}

    def own_by_place(
        self,
        feed: FeedView,
        edges: NDArray[np.int64],
        grid: TimeGrid,
        lag: int,
        champion: int | None = None,
        first_day: int = 0,
        every: int = 1,
    ) -> dict[str, NDArray[np.float64]]:
        """Return rows compared, own error and ordinary error (`core.own_errors`) per place and local day, (P, D) each.

        Parameters
        ----------
        feed
            The truth of the same places.
        edges
            Hours at which D days begin, and at which the last one ends.
        lag
            Days that forecasts are made ahead.
        champion, first_day
            From that position on rows of this version count, before it everybody's; without a champion all do.
        every
            Of so many places one; a `sample_step`.
        """
        found = self._own.by_place(self._tables, feed, edges, grid, lag, every, champion, first_day)
        return dict(zip(OWN_FIELDS, found, strict=True))

    def settle_own(self, feed: FeedView, before: int, grid: TimeGrid, lag: int) -> None:
        """Find for good the own errors of days that cannot be found once the hours of days before `before` are merged."""
        self._own.settle(self._tables, feed, before, grid, lag)

    def versions(self, start_hour: int, end_hour: int) -> list[int]:
        """Versions with rows whose truth is known in the range, ascending."""
        return sorted(
            number for number, table in self._tables.items() if table.totals[table.span(start_hour, end_hour), 0].any()
        )

    def drop_before(self, hour: int) -> None:
        """Forget everything before `hour`."""
        for number in list(self._tables):
            self._tables[number].drop_before(hour)
            if not len(self._tables[number].hours):
                del self._tables[number]
                self._found.pop(number, None)
                self._memos = {asked: memo for asked, memo in self._memos.items() if asked[0] != number}
        self._own.forget(hour, self._tables)

    def hours_before(self, hour: int) -> NDArray[np.int64]:
        """Hours before `hour` that hold anything, over all versions, ascending."""
        parts = [table.hours[: int(np.searchsorted(table.hours, hour))] for table in self._tables.values()]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)

    def gather(self, sources: NDArray[np.int64], targets: NDArray[np.int64], grid: TimeGrid) -> None:
        """Move what the hours `sources` (ascending, the oldest there are) hold to `targets`, as hours to days."""
        self.find_fresh(grid)
        self._merged = max(self._merged, int(sources[-1]) + 1)
        for table in self._tables.values():
            old = table.hours[: int(np.searchsorted(table.hours, sources[-1], side="right"))]
            table.gather(targets[np.searchsorted(sources, old)])

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Facts and arrays for saving."""
        shapes: dict[str, Any] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for number, table in self._tables.items():
            shape, (hours, data, totals) = table.parts()
            shapes[str(number)] = shape
            arrays |= {f"{number}.hours": hours, f"{number}.data": data, f"{number}.totals": totals}
        own, own_arrays = self._own.parts()
        return {"merged": self._merged, "shapes": shapes, "own": own}, arrays | own_arrays

    def load(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `parts` gave; what was here before is gone."""
        self._tables, self._memos, self._found, self._merged = {}, {}, {}, int(facts["merged"])
        for number, shape in facts["shapes"].items():
            table = self._table(int(number))
            table.load(shape, [arrays[f"{number}.{part}"] for part in ("hours", "data", "totals")])
        self._own.load(facts["own"], arrays)

    def _table(self, version: int) -> HourTable:
        table = self._tables.get(version)
        if table is None:
            table = self._tables[version] = HourTable(SUM_FIELDS)
        return table

    def _chosen(self, version: int | None) -> list[HourTable]:
        if version is None:
            return list(self._tables.values())
        table = self._tables.get(version)
        return [] if table is None else [table]

    def _apply(self, batch: MaturedBatch, sign: float, cells: Cells | None = None, *, predicted: bool = False) -> None:
        for number, chosen in _by_version(batch.version):
            whole = isinstance(chosen, slice)
            here = cells if cells is not None and whole else Cells(batch.place[chosen], batch.slot[chosen])
            if here.longest > self._scratch.shape[1]:
                self._scratch = np.empty((2, here.longest))
            parts = here.sums(_Figures(batch, chosen, self._scratch))
            parts |= {"n": here.counts, "served_n": here.counts}
            parts.setdefault("served_abs_error", parts["abs_error"])
            if predicted:
                parts["predictions"] = here.counts
            if here.first < self._merged:  # of a day whose hours are gone all of an error counts as fresh
                parts["fresh_error"] = parts["abs_error"]
            if "naive_abs_error" in parts:
                parts.setdefault("naive_n", here.counts)
                parts.setdefault("abs_error_naive", parts["abs_error"])
            if sign < 0:
                parts = {name: -part for name, part in parts.items()}
            self._table(number).add(here, parts)


class _Figures:
    """What is summed of some rows; of the rows that `chosen` picks, a part at a time.

    What stands for another one, as the error of what was served where that is the prediction, is left out. Worked out in
    `scratch`, two lines as long as the longest part.
    """

    def __init__(self, batch: MaturedBatch, chosen: Any, scratch: Floats) -> None:
        self._scratch = scratch
        self._predicted, self._actual = batch.predicted[chosen], batch.actual[chosen]
        self._served = None if batch.served is batch.predicted else batch.served[chosen]
        naive = batch.naive[chosen]
        one_or_all = naive[:1] if naive.strides == (0,) else naive
        known = one_or_all == one_or_all  # noqa: PLR0124 - the quickest test for NaN over an array
        self._naive = naive if known.any() else None
        self._known = None if known.all() else known

    def __call__(self, rows: slice) -> Iterator[tuple[str, NDArray[Any]]]:
        """Names and values, each to be used before the next is asked for."""
        actual = self._actual[rows]
        error, other = self._scratch[:, : len(actual)]
        yield "error", np.subtract(self._predicted[rows], actual, out=error)
        yield "sq_error", np.square(error, out=other)
        yield "abs_actual", np.abs(actual, out=other)
        absolute = np.abs(error, out=error)
        yield "abs_error", absolute
        if self._served is not None:
            yield "served_abs_error", np.abs(np.subtract(self._served[rows], actual, out=other), out=other)
        if self._naive is None:
            return
        missed = np.abs(np.subtract(self._naive[rows], actual, out=other), out=other)
        if self._known is None:
            yield "naive_abs_error", missed
            return
        known = self._known[rows]
        yield "naive_n", known
        yield "naive_abs_error", np.where(known, missed, 0.0)
        yield "abs_error_naive", np.where(known, absolute, 0.0)


def _by_version(version: NDArray[Any]) -> list[tuple[int, Any]]:
    """Versions in a batch, each with the rows that carry it; a slice where there is only one."""
    if not len(version):
        return []
    if is_uniform(version):
        return [(int(version[0]), slice(None))]
    return [(int(number), np.flatnonzero(version == number)) for number in np.unique(version)]


def _some_by_place(
    table: HourTable, at: NDArray[np.intp], columns: Sequence[int], every: int, first: int, end: int
) -> NDArray[np.float64]:
    """Return sums of some columns and places over the blocks `first` .. `end` between neighbouring positions `at`, (B, columns, P)."""
    at = at[first : end + 1]
    rows = table.data[int(at[0]) : int(at[-1]), :, ::every]
    at = at - at[0]
    if rows.shape[2] * len(columns) <= WIDE:  # all in one call
        return add_between(rows[:, columns], at)
    out = np.empty((end - first, len(columns), rows.shape[2]))
    for i, column in enumerate(columns):
        out[:, i] = add_between(rows[:, column], at)
    return out


def add_between(rows: NDArray[np.float64], at: NDArray[Any]) -> NDArray[np.float64]:
    """Add up `rows` (N, ...) between neighbouring ascending positions `at` (B + 1,); zero where they meet; (B, ...)."""
    return reduce_between(np.add, rows, at, 0.0)


def reduce_between(how: np.ufunc, rows: NDArray[np.float64], at: NDArray[Any], nothing: float) -> NDArray[np.float64]:
    """Reduce `rows` (N, ...) between neighbouring ascending positions `at` (B + 1,); `nothing` where they meet; (B, ...)."""
    out = np.full((max(len(at) - 1, 0), *rows.shape[1:]), nothing)
    filled = np.flatnonzero(at[1:] > at[:-1])
    if out[:1].size > WIDE:  # numpy's reduceat goes row by row: slower than a loop over blocks where rows are wide
        for block in filled:
            out[block] = how.reduce(rows[at[block] : at[block + 1]], axis=0)
    elif len(filled):
        out[filled] = how.reduceat(rows[: at[-1]], at[filled], axis=0)
    return out
