"""Half a year on a bad disk (with --big; a few days otherwise): nothing grows, nothing is lost, history stays true."""

import asyncio
import ctypes
import errno
import gc
import importlib.util
import json
import logging
import math
import os
import random
import shutil
import signal
import sys
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from demand_maint import CheckCompleted, MaintenanceEvent
from demand_maint._storage.disk import Disk
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import NothingToRollBackError
from demand_maint.model_handle import ModelHandle
from demand_maint.model_monitor import ModelMonitor
from demand_maint.runtime import MaintenanceRuntime
from demand_maint.testing import VirtualClock

pytestmark = pytest.mark.catboost
HOUR = 3600.0
CURVE = os.environ.get("SOAK_CURVE")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
FAILING = (
    "create",
    "open_append",
    "open_update",
    "write",
    "allocate",
    "sync",
    "sync_dir",
    "link",
    "rename",
    "make_dir",
    "list",
    "read",
)


def _load() -> ModuleType:
    path = Path(__file__).parents[1] / "runtime" / "real_root.py"
    spec = importlib.util.spec_from_file_location("real_root", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


real_root = _load()
CONFIG = real_root.settings(fine_tune="off", full_retrain="off")


class BadDisk:
    """Lets a share of all file operations of this process fail while it is switched on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, share: float, seed: int = 0) -> None:
        self.on, self.failed, self.calls = False, 0, 0
        self._random, self._share = random.Random(seed), share
        for name in FAILING:
            monkeypatch.setattr(Disk, name, self._failing(getattr(Disk, name), name))

    def _failing(self, call: Any, name: str) -> Any:
        def maybe(disk: Disk, *arguments: Any, **named: Any) -> Any:
            if self.on:
                self.calls += 1
                if self._random.random() < self._share:
                    self.failed += 1
                    raise OSError(self._random.choice((errno.EIO, errno.ENOSPC)), f"injected into {name}")
            return call(disk, *arguments, **named)

        return maybe


class Told(logging.Handler):
    """Everything the package logs, as the host's own handler sees it; no record outlives its line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(logging.WARNING)
        self.lines = 0
        self.newest: deque[str] = deque(maxlen=40)
        logger = logging.getLogger("demand_maint")
        # a test runner keeps every record, and with it the frames and descriptors of every failure
        monkeypatch.setattr(logger, "propagate", False)
        monkeypatch.setattr(logger, "handlers", [self])

    def emit(self, record: logging.LogRecord) -> None:
        """Count, and keep the newest lines as text."""
        self.lines += 1
        facts = {key: value for key, value in vars(record).items() if key in {"what", "reason", "error", "segment"}}
        self.newest.append(f"{record.getMessage()} {facts}")


class Life:
    """One root on a bad disk, lived through hour by hour."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, big: bool) -> None:
        self.root, self.kept, self.image = tmp_path / "root", tmp_path / "kept", tmp_path / "image"
        self.clock = VirtualClock(real_root.START)
        self.disk, self.told = BadDisk(monkeypatch, 0.01), Told(monkeypatch)
        self.big, self.logged = big, 0
        self.events: Counter[str] = Counter()
        self.statuses: list[str] = []
        self.curve: list[dict[str, float]] = []
        real_root.plant(self.root, CONFIG, self.clock)
        shutil.copytree(self.root / "data/models/archive/000001", self.kept)

    async def day(self, runtime: MaintenanceRuntime, number: int) -> None:
        """Collect for 24 hours, check, let an operator do what operators do, then look whether every promise holds."""
        self.disk.on = True
        for hour in range(24):
            await self._collect(runtime)
            if hour % 6 == 5:
                await self._turn(runtime)
        checked = await runtime.check_now()
        assert checked["status"] in {"no_action", "blocked", "advised", "failed"}, checked
        if number % 7 < 5:
            await asyncio.to_thread(self._deploy)
        if number % 7 == 6:
            await runtime.rollback()
        if number % 14 == 13:
            self.disk.on = number % 28 == 13  # a training reads so many files that on the bad disk hardly one succeeds
            trained = await runtime.update_now("fine-tune")
            assert trained["status"] in {"candidate", "rejected", "deployed", "vetoed", "failed"}, trained
            self.statuses.append(trained["status"])
        self.disk.on = False
        await self._promises_hold(runtime, restart=number % 7 == 6 or not self.big)

    async def _collect(self, runtime: MaintenanceRuntime) -> None:
        """One round of a collector: it gets its numbers whatever the disk does."""
        self.clock.advance(HOUR)
        now, errands = self.clock.now(), runtime._errands
        rows = [dict.fromkeys(runtime.model.features, 1.0)] * 3
        values = await errands.run(runtime.model.predict, rows, list(real_root.PLACES), [now] * 3)
        assert all(math.isfinite(value) for value in values.tolist())
        for place in real_root.PLACES:
            await errands.run(runtime.monitor.log_actual, place, now, real_root.demand(place, now))
        self.logged += 3

    async def _turn(self, runtime: MaintenanceRuntime) -> None:
        assert runtime._upkeep is not None
        await runtime._errands.run(runtime._upkeep.turn)

    def _deploy(self) -> None:
        """Deploy as an operator would; on this disk it may fail, and then says so."""
        done, message = ModelDeployer(self.root, CONFIG, self.clock).deploy(
            self.kept / "model.cbm", self.kept / "metadata.json", force=True, who="soak"
        )
        assert done or message

    async def _promises_hold(self, runtime: MaintenanceRuntime, *, restart: bool) -> None:
        """See that nothing was lost, that history is true, that the host's process is untouched, and what all of it weighs."""
        assert runtime._upkeep is not None
        self.clock.advance(61.0)
        await self._turn(runtime)
        assert await runtime._errands.run(runtime._upkeep.follow)  # not left to its next time
        await runtime._errands.run(self._nothing_lost, runtime.monitor)
        serving = runtime.model.version
        await asyncio.to_thread(self._history_is_true, self.root, serving)
        assert runtime._upkeep.degraded is None
        if restart:
            await self._copy(runtime)
            await asyncio.to_thread(self._a_restart_sees_all, serving)
        gc.collect()
        self.curve.append({"MB": private_megabytes(), "descriptors": descriptors(), "files": files(self.root)})

    async def _copy(self, runtime: MaintenanceRuntime) -> None:
        """Take the image that `kill -9` would leave: a copy takes longer than a moment, so that nobody may write meanwhile."""
        upkeep = runtime._upkeep
        assert upkeep is not None
        runtime.pause()
        while runtime.status()["running"] is not None:
            await runtime.check_now()

        def take() -> None:
            with upkeep._serving, runtime.monitor._state:
                shutil.copytree(self.root, self.image)

        await asyncio.to_thread(take)
        runtime.resume()

    def _nothing_lost(self, monitor: ModelMonitor) -> None:
        """Every pair that was ever logged is counted, once."""
        assert monitor.counts()["dropped"] == 0
        assert int(monitor.sums.window(0, int(self.clock.now() // HOUR) + 2).n) == self.logged, self.told.newest

    def _history_is_true(self, root: Path, serving: int) -> None:
        """Commits are numbered without a gap, every champion's bytes are what was committed, the newest is what serves."""
        registry = ModelDeployer(root, CONFIG, self.clock).registry
        commits = registry.commits()
        assert [commit.number for commit in commits] == list(range(1, len(commits) + 1))
        assert commits[-1].champion == serving
        assert registry.model_bytes(serving)

    def _a_restart_sees_all(self, serving: int) -> None:
        """What `kill -9` would leave right now opens, has every row, serves the same champion, and can be rolled back."""
        try:
            deployer = ModelDeployer(self.image, CONFIG, self.clock)
            deployer.recover()
            self._history_is_true(self.image, serving)
            with ModelMonitor(self.image, CONFIG, self.clock, background=False) as monitor:
                monitor.drain()
                self._nothing_lost(monitor)
            handle = ModelHandle(deployer.registry, config=CONFIG, clock=self.clock)
            handle.refresh()
            assert handle.version == serving
            try:
                commit = deployer.roll_back(who="soak")
            except NothingToRollBackError:
                commits = deployer.registry.commits()
                assert {commit.champion for commit in commits} <= {serving, *commits[-1].rolled_back}
                return
            assert handle.refresh()
            assert handle.version == commit.champion != serving
        finally:
            shutil.rmtree(self.image)


def private_megabytes() -> float:
    """Memory that this process uses for itself: pages of mapped files and what the C library keeps in reserve left out."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def files(root: Path) -> int:
    """Files below a root."""
    return sum(len(names) for _, _, names in os.walk(root))


@pytest.mark.timeout(7200)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_months_on_a_bad_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool) -> None:
    """With 1 % of file operations failing and 5 deploys a week, every promise of the design holds at every step."""
    life = await asyncio.to_thread(Life, tmp_path, monkeypatch, big=big)
    handlers, root_logger = [signal.getsignal(number) for number in SIGNALS], list(logging.getLogger().handlers)
    async with MaintenanceRuntime.attach(root=life.root, config=CONFIG, clock=life.clock) as runtime:

        @runtime.on(CheckCompleted)
        async def breaks(_event: MaintenanceEvent) -> None:
            raise SystemExit("a hook that wants the process to end")

        @runtime.on()
        async def listens(event: MaintenanceEvent) -> None:
            life.events[type(event).__name__] += 1

        for number in range(180 if big else 5):
            await life.day(runtime, number)
            assert [signal.getsignal(number) for number in SIGNALS] == handlers
            assert logging.getLogger().handlers == root_logger
            if CURVE:  # to look at, day by day
                await asyncio.to_thread(Path(CURVE).write_text, json.dumps(life.curve))
    assert life.events["CheckCompleted"] >= len(life.curve)
    assert life.events["HookFailed"] >= 1
    assert life.disk.failed > 0
    assert life.told.lines > 0
    if big:
        assert life.events.keys() >= {
            "ModelDeployed",
            "RolledBack",
            "StorageDegraded",
            "StorageRecovered",
            "TrainingStarted",
        }
        assert "candidate" in life.statuses
    _is_flat(life.curve, big=big)


def _is_flat(curve: list[dict[str, float]], *, big: bool) -> None:
    """After a settling time descriptors do not climb, and memory by less than a third of a megabyte a day.

    What is kept of every commit, version and serving snapshot grows with history; five deploys a week make much of it.
    """
    early, late = curve[len(curve) // 3], curve[-1]
    assert late["descriptors"] <= early["descriptors"] + 4, curve
    days = len(curve) - 1 - len(curve) // 3
    assert late["MB"] <= early["MB"] + (5.0 + 0.3 * days if big else 60.0), curve
