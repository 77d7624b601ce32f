"""Whether the host's event loop feels any of it: ``python -m benchmarks.loop_lag [--json]``.

A 1 ms ticker runs on the loop while, in turn, nothing happens, 20 000 records a second are logged, 100 000 records are drained,
health is asked at a million rows, a fine-tune of 50 000 x 69 runs in a child, its gate is judged, and a version is deployed and
swapped in. Lateness of the ticks in milliseconds: p50, p99, and the worst. The goal is a p99 of a tick's whole interval within
1.2x of the idle one of the same run, and no stall more than 10 ms above the worst idle one.

Beside it, the same fine-tune in a thread of the process and in a plain `ProcessPoolExecutor` that is sent the rows.
"""

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.filled import filled_root
from benchmarks.planted import frame, job, plant
from benchmarks.timing import arguments, percentile, show
from demand_maint._training.pool import WorkerPool
from demand_maint._training.requests import EvaluateJob
from demand_maint.config import Config, MonitorConfig, ServingConfig
from demand_maint.core.promotion import gate_verdict
from demand_maint.core.sampling import paired_days
from demand_maint.deploy_model import ModelDeployer
from demand_maint.model_handle import ModelHandle
from demand_maint.model_monitor import ModelMonitor
from demand_maint.side_thread import SideThread

RATIO, STALL_MS = 1.2, 10.0
Work = Callable[[], Awaitable[Any]]


async def ticks(work: Work | None, seconds: float) -> list[int]:
    """Intervals of a 1 ms ticker in nanoseconds, while `work` runs, for `seconds` at least."""
    running = None if work is None else asyncio.ensure_future(work())
    found: list[int] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or (running is not None and not running.done()):
        begin = time.perf_counter_ns()
        await asyncio.sleep(0.001)
        found.append(time.perf_counter_ns() - begin)
    if running is not None:
        await running
    return sorted(found)


class Phases:
    """The pieces of work, each as the runtime does it."""

    def __init__(self, folder: Path, records: int, rows: int, features: int, iterations: int) -> None:
        self.folder, self.iterations, self.size = folder, iterations, (rows, features)
        self.thread = SideThread("benchmark")
        self.pool = WorkerPool()
        self.config = Config(step="1m", serving=ServingConfig(serve="champion"))
        self.root = folder / "root"
        outcome = plant(self.root, rows=rows // 5, features=features, iterations=50)
        self.job = job(folder, rows, features, iterations=iterations, base=outcome.model_path, name="tuned")
        self.outcome: Any = None
        self.monitor = ModelMonitor(folder / "journal", Config(step="1m"))
        self.monitor.journal.open(range(100))
        self.waiting = ModelMonitor(
            folder / "waiting", Config(step="1m", monitor=MonitorConfig(segment_records=1 << 18)), background=False
        )
        self._fill(self.waiting)
        wide, config, clock = filled_root(records, 100, keep=str(folder))
        self.full = ModelMonitor(wide, config, clock)
        _ = self.full.sums
        self.deployer = ModelDeployer(self.root, self.config)
        self.handle = ModelHandle(self.deployer.registry, config=self.config)
        self.handle.refresh()

    async def log(self) -> None:
        """20 000 records a second for five seconds, from the loop."""
        log, now = self.monitor.log_prediction_vs_actual, time.time()
        for turn in range(500):
            for i in range(200):
                log(i % 100, now - turn, 1.0, 2.0)
            await asyncio.sleep(0.01)

    async def drain(self) -> None:
        """100 000 records that wait, drained by a thread."""
        await self.thread.run(self.waiting.drain)

    def _fill(self, monitor: ModelMonitor) -> None:
        codes, _ = monitor.journal.encode(list(range(100)))
        times = np.repeat(time.time() - np.arange(1000) * 60.0, 100)
        monitor.journal.log_columns(np.tile(codes, 1000), times, np.ones(100_000), np.ones(100_000) * 2)

    async def health(self) -> None:
        """Health over a million rows, ten times, each computed anew."""
        for days in range(1, 8):
            await self.thread.run(self.full.get_model_health, days)

    async def fine_tune(self) -> None:
        """Fit in our child."""
        self.outcome = await self.thread.run(self.pool.run, self.job)

    async def gate(self) -> None:
        """Let a child predict the holdout, then test the pairs."""
        work = EvaluateJob(
            model_path=self.outcome.model_path,
            frame_path=self.job.frame_path,
            output_directory=str(self.folder),
            name="gate",
        )
        await self.thread.run(self.pool.run, work)
        await self.thread.run(self._judge)

    def _judge(self) -> None:
        rng = np.random.default_rng(0)
        days = np.repeat(np.arange(28), 2000)
        gate_verdict(paired_days(days, rng.random(days.size), rng.random(days.size)), self.config.policy)

    async def deploy(self) -> None:
        """Commit a version, then swap to it."""
        await self.thread.run(self._deploy)
        await self.thread.run(self.handle.refresh)

    def _deploy(self) -> None:
        done, message = self.deployer.deploy(self.outcome.model_path, self.outcome.metadata_path, force=True)
        if not done:
            raise SystemExit(message)

    async def in_thread(self) -> None:
        """Fit in a thread of this process."""
        await self.thread.run(fit, frame(*self.size), self.iterations)

    async def in_executor(self) -> None:
        """Fit in a ProcessPoolExecutor that is sent the rows."""
        rows = await self.thread.run(frame, *self.size)
        with ProcessPoolExecutor(1, mp_context=_spawn()) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, fit, rows, self.iterations)

    def close(self) -> None:
        self.pool.close()
        self.monitor.close()
        self.full.close()
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


async def measure(options: Any) -> list[dict[str, Any]]:
    """Every phase, the idle one first and last."""
    with tempfile.TemporaryDirectory() as folder:
        phases = await asyncio.to_thread(
            Phases, Path(folder), options.records, options.rows, options.features, options.iterations
        )
        work: list[tuple[str, Work | None]] = [
            ("idle", None),
            ("logging 20 000 records/s", phases.log),
            ("draining 100 000 records", phases.drain),
            (f"health at {options.records} rows", phases.health),
            (f"fine-tune {options.rows} x {options.features} in our child", phases.fine_tune),
            ("gate", phases.gate),
            ("deploy and swap", phases.deploy),
            ("idle again", None),
        ]
        if not options.skip_others:
            work += [
                ("the same fit in a thread", phases.in_thread),
                ("the same fit in a ProcessPoolExecutor", phases.in_executor),
            ]
        found: list[tuple[str, list[int]]] = []
        for name, piece in work:
            gc.collect()
            found.append((name, await ticks(piece, options.seconds)))
        await asyncio.to_thread(phases.close)
    idle = {name: values for name, values in found if name.startswith("idle")}
    floor = max(percentile(values, 0.99) for values in idle.values())
    worst = max(values[-1] for values in idle.values())
    return [row(name, values, floor, worst) for name, values in found]


def row(name: str, values: list[int], floor: float, idle_worst: int) -> dict[str, Any]:
    """Figures of one phase."""
    p99, worst = percentile(values, 0.99), values[-1]
    return {
        "while": name,
        "ticks": len(values),
        "late_p50_ms": round(percentile(values, 0.5) / 1e6 - 1, 2),
        "late_p99_ms": round(p99 / 1e6 - 1, 2),
        "late_max_ms": round(worst / 1e6 - 1, 1),
        "p99_over_idle": round(p99 / floor, 2),
        "met": bool(p99 <= RATIO * floor and (worst - idle_worst) / 1e6 <= STALL_MS),
    }


def main() -> None:
    """Measure and print."""
    options = arguments(
        __doc__ or "",
        seconds=(5.0, "least time of a phase"),
        records=(1_000_000, "rows in the window for health"),
        rows=(50_000, "rows of the fine-tune"),
        features=(69, "its features"),
        iterations=(100, "its trees"),
        skip_others=(0, "1 leaves out the thread and the executor"),
    )
    show("loop_lag", asyncio.run(measure(options)), as_json=options.json)


if __name__ == "__main__":
    main()
