"""Counting on a disk whose n-th call fails: whatever n is, the next drain has every row, once."""

import errno
import itertools
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from failing_disk import CALLS

from demand_maint._storage.disk import Disk
from demand_maint.config import Config, MonitorConfig
from demand_maint.core.records import MaturedBatch
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400.0
HOUR = 3600.0
CONFIG = Config(monitor=MonitorConfig(segment_records=64))


class Fails:
    """Lets one call of the disk fail, counted from when it is armed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.hit = 0, ""
        for name in CALLS:
            monkeypatch.setattr(Disk, name, self._counted(getattr(Disk, name), name))

    def _counted(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if self.left:
                self.left -= 1
                if not self.left:
                    self.hit = name
                    raise OSError(errno.EIO, f"injected into {name}")
            return call(*arguments, **named)

        return counted


class Counting:
    """A tracker that counts rows."""

    def __init__(self) -> None:
        self.rows = 0

    def update(self, batch: MaturedBatch) -> None:
        self.rows += len(batch)

    def encode(self) -> bytes:
        return self.rows.to_bytes(8, "little")

    def restore(self, data: bytes) -> None:
        self.rows = int.from_bytes(data, "little")


def collect(monitor: ModelMonitor, clock: VirtualClock, hours: int) -> int:
    """Log pairs as records and predictions with features as blocks; return how many rows."""
    for _ in range(hours):
        clock.advance(HOUR)
        for place in range(3):
            monitor.log_prediction_vs_actual(place, clock.now(), 1.0, 2.0)
        monitor.log_prediction("with features", clock.now(), 3.0, features=(1.0, 2.0))
        monitor.log_actual("with features", clock.now(), 4.0)
    return 4 * hours


def counted(monitor: ModelMonitor) -> int:
    """Matured rows in the sums."""
    return int(monitor.sums.window(0, 10**6).n)


def dies_here(root: Path, clock: VirtualClock, rows: int) -> None:
    """What a process that died in this moment leaves behind tells of every row, even where its saved sums are lost."""
    for state in (True, False):
        image = root.with_name(f"image {state} of {root.name}")
        shutil.copytree(root, image)
        if not state:
            shutil.rmtree(image / "logs/state", ignore_errors=True)
        tracker = Counting()
        with ModelMonitor(image, CONFIG, clock, background=False) as monitor:
            monitor.add_tracker("counting", tracker)
            monitor.drain()
            assert (counted(monitor), tracker.rows) == (rows, rows), image


def try_each(monkeypatch: pytest.MonkeyPatch, live: Callable[[int, Fails], bool]) -> int:
    """Live with the first call failing, then with the second, until none is left to fail; return how many there were."""
    for number in itertools.count(1):
        with monkeypatch.context() as patch:
            if not live(number, Fails(patch)):
                return number - 1
    raise AssertionError


def test_a_drain_that_fails_halfway_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums and trackers have each row once, after a drain whose n-th call failed and one that did not."""

    def live(number: int, fails: Fails) -> bool:
        clock, tracker = VirtualClock(START), Counting()
        with ModelMonitor(tmp_path / str(number), CONFIG, clock, background=False) as monitor:
            monitor.add_tracker("counting", tracker)
            rows = collect(monitor, clock, 20)
            monitor.drain()
            rows += collect(monitor, clock, 20)
            clock.advance(100.0)
            fails.left = number
            try:
                monitor.drain()
            except OSError:
                rows += collect(monitor, clock, 1)
            hit, fails.left = fails.hit, 0
            monitor.drain()
            assert (counted(monitor), tracker.rows) == (rows, rows), (number, hit)
            assert np.isfinite(monitor.records()["actual"].to_numpy()).sum() == rows
        with ModelMonitor(tmp_path / str(number), CONFIG, clock, background=False) as monitor:
            assert counted(monitor) == rows, (number, hit)
        return bool(hit)

    assert try_each(monkeypatch, live) > 20


def test_a_start_that_fails_halfway_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the n-th call of the first look at a root fails, the second look has everything."""
    clock = VirtualClock(START)
    with ModelMonitor(tmp_path, CONFIG, clock, background=False) as monitor:
        rows = collect(monitor, clock, 40)
        monitor.drain()
    with ModelMonitor(tmp_path, CONFIG, clock, background=False) as monitor:  # not sealed, not saved
        rows += collect(monitor, clock, 3)

    def live(number: int, fails: Fails) -> bool:
        tracker = Counting()
        with ModelMonitor(tmp_path, CONFIG, clock, background=False) as monitor:
            fails.left = number
            try:
                monitor.add_tracker("counting", tracker)
                monitor.drain()
            except OSError:
                pass
            hit, fails.left = fails.hit, 0
            monitor.drain()
            assert counted(monitor) == rows, (number, hit)
            assert len(monitor.records()) == rows, (number, hit)
        return bool(hit)

    assert try_each(monkeypatch, live) > 5


def test_a_follower_whose_segments_were_sealed_reads_them_again_however_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has sealed what a reader followed: starting over survives any failing call."""

    def live(number: int, fails: Fails) -> bool:
        root, clock = tmp_path / str(number), VirtualClock(START)
        with ModelMonitor(root, CONFIG, clock, background=False) as leader:
            rows = collect(leader, clock, 10)
            follower = ModelMonitor(root, CONFIG, clock, background=False)
            assert counted(follower) == 0
            follower.get_model_health()
            rows += collect(leader, clock, 60)
            clock.advance(100.0)
            leader.drain()
            leader.save()
            rows += collect(leader, clock, 2)
            fails.left = number
            with suppress(OSError):
                follower.get_model_health()
            hit, fails.left = fails.hit, 0
            follower.get_model_health()
            assert counted(follower) == rows, (number, hit)
            follower.close()
        return bool(hit)

    assert try_each(monkeypatch, live) > 5
