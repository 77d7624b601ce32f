"""The pieces of work of ``benchmarks.loop_lag``, each carried out by the parts of a real root as the runtime does it."""

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.filled import filled_root
from benchmarks.planted import frame, plant
from demand_maint.assembly import assemble
from demand_maint.async_cycle import AsyncCycle
from demand_maint.config import Config, MonitorConfig, PolicyConfig, ServingConfig, TrainingConfig
from demand_maint.core.cycle import Evaluate, Promote, Train
from demand_maint.core.jobs import TrainingOutcome
from demand_maint.core.versions import GateVerdict
from demand_maint.hooks import HookBus
from demand_maint.model_monitor import ModelMonitor
from demand_maint.side_thread import SideThread
from demand_maint.testing import VirtualClock, drifting_stream
from demand_maint.whole_days import WholeDays

__all__ = ["Phases"]

DAY, HOUR = 86400.0, 3600.0
PLACES = 70
START = 1_700_000_000 // 86400 * 86400.0
OFF = PolicyConfig(fine_tune="off", full_retrain="off")


class Phases:
    """Roots, and what is done to them; every method leaves things so that it can be called again."""

    def __init__(self, folder: Path, records: int, rows: int, features: int, iterations: int) -> None:
        self.folder, self.iterations, self.size = folder, iterations, (rows, features)
        self.thread, self.bus = SideThread("benchmark"), HookBus()
        self.monitor = ModelMonitor(folder / "journal", Config(step="1m"))
        self.monitor.journal.open(range(100))
        self.waiting = ModelMonitor(
            folder / "waiting", Config(step="1m", monitor=MonitorConfig(segment_records=1 << 18)), background=False
        )
        self.filled = 0
        self.verdict: Any = None
        self._make_wide(records)
        self._make_tuned(rows, features)
        self._make_grown()

    def _make_wide(self, records: int) -> None:
        """Make a root with `records` rows in its week and a champion, to be checked."""
        root, config, clock = filled_root(records, 100, keep=str(self.folder))
        plant(root)
        config = Config(step=config.step, monitor=config.monitor, policy=OFF)
        self.clock = clock
        self.wide = assemble(root, config, clock)
        self.wide.try_lead()
        self.wide.refresh()
        self.cycle = AsyncCycle(self.wide, self.thread, self.bus, clock, lambda: None)

    def _make_tuned(self, rows: int, features: int) -> None:
        """Make a root whose month holds `rows` rows with their features, to be fine-tuned on."""
        root = self.folder / "tuned"
        self.outcome = plant(root, rows=rows // 5, features=features, iterations=50)
        hours = rows // PLACES
        clock = VirtualClock(START + hours * HOUR)
        config = Config(
            serving=ServingConfig(serve="champion"),
            training=TrainingConfig(fine_tune_days=hours // 24 + 1, fine_tune_iterations=self.iterations),
            monitor=MonitorConfig(segment_records=1 << 17),
        )
        made = frame(rows, features)
        columns = [name for name in made.columns if name.startswith("f")]
        slots = np.repeat(START + np.arange(rows // PLACES) * HOUR, PLACES)
        table = made.head(len(slots)).with_columns(
            place_id=pl.Series(np.tile(np.arange(PLACES), rows // PLACES)),
            timestamp=pl.Series(slots),
            predicted=pl.col("actual") + 1.0,
        )
        self.tuned = assemble(root, config, clock)
        self.tuned.try_lead()
        self.tuned.refresh()
        self.tuned.monitor.journal.set_version(self.tuned.model.version, tuple(columns))
        self.tuned.monitor.log_many(table, columns)
        self.tuned.drain()
        self.tuned.monitor.save()
        self.newest = float(slots[-1])

    def _make_grown(self) -> None:
        """Make a root with a year of twenty places, to be retrained on in full."""
        root, stream = self.folder / "grown", drifting_stream(places=20, days=365)
        clock, config = (
            VirtualClock(float(stream["timestamp"].max()) + HOUR),
            Config(  # type: ignore[arg-type]
                training=TrainingConfig(full_iterations=self.iterations // 5)
            ),
        )
        with ModelMonitor(root, config, clock) as monitor:
            monitor.import_history(stream.select("place_id", "timestamp", "actual"))
        self.grown = assemble(root, config, clock)
        self.grown.try_lead()

    async def log(self) -> None:
        """Log 20 000 records a second, from the loop, for three seconds."""
        log, now = self.monitor.log_prediction_vs_actual, time.time()
        for turn in range(300):
            for i in range(200):
                log(i % 100, now - turn, 1.0, 2.0)
            await asyncio.sleep(0.01)

    async def drain(self) -> None:
        """100 000 records that wait, drained by a thread."""
        await self.thread.run(self.waiting.drain)

    async def fill(self) -> None:
        """Let 100 000 records wait; between the slices."""
        await self.thread.run(self._fill)

    def _fill(self) -> None:
        codes, _ = self.waiting.journal.encode(list(range(100)))
        self.filled += 1
        times = np.repeat(time.time() - 3e6 + self.filled * 60_000.0 + np.arange(1000) * 60.0, 100)
        self.waiting.journal.log_columns(np.tile(codes, 1000), times, np.ones(100_000), np.ones(100_000) * 2)

    async def check(self) -> None:
        """Make one check as the runtime does: assess, decide, write down; nothing of the one before is reused."""
        self.wide.monitor._whole_days = WholeDays(self.wide.monitor.config, self.wide.monitor.grid)
        self.wide.monitor._reports.clear()
        result = await self.cycle.run(None)
        if result["status"] not in {"no_action", "blocked"}:
            raise SystemExit(f"the check was to do nothing, not {result}")

    async def fine_tune(self) -> None:
        """Gather the month's rows and fit on them, each in a child."""
        answer = await self.thread.run(self.tuned.perform, Train(kind="fine_tune"), lambda _done, _total: None)
        if not isinstance(answer, TrainingOutcome):
            raise SystemExit(f"the fine-tune failed: {answer}")
        self.outcome = answer

    async def full_retrain(self) -> None:
        """Build the features of the whole year, and fit, both in children."""
        answer = await self.thread.run(self.grown.perform, Train(kind="full", measured=False))
        if not isinstance(answer, TrainingOutcome):
            raise SystemExit(f"the full retrain failed: {answer}")

    async def gate(self) -> None:
        """Let a child predict the newest week, then test the pairs."""
        step = Evaluate(challenger=self.outcome, kind="fine_tune", method="gate", since=self.newest - 7 * DAY)
        self.verdict = await self.thread.run(self.tuned.perform, step)

    async def deploy(self) -> None:
        """Commit a version, swap to it."""
        step = Promote(
            kind="fine_tune",
            verdict=GateVerdict(verdict="not_worse", method="gate"),
            why="benchmark",
            challenger=self.outcome,
        )
        await self.thread.run(self.tuned.perform, step)
        await self.thread.run(self.tuned.refresh)

    async def in_thread(self) -> None:
        """Fit in a thread of this process."""
        await self.thread.run(fit, frame(*self.size), self.iterations)

    async def in_executor(self) -> None:
        """Fit in a ProcessPoolExecutor that is sent the rows."""
        rows = await self.thread.run(frame, *self.size)
        with ProcessPoolExecutor(1, mp_context=_spawn()) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, fit, rows, self.iterations)

    def close(self) -> None:
        """End everything."""
        for parts in (self.wide, self.tuned, self.grown):
            parts.close()
        self.monitor.close()
        self.waiting.close()
        self.thread.close()


def fit(rows: Any, iterations: int) -> int:
    """Fit as a fine-tune does, wherever this is called."""
    from catboost import CatBoostRegressor

    names = [name for name in rows.columns if name.startswith("f")]
    model = CatBoostRegressor(
        iterations=iterations, depth=6, learning_rate=0.08, thread_count=1, verbose=False, allow_writing_files=False
    )
    model.fit(rows.select(names).to_numpy(), rows["actual"].to_numpy())
    return int(model.tree_count_)


def _spawn() -> Any:
    import multiprocessing

    return multiprocessing.get_context("spawn")
