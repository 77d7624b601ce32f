"""Hourly sums of the truth itself, per (place, hour): what tells a broken feed from a broken model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.hour_table import Cells, HourTable
from demand_maint.core.metrics import add_between, reduce_between

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


class FeedSums:
    """Sums of actuals per (place code, hour).

    Notes
    -----
    `n` counts keys whose truth is known, `total` sums it; `invalid` counts values that are no numbers, `duplicates` repeated
    actuals of one key (the same value or a corrected one), `late` truths that came after the horizon, `expected` keys that
    were predicted. `minimum` and `maximum` only widen: a corrected extreme stays in them. They are infinite where `n` is 0.
    """

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table = HourTable(FEED_FIELDS, lowest=("minimum",), highest=("maximum",))

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

    def count(self, name: str, place: NDArray[Any], slot: NDArray[np.int64]) -> None:
        """Count one of ``invalid``, ``duplicates``, ``expected`` per row."""
        here = Cells(place, slot)
        self._table.add(here, {name: here.counts})

    def blocks_by_place(self, edges: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Each figure over each of the B blocks between B + 1 ascending `edges` (hours); arrays of shape (P, B)."""
        table, at = self._table, np.searchsorted(self._table.hours, edges)
        out = add_between(table.data, at)
        for name, extreme, nothing in (("minimum", np.minimum, np.inf), ("maximum", np.maximum, -np.inf)):
            field = FEED_FIELDS.index(name)
            out[:, field] = reduce_between(extreme, table.data[:, field], at, nothing)
        return {name: out[:, i, :].T for i, name in enumerate(FEED_FIELDS)}

    @property
    def places(self) -> int:
        """Places there are figures of, by code."""
        return self._table.places

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
        """Facts and arrays for saving."""
        shape, (hours, data, totals) = self._table.parts()
        return shape, {"hours": hours, "data": data, "totals": totals}

    def load(self, shape: list[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `parts` gave; what was here before is gone."""
        self._table.load(shape, [arrays[name] for name in ("hours", "data", "totals")])
