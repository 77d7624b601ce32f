"""A root with many records in its window, made once and kept for the benchmarks that read."""

import tempfile
from pathlib import Path

import numpy as np

from demand_maint.config import Config, MonitorConfig
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400
DAYS = 7


def filled_root(records: int, places: int, *, keep: str = "") -> tuple[Path, Config, VirtualClock]:
    """Root with `records` complete pairs of `places` places spread over seven days."""
    rounds = max(records // places, 1)
    step = max(DAYS * 86400 // rounds, 1)
    config = Config(
        step="1m" if step >= 60 else "30s" if step >= 30 else "1s", monitor=MonitorConfig(segment_records=1 << 18)
    )
    clock = VirtualClock(float(START + DAYS * 86400 - 1))
    root = Path(keep or tempfile.mkdtemp(prefix="demand-maint-bench-")) / f"{records}-{places}"
    if (root / "done").exists():
        return root, config, clock
    with ModelMonitor(root, config, clock) as monitor:
        codes, _ = monitor.journal.encode(list(range(places)))
        rng = np.random.default_rng(1)
        batch = 200
        for first in range(0, rounds, batch):
            count = min(batch, rounds - first)
            times = np.repeat(START + (first + np.arange(count)) * float(step), places)
            predicted = 100 + rng.normal(size=count * places) * 10
            actual = predicted + rng.normal(size=count * places) * 5
            monitor.journal.log_columns(np.tile(codes, count), times, predicted, actual)
            clock.set(times[-1] + step)
            monitor.drain()
        clock.set(float(START + DAYS * 86400 - 1))
    (root / "done").write_text("")
    return root, config, clock
