"""Whether a long log slows training data down: ``python -m benchmarks.long_log``.

Pairs of many places every quarter of an hour, over years. `get_training_data(days=30)` should cost what its window costs, whatever lies before it;
so should a start. Each figure is of a new process's first call, the files warm.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import arguments, median, show
from demand_maint.config import Config, MonitorConfig
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

END = 1_700_000_000 // 86400 * 86400
STEP, DAY = 900, 86400


def long_root(rows: int, places: int, keep: str) -> tuple[Path, Config, VirtualClock]:
    """Root with `rows` pairs of `places` places that end at `END`."""
    slots = max(rows // places, 200)
    config = Config(step="15m", monitor=MonitorConfig(records_days=slots * STEP // DAY + 100))
    clock = VirtualClock(float(END - slots * STEP))
    root = Path(keep or tempfile.mkdtemp(prefix="demand-maint-bench-")) / f"long-{rows}-{places}"
    if (root / "done").exists():
        clock.set(float(END))
        return root, config, clock
    with ModelMonitor(root, config, clock) as monitor:
        codes, _ = monitor.journal.encode(list(range(places)))
        rng = np.random.default_rng(1)
        batch = max(200_000 // places, 1)
        for first in range(0, slots, batch):
            count = min(batch, slots - first)
            times = np.repeat(END + (first + np.arange(count) - slots) * float(STEP), places)
            actual = 100 + 20 * np.sin(times / DAY) + rng.normal(size=len(times)) * 5
            monitor.journal.log_columns(np.tile(codes, count), times, actual + rng.normal(size=len(times)) * 8, actual)
            clock.set(times[-1] + STEP)
            monitor.drain()
        clock.set(float(END))
    (root / "done").write_text("")
    return root, config, clock


def main() -> None:
    """Measure and print."""
    options = arguments(
        __doc__ or "",
        rows=(10_000_000, "rows of the longest log; a third and a tenth of it are measured beside it"),
        places=(200, "places"),
        days=(30, "days of training data"),
        root=("", "keep the data here"),
        rounds=(3, "calls"),
    )
    table: list[dict[str, Any]] = []
    for rows in (options.rows // 10, options.rows // 3, options.rows):
        root, config, clock = long_root(rows, options.places, options.root)
        ready: list[float] = []
        training: list[float] = []
        found = 0
        for _ in range(options.rounds):
            begin = time.perf_counter()
            monitor = ModelMonitor(root, config, clock)
            _ = monitor.sums
            ready.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            found = len(monitor.get_training_data(days=options.days))
            training.append(time.perf_counter() - begin)
            monitor._closed = True
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        table.append(
            {
                "rows in the log": rows,
                "MB on disk": size / 1e6,
                "metrics ready, ms": 1000 * median(ready),
                "rows of training data": found,
                "training data, s": median(training),
            }
        )
    show("a long log", table, as_json=options.json)


if __name__ == "__main__":
    main()
