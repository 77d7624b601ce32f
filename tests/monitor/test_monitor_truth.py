"""Which truth is late, and what becomes of saved state that cannot be read."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from demand_maint._storage import observation_store
from demand_maint.config import Config, MonitorConfig
from demand_maint.core.lineup import LineUp
from demand_maint.core.records import MaturedBatch
from demand_maint.errors import DamagedRegistryError
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 7 * DAY


def live_a_week(monitor: ModelMonitor, week: int, *, complete: bool) -> None:
    """Log hourly demand of three places; pairs, or predictions and truths apart."""
    for hour in range(7 * 24):
        at = START + week * WEEK + hour * HOUR
        for place in ("a", "b", "c"):
            if complete:
                monitor.log_prediction_vs_actual(place, at, 10.0, 10.0 + hour % 5)
            else:
                monitor.log_prediction(place, at, 10.0)
                monitor.log_actual(place, at, 10.0 + hour % 5)


@pytest.mark.parametrize("complete", [True, False])
def test_truth_that_a_weekly_drain_finds_is_not_late(tmp_path: Path, complete: bool) -> None:
    """A truth may have been logged right after the drain before: a root that drains weekly has a healthy feed."""
    clock = VirtualClock(START)
    with ModelMonitor(tmp_path, Config(), clock) as collector:
        for week in range(6):
            live_a_week(collector, week, complete=complete)
            clock.set(START + (week + 1) * WEEK)
            with ModelMonitor(tmp_path, Config(), clock) as cron:
                health = cron.get_model_health(details=True)
                assert cron.counts()["late"] == 0
                assert cron.feed.total("late") == 0
                assert health["n"] == 3 * (7 * 24 - 1)  # whole hours, the current one among them
                assert not health["feed"]


@pytest.mark.parametrize("again", [False, True])
def test_a_month_that_is_filled_in_is_not_late(tmp_path: Path, *, again: bool) -> None:
    """What was due before the first row of a root came is no fault of its feed, however many drains find it; what comes too late afterwards is."""
    clock = VirtualClock(START)
    config = Config(monitor=MonitorConfig(segment_records=64))
    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        for hour in range(-30 * 24, 0):
            monitor.log_prediction_vs_actual("a", START + hour * HOUR, 1.0, 2.0 + hour % 7)
            if hour % 100 == 0:
                clock.set(clock.now() + 60.0)
                monitor.drain()
        monitor.drain()
        assert monitor.counts()["late"] == 0
        monitor.log_prediction("a", START, 1.0)
        clock.set(START + 3 * DAY)
        monitor.drain()
        monitor.log_actual("a", START, 2.0)
    if again:
        shutil.rmtree(tmp_path / "logs/state/metrics")
    with ModelMonitor(tmp_path, config, clock, background=False) as monitor:
        assert monitor.counts()["late"] == 1
        assert len(monitor.truth()) == 30 * 24 + 1


def test_truth_that_came_after_its_horizon_for_certain_is_late(tmp_path: Path) -> None:
    """Where the drain before was past the horizon already, the truth is late; so it is after counting everything again."""
    clock = VirtualClock(START + HOUR)
    config = Config(monitor=MonitorConfig(segment_records=64))
    with ModelMonitor(tmp_path, config, clock) as monitor:
        for hour in range(30):
            monitor.log_prediction("a", START + hour * HOUR, 1.0)
        monitor.drain()
        clock.set(START + 20 * DAY)
        monitor.log_actual("a", START, 2.0)
        monitor.drain()
        assert monitor.counts()["late"] == 0
        for hour in range(1, 20):
            monitor.log_actual("a", START + hour * HOUR, 2.0)
        clock.advance(60)
        monitor.drain()
        assert monitor.counts()["late"] == 19
        monitor.log_prediction_vs_actual("b", START, 1.0, 2.0)
        monitor.drain()
        assert monitor.counts()["late"] == 20
        assert monitor.feed.total("late") == 20
    for path in (tmp_path / "logs/state/metrics").iterdir():
        path.unlink()
    with ModelMonitor(tmp_path, config, clock) as monitor:
        assert monitor.counts()["late"] == monitor.feed.total("late") == 20


def test_when_a_writer_was_read_last_outlives_the_process(tmp_path: Path) -> None:
    """A new process knows of the drain before it, and a writer it meets for the first time has no late truth."""
    clock = VirtualClock(START + 20 * DAY)
    with ModelMonitor(tmp_path, Config(), clock) as collector:
        collector.log_actual("a", START, 2.0)
        with ModelMonitor(tmp_path, Config(), clock) as first:
            assert first.counts()["late"] == 0
        clock.advance(3 * DAY)
        collector.log_actual("a", START + HOUR, 2.0)
        with ModelMonitor(tmp_path, Config(), clock) as between:
            assert between.counts()["late"] == 0
        collector.log_actual("a", START + 20 * DAY, 2.0)
        clock.advance(60)
        with ModelMonitor(tmp_path, Config(), clock) as second:
            assert second.counts()["late"] == 1


def test_a_zero_that_was_assumed_is_not_late(tmp_path: Path) -> None:
    """With missing_actual="zero" nothing comes late where nothing comes."""
    clock = VirtualClock(START)
    with ModelMonitor(tmp_path, Config(missing_actual="zero"), clock) as monitor:
        for hour in range(24):
            monitor.log_prediction("a", START + hour * HOUR, 1.0)
        monitor.drain()
        clock.set(START + 9 * DAY)
        monitor.drain()
        assert monitor.counts()["assumed_zero"] == 24
        assert monitor.counts()["late"] == 0


class Counting:
    """A tracker that counts rows, and whose state may be of no use."""

    def __init__(self, *, broken: bool = False) -> None:
        self.rows = 0
        self.broken = broken

    def update(self, batch: MaturedBatch) -> None:
        self.rows += len(batch)

    def encode(self) -> bytes:
        return str(self.rows).encode()

    def restore(self, data: bytes) -> None:
        if self.broken and data != b"0":
            raise DamagedRegistryError("The state is of no use.")
        self.rows = int(data)


@pytest.mark.parametrize("lost", [False, True])
def test_a_trackers_damaged_state_is_counted_again(
    tmp_path: Path, lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Health, export and verify go on; the tracker sees every row anew, and so do the others."""
    clock = VirtualClock(START + WEEK)
    config = Config(monitor=MonitorConfig(segment_records=64))
    with ModelMonitor(tmp_path, config, clock) as monitor:
        monitor.add_tracker("counting", Counting())
        monitor.add_tracker("other", Counting())
        live_a_week(monitor, 0, complete=True)
        monitor.drain()
        monitor.save()
        wanted = monitor.sums.window(0, 10**6)
        level = monitor.line_up.encode()
    if lost:
        for path in (tmp_path / "logs/state/metrics").iterdir():
            path.unlink()
    with ModelMonitor(tmp_path, config, clock) as monitor:
        trackers = [Counting(broken=not lost), Counting()]
        monitor.add_tracker("counting", trackers[0])
        monitor.add_tracker("other", trackers[1])
        assert monitor.get_model_health()["n"] > 0
        monitor.drain()
        assert monitor.sums.window(0, 10**6) == wanted
        assert [tracker.rows for tracker in trackers] == [504, 504]
        assert monitor.line_up.encode() == level
        assert monitor.verify() == []
        assert monitor.export(tmp_path / "all.csv") == 504
    assert sum("tracker_state_damaged" in line for line in caplog.messages) == (not lost)


def test_a_line_up_that_cannot_be_read_does_not_stop_the_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor's own tracker too is made again from the rows."""
    clock = VirtualClock(START + WEEK)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        live_a_week(monitor, 0, complete=True)
    with monkeypatch.context() as patch:
        patch.setattr(LineUp, "encode", lambda self: b"nothing like it")
        with ModelMonitor(tmp_path, Config(), clock) as monitor:
            monitor.log_actual("a", START, 3.0)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        assert monitor.get_model_health()["n"] > 0
        assert monitor.counts()["corrected"] == 1
        assert monitor.verify() == []


def test_training_data_comes_from_the_users_own_builder_beside_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module beside demand_maint.toml is found wherever the process was started."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "own_rows_here.py").write_text(
        "import polars as pl\n"
        "class Own:\n"
        "    names = ('hour',)\n"
        "    def build(self, history, keys):\n"
        "        return keys.with_columns(hour=(pl.col('timestamp') // 3600 % 24).cast(pl.Float32))\n"
        "builder = Own()\n"
    )
    monkeypatch.chdir(elsewhere)
    clock = VirtualClock(START + WEEK)
    with ModelMonitor(root, Config(features="own_rows_here:builder"), clock) as monitor:
        live_a_week(monitor, 0, complete=True)
        rows = monitor.get_training_data(days=30)
    assert rows.columns == ["place_id", "timestamp", "hour", "actual"]
    assert isinstance(rows, pl.DataFrame)
    assert np.unique(rows["hour"].to_numpy()).tolist() == list(range(24))


def pass_and_drain(clock: VirtualClock, monitor: ModelMonitor) -> None:
    """Let two seconds pass between drains."""
    monitor.drain()
    clock.advance(2)


def test_the_truth_that_came_last_stays_when_rows_are_read_again(tmp_path: Path) -> None:
    """After a death between two saves a correction by another process still stands, whatever the order of the writers' names."""
    clock = VirtualClock(START + DAY)
    with ModelMonitor(tmp_path, Config(), clock) as other:
        other.log_actual("z", START, 1.0)  # its writer's name sorts before that of the one who leads
        clock.advance(2)
        leader = ModelMonitor(tmp_path, Config(), clock)
        leader.log_actual("y", START, 1.0)
        pass_and_drain(clock, leader)
        leader.log_prediction_vs_actual("a", START, 10.0, 4.0)
        pass_and_drain(clock, leader)
        other.log_actual("a", START, 7.0)
        pass_and_drain(clock, leader)
        assert leader.sums.window(0, 10**6).abs_error == 3.0
        leader.log_actual("y", START + HOUR, 1.0)  # nobody has noted this one; what was noted of the others stays
        leader.journal.close()
        leader._closed = True  # died: nothing is saved
        with ModelMonitor(tmp_path, Config(), clock) as successor:
            assert successor.get_model_health()["mae"] == 3.0


@pytest.mark.parametrize("leader_is_last", [False, True])
@pytest.mark.parametrize("other_is_first", [False, True])
def test_truths_of_one_second_keep_their_order(tmp_path: Path, leader_is_last: bool, other_is_first: bool) -> None:
    """Of a truth and its correction by another process within one second the last stays, whoever wrote it, after a death too."""
    clock = VirtualClock(START + DAY)
    leader, other = ModelMonitor(tmp_path, Config(), clock), ModelMonitor(tmp_path, Config(), clock)
    for monitor in (other, leader) if other_is_first else (leader, other):  # the names of writers begin with the time
        monitor.log_actual("z", START, 1.0)
        clock.advance(1)
    leader.log_prediction("a", START, 10.0)
    leader.drain()
    clock.advance(1)
    for truth, monitor in enumerate((other, leader, other, leader) if leader_is_last else (leader, other)):
        monitor.log_actual("a", START, float(truth))
        leader.drain()
    wanted = leader.sums.window(0, 10**6).abs_error
    for monitor in (leader, other):
        monitor.journal.close()
        monitor._closed = True  # died: nothing is saved
    for _ in range(2):  # the second time what was sealed and saved is read from there
        with ModelMonitor(tmp_path, Config(), clock) as successor:
            successor.drain()
            assert successor.sums.window(0, 10**6).abs_error == wanted
            assert successor.truth().filter(place_id="a")["actual"].to_list() == [10.0 - wanted]


def test_sums_that_another_release_saved_are_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved sums of another format are not taken over, the figures are the same, and the next start has them."""
    clock = VirtualClock(START + WEEK)
    with monkeypatch.context() as earlier:
        earlier.setattr(observation_store, "_FORMAT", 1)
        with ModelMonitor(tmp_path, Config(), clock) as monitor:
            live_a_week(monitor, 0, complete=True)
            monitor.drain()
            monitor.save()
            monitor.sums.find_fresh(monitor.grid)
            wanted = monitor.sums.window(0, 10**6)
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        monitor.drain()
        monitor.sums.find_fresh(monitor.grid)
        assert monitor.sums.window(0, 10**6) == wanted
        assert monitor._store._rebuilt
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        monitor.sums.find_fresh(monitor.grid)
        assert monitor.sums.window(0, 10**6) == wanted
        assert not monitor._store._rebuilt
