"""What is counted again where saved state was lost."""

import shutil
from pathlib import Path

import pytest

from demand_maint._storage import observation_store
from demand_maint._storage.door import Door
from demand_maint._storage.observation_store import ObservationStore
from demand_maint.config import Config
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
