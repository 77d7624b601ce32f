"""What was forecast from a broken feed, and what a champion's first days said while it was broken, judges nobody."""

from pathlib import Path

import numpy as np
import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.registry import Registry
from demand_maint.config import Config
from demand_maint.core.versions import ModelMetadata
from demand_maint.model_manager import HybridModelManager
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400.0
HOUR, DAY = 3600.0, 86400.0
PLACES = ("odd", "even", "third")


class Life:
    """Three places of a root, one of which reports in another unit on one day; the champion errs twice as much from `worse` on."""

    def __init__(self, root: Path, broken: int | None, worse: int = 1000) -> None:
        self.clock, self.broken, self.worse, self.day = VirtualClock(START), broken, worse, 0
        self.rng = np.random.default_rng(0)
        self.monitor = ModelMonitor(root, Config(), self.clock, background=False)

    def days(self, count: int) -> None:
        """Let days pass."""
        for day in range(self.day, self.day + count):
            stamps, hour = START + day * DAY + HOUR * np.arange(24), np.arange(24)
            for place in PLACES:
                actual = self.rng.poisson(40.0 * (1.25 + np.sin(hour / 24 * 2 * np.pi))).astype(float)
                predicted = actual + self.rng.normal(0.0, 6.0 * (1 + (day >= self.worse)), 24)
                if place == "odd" and day == self.broken:
                    actual *= 1000.0
                columns = {"place_id": [place] * 24, "timestamp": stamps, "predicted": predicted, "actual": actual}
                self.monitor.log_many(columns)
            self.clock.set(START + (day + 1) * DAY)
            self.monitor.drain()
        self.day += count


def test_a_week_after_a_fault_nobody_is_measured_by_it(tmp_path: Path) -> None:
    """A seasonal-naive forecast that served a broken feed's values is no reason to call the champion good."""
    lives = Life(tmp_path / "broken", 30), Life(tmp_path / "well", None)
    for life in lives:
        life.days(32)
    for _ in range(12):
        for life in lives:
            life.days(1)
        broken, well = (life.monitor.report(7, details=True) for life in lives)
        assert broken.interval == pytest.approx(well.interval, abs=0.15)
        assert broken.versions[0].mae == pytest.approx(well.versions[0].mae, rel=0.1)
        assert broken.skill == pytest.approx(well.skill, rel=0.1)
        assert broken.degradation == pytest.approx(well.degradation, abs=0.1)
    for life in lives:
        life.monitor.close()


def test_first_days_make_a_baseline_without_what_was_broken_and_it_is_kept(tmp_path: Path) -> None:
    """A day of another unit among the first fourteen leaves no trace, now or once the feed's faults of then are forgotten."""
    baselines = []
    for broken in (10, None):
        root = tmp_path / str(broken)
        life = Life(root, broken, worse=45)
        registry = Registry(Door(root), clock=life.clock)
        metadata = ModelMetadata(features=("x",), loss="RMSE", kind="foreign", created_at=START)
        number = registry.add_version(b"a model", metadata).number
        registry.commit("adopt", champion=number, base=number, who="test", why="it was there")
        life.monitor.journal.set_version(number, ("x",))
        with HybridModelManager(root, config=Config(), clock=life.clock, monitor=life.monitor) as manager:
            life.days(13)
            assert life.monitor.due_baseline() is None
            life.days(3)
            manager._rebaseline()
            assert life.monitor.due_baseline() is None, "it is kept"
            kept = registry.champion()
            assert (kept.action, kept.why) == ("rebaseline", "its first days")
            life.days(34)
            report = life.monitor.report(7)
            assert report.baseline == kept.baseline
            assert report.status == "critical"
            baselines.append(kept.baseline)
        life.monitor.close()
    with_fault, without = baselines
    assert with_fault is not None
    assert without is not None
    assert with_fault.skill == pytest.approx(without.skill, rel=0.05)
    assert with_fault.mae == pytest.approx(without.mae, rel=0.05)
