"""A 1 ms ticker on an event loop, and what each of its late ticks waited for.

A tick that is late was late for one of two reasons. Either its thread was ready to run and the machine gave it no processor: the
kernel counts that time per thread (``/proc/thread-self/schedstat``). Or its thread was not even ready: something else on the
loop was running, or another thread of this process held the interpreter. Only the second is told here as *held*; it is always the
doing of this process, on the busiest machine too. The first may be anybody's, so it is compared with the idle slices that were
measured before and after each slice of work. (On a machine with too few processors a thread that holds the interpreter may
itself wait for one, and then *held* is told too long, never too short.)
"""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Slices", "Tick", "percentile_ms", "ticks"]

TICK_NS = 1_000_000
Work = Callable[[], Awaitable[object]]
SCHEDSTAT = "/proc/thread-self/schedstat"


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick, nanoseconds: its whole interval, how much of that its thread waited for a processor; and whether work was under way."""

    interval: int
    waited: int
    busy: bool = False

    @property
    def late(self) -> int:
        return self.interval - TICK_NS

    @property
    def held(self) -> int:
        return max(self.late - self.waited, 0)


@dataclass
class Slices:
    """The ticks of all slices of one kind of work, and of the idle slices around them."""

    idle: list[Tick] = field(default_factory=list)
    work: list[Tick] = field(default_factory=list)


def percentile_ms(values: list[int], share: float) -> float:
    """Milliseconds below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1e6


async def ticks(work: Work | None, seconds: float) -> list[Tick]:
    """Ticks of one slice of `seconds`, or longer where `work`, which is begun once, takes longer."""
    gc.collect()
    waited = _Waited()
    found: list[Tick] = []
    end = time.perf_counter() + seconds
    running = None if work is None else asyncio.ensure_future(work())
    before = waited()
    while time.perf_counter() < end or (running is not None and not running.done()):
        busy = running is not None and not running.done()
        begin = time.perf_counter_ns()
        await asyncio.sleep(0.001)
        interval = time.perf_counter_ns() - begin
        now = waited()
        found.append(Tick(interval, now - before, busy))
        before = now
    waited.close()
    if running is not None:
        await running
    return found


class _Waited:
    """Nanoseconds that this thread has waited for a processor; always 0 where the system does not tell."""

    def __init__(self) -> None:
        self._descriptor = os.open(SCHEDSTAT, os.O_RDONLY) if Path(SCHEDSTAT).exists() else -1

    def __call__(self) -> int:
        return int(os.pread(self._descriptor, 64, 0).split()[1]) if self._descriptor >= 0 else 0

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
