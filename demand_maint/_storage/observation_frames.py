"""Observations as frames: rows with their errors, the truth, and the feature rows that predictions were made from."""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.observation_store import DAY, ObservationStore
from demand_maint._storage.segments import Rows
from demand_maint.core.key_index import make_keys
from demand_maint.core.observations import RowBuffer
from demand_maint.core.records import MaturedBatch

__all__ = ["feature_frame", "place_column", "record_frame", "row_batch", "truth_frame"]

_FOREVER = (1 << 32) - 1


def place_column(places: Sequence[int | str], codes: NDArray[np.integer]) -> pl.Series:
    """Place ids of `codes`: Int64 where all places are numbers, text otherwise."""
    if all(isinstance(place, int) for place in places):
        table = np.array(places, dtype=np.int64) if places else np.empty(0, dtype=np.int64)
        return pl.Series("place_id", table[codes] if len(codes) else table[:0], dtype=pl.Int64)
    text = pl.Series("place_id", [str(place) for place in places], dtype=pl.String)
    return text.gather(codes.astype(np.uint32))


def record_frame(store: ObservationStore, start: float | None, end: float | None) -> pl.DataFrame:
    """Predictions with `start` <= slot < `end` and their truth, NaN where that is not known yet, by slot and place."""
    return _frame(store, row_batch(store, start, end))


def row_batch(store: ObservationStore, start: float | None, end: float | None) -> MaturedBatch:
    """Return the same rows as they were journalled, with the values of the line-up's members and their serving snapshot."""
    low, high = _bounds(start, end)
    return _window(store, low, high).rows(low, high, matured=False)


def _frame(store: ObservationStore, batch: MaturedBatch) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "place_id": place_column(store.places, batch.place),
            "timestamp": batch.slot.astype(np.float64),
            "slot": batch.slot,
            "version": batch.version,
            "predicted": batch.predicted,
            "served": batch.served,
            "actual": batch.actual,
            "naive": batch.naive,
            "observed_at": np.where(np.isfinite(batch.actual), batch.observed_at, np.nan),
        }
    )


def truth_frame(store: ObservationStore, start: float | None, end: float | None) -> pl.DataFrame:
    """Known demand with `start` <= slot < `end`, imported history included; what was logged wins."""
    low, high = _bounds(start, end)
    place, slot, actual = _window(store, low, high, season=False).truths(low, high)
    imported = store.sealed.imported(since=low)
    if imported:
        old_place, old_slot, old_actual = store.imported_truth(imported)
        inside = (old_slot >= low) & (old_slot < high)
        place = np.concatenate([old_place[inside], place])
        slot = np.concatenate([old_slot[inside], slot])
        actual = np.concatenate([old_actual[inside], actual])
        keys = make_keys(place, slot)
        # the last of each key: a later import wins over an earlier one, the journal over both
        unique, backwards = np.unique(keys[::-1], return_index=True)
        at = len(keys) - 1 - backwards
        del unique
        place, slot, actual = place[at], slot[at], actual[at]
    return pl.DataFrame(
        {"place_id": place_column(store.places, place), "timestamp": slot.astype(np.float64), "actual": actual}
    )


def feature_frame(store: ObservationStore, start: float, end: float) -> pl.DataFrame:
    """Return logged feature rows with `start` <= slot < `end`, the last of each key, as ``key`` and Float32 columns."""
    parts: list[pl.DataFrame] = []
    for rows, place, observed, names in _feature_rows(store, start, end):
        slot = np.maximum(store.grid.floor(rows.time), 0)
        inside = (slot >= start) & (slot < end)
        if not inside.any() or rows.features is None:
            continue
        parts.append(
            pl.DataFrame({"key": make_keys(place, slot)[inside], "seen": observed[inside], "order": rows.after[inside]})
            .hstack(pl.from_numpy(np.ascontiguousarray(rows.features[inside]), schema=list(names)))
        )  # fmt: skip
    if not parts:
        return pl.DataFrame(schema={"key": pl.UInt64})
    together = pl.concat(parts, how="diagonal")
    return together.sort("seen", "order").unique("key", keep="last", maintain_order=True).drop("seen", "order")


def _feature_rows(
    store: ObservationStore, start: float, end: float
) -> Iterator[tuple[Rows, NDArray[np.uint32], NDArray[np.float64], Sequence[str]]]:
    for name in store.sealed.names(start, end + DAY):
        manifest = store.sealed.manifest(name)
        if manifest is None or not manifest.features:
            continue
        columns = [f"feature:{feature}" for feature in manifest.features]
        found = store.sealed.read(name, ["place", "timestamp", "observed_at", "order", *columns])
        if found is None:
            continue
        frame = found.frame
        codes = np.array([store.drain_reader.code_of(place) for place in found.places], dtype=np.uint32)
        features = np.column_stack([frame[column].to_numpy() for column in columns])
        nothing = np.empty(0)
        rows = Rows(
            frame["place"].to_numpy(), nothing.astype(np.uint16), nothing.astype(np.uint8), nothing, nothing,
            frame["timestamp"].to_numpy(), frame["order"].to_numpy(), features=features,
        )  # fmt: skip
        yield rows, codes[frame["place"].to_numpy()], frame["observed_at"].to_numpy(), manifest.features
    for part, names in store.drain_reader.reread_named(start, end + DAY):
        if part.rows.features is not None:
            width = part.rows.features.shape[1]
            known = names if len(names) == width else tuple(f"feature_{i}" for i in range(width))
            yield part.rows, part.place, part.observed_at, known


def _window(store: ObservationStore, low: int, high: int, *, season: bool = True) -> RowBuffer:
    """Rows of a range: those in memory where that reaches back far enough, else replayed from disk; so is a small part when none are in memory."""
    reach = 2 * store.config.season_seconds + 2 * DAY if season else DAY
    if (store.loaded or not store.is_small_part(low - reach, high + DAY)) and low >= (
        store.complete_from if season else store.buffer.floor
    ):
        return store.buffer
    replayed = store.metrics.new_buffer()
    if season:
        store.use_reference(replayed)
    for events in store.events_since(low - reach, high + DAY):
        replayed.ingest(events)
    if store.config.missing_actual == "zero" and store.drained_at is not None:
        replayed.assume_zero(store.drained_at)
    return replayed


def _bounds(start: float | None, end: float | None) -> tuple[int, int]:
    low = 0 if start is None else max(int(np.ceil(start)), 0)
    high = _FOREVER if end is None else min(int(np.ceil(end)), _FOREVER)
    return low, max(high, low)
