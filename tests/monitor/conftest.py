"""What the monitor's tests share."""

import pytest

from demand_maint._storage.disk import Disk


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power loss, so nothing waits for the platter."""
    monkeypatch.setattr(Disk, "sync", lambda self, descriptor: None)
    monkeypatch.setattr(Disk, "sync_dir", lambda self, path: None)
