"""What others read of the monitor: the newest records as CSV, the training rows, the figures. Derived, never read back."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.observation_frames import record_frame
from demand_maint._storage.observation_store import ObservationStore
from demand_maint.config import Config

__all__ = ["EXPORT_METRICS", "EXPORT_RECORDS", "EXPORT_TRAINING", "export_frame", "write_exports"]

EXPORT_RECORDS = "logs/predictions_log.csv"
EXPORT_TRAINING = "logs/training_data_new.csv"
EXPORT_METRICS = "logs/performance_metrics.json"
_HISTORY = 400
_CSV_ROWS = 2048
_SLICES = 8  # in which records are put together, with rests between


def write_exports(door: Door, store: ObservationStore, health: dict[str, Any], config: Config, now: float) -> None:
    """Write the three exports anew."""
    if store.metrics.newest_slot is None:
        return
    wanted = config.monitor.export_records
    start = max(store.complete_from, store.buffer.newest_rows_from(2 * wanted))
    frames = []
    for low, high in pairwise(np.linspace(start, store.metrics.newest_slot + 1, _SLICES + 1)):
        store.rest()
        frames.append(record_frame(store, low, high))
    frame = readable(pl.concat(frames).tail(wanted))
    store.rest()
    _write_csv(door, EXPORT_RECORDS, frame, store.rest)
    known = frame.filter(pl.col("actual").is_finite()).select("place_id", "timestamp", "predicted", "actual")
    _write_csv(door, EXPORT_TRAINING, known, store.rest)
    _write_metrics(door, health, now)


def _write_csv(door: Door, path: str, frame: pl.DataFrame, rest: Callable[[], object]) -> None:
    """Write a frame in parts with rests between: one write of all of it keeps every processor to itself for milliseconds."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            frame.clear().write_csv(file)  # the header
            for part in frame.iter_slices(_CSV_ROWS):
                part.write_csv(file, include_header=False)
                rest()

    door.write_frame(path, write)


def _write_metrics(door: Door, health: dict[str, Any], now: float) -> None:
    """Append today's figures to the kept ones; one entry an hour."""
    try:
        kept = json.loads(door.read_bytes(EXPORT_METRICS, 10_000_000))["history"]
    except (OSError, ValueError, KeyError, TypeError):
        kept = []
    entry = {"at": now, **health}
    if kept and int(kept[-1].get("at", 0) // 3600) == int(now // 3600):
        kept = kept[:-1]
    document = {"newest": entry, "history": [*kept, entry][-_HISTORY:]}
    door.replace(EXPORT_METRICS, json.dumps(document, indent=1).encode(), sync=False)


def export_frame(frame: pl.DataFrame, target: Path | IO[bytes], kind: str) -> int:
    """Write records for people and other tools; return how many."""
    frame = readable(frame)
    if kind == "parquet":
        frame.write_parquet(target, compression="zstd")
    elif kind == "csv":
        frame.write_csv(target)
    else:
        raise ValueError(f"{kind!r} is no export format; use 'csv' or 'parquet'.")
    return len(frame)


def readable(frame: pl.DataFrame) -> pl.DataFrame:
    """Return records with times as UTC datetimes."""
    times = [
        pl.from_epoch((pl.col(name) * 1e6).cast(pl.Int64), time_unit="us").dt.replace_time_zone("UTC").alias(name)
        for name in ("timestamp", "observed_at")
    ]
    return frame.with_columns(pl.col("observed_at").fill_nan(None)).with_columns(times).drop("slot")
