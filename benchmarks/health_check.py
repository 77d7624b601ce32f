"""What `get_model_health` costs with millions of records in the window: ``python -m benchmarks.health_check``."""

import time
from typing import Any

import numpy as np

from benchmarks.filled import filled_root
from benchmarks.timing import arguments, median, show
from demand_maint.model_monitor import ModelMonitor
from demand_maint.whole_days import WholeDays


def timed(function: Any, rounds: int) -> float:
    """Median microseconds."""
    found = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        function()
        found.append((time.perf_counter_ns() - begin) / 1000)
    return median(found)


def main() -> None:
    """Measure and print."""
    options = arguments(
        __doc__ or "",
        records=(10_000_000, "records in the window"),
        places=(1000, "places"),
        root=("", "keep the data here"),
    )
    root, config, clock = filled_root(options.records, options.places, keep=options.root)
    rows: list[dict[str, Any]] = []
    with ModelMonitor(root, config, clock) as monitor:
        n = monitor.get_model_health()["n"]
        rows.append({"what": "nothing pending", "us": timed(monitor.get_model_health, 501), "n": n})

        def afresh() -> None:
            monitor._reports.clear()
            monitor.get_model_health()

        def everything() -> None:
            monitor._reports.clear()
            monitor._whole_days = WholeDays(monitor.config, monitor.grid)
            monitor.get_model_health(details=True)

        rows.append({"what": "nothing pending, figures computed again", "us": timed(afresh, 101), "n": n})
        rows.append({"what": "details, all days computed again", "us": timed(everything, 15), "n": n})
        end = int(clock.now()) // 3600 + 1
        kept = monitor.sums.window(end - 7 * 24, end)
        frame = monitor.records(clock.now() // 3600 * 3600 - 7 * 86400 + 3600, None)
        errors = np.abs(frame["predicted"].to_numpy() - frame["actual"].to_numpy())
        rows.append(
            {
                "what": "equal to a recomputation from all rows",
                "us": "yes" if kept.n == len(errors) and np.isclose(kept.abs_error, errors.sum()) else "NO",
                "n": len(errors),
            }
        )
    show("health_check", rows, as_json=options.json)


if __name__ == "__main__":
    main()
