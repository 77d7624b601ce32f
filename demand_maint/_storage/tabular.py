"""Frames into journal columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.journal import Journal
from demand_maint.core.observation_events import alike, is_uniform

__all__ = ["many_columns"]

_SAMPLE = 1 << 15


def many_columns(journal: Journal, frame: pl.DataFrame | Mapping[str, Any], features: Sequence[str] = ()) -> int:
    """Log the rows of a frame; return how many were taken."""
    table = frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(dict(frame))
    missing = [name for name in ("place_id", "timestamp") if name not in table.columns]
    if missing or not {"predicted", "actual"} & set(table.columns):
        raise ValueError(
            f"log_many needs the columns place_id, timestamp and predicted, actual or both; got {table.columns}."
        )
    if not len(table):
        return 0
    codes, good = _codes(journal, table["place_id"])
    times, timed = _times(journal, table["timestamp"])
    good = _both(good, timed)
    predicted, actual = _demand(table, "predicted"), _demand(table, "actual")
    rows = table.select(pl.col(name).cast(pl.Float32) for name in features).to_numpy() if features else None
    if rows is not None:
        journal.name_features(tuple(features))
    has_prediction, has_actual = _known(table, "predicted"), _known(table, "actual")
    taken = 0
    choices = [(_both(has_prediction, has_actual), True, True), (_both(has_prediction, _not(has_actual)), True, False),
               (_both(_not(has_prediction), has_actual), False, True)]  # fmt: skip
    if rows is not None:
        choices = [(has_prediction, True, False), (has_actual, False, True)]
    for chosen, with_prediction, with_actual in choices:
        here = _both(chosen, good)
        count = int(np.count_nonzero(here))
        if not count:
            continue
        at: Any = slice(None) if count == len(here) else here
        journal.log_columns(
            codes[at],
            times[at],
            predicted[at] if with_prediction and predicted is not None else None,
            actual[at] if with_actual and actual is not None else None,
            rows[at] if rows is not None and with_prediction else None,
        )
        taken += count
    return int(((has_prediction | has_actual) & good).sum()) if rows is not None else taken


def _known(table: pl.DataFrame, name: str) -> NDArray[np.bool_]:
    if name not in table.columns:
        return alike(False, len(table), np.bool_)
    column = table[name]
    return column.is_not_null().to_numpy() if column.null_count() else alike(True, len(table), np.bool_)


# flags that are one for all rows take no memory: fresh memory costs more than all that is done here


def _both(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if is_uniform(one):
        return other if one[0] else one
    if is_uniform(other):
        return one if other[0] else other
    return one & other


def _not(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return alike(not flags[0], len(flags), np.bool_) if is_uniform(flags) else ~flags


def _codes(journal: Journal, places: pl.Series) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Codes of places, and which of them are places at all; of rounds over the same places only the first is looked up."""
    period = _period(places)
    if period:
        codes, good = _each_code(journal, places.head(period))
        return np.resize(codes, len(places)), alike(True, len(places), np.bool_) if good.all() else np.resize(
            good, len(places)
        )
    return _each_code(journal, places)


def _period(places: pl.Series) -> int:
    """After how many rows the places begin again and go on so to the end; 0 where they do not."""
    again = (places.head(_SAMPLE) == places[0]).arg_true()
    period = int(again[1]) if len(again) > 1 else 0
    for rows in (min(2 * period, len(places)), len(places)):
        if period and not places.slice(period, rows - period).eq_missing(places.head(rows - period)).all():
            period = 0
    return period


def _each_code(journal: Journal, places: pl.Series) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    if not places.null_count():
        if places.dtype == pl.String:
            return _text_codes(journal, places)
        whole = places.cast(pl.Int64, strict=False) if places.dtype.is_integer() else None
        if whole is not None and not whole.null_count():
            numbers = whole.to_numpy()
            low, high = int(numbers.min()), int(numbers.max())
            if high - low < max(4 * len(numbers), _SAMPLE):
                return _number_codes(journal, numbers, low, high)
    unique = places.unique(maintain_order=True)
    codes, good = journal.encode(unique.to_list())
    packed = np.where(good, codes.astype(np.int64), -1)
    mapped = places.replace_strict(unique, packed, return_dtype=pl.Int64).to_numpy()
    return np.maximum(mapped, 0).astype(np.uint32), mapped >= 0


def _text_codes(journal: Journal, places: pl.Series) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Look every text up once: a sample mostly shows all places there are (`python -m benchmarks.batch`)."""
    known = places
    if len(places) > 2 * _SAMPLE:
        # the beginning for rounds over all places, every so-manieth row for places one after the other
        known = pl.concat([places.head(_SAMPLE), places.gather_every(len(places) // _SAMPLE)])
    known = known.unique(maintain_order=True)
    found = places.cast(pl.Enum(known), strict=False)
    if found.null_count():
        known = places.unique(maintain_order=True)
        found = places.cast(pl.Enum(known))
    codes, good = journal.encode(known.to_list())
    at = found.to_physical().to_numpy()
    return codes.take(at), np.ones(len(at), dtype=bool) if good.all() else good.take(at)


def _number_codes(
    journal: Journal, numbers: NDArray[np.int64], low: int, high: int
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Look every number up in a table of the range they are from."""
    at = numbers - low
    there = np.zeros(high - low + 1, dtype=bool)
    there[at] = True
    known = np.flatnonzero(there)
    table, taken = np.zeros(len(there), dtype=np.uint32), np.zeros(len(there), dtype=bool)
    table[known], taken[known] = journal.encode((known + low).tolist())
    return table.take(at), taken.take(at)


def _times(journal: Journal, stamps: pl.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if isinstance(stamps.dtype, pl.Datetime) and (stamps.dtype.time_zone is not None or journal.zone == "UTC"):
        times = (stamps.dt.epoch("us").cast(pl.Float64) / 1e6).fill_null(np.nan).to_numpy()
    elif stamps.dtype.is_numeric():
        times = _numbers(stamps)
    else:
        return journal.read_times(stamps.to_list(), len(stamps))
    if times.min() >= 0 and times.max() <= 4_294_000_000:  # neither is true of a time that is no number
        return times, alike(True, len(times), np.bool_)
    sane = (times >= 0) & (times <= 4_294_000_000)
    journal.count_refused("timestamp", int((~sane).sum()))
    return times, sane


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    column = column.cast(pl.Float64)
    values: NDArray[np.float64] = (column.fill_null(np.nan) if column.null_count() else column).to_numpy()
    return values


def _demand(table: pl.DataFrame, name: str) -> NDArray[np.float64] | None:
    if name not in table.columns:
        return None
    column = table[name]
    if column.dtype.is_numeric():
        return _numbers(column)
    return np.array(
        [
            value if isinstance(value, int | float) and not isinstance(value, bool) else np.nan
            for value in column.to_list()
        ],
        dtype=np.float64,
    )
