"""What is counted again where saved state was lost."""

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest

from demand_maint._storage import observation_store
from demand_maint._storage.door import Door
from demand_maint._storage.observation_store import ObservationStore
from demand_maint.config import Config, MonitorConfig
from demand_maint.core.timegrid import TimeGrid
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock
from tests.integration.test_explain_served import DAY, DAYS, START, Life


@pytest.mark.parametrize("lost", [True, False])
def test_members_stand_where_they_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lost: bool) -> None:
    """Saved sums that are gone, or of another format, are counted again; rows name snapshots that are kept, so members' too, to the last bit."""
    life = Life(tmp_path)
    told = life.monitor.line_up.snapshot(START + (DAYS + 1) * DAY, life.monitor.places)
    if lost:
        shutil.rmtree(tmp_path / "logs/state/metrics")
    else:
        monkeypatch.setattr(observation_store, "_FORMAT", 999)
    with ModelMonitor(tmp_path, Config(), VirtualClock(START + DAYS * DAY), background=False) as monitor:
        monitor.drain()
        assert monitor._store._rebuilt
        again = monitor.line_up.snapshot(START + (DAYS + 1) * DAY, monitor.places)
    assert told is not None
    assert again is not None
    assert again.encode() == told.encode()


def test_who_follows_is_told_before_a_journal_is_counted_from_its_beginning(tmp_path: Path) -> None:
    """A store without saved sums and without sealed files says that it begins anew, once."""
    told: list[None] = []
    store = ObservationStore(Door(tmp_path), Config(), TimeGrid("UTC", 3600), begins_anew=lambda: told.append(None))
    store.open()
    store.open()
    assert len(told) == 1


def figures(monitor: ModelMonitor) -> dict[str, object]:
    """Everything that is counted, day by day; what waits in memory comes and goes a day sooner or later."""
    monitor.drain()
    assert len(monitor._store.buffer.rows(0, 1 << 32, matured=False)) <= 24 * (5 + 14 + 2)
    edges = np.arange(START, START + 61 * DAY, DAY).astype(np.int64) // 3600
    errors, truth = monitor.sums.blocks(edges), monitor.feed.blocks_by_place(edges)
    found = {name: array.round(6).tolist() for name, array in (errors | truth).items() if name != "fresh_error"}
    return found | {name: number for name, number in monitor.counts().items() if name != "waiting"}


@pytest.mark.parametrize("missing", ["unknown", "zero"])
def test_what_is_counted_again_is_what_was_counted(tmp_path: Path, missing: Literal["unknown", "zero"]) -> None:
    """The season that was imported, truth that never came, and rows too old to stay in memory are as if no state had been lost."""
    config = Config(missing_actual=missing, monitor=MonitorConfig(segment_records=64, buffer_days=5))
    clock, rng = VirtualClock(START), np.random.default_rng(1)
    weeks = pl.DataFrame({"timestamp": START + 3600.0 * np.arange(-336, 0), "actual": rng.uniform(1, 9, 336)})
    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        monitor.import_history(weeks.with_columns(place_id=pl.lit("a")))
        for day in range(60):
            for hour in range(24):
                at = START + day * DAY + hour * 3600.0
                monitor.log_prediction("a", at, 5.0)
                if rng.random() > 0.1:
                    monitor.log_actual("a", at, float(rng.integers(0, 9)))
            clock.set(START + (day + 1) * DAY)
            monitor.drain()
        before = figures(monitor)
    shutil.rmtree(tmp_path / "logs/state/metrics")
    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        assert figures(monitor) == before
        assert monitor._store._rebuilt
        assert monitor.sums.window(0, 10**6).naive_n > 1000
