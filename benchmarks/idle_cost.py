"""What an attached runtime costs while nothing happens: ``python -m benchmarks.idle_cost [--seconds N] [--json]``.

CPU of the whole process over a while, with an idle loop alone and with a runtime that maintains a root with a champion; threads
and memory beside it. The goal is 0.1 % of one core.
"""

import asyncio
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.planted import plant
from benchmarks.timing import arguments, show
from demand_maint.config import Config
from demand_maint.runtime import MaintenanceRuntime

GOAL = 0.1


def resident_megabytes() -> float:
    """Memory of this process, from /proc."""
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[1]) * 4096 / 1e6


async def cpu_percent(seconds: float) -> float:
    """CPU of the process while its loop sleeps, in per cent of one core."""
    began, wall = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (time.process_time() - began) / (time.perf_counter() - wall) * 100


async def measure(seconds: float) -> list[dict[str, Any]]:
    """Measure without, with a leader, with a follower, and without again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        await asyncio.to_thread(plant, root)
        rows = []
        before = resident_megabytes()
        alone = await cpu_percent(seconds)
        rows.append(
            {
                "state": "loop alone",
                "cpu_percent": round(alone, 4),
                "threads": _threads(),
                "resident_mb": round(before, 1),
            }
        )
        async with MaintenanceRuntime.attach(root=root, config=Config()) as leader:
            await leader.check_now()
            await asyncio.sleep(11.0)  # the worker's idle thread ends
            busy = await cpu_percent(seconds)
            rows.append(_row("runtime that maintains", busy - alone, before))
            async with MaintenanceRuntime.attach(root=root, config=Config()):
                await asyncio.sleep(11.0)
                both = await cpu_percent(seconds)
                rows.append(_row("a follower beside it (its own share)", both - busy, before))
        return rows


def _row(state: str, cpu: float, before: float) -> dict[str, Any]:
    return {
        "state": state, "cpu_percent": round(cpu, 4), "goal_percent": GOAL, "met": cpu <= GOAL,
        "threads": _threads(), "resident_mb": round(resident_megabytes(), 1), "added_mb": round(resident_megabytes() - before, 1),
    }  # fmt: skip


def _threads() -> str:
    return (
        ", ".join(sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread()))
        or "none"
    )


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "", seconds=(60.0, "seconds of each state"))
    show("idle_cost", asyncio.run(measure(options.seconds)), as_json=options.json)


if __name__ == "__main__":
    main()
