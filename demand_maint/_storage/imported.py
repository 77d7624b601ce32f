"""Demand from before us, as keys and actuals."""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint.core.key_index import make_keys
from demand_maint.core.timegrid import TimeGrid

__all__ = ["Truth", "as_reference", "imported_truth"]

_LATEST = 4_294_000_000
#: Place codes, slots and actuals, one each per row.
Truth = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.float64]]


def imported_truth(frames: list[pl.DataFrame], code_of: Callable[[int | str], int], grid: TimeGrid) -> Truth:
    """Return what imported frames (place_id, timestamp, actual) tell, without actuals that are no numbers."""
    codes: list[NDArray[np.uint32]] = []
    for frame in frames:
        ids = frame["place_id"].unique(maintain_order=True)
        table = pl.DataFrame(
            {"place_id": ids, "code": [code_of(place) for place in ids.to_list()]},
            schema_overrides={"code": pl.UInt32},
        )
        joined = frame.select("place_id").join(table, on="place_id", how="left", maintain_order="left")
        codes.append(joined["code"].to_numpy())
    place = np.concatenate(codes)
    time = np.concatenate([frame["timestamp"].cast(pl.Float64).to_numpy() for frame in frames])
    actual = np.concatenate([frame["actual"].cast(pl.Float64).to_numpy() for frame in frames])
    good = np.isfinite(actual) & (time >= 0) & (time < _LATEST)
    return place[good].astype(np.uint32), grid.floor(time[good]), actual[good]


def as_reference(
    place: NDArray[np.uint32], slot: NDArray[np.int64], actual: NDArray[np.float64]
) -> Callable[[NDArray[np.uint32], NDArray[np.int64]], NDArray[np.float64]]:
    """Return the function that gives the actuals (at least one) of places and slots, NaN where there is none; the last of a key wins."""
    keys = make_keys(place, slot)
    order = np.argsort(keys, kind="stable")
    keys, actual = keys[order], actual[order]

    def reference(places: NDArray[np.uint32], slots: NDArray[np.int64]) -> NDArray[np.float64]:
        wanted = make_keys(places, np.maximum(slots, 0))
        at = np.maximum(np.searchsorted(keys, wanted, side="right") - 1, 0)
        return np.where(keys[at] == wanted, actual[at], np.nan)

    return reference
