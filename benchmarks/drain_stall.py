"""How long draining 100 000 records holds up an event loop: ``python -m benchmarks.drain_stall``."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import arguments, percentile, show
from demand_maint.config import Config
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 3600 * 3600


async def ticks(until: asyncio.Future[Any] | None, seconds: float) -> list[int]:
    """Lateness of a 1 ms ticker in nanoseconds, while `until` runs or for `seconds`."""
    late: list[int] = []
    end = time.perf_counter() + seconds
    while (until is not None and not until.done()) or (until is None and time.perf_counter() < end):
        begin = time.perf_counter_ns()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter_ns() - begin - 1_000_000)
    return sorted(late)


async def measure(records: int, repeat: int) -> list[dict[str, Any]]:
    """Idle, then while a thread drains."""
    idle = await ticks(None, 2.0)
    busy: list[int] = []
    places = 100
    with tempfile.TemporaryDirectory() as root:
        clock = VirtualClock(float(START))
        with ModelMonitor(Path(root), Config(step="1m"), clock) as monitor:
            for turn in range(repeat):
                for i in range(records // places):
                    at = float(START + (turn * records // places + i) * 60)
                    for place in range(places):
                        monitor.log_prediction_vs_actual(place, at, 1.0, 2.0)
                clock.set(at)
                busy += await ticks(asyncio.ensure_future(asyncio.to_thread(monitor.drain)), 0)
    busy.sort()
    return [
        {
            "what": name,
            "p50 ms": percentile(v, 0.5) / 1e6,
            "p99 ms": percentile(v, 0.99) / 1e6,
            "max ms": v[-1] / 1e6,
            "ticks": len(v),
        }
        for name, v in (("idle loop", idle), (f"while a thread drains {records:,} records", busy))
    ]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", records=(100_000, "records per drain"), repeat=(7, "drains"))
    show("drain_stall", asyncio.run(measure(options.records, options.repeat)), as_json=options.json)


if __name__ == "__main__":
    main()
