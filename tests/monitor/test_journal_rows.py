"""Rows with features: slots without a lock, and what a writer leaves behind that dies or fails within one."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demand_maint._storage.disk import Disk
from demand_maint._storage.door import Door
from demand_maint._storage.drain import Drain
from demand_maint._storage.journal import JOURNAL, Journal
from demand_maint._storage.segments import HEADER_BYTES, block_bytes, chosen
from demand_maint.config import Config
from demand_maint.core.observations import SERVED
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 3600 * 3600.0


def values_of(door: Door) -> list[float]:
    """Predictions of every committed row of every writer."""
    return [float(v) for part in Drain(door, []).read(0.0) for v in part.rows.predicted]


def test_four_threads_with_feature_rows_and_blocks_between_lose_nothing(tmp_path: Path) -> None:
    """Slots of several sizes, served blocks and roll-overs, all at once: every row is there once with its own features."""
    count = 12_000
    door = Door(tmp_path)
    journal = Journal(door)

    def work(number: int) -> None:
        width = 40 + number % 2
        for i in range(count):
            value = float(number * count + i)
            if i % 997 == 0:
                journal.log_served(["served"], START, np.array([value]), None)
            elif i % 2:
                journal.log_prediction(f"place {number}", START, value, (value,) * width)
            else:
                journal.log_prediction(f"place {number}", START, value, np.full(width, value, dtype=np.float32))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows_logged = journal.position()[1]
    journal.close()
    assert rows_logged == 4 * count
    assert sorted(values_of(door)) == [float(i) for i in range(4 * count)]
    drain = Drain(door, [])
    list(drain.read(0.0))
    for part in drain.reread():
        if part.rows.features is not None:
            assert (part.rows.features == part.rows.predicted[:, None].astype(np.float32)).all()


@pytest.mark.parametrize("hole", [0, 3, 4])
def test_a_slot_that_its_writer_did_not_live_to_fill_hides_nothing_behind_it(tmp_path: Path, hole: int) -> None:
    """While the writer lives, the drain waits there; once it is dead, what was logged behind the hole is counted and sealed."""
    clock = VirtualClock(START + 86400)
    size = block_bytes(1, 0, 3)
    writer = ModelMonitor(tmp_path, Config(), clock)
    for i in range(8):
        writer.log_prediction("a", START + 3600.0 * i, float(i), (1.0, 2.0, 3.0))
    path = next((tmp_path / JOURNAL).rglob("b*.seg"))
    data = bytearray(path.read_bytes())
    first = HEADER_BYTES + hole * size
    data[first : first + size] = bytes(size)
    path.write_bytes(data)
    with ModelMonitor(tmp_path, Config(), clock) as reader:
        assert len(reader.records()) == hole
        writer.journal._release()
        writer._closed = True
        writer.journal.closed = True
        reader.drain()
        assert reader.records()["predicted"].to_list() == [float(i) for i in range(8) if i != hole]
        reader.save()
    with ModelMonitor(tmp_path, Config(), clock) as again:
        assert len(again.records()) == 7
        assert again.verify() == []
    assert not list((tmp_path / JOURNAL).rglob("*.seg"))


def test_a_row_that_cannot_be_packed_leaves_an_empty_block(tmp_path: Path) -> None:
    """The slot of a hostile row stands for nothing, the row is kept with a NaN in its place, and the ones behind it follow."""
    door = Door(tmp_path)
    journal = Journal(door)
    for i in range(3):
        journal.log_prediction("a", START, float(i), (1.0, 2.0))
    journal.log_prediction("a", START, 3.0, (1.0, "two"))
    journal.log_prediction("a", START, "four", (1.0, 2.0))
    journal.log_prediction("a", START, 5.0, (1.0, 2.0))
    found = np.array(values_of(door))
    assert np.isnan(found[4])
    assert found[[0, 1, 2, 3, 5]].tolist() == [0.0, 1.0, 2.0, 3.0, 5.0]
    journal.close()


def test_rows_that_died_between_drain_and_seal_are_not_lost(tmp_path: Path) -> None:
    """A segment is only done with once everything of its dead writer was read."""
    clock = VirtualClock(START + 86400)
    writer = ModelMonitor(tmp_path, Config(), clock)
    writer.log_prediction_vs_actual("a", START, 1.0, 2.0)
    reader = ModelMonitor(tmp_path, Config(), clock)
    reader._store.drain(clock.now(), lead=True, gentle=False)
    writer.log_prediction_vs_actual("a", START + 3600, 1.0, 2.0)
    writer.log_prediction("b", START + 3600, 1.0, (1.0, 2.0))
    writer.journal._release()
    writer._closed = True
    writer.journal.closed = True
    reader._store.seal(clock.now())
    reader.drain()
    assert len(reader.records()) == 3
    reader.close()
    with ModelMonitor(tmp_path, Config(), clock) as again:
        assert len(again.records()) == 3


def test_large_blocks_do_not_overtake_the_segment_prepared_before_them(tmp_path: Path) -> None:
    """Segments are filled in the order of their numbers, so that none is sealed before its writer came to it."""
    clock = VirtualClock(START + 86400 * 300)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        journal, count = monitor.journal, 0
        codes, _ = journal.encode(["a"])
        for rows in (10, 200_000, 10, 150_000, 70_000, 3):
            times = START + 60.0 * (count + np.arange(rows, dtype=np.float64))
            journal.log_columns(np.repeat(codes, rows), times, np.ones(rows), np.full(rows, 2.0))
            journal.log_prediction("b", START + count, 1.0, (1.0, 2.0))
            count += rows
            monitor.drain()
        assert monitor.counts()["records"] == count + 6
        begun = [segment.head.number for _, segment, _ in monitor._store.drain_reader.writers.segments()]
        assert len(set(begun)) == len(begun)
    with ModelMonitor(tmp_path, Config(), clock) as again:
        assert again.counts()["records"] == count + 6


def test_a_large_block_is_written_whole_in_one_call(tmp_path: Path) -> None:
    """What `log_columns` put down is what is read, for pairs, predictions with features, and odd counts."""
    door = Door(tmp_path)
    journal = Journal(door)
    rng = np.random.default_rng(1)
    for rows in (5, 4_321, 160_001):
        codes, _ = journal.encode([f"place {i % 7}" for i in range(rows)])
        times, values, truths = START + np.arange(rows, dtype=np.float64), rng.random(rows), rng.random(rows)
        features = rng.random((rows, 3)).astype(np.float32)
        journal.log_columns(codes, times, values, truths)
        journal.log_columns(codes, times, values, None, features)
        drain = Drain(door, [])
        list(drain.read(0.0))
        parts = list(drain.reread())
        plain = [part.rows for part in parts if part.rows.features is None]
        rich = [part.rows for part in parts if part.rows.features is not None]
        assert np.concatenate([part.actual for part in plain])[-rows:].tolist() == truths.tolist()
        assert np.concatenate([part.time for part in rich])[-rows:].tolist() == times.tolist()
        found = np.concatenate([part.features for part in rich if part.features is not None])[-rows:]
        assert (found == features).all()
        assert np.concatenate([part.predicted for part in rich])[-rows:].tolist() == values.tolist()
    journal.close()


def test_blocks_of_different_shapes_that_take_turns_are_read_in_the_order_they_were_logged(tmp_path: Path) -> None:
    """Many small blocks of changing size come out as they went in, when first read and when read again."""
    door = Door(tmp_path)
    journal = Journal(door)
    codes, _ = journal.encode(["a"])
    expected: list[float] = []
    drain = Drain(door, [])
    read: list[float] = []
    for turn in range(40):
        for rows in (6, 9, 6, 2 + turn % 3):
            values = np.arange(rows, dtype=np.float64) + len(expected)
            journal.log_columns(np.repeat(codes, rows), START + values, values, None)
            expected += values.tolist()
        if turn % 7 == 0:
            read += [float(v) for part in drain.read(float(turn)) for v in part.rows.predicted]
    read += [float(v) for part in drain.read(100.0) for v in part.rows.predicted]
    again = list(drain.reread())
    journal.close()
    assert read == expected
    assert [float(v) for part in again for v in part.rows.predicted] == expected
    stamps = np.concatenate([part.observed_at for part in again])
    assert (np.diff(stamps) >= 0).all()
    assert set(stamps.tolist()) == {0.0, 7.0, 14.0, 21.0, 28.0, 35.0, 100.0}


def test_an_opened_journal_takes_its_first_rows_without_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first records and rows of known places need is there beforehand: no file is made or opened for them."""
    journal = Journal(Door(tmp_path))
    journal.name_features(("lag", "dow"))
    journal.open(["a", "b"])

    def refuse(self: Disk, path: str) -> int:
        raise OSError(28, "No space left on device", path)

    for call in ("create", "open_append", "open_update", "make_dir", "open_lock"):
        monkeypatch.setattr(Disk, call, refuse)
    journal.log("a", START, 1.0, 2.0)
    journal.log_prediction("b", START, 3.0, (1.0, 2.0))
    journal.log_served(["a", "b"], START, np.array([4.0, 5.0]), None, features=np.ones((2, 2), dtype=np.float32))
    assert journal.degraded is None
    monkeypatch.undo()
    monkeypatch.setattr(Disk, "sync", lambda self, descriptor: None)
    assert sorted(values_of(Door(tmp_path))) == [1.0, 3.0, 4.0, 5.0]
    journal.close()


def test_rows_behind_a_hole_are_counted_once_by_a_process_that_starts_after_the_death(tmp_path: Path) -> None:
    """A start that finds nothing but what a dead writer logged behind an unfinished block counts it, and counts it once."""
    config, clock = Config(step="1h"), VirtualClock(START + 3600 * 100)
    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        for i in range(9):
            monitor.log_prediction("a", START + 3600 * i, 1.0, (1.0, 2.0))
        monitor.drain()
        monitor.save()
        for i in range(9, 12):
            monitor.log_prediction("a", START + 3600 * i, 1.0, (1.0, 2.0))
        monitor.journal._release()
        monitor._closed = monitor.journal.closed = True
    segment = min((tmp_path / JOURNAL).glob("*/b*.seg"))
    size = block_bytes(1, 0, 2)
    data = bytearray(segment.read_bytes())
    data[HEADER_BYTES + 9 * size : HEADER_BYTES + 10 * size] = bytes(size)
    segment.write_bytes(data)
    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        for _ in range(2):
            monitor._store.drain(clock.now(), lead=False, gentle=False)  # as one does who does not lead
            counts = monitor.counts()
            assert (counts["records"], counts["waiting"], counts["replaced"]) == (11, 11, 0)
            assert monitor.sums.window(0, 10**6).predictions == 11


@pytest.mark.parametrize(
    "features",
    [
        [0.0] * 70_000,
        np.zeros(70_000, dtype=np.float32),
        {},
        (),
        "abc",
        {"lag": "x"},
        [10**400],
        object(),
        3,
        [[1, 2], [3]],
    ],
    ids=lambda features: f"{type(features).__name__} {str(features)[:12]}",
)
def test_no_feature_row_raises_into_the_collector(tmp_path: Path, features: Any) -> None:
    """A row of anything is kept or refused and counted; the next one goes on as if nothing had been."""
    journal = Journal(Door(tmp_path))
    journal.log_prediction("a", START, 1.0, (1.0, 2.0))
    journal.log_prediction("a", START, 2.0, features)
    journal.log_prediction("a", START, 3.0, (1.0, 2.0))
    journal.close()
    kept = values_of(Door(tmp_path))
    assert kept in ([1.0, 2.0, 3.0], [1.0, 3.0])
    assert len(kept) + sum(journal.refused.values()) == 3


def test_new_places_of_a_batch_are_written_down_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand new places cost one write, come out under their codes, and what is no place is refused alone."""
    writes: list[str] = []
    append = Door.append

    def counting(self: Door, rel: str, data: bytes, *, sync: bool = False) -> None:
        writes.append(rel)
        append(self, rel, data, sync=sync)

    monkeypatch.setattr(Door, "append", counting)
    journal = Journal(Door(tmp_path))
    places = [*(f"place {i}" for i in range(1000)), 0, 1, True, "place 7", None, 5.0]
    codes, good = journal.encode(places)
    assert len(writes) == 1
    assert good.tolist() == [place is not True and place is not None for place in places]
    assert codes[-3] == codes[7]
    journal.log_columns(codes[good], np.full(good.sum(), START), np.arange(good.sum(), dtype=np.float64), None)
    journal.close()
    drain = Drain(Door(tmp_path), [])
    (part,) = drain.read(0.0)
    assert [drain.places[code] for code in part.place] == [*places[:1002], "place 7", 5]


def test_nobody_asks_whether_the_own_writer_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draining what this process logs opens no lock; once its journal is closed, the writer is as dead as any other."""
    with ModelMonitor(tmp_path, Config(), VirtualClock(START)) as monitor:
        monitor.journal.log_served(["a"], START, np.ones(1), np.ones((1, 1), dtype=np.float32))
        monitor.drain()
        locks: list[str] = []
        original = Door.open_lock

        def counted(door: Door, rel: str) -> int:
            locks.append(rel)
            return original(door, rel)

        monkeypatch.setattr(Door, "open_lock", counted)
        monitor.journal.log_served(["b"], START, np.ones(1), np.ones((1, 1), dtype=np.float32))
        monitor.drain()
        assert monitor.counts()["records"] == 2
        assert not [lock for lock in locks if lock.endswith("writer.lock")]
    assert [lock for lock in locks if lock.endswith("writer.lock")]
    assert not list((tmp_path / "logs/journal").iterdir())


def test_a_single_served_row_is_what_it_would_be_among_others(tmp_path: Path) -> None:
    """A row served alone is read while its writer lives, with every column that it has when it is served with others."""
    door = Door(tmp_path)
    journal = Journal(door, clock=VirtualClock(START))
    journal.set_version(7, ("lag", "dow", "hour"))
    journal.open(["a", "b"])
    members, features = np.array([[4.5, 5.5]], dtype=np.float32), np.array([[1.0, 2.0, 3.0]], dtype=np.float32)
    served, champion = np.array([5.25]), np.array([4.1])
    for stamp in (START, np.array([START])):
        journal.log("b", START, 0.0, 0.0)
        journal.log_served(["a"], stamp, served, members, 9, features, champion=champion)
    journal.log_served(["a"], START, served, None)
    journal.log_served(
        ["a", "b"], START, served.repeat(2), members.repeat(2, 0), 9, features.repeat(2, 0), champion=champion.repeat(2)
    )
    drain = Drain(door, [])
    assert sum((part.rows.kind == SERVED).sum() for part in drain.read(0.0)) == 5
    rows = [chosen(part.rows, i) for part in drain.reread(blocks_only=True) for i in range(len(part))]
    whole = [row for row in rows if row.schema]
    assert len(rows) == 5
    assert len(whole) == 4
    for row in whole:
        found = (row.version, row.predicted, row.actual, row.time, row.snapshot)
        assert [float(value) for value in found if value is not None] == [7, 4.1, 5.25, START, 9]
        assert row.members is not None
        assert row.features is not None
        assert row.members.tolist() == [4.5, 5.5]
        assert row.features.tolist() == [1.0, 2.0, 3.0]
    assert sorted(row.after for row in whole) == [2, 4, 4, 4]
    journal.close()


def test_blocks_of_other_times_are_not_read_again(tmp_path: Path) -> None:
    """Rows of a stretch of time come from the blocks that hold them, wherever those lie; a reader that did not read them looks at all."""
    door = Door(tmp_path)
    journal = Journal(door, clock=VirtualClock(START))
    journal.set_version(7, ("lag",))
    drain = Drain(door, [])
    hours = [3.0, 0.0, 5.0, 4.0, 1.0, 2.0]
    for hour in hours:
        rows = np.full((2, 1), hour, dtype=np.float32)
        stamps = START + 3600 * np.array([hour, hour + 0.5])
        journal.log_served(["a", "a"], stamps, rows[:, 0].astype(float), rows, 0, rows)
        assert sum(len(part) for part in drain.read(0.0)) == 2
    low, high = START + 3600 * 2, START + 3600 * 4
    seen = [row for part, names in drain.reread_named(low, high) for row in part.rows.predicted if names == ("lag",)]
    assert seen == [3.0, 3.0, 4.0, 4.0, 2.0, 2.0]
    other = Drain(door, [])
    other.restore(drain.writers.cursors())
    assert [float(v) for part, _ in other.reread_named(low, high) for v in part.rows.predicted[::2]] == hours
    journal.close()


def test_a_lone_served_row_for_which_there_is_no_room_waits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs nothing of what is served row by row, and what is no place is refused without a word to the caller."""
    journal = Journal(Door(tmp_path), clock=VirtualClock(START))
    journal.log("a", START, 1.0, 2.0)
    monkeypatch.setattr(Disk, "create", lambda self, path: (_ for _ in ()).throw(OSError(28, "No space left", path)))
    journal.log_served(["a"], START, np.array([4.0]), None)
    assert journal.degraded is not None
    assert journal.held == 1
    journal.log_served([["a list"]], START, np.array([4.0]), None)
    assert journal.held == 1
    assert journal.refused == {"place": 1}
    monkeypatch.undo()
    journal.close()
    assert sorted(values_of(Door(tmp_path))) == [1.0, 4.0]


def test_room_is_made_for_rows_and_not_for_empty_segments(tmp_path: Path) -> None:
    """A few rows take a few rows' memory, however much room the writer has prepared for more."""
    with ModelMonitor(tmp_path, clock=VirtualClock(START + 9 * 3600), background=False) as monitor:
        monitor.journal.open()
        monitor.journal.maintain()
        monitor.log_prediction_vs_actual("a", START, 1.0, 2.0)
        monitor.log_prediction("a", START + 3600, 1.0, (1.0, 2.0))
        monitor.drain()
        assert len(monitor._store.buffer) == 2
        assert len(monitor._store.buffer._columns.flags) <= 4096
