"""How long draining 100 000 records holds up an event loop: ``python -m benchmarks.drain_stall``."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import arguments, percentile, show
from demand_maint._storage.observation_store import ObservationStore
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


class Stretches:
    """What the draining thread computes between two of its rests, nanoseconds of its own time: tells the same on a busy machine."""

    def __init__(self, store: ObservationStore) -> None:
        self.found: list[int] = []
        self._since = 0
        rest = store.rest

        def counting() -> None:
            self.end()
            rest()
            self._since = time.thread_time_ns()

        store.rest = counting  # type: ignore[method-assign]  # a benchmark looks inside

    def drain(self, monitor: ModelMonitor) -> None:
        """Drain, counting."""
        self._since = time.thread_time_ns()
        monitor.drain(gentle=True)  # as a thread beside a loop does where the clock is the system's
        self.end()

    def end(self) -> None:
        """Note the stretch that ends here."""
        self.found.append(time.thread_time_ns() - self._since)


async def measure(records: int, repeat: int, *, exports: bool) -> tuple[list[int], list[int]]:
    """Lateness while a thread drains, and the thread's stretches; with `exports` all of them are written anew each time."""
    busy: list[int] = []
    places = 100
    with tempfile.TemporaryDirectory() as root:
        clock = VirtualClock(float(START + repeat * records // places * 60))
        with ModelMonitor(Path(root), Config(step="1m"), clock) as monitor:
            stretches = Stretches(monitor._store)
            for turn in range(repeat + 1):
                for i in range(records // places):
                    at = float(START + (turn * records // places + i) * 60)
                    for place in range(places):
                        monitor.log_prediction_vs_actual(place, at, 1.0, 2.0)
                clock.advance(601 if exports else 10)
                late = await ticks(asyncio.ensure_future(asyncio.to_thread(stretches.drain, monitor)), 0)
                if turn:  # the first makes everything there is to make once
                    busy += late
                else:
                    stretches.found.clear()
            found = sorted(stretches.found)
    return sorted(busy), found


async def measured(records: int, repeat: int) -> list[dict[str, Any]]:
    """Idle, then while a thread drains, then while it writes its exports as well."""
    rows: dict[str, list[int]] = {"idle loop": await ticks(None, 2.0)}
    for exports, name in ((False, f"a thread drains {records:,} records"), (True, "the same, and exports each time")):
        late, stretches = await measure(records, repeat, exports=exports)
        rows[f"loop while {name}"] = late
        rows[f"the thread between rests, own time: {name}"] = stretches
    return [
        {
            "what": name,
            "p50 ms": percentile(v, 0.5) / 1e6,
            "p99 ms": percentile(v, 0.99) / 1e6,
            "max ms": v[-1] / 1e6,
            "number": len(v),
        }
        for name, v in rows.items()
    ]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", records=(100_000, "records per drain"), repeat=(7, "drains"))
    show("drain_stall", asyncio.run(measured(options.records, options.repeat)), as_json=options.json)


if __name__ == "__main__":
    main()
