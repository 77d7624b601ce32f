"""Many records at once: ``python -m benchmarks.batch``."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.timing import arguments, median, show
from demand_maint._storage.door import Door
from demand_maint._storage.observation_store import ObservationStore
from demand_maint.config import Config
from demand_maint.core.timegrid import TimeGrid
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 3600 * 3600


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", records=(1_000_000, "records"), places=(1000, "places"))
    count, places = options.records, options.places
    rounds = count // places
    count = rounds * places
    names = [f"place {i}" for i in range(places)]
    times = np.repeat(START + np.arange(rounds) * 60.0, places)
    predicted, actual = np.random.default_rng(1).random((2, count))
    frame = pl.DataFrame({"place_id": names * rounds, "timestamp": times, "predicted": predicted, "actual": actual})
    spent: dict[str, list[float]] = {"memcpy": [], "columns": [], "frame": [], "drain": [], "late": []}
    for _ in range(7):
        with tempfile.TemporaryDirectory() as root:
            config = Config(step="1m")
            clock = VirtualClock(times[-1] + 3600)
            monitor = ModelMonitor(Path(root) / "a", config, clock)
            codes, _ = monitor.journal.encode(names)
            codes = np.tile(codes, rounds)
            source = [codes, predicted, actual, times]
            target = [np.empty_like(column) for column in source]
            spent["memcpy"].append(measured(count, copy_all, target, source))
            spent["columns"].append(measured(count, monitor.journal.log_columns, codes, times, predicted, actual))
            other = ModelMonitor(Path(root) / "b", config, clock)
            spent["frame"].append(measured(count, other.log_many, frame))
            store = ObservationStore(Door(Path(root) / "a"), config, TimeGrid("UTC", 60))
            spent["drain"].append(measured(count, store.drain, clock.now(), lead=False, gentle=False))
            spent["late"].append(late(Path(root) / "c", codes, times, predicted, actual, names))
            monitor.close()
            other.close()
    floor = median(spent["memcpy"])
    labels = {
        "memcpy": "memcpy of the same bytes (floor)",
        "columns": "log_columns, encoded places",
        "frame": "log_many, Polars frame with text places",
        "drain": "drain, complete pairs in order",
        "late": "drain, late actuals in batches",
    }
    rows: list[dict[str, Any]] = [
        {"what": labels[name], "ns a record": median(values), "ratio": median(values) / floor}
        for name, values in spent.items()
    ]
    show("batch", rows, as_json=options.json)


def measured(count: int, function: Any, *arguments: Any, **options: Any) -> float:
    """Nanoseconds per record."""
    begin = time.perf_counter_ns()
    function(*arguments, **options)
    return (time.perf_counter_ns() - begin) / count


def copy_all(targets: list[Any], sources: list[Any]) -> None:
    """Copy column by column."""
    for target, source in zip(targets, sources, strict=True):
        np.copyto(target, source)


def late(root: Path, codes: Any, times: Any, predicted: Any, actual: Any, names: list[str]) -> float:
    """Predictions first, drained; then the drain of their actuals."""
    config, clock = Config(step="1m"), VirtualClock(times[-1] + 3600)
    monitor = ModelMonitor(root, config, clock)
    monitor.journal.encode(names)
    monitor.journal.log_columns(codes, times, predicted, None)
    store = ObservationStore(Door(root), config, TimeGrid("UTC", 60))
    store.drain(clock.now(), lead=False, gentle=False)
    monitor.journal.log_columns(codes, times, None, actual)
    found = measured(len(codes), store.drain, clock.now(), lead=False, gentle=False)
    monitor.close()
    return found


if __name__ == "__main__":
    main()
