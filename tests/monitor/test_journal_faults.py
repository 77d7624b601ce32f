"""The journal under threads, forks, cuts, flips and a full disk."""

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demand_maint._storage.disk import Disk
from demand_maint._storage.door import Door
from demand_maint._storage.drain import Drain
from demand_maint._storage.drain_notes import DrainNotes
from demand_maint._storage.journal import JOURNAL, Journal
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.segments import HEADER_BYTES, RECORD_BYTES
from demand_maint.config import Config, MonitorConfig
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 3600 * 3600.0
SMALL = MonitorConfig(segment_records=128)


def values_of(door: Door) -> list[float]:
    """Predictions of every committed row of every writer."""
    return [float(v) for part in Drain(door, []).read(0.0) for v in part.rows.predicted]


def test_four_threads_lose_and_mangle_nothing(tmp_path: Path, big: bool) -> None:
    """Each record of four threads is there once, whole, across many roll-overs."""
    count = 200_000 if big else 20_000
    door = Door(tmp_path)
    journal = Journal(door, MonitorConfig(segment_records=1024))

    def work(number: int) -> None:
        for i in range(count):
            value = float(number * count + i)
            if i % 50 == 0:
                journal.log_prediction(f"place {number}", START, value, (value, 1.0))
            else:
                journal.log(f"place {number}", START, value, -value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = list(Drain(door, []).read(0.0))
    predicted = np.concatenate([part.rows.predicted for part in rows])
    actual = np.concatenate([part.rows.actual for part in rows])
    assert sorted(predicted.tolist()) == [float(i) for i in range(4 * count)]
    known = np.isfinite(actual)
    assert (actual[known] == -predicted[known]).all()
    assert int((~known).sum()) == 4 * (count // 50)
    journal.close()


def test_a_forked_child_writes_beside_its_parent(tmp_path: Path) -> None:
    """Parent and children log on after a fork, each to its own directory, and nothing of either is lost."""
    door = Door(tmp_path)
    journal = Journal(door, SMALL)
    for i in range(100):
        journal.log("a", START, float(i), 0.0)
    children = []
    for n in range(1, 4):
        child = os.fork()
        if child == 0:
            for i in range(500):
                journal.log("a" if i % 2 else "b", START, float(n * 1000 + i), 0.0)
            os._exit(0)
        children.append(child)
    for i in range(100, 500):
        journal.log("a", START, float(i), 0.0)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    assert len(door.listdir(JOURNAL)) == 4
    wanted = [float(n * 1000 + i) for n in range(4) for i in range(500)]
    assert sorted(values_of(door)) == sorted(wanted)
    journal.close()


def written(tmp_path: Path, *, features: bool) -> tuple[Path, int]:
    """A root with 100 records; the segment that holds them and the size of one."""
    door = Door(tmp_path)
    journal = Journal(door, MonitorConfig(segment_records=4096))
    for i in range(100):
        if features:
            journal.log_prediction("a", START + i, float(i + 1), (1.0, 2.0, 3.0))
        else:
            journal.log("a", START + i, float(i + 1), 1.0)
    journal.close()
    name = next(
        n
        for n in door.listdir(f"{JOURNAL}/{journal.writer}")
        if n.startswith("b" if features else "r") and n.endswith("0.seg")
    )
    return door.path(f"{JOURNAL}/{journal.writer}/{name}"), 80 if features else RECORD_BYTES


@pytest.mark.parametrize("features", [False, True])
def test_a_cut_at_any_offset_leaves_exactly_the_whole_records_before_it(tmp_path: Path, features: bool) -> None:
    """Bytes after a cut are gone; every record before it survives, no other appears."""
    path, size = written(tmp_path, features=features)
    whole = path.read_bytes()
    end = HEADER_BYTES + 100 * size
    begin = max(HEADER_BYTES, end - 4096)
    for cut in range(begin, end + 1):
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        found = values_of(Door(tmp_path))
        complete = (cut - HEADER_BYTES) // size
        # the commit word is the last 8 bytes: a cut inside it leaves a time that may still be one
        torn = (cut - HEADER_BYTES) % size > size - 8
        assert found[:complete] == [float(i + 1) for i in range(complete)]
        assert len(found) - complete in ({0, 1} if torn and not features else {0})


def test_flips_in_drained_blocks_and_sealed_segments_are_all_detected(tmp_path: Path) -> None:
    """Whatever bit changes in what was drained or sealed, verify names the file."""
    clock = VirtualClock(START + 3600.0)
    config = Config(monitor=MonitorConfig(segment_records=64))
    with ModelMonitor(tmp_path, config, clock) as monitor:
        for i in range(100):
            monitor.log_prediction_vs_actual(i % 3, START, float(i), 1.0)
            monitor.log_prediction(i % 3, START + 3600, float(i), (1.0, float(i)))
        monitor.drain()
        monitor.save()
        assert monitor.verify() == []
        rng = np.random.default_rng(1)
        live = [p for p in (tmp_path / JOURNAL).rglob("*.seg") if (p.parent / f"{p.name}.drained").exists()]
        assert len(live) == 2
        for path in live:
            drained = max(note.end for note in DrainNotes(Door(tmp_path)).read(str(path.relative_to(tmp_path))))
            end = HEADER_BYTES + drained * RECORD_BYTES if path.name.startswith("r") else drained
            whole = path.read_bytes()
            for at in rng.integers(HEADER_BYTES, end, size=60):
                flip(path, int(at), int(rng.integers(8)))
                assert monitor._store.drain_reader.verify() == [str(path.relative_to(tmp_path))]
                path.write_bytes(whole)
        clock.advance(10)
    sealed = sorted((tmp_path / "logs/predictions").glob("*.parquet"))
    assert sealed
    for path in sealed:
        whole = path.read_bytes()
        for at in rng.integers(0, len(whole), size=20):
            flip(path, int(at), int(rng.integers(8)))
            with ModelMonitor(tmp_path, config, clock) as monitor:
                assert f"logs/predictions/{path.name}" in monitor.verify()
            quarantined = tmp_path / "logs/quarantine"
            for part in quarantined.iterdir():
                part.rename(path.parent / part.name)
            path.write_bytes(whole)


def flip(path: Path, at: int, bit: int) -> None:
    """Change one bit of a file in place."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))


def test_a_segment_that_changed_after_it_was_drained_is_named_and_copied_aside(tmp_path: Path) -> None:
    """Sealing compares with the drain's checksums first; the figures, counted before, stay as they are."""
    clock = VirtualClock(START + 3600.0)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        for i in range(10):
            monitor.log_prediction_vs_actual(i, START, 1.0, 2.0)
        monitor.drain()
        monitor.save()
        (path,) = (tmp_path / JOURNAL).rglob("r00000000.seg")
        flip(path, HEADER_BYTES + RECORD_BYTES + 10, 3)
    assert len(list((tmp_path / "logs/quarantine").iterdir())) == 1
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        assert monitor.sums.window(0, 10**6).abs_error == 10.0


def test_a_damaged_sealed_file_is_set_aside_and_the_rest_keeps_working(tmp_path: Path) -> None:
    """Records of other files are still served, and the damaged file is named."""
    config = Config(monitor=MonitorConfig(segment_records=64))
    with ModelMonitor(tmp_path, config, VirtualClock(START + 86400)) as monitor:
        for i in range(128):
            monitor.log_prediction_vs_actual("a", START + i * 3600, float(i), 1.0)
        monitor.drain()
    first, *_, last = sorted((tmp_path / "logs/predictions").glob("*.parquet"))
    assert first != last
    first.write_bytes(first.read_bytes()[:-7])
    with ModelMonitor(tmp_path, config, VirtualClock(START + 86400)) as monitor:
        assert monitor.verify() == [f"logs/predictions/{first.name}"]
        assert len(monitor.records()) == 64
    assert (tmp_path / "logs/quarantine" / first.name).exists()


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_disk_that_does_not_give_a_sealed_file_is_not_mistaken_for_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """A passing I/O error is raised, whoever asks; the file stays, and all its rows are there the next time."""
    config, clock = Config(monitor=MonitorConfig(segment_records=64)), VirtualClock(START + 86400)
    with ModelMonitor(tmp_path, config, clock) as monitor:
        for i in range(128):
            monitor.log_prediction_vs_actual("a", START + i * 3600, float(i), 1.0)
        monitor.drain()
    first = min((tmp_path / "logs/predictions").glob("*.parquet"))
    read = Disk.read

    def fail(self: Disk, descriptor: int, size: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == Path(f"{first}{suffix}"):
            raise OSError(errno.EIO, "Input/output error")
        return read(self, descriptor, size)

    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        monkeypatch.setattr(Disk, "read", fail)
        for ask in (monitor.verify, monitor.records, monitor.truth):
            with pytest.raises(OSError, match="Input/output"):
                ask()
        monkeypatch.undo()
        assert len(monitor.records()) == 128
        assert monitor.verify() == []
    assert first.exists()
    assert not (tmp_path / "logs/quarantine").exists()
    shutil.rmtree(tmp_path / "logs/state/metrics")
    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        monkeypatch.setattr(Disk, "read", fail)
        with pytest.raises(OSError, match="Input/output"):
            monitor.get_model_health()
        monkeypatch.undo()
        assert monitor.sums.window(0, 10**6).n == 128


def state_of(journal: Journal) -> bool:
    """Whether records wait in memory."""
    return journal.degraded is not None


class FullDisk(Disk):
    """A disk with no room for new files or bytes while `full`."""

    full = False

    def allocate(self, descriptor: int, size: int) -> None:
        """Refuse while full."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().allocate(descriptor, size)

    def write(self, descriptor: int, data: Any) -> None:
        """Refuse while full."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data)


def test_a_full_disk_is_ridden_out_in_memory_and_heals_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing raises, records wait in memory, one line tells of each change, and all are on disk in the end."""
    disk, clock = FullDisk(), VirtualClock(START)
    journal = Journal(Door(tmp_path, disk), SMALL, clock=clock)
    states: list[str | None] = []
    journal.on_state = lambda reason, dropped: states.append(reason)
    for i in range(100):
        journal.log("a", START, float(i), 0.0)
    disk.full = True
    for i in range(100, 600):
        journal.log("a" if i % 2 else f"new place {i}", START, float(i), 0.0)
        journal.log_prediction("a", START, float(i + 1000), (1.0, 2.0))
    journal.log_served(["a", "z"], START, np.array([7000.0, 7001.0]), np.ones((2, 1), np.float32), 1)
    assert state_of(journal)
    assert journal.held > 0
    disk.full = False
    clock.advance(5)
    journal.log("a", START, 5000.0, 0.0)
    assert not state_of(journal)
    assert journal.held == journal.dropped == 0
    assert [state is None for state in states] == [False, True]
    assert sum("journal_" in record.message for record in caplog.records) == 2
    found = sorted(values_of(Door(tmp_path)))
    wanted = [*range(600), 5000, *range(1100, 1600), 1, 1]
    assert found == sorted(map(float, wanted))
    journal.close()


def test_a_journal_opens_on_a_disk_that_takes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that starts on a full disk starts: what it logs waits in memory, and what is lost in the end is told."""
    disk = FullDisk()
    disk.full = True
    journal = Journal(Door(tmp_path, disk), SMALL, clock=VirtualClock(START))
    journal.open(["a", "b"])
    journal.log("a", START, 1.0, 0.0)
    assert state_of(journal)
    assert journal.held == 1
    journal.close()
    assert any(line.startswith("records_lost records=1 reason=OSError") for line in caplog.messages)


def test_a_new_writer_outlives_a_leader_that_tidies_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is taken for a dead writer's before its lock is in it is made again, and nothing is degraded."""
    door, taken = Door(tmp_path), [True]
    make = Door.makedirs

    def makedirs(self: Door, rel: str) -> None:
        make(self, rel)
        if rel.startswith(f"{JOURNAL}/") and taken:
            taken.clear()
            (tmp_path / rel).rmdir()

    monkeypatch.setattr(Door, "makedirs", makedirs)
    journal = Journal(door, SMALL, clock=VirtualClock(START))
    journal.open(["a"])
    assert not state_of(journal)
    journal.log("a", START, 1.0, 0.0)
    journal.close()
    assert values_of(Door(tmp_path)) == [1.0]


def test_a_monitor_without_a_lock_file_counts_and_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only root nothing can be sealed; health is told from memory, and closing raises nothing."""

    def refuse(*_: object) -> bool:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(MaintainerLock, "try_acquire", refuse)
    with ModelMonitor(tmp_path, Config(), VirtualClock(START + 3600)) as monitor:
        monitor.log_prediction_vs_actual("a", START, 1.0, 3.0)
        assert monitor.get_model_health()["mae"] == 2.0
        monitor.drain()


def test_memory_is_bounded_and_predictions_are_given_up_before_actuals(tmp_path: Path) -> None:
    """Past the bound the oldest predictions go first, and every drop is counted."""
    disk = FullDisk()
    disk.full = True
    journal = Journal(Door(tmp_path, disk), SMALL, clock=VirtualClock(START))
    journal._ring.limit = 100
    for i in range(150):
        journal.log_prediction("a", START, float(i))
        journal.log_actual("a", START, float(i))
    assert journal.held == 100
    assert journal.dropped == 200
    disk.full = False
    journal.close()
    kinds = [int(k) for part in Drain(Door(tmp_path), []).read(0.0) for k in part.rows.kind]
    assert kinds == [3] * 100


def test_a_clock_set_back_an_hour_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Records before, during and after the hour that is lived twice are each counted once, also after a restart."""
    clock = VirtualClock(START + 7200)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        monitor.log_prediction_vs_actual("a", START, 1.0, 2.0)
        monitor.drain()
        clock.set(START + 3600)
        monitor.log_prediction_vs_actual("a", START + 3600, 1.0, 2.0)
        monitor.drain()
        clock.set(START + 7200)
        monitor.log_prediction_vs_actual("a", START + 7200, 1.0, 2.0)
        assert monitor.get_model_health()["n"] == 3
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        assert monitor.get_model_health()["n"] == 3
        assert len(monitor.records()) == 3
