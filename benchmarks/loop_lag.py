"""Whether the host's event loop feels any of it: ``python -m benchmarks.loop_lag [--json]``.

A 1 ms ticker runs on the loop while, in turn, 20 000 records a second are logged, 100 000 records are drained, a check is made at
a million rows, a fine-tune of 50 000 x 69 is prepared from the monitor's records and fitted in children, so is a full retrain on a
year of 20 places, a gate is judged, and a version is deployed and swapped in; all by the parts of a real root, as the runtime drives them. Each piece is measured in several
slices of a few seconds in which it is begun once, with an idle slice before and after each. Shown is how late the ticks were.

``p99_over_idle`` compares the p99 of a tick's whole interval in those slices with that in the idle slices around them; at most 1.2
is wanted. ``busy_p99_ms`` is the p99 of the lateness of those ticks alone during which the work was under way, which for short work
is but a few: most of a check or a deploy is Python, and a thread that runs Python lets others wait for up to 5 ms, the
interpreter's switch interval, which is the host's to set and not ours.

No stall above 10 ms may be attributable to us. What counts as ours: (1) time in which the loop's thread was kept from
running by this process itself, because somebody else on the loop ran or another thread held the interpreter (``held``, see
`benchmarks.late_ticks`): never more than 10 ms, whatever else the machine does; (2) time it was ready and waited for a
processor (``waited``), which our child and threads may have taken: more than 10 ms count as ours unless the idle slices, in
which nothing of ours runs, show a wait as long.

Beside it, the same fit in a thread of the process and in a plain `ProcessPoolExecutor` that is sent the rows.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.lag_phases import Phases
from benchmarks.late_ticks import Slices, Tick, percentile_ms, ticks
from benchmarks.timing import arguments, show

RATIO, STALL_MS = 1.2, 10.0
Work = Callable[[], Awaitable[Any]]


async def measure(options: Any) -> list[dict[str, Any]]:
    """Every piece of work, each in its slices."""
    with tempfile.TemporaryDirectory() as folder:
        size = (options.records, options.rows, options.features, options.iterations)
        phases = await asyncio.to_thread(Phases, Path(folder), *size)
        work: list[tuple[str, Work, Work | None]] = [
            ("logging 20 000 records/s", phases.log, None),
            ("draining 100 000 records", phases.drain, phases.fill),
            (f"a check at {options.records} rows", phases.check, None),
            (f"fine-tune {options.rows} x {options.features} in our child", phases.fine_tune, None),
            ("full retrain, a year x 20 places, in our child", phases.full_retrain, None),
            ("gate", phases.gate, None),
            ("deploy and swap", phases.deploy, None),
        ]
        if not options.skip_others:
            work += [
                ("the same fit in a thread", phases.in_thread, None),
                ("the same fit in a ProcessPoolExecutor", phases.in_executor, None),
            ]
        work = [piece for piece in work if options.only in piece[0]]
        found = [(name, await slices(piece, before, options)) for name, piece, before in work]
        await asyncio.to_thread(phases.close)
    idle = [tick for _, taken in found for tick in taken.idle]
    return [row("idle", Slices(idle, idle)), *(row(name, taken) for name, taken in found)]


async def slices(work: Work, before: Work | None, options: Any) -> Slices:
    """Take the slices of one piece of work; `before` is called, unmeasured, ahead of each."""
    taken = Slices()
    for _ in range(options.rounds):
        if before is not None:
            await before()
        taken.idle += await ticks(None, options.seconds / 2)
        taken.work += await ticks(work, options.seconds)
        taken.idle += await ticks(None, options.seconds / 2)
    return taken


def row(name: str, taken: Slices) -> dict[str, Any]:
    """Figures of one piece of work."""
    late = [tick.late for tick in taken.work]
    ratio = _p99(taken.work) / _p99(taken.idle)
    held = percentile_ms([tick.held for tick in taken.work], 1.0)
    waited = percentile_ms([tick.waited for tick in taken.work], 1.0)
    idle_waited = percentile_ms([tick.waited for tick in taken.idle], 1.0)
    return {
        "while": name,
        "ticks": len(late),
        "late_p50_ms": round(percentile_ms(late, 0.5), 2),
        "late_p99_ms": round(percentile_ms(late, 0.99), 2),
        "late_max_ms": round(percentile_ms(late, 1.0), 1),
        "busy_p99_ms": round(percentile_ms([tick.late for tick in taken.work if tick.busy] or late, 0.99), 2),
        "held_max_ms": round(held, 1),
        "waited_max_ms": round(waited, 1),
        "idle_waited_max_ms": round(idle_waited, 1),
        "p99_over_idle": round(ratio, 2),
        "met": ratio <= RATIO and held <= STALL_MS and waited <= max(STALL_MS, idle_waited),
    }


def _p99(found: list[Tick]) -> float:
    return percentile_ms([tick.interval for tick in found], 0.99)


def main() -> None:
    """Measure and print."""
    options = arguments(
        __doc__ or "",
        seconds=(3.0, "length of a slice"),
        rounds=(5, "slices of each piece of work"),
        records=(1_000_000, "rows in the window for the check"),
        rows=(50_000, "rows of the fine-tune"),
        features=(69, "its features"),
        iterations=(100, "its trees"),
        skip_others=(0, "1 leaves out the thread and the executor"),
        only=("", "only work whose name contains this"),
    )
    show("loop_lag", asyncio.run(measure(options)), as_json=options.json)


if __name__ == "__main__":
    main()
