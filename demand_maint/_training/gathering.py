"""Where training rows come from: recorded truth, or the files in ``data/processed``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.stamps import stamp_reader
from demand_maint.config import Config
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import HistoryFileError, InsufficientDataError

if TYPE_CHECKING:
    from demand_maint.features import FeatureBuilder

__all__ = ["built_rows", "processed_rows", "with_naive"]

PROCESSED = "data/processed"
PLACE_AND_TIME = ("place_id", "timestamp")
SUFFIXES = (".parquet", ".csv")


def grid_of(config: Config) -> TimeGrid:
    """Return the slots of the configured zone and step."""
    return TimeGrid(config.zone, config.step_seconds)


def with_naive(rows: pl.DataFrame, truth: Callable[[], pl.DataFrame], config: Config) -> pl.DataFrame:
    """Add the seasonal-naive forecast as column ``naive`` where rows tell place and time; `truth` is asked only then."""
    if "naive" in rows.columns or any(name not in rows.columns for name in PLACE_AND_TIME) or not len(rows):
        return rows
    from demand_maint.features import seasonal_naive  # noqa: PLC0415  # kept light: a child never builds features

    keys = rows.select("place_id", timestamp=pl.Series(_slots(rows, config)))
    return rows.with_columns(naive=seasonal_naive(truth(), keys, grid_of(config), config.season_seconds))


def built_rows(
    truth: pl.DataFrame, config: Config, builder: "FeatureBuilder | None" = None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Turn truth (place_id, timestamp, actual) into training rows; return them and the names of their features.

    Every key becomes a row whose features use only what was known the horizon before it.
    """
    from demand_maint.features import load_builder, seasonal_naive  # noqa: PLC0415  # kept light

    builder = builder or load_builder(config)
    history = truth.filter(pl.col("actual").is_finite())
    keys = history.select(PLACE_AND_TIME)
    rows = builder.build(history, keys)
    if rows["timestamp"].equals(keys["timestamp"]) and rows["place_id"].equals(keys["place_id"]):
        rows = rows.with_columns(actual=history["actual"])
    else:
        rows = rows.join(
            history.select(*PLACE_AND_TIME, "actual"), on=PLACE_AND_TIME, how="left", maintain_order="left"
        )
    naive = seasonal_naive(history, rows.select(PLACE_AND_TIME), grid_of(config), config.season_seconds)
    return rows.with_columns(naive=naive), tuple(builder.names)


def processed_rows(door: Door, features: tuple[str, ...], config: Config) -> pl.DataFrame:
    """Read ``data/processed``: rows with `features` as they are, or features built from place, time and actual.

    Raises
    ------
    InsufficientDataError
        There is no file.
    HistoryFileError
        A file is unreadable or lacks columns; its name is in the message.
    """
    names = [name for name in door.listdir(PROCESSED) if name.endswith(SUFFIXES)]
    if not names:
        raise InsufficientDataError(
            0, 1, remedy=f"Put .parquet or .csv files with the features and `actual` into {PROCESSED}."
        )
    tables = [_read(door, f"{PROCESSED}/{name}", config) for name in names]
    ready = all(set(features) <= set(table.columns) for table in tables)
    wanted = [*features, "actual"] if ready else [*PLACE_AND_TIME, "actual"]
    for name, table in zip(names, tables, strict=True):
        missing = [column for column in wanted if column not in table.columns]
        if missing:
            raise HistoryFileError(
                f"{PROCESSED}/{name} lacks {', '.join(repr(column) for column in missing[:5])}. "
                "It needs `actual` and either the model's features or place_id and timestamp."
            )
    if ready:
        common = [name for name in ("place_id", "timestamp", "naive") if all(name in table.columns for table in tables)]
        rows = pl.concat([table.select(*common, *wanted) for table in tables], how="vertical_relaxed")
    else:
        truth = pl.concat([table.select(wanted) for table in tables], how="vertical_relaxed")
        slots = truth.with_columns(timestamp=pl.Series(_slots(truth, config)))
        rows, _ = built_rows(slots.unique(PLACE_AND_TIME, keep="last", maintain_order=True), config)
    return rows.filter(pl.col("actual").is_not_null())


def _read(door: Door, rel: str, config: Config) -> pl.DataFrame:
    try:
        data = door.read_bytes(rel)
        table = pl.read_parquet(data) if rel.endswith(".parquet") else pl.read_csv(data, infer_schema_length=10_000)
        table = table.with_columns(pl.col("actual").cast(pl.Float64)) if "actual" in table.columns else table
        return (
            table.with_columns(timestamp=pl.Series(_epochs(table, config))) if "timestamp" in table.columns else table
        )
    except (OSError, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise HistoryFileError(
            f"{rel} cannot be read as training rows: {str(error)[:300]} Mend or remove it."
        ) from error


def _epochs(table: pl.DataFrame, config: Config) -> Any:
    read = stamp_reader(config.zone)
    return np.array([read(value) for value in table["timestamp"].to_list()], dtype=np.float64)


def _slots(table: pl.DataFrame, config: Config) -> Any:
    return grid_of(config).floor(_epochs(table, config))
