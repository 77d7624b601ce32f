"""Half a year on a bad disk (with --big; a few days otherwise): nothing grows, nothing is lost, history stays true."""

import asyncio
import errno
import gc
import importlib.util
import math
import os
import random
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from demand_maint._storage.disk import Disk
from demand_maint.deploy_model import ModelDeployer
from demand_maint.runtime import MaintenanceRuntime
from demand_maint.testing import VirtualClock

pytestmark = pytest.mark.catboost
HOUR = 3600.0
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
            self.calls += 1
            if self.on and self._random.random() < self._share:
                self.failed += 1
                raise OSError(self._random.choice((errno.EIO, errno.ENOSPC)), f"injected into {name}")
            return call(disk, *arguments, **named)

        return maybe


def resident_megabytes() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_months_on_a_bad_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool) -> None:
    """With 1 % of file operations failing and 5 deploys a week, every promise of the design holds at every step."""
    days = 180 if big else 5
    clock, config = VirtualClock(real_root.START), CONFIG
    root = tmp_path / "root"
    await asyncio.to_thread(real_root.plant, root, config, clock)
    kept = tmp_path / "kept"
    await asyncio.to_thread(shutil.copytree, root / "data/models/archive/000001", kept)
    disk = BadDisk(monkeypatch, 0.01)
    logged = 0
    sizes: list[tuple[float, int]] = []
    async with MaintenanceRuntime.attach(root=root, config=config, clock=clock) as runtime:
        upkeep, errands = runtime._upkeep, runtime._errands
        assert upkeep is not None
        row = [dict.fromkeys(runtime.model.features, 1.0)]
        disk.on = True
        for day in range(days):
            for hour in range(24):
                clock.advance(HOUR)
                values = await errands.run(runtime.model.predict, row * 3, [1, 2, 3], [clock.now()] * 3)
                assert all(math.isfinite(value) for value in values.tolist())
                for place in real_root.PLACES:
                    await errands.run(
                        runtime.monitor.log_actual, place, clock.now(), real_root.demand(place, clock.now())
                    )
                logged += 3
                if hour % 6 == 5:
                    await errands.run(upkeep.turn)
            result = await runtime.check_now()
            assert result["status"] in {"no_action", "blocked", "advised", "failed"}, result
            if day % 7 < 5:
                await asyncio.to_thread(_deploy, root, config, clock, kept)
            if day % 7 == 6:
                await runtime.rollback()
            disk.on = False
            await errands.run(upkeep.refresh_now)
            await asyncio.to_thread(_history_is_true, root, config, clock, runtime.model.version)
            disk.on = True
            gc.collect()
            sizes.append((resident_megabytes(), descriptors()))
        disk.on = False
        clock.advance(60.0)
        await errands.run(upkeep.turn)
        counts = await errands.run(runtime.monitor.counts)
        sums = await errands.run(lambda: runtime.monitor.sums.window(0, int(clock.now() // HOUR) + 2))
        assert disk.failed > 0
        assert counts["dropped"] == 0
        assert int(sums.n) == logged
    early, late = sizes[len(sizes) // 4], sizes[-1]
    assert late[1] <= early[1] + 4, sizes
    assert late[0] <= early[0] + (80.0 if big else 60.0), sizes


def _deploy(root: Path, config: Any, clock: VirtualClock, kept: Path) -> tuple[bool, str]:
    """Deploy as an operator would; on this disk it may fail, and then says so."""
    return ModelDeployer(root, config, clock).deploy(kept / "model.cbm", kept / "metadata.json", force=True, who="soak")


def _history_is_true(root: Path, config: Any, clock: VirtualClock, serving: int) -> None:
    """Commits are numbered without a gap, every champion's bytes are what was committed, and the newest is what serves."""
    registry = ModelDeployer(root, config, clock).registry
    commits = registry.commits()
    assert [commit.number for commit in commits] == list(range(1, len(commits) + 1))
    assert commits[-1].champion == serving
    assert registry.model_bytes(serving)
