"""Parts of a root that remember, for collectors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.data_collector import RealTimeDataCollector
from demand_maint.errors import NoChampionError
from demand_maint.testing import VirtualClock


class Model:
    """Predicts the sum of a row, and keeps what it was asked."""

    def __init__(self) -> None:
        self.version = 1
        self.asked: list[tuple[Any, Any, Any]] = []
        self.missing = False

    def predict(self, features: Any, place_id: Any = None, timestamp: Any = None, *, schema: Any = None) -> Any:
        if self.missing:
            raise NoChampionError("here")
        self.asked.append((features, list(place_id), list(timestamp)))
        rows = [list(row.values()) if isinstance(row, dict) else row for row in features]
        return np.asarray(rows, dtype=np.float64).sum(axis=1)


class Monitor:
    """Keeps actuals."""

    def __init__(self) -> None:
        self.actuals: list[tuple[Any, Any, float]] = []
        self.past = pl.DataFrame(
            {"place_id": [1], "timestamp": [0.0], "actual": [3.0]},
            schema={"place_id": pl.Int64, "timestamp": pl.Float64, "actual": pl.Float64},
        )

    def log_actual(self, place_id: Any, timestamp: Any, actual: float) -> None:
        self.actuals.append((place_id, timestamp, actual))

    def truth(self, start: float | None = None, end: float | None = None) -> pl.DataFrame:
        return self.past


class Parts:
    """What a collector opens when nobody maintains it."""

    def __init__(self) -> None:
        self.monitor, self.model = Monitor(), Model()
        self.free, self.closed = True, False
        self.last: float | None = None
        self.updates: list[str | None] = []
        self.drains = self.refreshes = 0
        self.answer: dict[str, Any] | Exception = {"status": "no_action", "reason": "all is well"}

    def refresh(self) -> list[Any]:
        self.refreshes += 1
        return []

    def try_lead(self) -> bool:
        return self.free

    def holder(self) -> str:
        return "pid 7"

    def drain(self) -> int:
        self.drains += 1
        return 0

    def publish(self) -> None:
        """Nothing to publish."""

    def last_check_at(self) -> float | None:
        return self.last

    def update(self, force: str | None = None) -> dict[str, Any]:
        self.updates.append(force)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed = True


class Builder:
    """A live feature builder with one feature: the newest actual of the place."""

    names = ("newest",)

    def __init__(self) -> None:
        self.seen: dict[Any, float] = {}

    def build(self, history: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        return keys.with_columns(pl.lit(1.0).alias("newest"))

    def observe_many(self, history: pl.DataFrame) -> None:
        for place, _, actual in history.iter_rows():
            self.seen[place] = actual

    def observe(self, place_id: Any, timestamp: float, actual: float) -> None:
        self.seen[place_id] = actual

    def row(self, place_id: Any, timestamp: float) -> Any:
        return np.array([self.seen[place_id]], dtype=np.float32)

    def rows(self, place_ids: Any, timestamps: Any) -> Any:
        return np.array([[self.seen[place]] for place in place_ids], dtype=np.float32)


class Bench:
    """Makes collectors over remembered parts."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.parts, self.builder = path, VirtualClock(1_700_006_400.0), Parts(), Builder()
        self.config = Config()
        self.opened = 0
        self.made: list[RealTimeDataCollector] = []

    def assemble(self, root: Path, config: Config, clock: Clock) -> Any:
        self.opened += 1
        return self.parts

    def collector(self, source: Any, **settings: Any) -> RealTimeDataCollector:
        usual: dict[str, Any] = {
            "root": self.path,
            "config": self.config,
            "clock": self.clock,
            "features": self.builder,
            "parts": self.assemble,
        }
        made = RealTimeDataCollector(source, **(usual | settings))
        self.made.append(made)
        return made


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Collectors over remembered parts, closed at the end."""
    made = Bench(tmp_path)
    yield made
    for collector in made.made:
        collector.close()
