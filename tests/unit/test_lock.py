"""The maintainer lock: one holder, known by name, also when its file is removed or its process forks."""

import os
from pathlib import Path

import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint.errors import MaintainerBusyError, UnsupportedFilesystemError
from demand_maint.testing import VirtualClock


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """Give a door."""
    return Door(tmp_path)


def test_the_second_is_told_who_holds_it(door: Door) -> None:
    """A busy root names pid, host, since when and what for; after release the next one gets it."""
    with MaintainerLock(door, who="runtime", clock=VirtualClock(0.0)) as first:
        first.acquire()
        second = MaintainerLock(door)
        with pytest.raises(MaintainerBusyError, match=rf"pid {os.getpid()} on .* since 1970-01-01T00:00:00Z \(runtime"):
            second.acquire()
        assert (first.held, second.held, second.try_acquire()) == (True, False, False)
    assert not first.held
    assert second.try_acquire()
    second.release()
    second.release()
    assert door.exists("logs/maintainer.lock")


def test_removing_the_lock_file_lets_nobody_in(door: Door) -> None:
    """Somebody deletes the file: the second is still refused, and the holder puts the file back."""
    with MaintainerLock(door, who="one") as first:
        door.unlink("logs/maintainer.lock")
        assert not MaintainerLock(door).try_acquire()
        assert first.held
        with pytest.raises(MaintainerBusyError, match="one"):
            MaintainerLock(door).acquire()


def test_a_forked_child_neither_holds_nor_keeps_it(door: Door) -> None:
    """A child forked while the lock is held does not hold it, cannot drop it, and does not keep it alive."""
    first = MaintainerLock(door)
    first.acquire()
    read, write = os.pipe()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"held" if first.held else b"free")
        first.release()
        os.read(ready, 1)
        os._exit(0)
    try:
        assert os.read(read, 4) == b"free"
        assert not MaintainerLock(door).try_acquire()
        first.release()
        second = MaintainerLock(door)
        assert second.try_acquire()
        second.release()
    finally:
        os.write(go, b"x")
        os.waitpid(child, 0)
        for descriptor in (read, write, ready, go):
            os.close(descriptor)


def test_a_file_system_without_locks_is_refused_with_the_reason(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where flock lets two holders in, or does not exist, the error says so."""
    monkeypatch.setattr(type(door.disk), "lock", lambda *_: True)
    with pytest.raises(UnsupportedFilesystemError, match="two holders"):
        MaintainerLock(door).acquire()

    def missing(*_: object) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(type(door.disk), "lock", missing)
    with pytest.raises(UnsupportedFilesystemError, match="Function not implemented"):
        MaintainerLock(door).acquire()
