"""What is periodic goes on whatever fails, and somebody is told."""

import errno
from typing import TYPE_CHECKING, Any

import pytest

from demand_maint.core.events import MaintenanceEvent, StorageDegraded, StorageRecovered
from demand_maint.errors import UnsupportedFilesystemError

if TYPE_CHECKING:
    from tests.runtime.conftest import Stage
else:
    Stage = Any


async def turn(runtime: Any) -> None:
    """Take a turn of the upkeep now, and see its events delivered."""
    await runtime._errands.run(runtime._upkeep.turn)
    await runtime.hooks.drain(2.0)


async def test_a_journal_in_trouble_is_told_once_and_so_is_its_recovery(stage: Stage) -> None:
    """StorageDegraded when records begin to wait in memory, StorageRecovered with what was lost when the disk is well again."""
    runtime, parts = await stage.open()
    events: list[MaintenanceEvent] = []
    runtime.on(StorageDegraded, StorageRecovered)(events.append)
    parts.sick = ("OSError: no space left", 3)
    await turn(runtime)
    await turn(runtime)
    assert runtime.status()["storage"] == "OSError: no space left"
    parts.sick = (None, 8)
    await turn(runtime)
    assert runtime.status()["storage"] == "ok"
    await stage.until(lambda: len(events) == 2)
    assert isinstance(events[0], StorageDegraded)
    assert isinstance(events[1], StorageRecovered)
    assert events[1].dropped == 5


@pytest.mark.parametrize("what", ["drain", "publish", "refresh"])
async def test_one_failing_duty_keeps_none_of_the_others(
    stage: Stage, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk under one duty: the others are done each turn, it is logged once, told once, and tried again."""
    runtime, parts = await stage.open()
    events: list[MaintenanceEvent] = []
    runtime.on(StorageDegraded, StorageRecovered)(events.append)
    parts.fail[what] = OSError(errno.ENOSPC, "no space left")
    before = len(parts.calls)
    for _ in range(3):
        runtime._upkeep._due.clear()  # type: ignore[union-attr] # open, as just seen
        await turn(runtime)
    names = [name for name, _, _ in parts.calls[before:]]
    assert {"drain", "publish", "refresh"} <= set(names)
    assert names.count(what) >= 3
    assert caplog.text.count("upkeep failed") == 1
    del parts.fail[what]
    runtime._upkeep._due.clear()  # type: ignore[union-attr] # open, as just seen
    await turn(runtime)
    await stage.until(lambda: len(events) == 2)
    assert [type(event) for event in events] == [StorageDegraded, StorageRecovered]


async def test_a_disk_that_is_away_at_the_start_is_waited_for(stage: Stage) -> None:
    """The lock cannot be tried just now: the host starts all the same, as a follower, and leads when the disk is back."""
    stage.prepare = lambda parts: parts.fail.update(try_lead=OSError(errno.EIO, "away"))
    runtime = stage.attach()
    await runtime.start()
    assert runtime.role == "follower"
    stage.parts[0].fail.clear()
    await stage.until(lambda: runtime.role == "leader")


async def test_a_file_system_without_locks_is_refused(stage: Stage) -> None:
    """Where flock does not work, starting fails with the reason, and nothing stays open."""
    stage.prepare = lambda parts: parts.fail.update(try_lead=UnsupportedFilesystemError("no flock here"))
    with pytest.raises(UnsupportedFilesystemError, match="no flock here"):
        await stage.attach().start()
    assert stage.parts[0].closed
