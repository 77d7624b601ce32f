"""How soon a new process has its metrics and its rows: ``python -m benchmarks.startup``."""

import gc
import time
from typing import Any

from benchmarks.filled import START, filled_root
from benchmarks.timing import arguments, median, show
from demand_maint._training.worker import resident_bytes
from demand_maint.model_monitor import ModelMonitor


def main() -> None:
    """Measure and print."""
    options = arguments(
        __doc__ or "",
        records=(10_000_000, "records in the window"),
        places=(1000, "places"),
        root=("", "keep the data here"),
        rounds=(7, "starts"),
    )
    root, config, clock = filled_root(options.records, options.places, keep=options.root)
    ready: list[float] = []
    frame: list[float] = []
    grown = 0.0
    for _ in range(options.rounds):
        gc.collect()  # a start has the machine's memory, not what is left beside the rows of the start before
        begin = time.perf_counter()
        monitor = ModelMonitor(root, config, clock)
        _ = monitor.sums
        ready.append((time.perf_counter() - begin) * 1000)
        before = resident_bytes() or 0
        begin = time.perf_counter()
        rows = len(monitor._store.buffer)
        frame.append((time.perf_counter() - begin) * 1000)
        grown = max(grown, ((resident_bytes() or 0) - before) / max(rows, 1))
        bytes_a_row = monitor._store.buffer.nbytes / max(rows, 1)
        monitor._closed = True
        del monitor
    begin = time.perf_counter()
    narrow = ModelMonitor(root, config, clock)
    found = len(narrow.truth(START, START + 86400))
    one_day = (time.perf_counter() - begin) * 1000
    narrow._closed = True
    result: list[dict[str, Any]] = [
        {"what": "metrics ready", "ms": median(ready), "rows": rows},
        {"what": "all rows of the window in memory", "ms": median(frame), "rows": rows},
        {"what": "the same, the first time (memory the machine may never have touched)", "ms": frame[0], "rows": rows},
        {"what": "truth of one day, nothing in memory yet", "ms": one_day, "rows": found},
        {
            "what": "memory per row, bytes (columns; growth of the process)",
            "ms": f"{bytes_a_row:.1f}; {grown:.1f}",
            "rows": rows,
        },
    ]
    show("startup", result, as_json=options.json)


if __name__ == "__main__":
    main()
