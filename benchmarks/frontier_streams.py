"""The streams of the policy frontier: shipped demand with the built-in features, and a stationary control."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint.config import Config, TrainingConfig
from demand_maint.core.timegrid import TimeGrid
from demand_maint.features import DemandFeatures, seasonal_naive
from demand_maint.testing import drifting_stream

__all__ = ["STREAMS", "Stream", "load_stream"]

DATA = Path(__file__).parents[1] / "examples" / "data"


@dataclass(frozen=True, eq=False)
class Stream:
    """Rows in the order of their slots; `first_day` is the first one that is lived through, `last_day` the one after the last."""

    name: str
    config: Config
    grid: TimeGrid
    names: tuple[str, ...]
    places: tuple[int | str, ...]
    place: NDArray[np.intp]
    slot: NDArray[np.int64]
    actual: NDArray[np.float64]
    naive: NDArray[np.float64]
    x: NDArray[np.float32]
    day: NDArray[np.int64]
    first_day: int
    last_day: int

    def rows(self, first: int, end: int) -> slice:
        """Rows of days first .. end - 1."""
        low, high = np.searchsorted(self.day, (first, end))
        return slice(int(low), int(high))


def load_stream(name: str, days: int | None) -> Stream:
    """One of `STREAMS`, `days` of it lived through (``None`` for as long as the issue asks)."""
    config, frame, start, usual, since = STREAMS[name]()
    grid = TimeGrid(config.zone, config.step_seconds)
    slots = grid.floor(frame["timestamp"].to_numpy())
    frame = frame.with_columns(timestamp=pl.Series(slots.astype(np.float64)))
    frame = frame.unique(["place_id", "timestamp"], keep="last", maintain_order=True).sort("timestamp", "place_id")
    builder = DemandFeatures(grid, config.horizon_seconds)
    history = frame.select("place_id", "timestamp", "actual")
    keys = history.select("place_id", "timestamp")
    naive = seasonal_naive(history, keys, grid, config.season_seconds)
    features = builder.build(history, keys).select(builder.names)
    x = np.asfortranarray(features.to_numpy().astype(np.float32))
    slot = frame["timestamp"].to_numpy().astype(np.int64)
    day = grid.day(slot)
    first = _day(start)
    keep = (day >= _day(since)) & (day < first + max(days or 0, usual))
    places = tuple(frame["place_id"].unique(maintain_order=True).to_list())
    code = frame["place_id"].replace_strict(list(places), list(range(len(places)))).to_numpy().astype(np.intp)
    return Stream(
        name, config, grid, tuple(builder.names), places, code[keep], slot[keep],
        frame["actual"].to_numpy().astype(np.float64)[keep], naive[keep], np.asfortranarray(x[keep]), day[keep],
        first, first + (days or usual),
    )  # fmt: skip


def _day(text: str) -> int:
    return int(np.datetime64(text, "D").astype(np.int64))


def _wall(frame: pl.DataFrame, grid: TimeGrid) -> pl.DataFrame:
    """Wall-clock stamps as epoch seconds."""
    wall = frame["timestamp"].cast(pl.Datetime("us")).to_physical().to_numpy() // 1_000_000
    return frame.with_columns(timestamp=pl.Series(grid.epoch(wall).astype(np.float64)))


Loaded = tuple[Config, pl.DataFrame, str, int, str]


def bikes() -> Loaded:
    """Capital Bikeshare: champion trained on what came before 2013, lived through two years."""
    config = Config(zone="America/New_York", step="1h")
    frame = pl.read_parquet(DATA / "dc_bikes_hourly.parquet")
    return config, _wall(frame, TimeGrid(config.zone, 3600)), "2013-01-01", 730, "2010-10-05"


def parks() -> Loaded:
    """Birmingham car parks, half-hourly: champion trained on October, lived through November and December."""
    config = Config(zone="Europe/London", step="30m")
    frame = pl.read_parquet(DATA / "birmingham_parking.parquet")
    return config, _wall(frame, TimeGrid(config.zone, 1800)), "2016-11-01", 49, "2016-10-04"


def control() -> Loaded:
    """Make a stream that never changes."""
    config = Config(step="1h")
    frame = drifting_stream(places=3, days=400, start=1_577_836_800.0, seed=3)
    return config, frame, "2020-07-01", 180, "2020-01-15"


def tiny() -> Loaded:
    """Make two places that shift, with small models: the tests' own."""
    small = TrainingConfig(full_iterations=40, full_depth=4, fine_tune_iterations=20)
    frame = drifting_stream(places=2, days=110, start=1_577_836_800.0, shift_day=80, shift=1.4, seed=5)
    return Config(step="1h", training=small), frame, "2020-03-11", 35, "2020-01-15"


STREAMS = {"bikes": bikes, "parks": parks, "control": control, "tiny": tiny}
