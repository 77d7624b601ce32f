"""Where training rows come from: recorded truth, or the files in ``data/processed``."""

from collections.abc import Callable

import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.stamps import stamp_reader
from demand_maint.config import Config
from demand_maint.core.thinning import evenly_thinned
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import HistoryFileError, InsufficientDataError, TargetError
from demand_maint.features import FeatureBuilder, load_builder, seasonal_naive

__all__ = ["built_rows", "processed_rows", "with_epochs", "with_naive", "with_slots"]

PROCESSED = "data/processed"
DAY = 86400.0
PLACE_AND_TIME = ("place_id", "timestamp")
SUFFIXES = (".parquet", ".csv")


def grid_of(config: Config) -> TimeGrid:
    """Return the slots of the configured zone and step."""
    return TimeGrid(config.zone, config.step_seconds)


def with_naive(rows: pl.DataFrame, truth: Callable[[float], pl.DataFrame], config: Config) -> pl.DataFrame:
    """Add the seasonal-naive forecast as column ``naive`` where rows tell place and time; only then `truth` is asked, from a slot on."""
    if "naive" in rows.columns or any(name not in rows.columns for name in PLACE_AND_TIME) or not len(rows):
        return rows
    slots = grid_of(config).floor(with_epochs(rows, config)["timestamp"].to_numpy())
    keys = rows.select("place_id", timestamp=pl.Series(slots))
    known = truth(float(slots.min()) - 2 * config.season_seconds - DAY)
    return rows.with_columns(naive=seasonal_naive(known, keys, grid_of(config), config.season_seconds))


def built_rows(
    truth: pl.DataFrame, config: Config, builder: FeatureBuilder, since: float | None = None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Turn truth (place_id, timestamp, actual) into training rows; return them and the names of their features.

    Keys from `since` on, or as many of them as the configuration allows, become rows whose features use only what was known the
    horizon before.
    """
    history = truth.filter(pl.col("actual").is_finite())
    wanted = history if since is None else history.filter(pl.col("timestamp") >= since)
    wanted = wanted[evenly_thinned(len(wanted), config.training.max_rows, config.training.seed)]
    keys = wanted.select(PLACE_AND_TIME)
    rows = builder.build(history, keys)
    if rows["timestamp"].equals(keys["timestamp"]) and rows["place_id"].equals(keys["place_id"]):
        rows = rows.with_columns(actual=wanted["actual"])
    else:
        rows = rows.join(wanted.select(*PLACE_AND_TIME, "actual"), on=PLACE_AND_TIME, how="left", maintain_order="left")
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
        rows, _ = built_rows(with_slots(truth, config), config, load_builder(config, door.root))
    return rows.filter(pl.col("actual").is_not_null())


def _read(door: Door, rel: str, config: Config) -> pl.DataFrame:
    try:
        data = door.read_bytes(rel)
        table = pl.read_parquet(data) if rel.endswith(".parquet") else pl.read_csv(data, infer_schema_length=10_000)
        table = table.with_columns(pl.col("actual").cast(pl.Float64)) if "actual" in table.columns else table
        return with_epochs(table, config)
    except (OSError, pl.exceptions.PolarsError, TargetError) as error:
        raise HistoryFileError(
            f"{rel} cannot be read as training rows: {str(error)[:300]} Mend or remove it."
        ) from error


def with_epochs(table: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Make ``timestamp`` epoch seconds, whatever a user keeps there; naive times are in the configured zone."""
    if "timestamp" not in table.columns or table["timestamp"].dtype.is_numeric():
        return table
    read = stamp_reader(config.zone)
    try:
        stamps = [read(value) for value in table["timestamp"].to_list()]
    except (TypeError, ValueError, OverflowError) as error:
        raise TargetError(f"A row has no usable timestamp: {error} Remove the row or mend it.") from error
    return table.with_columns(timestamp=pl.Series(stamps, dtype=pl.Float64))


def with_slots(table: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Floor ``timestamp`` (epoch seconds) to the slots; of several rows of one key the last stays."""
    slots = pl.Series(grid_of(config).floor(table["timestamp"].to_numpy()))
    return table.with_columns(timestamp=slots).unique(PLACE_AND_TIME, keep="last", maintain_order=True)
