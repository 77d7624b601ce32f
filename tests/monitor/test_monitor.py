"""ModelMonitor as its users meet it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint.config import Config, MonitorConfig
from demand_maint.core.records import MaturedBatch
from demand_maint.errors import ClosedError, InsufficientDataError, MissingFeaturesError, RecordError
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

START = 1_700_000_000 // 86400 * 86400.0
HOUR = 3600.0
DAY = 86400.0


@pytest.fixture
def clock() -> VirtualClock:
    """A clock one day after the first records."""
    return VirtualClock(START + DAY)


def fill(monitor: ModelMonitor, hours: int = 24, places: int = 5, error: float = 2.0) -> None:
    """Log complete pairs, hour by hour."""
    for h in range(hours):
        for p in range(places):
            monitor.log_prediction_vs_actual(
                place_id=p, timestamp=START + h * HOUR, predicted=10.0 + p + h, actual=10.0 + p + h + error
            )


def test_without_a_log_health_says_so_in_the_documents_words(tmp_path: Path, clock: VirtualClock) -> None:
    """Nothing was collected: the status is insufficient_data, the reason as in the document, and no file is made."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        health = monitor.get_model_health(days=7)
        assert health["status"] == "insufficient_data"
        assert health["reason"].startswith("No predictions log found")
        assert health["mae"] is None
        with pytest.raises(InsufficientDataError, match="No predictions log found"):
            monitor.get_training_data()
    assert list(tmp_path.iterdir()) == []


def test_records_logged_before_the_call_are_in_the_answer(tmp_path: Path, clock: VirtualClock) -> None:
    """Health counts what was logged a moment ago, with the document's keys."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        fill(monitor)
        health = monitor.get_model_health()
        assert health["n"] == 120
        assert health["mae"] == pytest.approx(2.0)
        assert set(health) >= {"status", "mae", "baseline_mae", "degradation", "needs_retrain", "healthy", "n"}


@pytest.mark.parametrize(
    "timestamp",
    [
        datetime(2023, 11, 14, 3, 25, 42),  # noqa: DTZ001 - naive times are in the configured zone
        datetime(2023, 11, 14, 2, 25, 42, tzinfo=UTC),
        "2023-11-14T03:25:42",
        "2023-11-14T02:25:42Z",
        1_699_928_742,
        1_699_928_742.5,
        np.int64(1_699_928_742),
        np.float64(1_699_928_742.0),
        np.datetime64("2023-11-14T03:25:42"),
        pl.Series([datetime(2023, 11, 14, 2, 25, 42, tzinfo=UTC)])[0],
    ],
)
def test_every_kind_of_timestamp_meets_the_same_slot(tmp_path: Path, clock: VirtualClock, timestamp: Any) -> None:
    """Aware, naive, text, numbers and numpy's stamps of one moment are one key."""
    with ModelMonitor(tmp_path, Config(zone="Europe/Berlin"), clock) as monitor:
        monitor.log_prediction("a", timestamp, 1.0)
        monitor.log_actual("a", 1_699_928_742, 2.0)
        records = monitor.records()
        assert records["slot"].to_list() == [1_699_927_200]
        assert records["actual"].to_list() == [2.0]


def test_places_one_and_text_one_differ_and_numpys_numbers_do_not(tmp_path: Path, clock: VirtualClock) -> None:
    """1 and "1" are two places; numpy's and polars's 1 are the first; True is none."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        for place in (1, np.int64(1), pl.Series([1])[0], np.uint8(1), 1.0):
            monitor.log_actual(place, START, 1.0)
        monitor.log_actual("1", START, 2.0)
        monitor.log_actual(np.str_("1"), START, 2.0)
        hostile: tuple[Any, ...] = (
            True, np.True_, None, 1.5, b"1", [], float("nan"), 1 << 63, -(1 << 63) - 1, 10**5000, 1e300, "\ud800",
        )  # fmt: skip
        for nonsense in hostile:
            monitor.log_actual(nonsense, START, 3.0)
        assert monitor.counts()["orphans"] == 2
        assert monitor.counts()["refused"] == len(hostile)
        assert sorted(monitor.places, key=str) == [1, "1"]


def test_hostile_values_never_raise_and_never_reach_a_metric(tmp_path: Path, clock: VirtualClock) -> None:
    """They are counted for their place, a few examples are kept, and the figures stay what they were."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        fill(monitor)
        before = monitor.get_model_health()
        for value in (None, float("nan"), float("inf"), -float("inf"), "12.5", 10**400, object(), [1], 1e308 * 10):
            monitor.log_prediction_vs_actual(0, START + 30 * HOUR, value, value)
            monitor.log_prediction(1, START + 30 * HOUR, value)
            monitor.log_actual(2, START + 30 * HOUR, value)
        stamps: tuple[Any, ...] = (None, "soon", float("nan"), 1e30, -5, True, 10**400, [], {})
        for stamp in stamps:
            monitor.log_prediction_vs_actual(0, stamp, 1.0, 1.0)
        health = monitor.get_model_health(details=True)
        assert (health["n"], health["mae"]) == (before["n"], before["mae"])
        assert health["counts"]["invalid_actuals"] == 18
        assert health["counts"]["invalid_predictions"] == 18
        assert health["counts"]["refused"] == 9
        assert 0 < len(health["storage"]["refused_examples"]) <= 8


def test_strict_raises_a_typed_error_instead(tmp_path: Path, clock: VirtualClock) -> None:
    """With strict=True each kind of nonsense raises RecordError at once."""
    with ModelMonitor(tmp_path, Config(), clock, strict=True) as monitor:
        monitor.log_prediction_vs_actual(1, START, 1.0, 2.0)
        for arguments in ((True, START, 1.0, 1.0), (1, "soon", 1.0, 1.0), (1, START, None, 1.0), (1, START, 1.0, "x")):
            with pytest.raises(RecordError):
                monitor.log_prediction_vs_actual(*arguments)
        with pytest.raises(RecordError):
            monitor.log_actual(1, START, float("inf"))


def test_a_four_argument_call_completes_what_the_handle_served(tmp_path: Path, clock: VirtualClock) -> None:
    """The row is counted once, with the champion's own prediction beside what was served."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        monitor.journal.set_version(3, ["x", "y"])
        members = np.array([[8.0, 11.0], [9.0, 12.0]], dtype=np.float32)
        rows = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
        monitor.journal.log_served(["a", "b"], START, np.array([10.0, 11.0]), members, 5, rows)
        monitor.log_prediction_vs_actual("a", START, 10.0, 12.0)
        monitor.log_prediction("b", START, 11.0)
        monitor.log_actual("b", START, 9.0)
        window = monitor.sums.window(0, 10**6) if monitor.drain() else None
        assert window is not None
        assert (window.n, window.predictions) == (2, 2)
        assert window.abs_error == 4.0 + 0.0
        assert window.served_abs_error == 2.0 + 2.0
        assert monitor.sums.versions(0, 10**6) == [3]
        data = monitor.get_training_data(days=7, min_samples=2)
        assert data.columns == ["place_id", "timestamp", "x", "y", "actual"]
        assert data.rows() == [("a", START, 1.0, 2.0, 12.0), ("b", START, 3.0, 4.0, 9.0)]


def test_missing_actuals_are_zero_once_the_horizon_has_passed(tmp_path: Path, clock: VirtualClock) -> None:
    """Not before; a real actual that comes later takes the place of the assumed one."""
    config = Config(missing_actual="zero", horizon="2h")
    with ModelMonitor(tmp_path, config, clock) as monitor:
        clock.set(START + 2.5 * HOUR)
        monitor.log_prediction("a", START, 4.0)
        assert monitor.drain() == 0
        clock.set(START + 3.5 * HOUR)
        assert monitor.drain() == 1
        assert monitor.sums.window(0, 10**6).abs_error == 4.0
        assert monitor.truth()["actual"].to_list() == [0.0]
        monitor.log_actual("a", START, 3.0)
        monitor.drain()
        assert monitor.sums.window(0, 10**6).abs_error == 1.0
        assert monitor.counts()["corrected"] == 0
    with ModelMonitor(tmp_path, config, clock) as monitor:
        assert monitor.records()["actual"].to_list() == [3.0]


def test_log_many_takes_frames_with_holes(tmp_path: Path, clock: VirtualClock) -> None:
    """Nulls are values not known; rows with both are pairs, with one a prediction or an actual; bad rows are refused."""
    stamps = [datetime(2023, 11, 14, h, tzinfo=UTC) for h in range(4)]
    frame = pl.DataFrame(
        {
            "place_id": ["a", "b", "a", None],
            "timestamp": stamps,
            "predicted": [1.0, 2.0, None, 4.0],
            "actual": [2.0, None, 5.0, 1.0],
        }
    )
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        assert monitor.log_many(frame) == 3
        counts = monitor.counts()
        assert (counts["waiting"], counts["orphans"], counts["refused"]) == (1, 1, 1)
        assert monitor.log_many({"place_id": [1, 2], "timestamp": [START, START], "actual": [1, 2]}) == 2
        many = pl.DataFrame(
            {"place_id": [7] * 50_000, "timestamp": START + np.arange(50_000), "predicted": 1.0, "actual": 2.0}
        )
        assert monitor.log_many(many) == 50_000
        assert monitor.counts()["records"] == 50_005


def test_training_rows_need_features_from_somewhere(tmp_path: Path, clock: VirtualClock) -> None:
    """Named feature rows come back by name; too few rows and rows without features are two different errors."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        for h in range(24):
            monitor.log_prediction("a", START + h * HOUR, 1.0, features={"lag": float(h), "dow": 2})
            monitor.log_actual("a", START + h * HOUR, 5.0 + h)
        with pytest.raises(InsufficientDataError, match=r"24 samples, 100 needed"):
            monitor.get_training_data(days=30, min_samples=100)
        data = monitor.get_training_data(days=30, min_samples=24)
        assert data.columns == ["place_id", "timestamp", "lag", "dow", "actual"]
        assert data["lag"].dtype == pl.Float32
        assert data["actual"].to_list() == [5.0 + h for h in range(24)]
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        assert monitor.get_training_data(days=30, min_samples=24).equals(data)


def test_unbuildable_features_are_named(tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither logged rows nor the builder make the champion's features, the error says what to do."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        fill(monitor)
        monkeypatch.setattr("demand_maint.recorded_rows._built", lambda *_: None)
        with pytest.raises(MissingFeaturesError, match="log_prediction"):
            monitor.get_training_data(min_samples=10)


def test_imported_history_is_truth_and_reference(tmp_path: Path, clock: VirtualClock) -> None:
    """Demand from before is in truth(), and its last week is the naive forecast of the first."""
    week = [START - 7 * DAY + h * HOUR for h in range(24)]
    history = pl.DataFrame({"place_id": ["a"] * 24, "timestamp": week, "actual": [float(h) for h in range(24)]})
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        monitor.import_history(history)
        for h in range(24):
            monitor.log_prediction_vs_actual("a", START + h * HOUR, 1.0, h + 3.0)
        assert monitor.records()["naive"].to_list() == [float(h) for h in range(24)]
        assert len(monitor.truth()) == 48
        window = monitor.sums.window(0, 10**6)
        assert (window.naive_n, window.naive_abs_error) == (24, 72.0)
        assert monitor.naive(["a", "nowhere"], np.array([START + 7 * DAY, START], dtype=np.int64))[0] == 3.0
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        assert len(monitor.truth()) == 48
        assert monitor.records()["naive"].to_list() == [float(h) for h in range(24)]


def test_imported_history_is_read_only_where_it_is_asked_for(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truth from after the imported demand is told without it; another file under its name is looked at again."""
    old, new = ([START + days * DAY] for days in (-7, 5))
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        monitor.import_history(pl.DataFrame({"place_id": ["a"], "timestamp": old, "actual": [1.0]}))
        monitor.log_prediction_vs_actual("a", START, 1.0, 2.0)
        assert monitor.truth()["actual"].to_list() == [1.0, 2.0]
        with monkeypatch.context() as forbidden:
            forbidden.delattr(pl, "read_parquet")
            assert monitor.truth(START)["actual"].to_list() == [2.0]
        history = monitor._store.sealed
        history._door.unlink("data/history/000001.parquet")
        history.import_history(pl.DataFrame({"place_id": ["a"], "timestamp": new, "actual": [3.0]}))
        assert monitor.truth(START)["actual"].to_list() == [2.0, 3.0]


class Counting:
    """A tracker that counts rows and knows what it has seen."""

    def __init__(self) -> None:
        self.rows = 0
        self.total = 0.0

    def update(self, batch: MaturedBatch) -> None:
        """Count."""
        self.rows += len(batch)
        self.total += float(batch.actual.sum())

    def retract(self, batch: MaturedBatch) -> None:
        """Count back."""
        self.rows -= len(batch)
        self.total -= float(batch.actual.sum())

    def encode(self) -> bytes:
        """As text."""
        return f"{self.rows} {self.total}".encode()

    def restore(self, data: bytes) -> None:
        """From text."""
        rows, total = data.decode().split()
        self.rows, self.total = int(rows), float(total)


@pytest.mark.parametrize("clean", [True, False])
def test_a_tracker_sees_every_row_once_across_restarts(tmp_path: Path, clock: VirtualClock, clean: bool) -> None:
    """Its state is saved with the sums: rows after the last save are shown again to the restored state only."""
    config = Config(monitor=MonitorConfig(segment_records=64))
    for turn in range(4):
        monitor, tracker = ModelMonitor(tmp_path, config, clock), Counting()
        monitor.add_tracker("counting", tracker)
        for i in range(100):
            monitor.log_prediction_vs_actual(i, START + turn * HOUR, 1.0, 2.0)
        monitor.drain()
        monitor.log_actual(5, START + turn * HOUR, 7.0)
        monitor.drain()
        assert tracker.rows == (turn + 1) * 100
        assert tracker.total == (turn + 1) * 205.0
        if clean:
            monitor.close()
        else:
            monitor.journal._release()
            monitor._closed = monitor.journal.closed = True
        clock.advance(HOUR)


def test_a_follower_counts_without_writing_and_the_leader_takes_all(tmp_path: Path, clock: VirtualClock) -> None:
    """With another maintainer at work a monitor still answers, from everybody's records; nothing of the leader's changes."""
    lock = MaintainerLock(Door(tmp_path), who="test")
    lock.acquire()
    leader = ModelMonitor(tmp_path, Config(monitor=MonitorConfig(segment_records=64)), clock, lock=lock)
    follower = ModelMonitor(tmp_path, Config(monitor=MonitorConfig(segment_records=64)), clock)
    fill(leader, hours=10)
    for h in range(10):
        follower.log_prediction_vs_actual("mine", START + h * HOUR, 1.0 + h, 2.0 + h)
    assert follower.get_model_health()["n"] == 60
    assert not list((tmp_path / "logs").glob("predictions/*"))
    assert leader.get_model_health()["n"] == 60
    follower.close()
    leader.drain()
    leader.save()
    assert len(list((tmp_path / "logs/predictions").glob("*.parquet"))) == 1
    reader = ModelMonitor(tmp_path, Config(), clock)
    assert reader.get_model_health()["n"] == 60
    leader.log_prediction_vs_actual("late", START, 1.0, 2.0)
    leader.save()
    assert reader.get_model_health()["n"] == 61
    leader.close()
    lock.release()
    reader.close()


def test_old_records_leave_memory_but_not_the_disk(tmp_path: Path) -> None:
    """Rows past the buffer's days are dropped from memory, their hours become days, and records() still finds them."""
    clock = VirtualClock(START)
    config = Config(monitor=MonitorConfig(buffer_days=3, segment_records=256, records_days=60), season="1d")
    with ModelMonitor(tmp_path, config, clock) as monitor:
        for day in range(40):
            for h in range(24):
                for p in range(4):
                    monitor.log_prediction_vs_actual(p, START + day * DAY + h * HOUR, float(p), float(h))
            clock.set(START + (day + 1) * DAY)
            monitor.drain()
        assert len(monitor._store.buffer) < 8 * 96
        assert len(monitor.records(START, START + 2 * DAY)) == 192
        assert len(monitor.truth()) == 40 * 96
        edges = np.arange(40 + 1) * 24 + int(START // HOUR)
        assert monitor.sums.blocks(edges)["n"].tolist() == [96.0] * 40
        assert len(monitor.sums.hours_before(int(edges[-1]))) < 300
        monitor.log_actual(0, START, 5.0)
        monitor.drain()
        assert monitor.counts()["too_old"] == 1
    with ModelMonitor(tmp_path, config, clock) as monitor:
        assert monitor.sums.blocks(edges)["n"].tolist() == [96.0] * 40


def test_retention_lets_whole_files_go_and_feature_rows_before_that(tmp_path: Path) -> None:
    """Files past their days are removed or lose their features; the window in use is never touched."""
    clock = VirtualClock(START)
    config = Config(
        monitor=MonitorConfig(buffer_days=2, segment_records=64, records_days=30, features_days=10), season="1d"
    )
    for day in range(60):
        clock.set(START + (day + 1) * DAY)
        with ModelMonitor(tmp_path, config, clock) as monitor:
            for h in range(24):
                monitor.log_prediction("a", START + day * DAY + h * HOUR, 1.0, (1.0, 2.0))
                monitor.log_actual("a", START + day * DAY + h * HOUR, 2.0)
    with ModelMonitor(tmp_path, config, clock) as monitor:
        names = monitor._store.sealed.names()
        oldest = min(int(name[:10]) for name in names)
        assert clock.now() - 32 * DAY < oldest < clock.now() - 29 * DAY
        assert len(monitor.records()) == pytest.approx(30 * 24, abs=48)
        featured = [name for name in names if monitor._store.sealed.manifest(name).features]  # type: ignore[union-attr]
        assert min(int(name[:10]) for name in featured) > clock.now() - 12 * DAY
        assert monitor.verify() == []


def test_the_sums_can_be_made_again_from_the_sealed_files(tmp_path: Path, clock: VirtualClock) -> None:
    """Without any saved state the figures and counters come out the same."""
    config = Config(monitor=MonitorConfig(segment_records=64))
    with ModelMonitor(tmp_path, config, clock) as monitor:
        fill(monitor, hours=30)
        monitor.log_actual(1, START, 99.0)
        monitor.drain()
        monitor.sums.find_fresh(monitor.grid)
        wanted, counts = monitor.sums.window(0, 10**6), monitor.counts()
    for path in (tmp_path / "logs/state/metrics").iterdir():
        path.unlink()
    with ModelMonitor(tmp_path, config, clock) as monitor:
        monitor.sums.find_fresh(monitor.grid)
        assert monitor.sums.window(0, 10**6) == wanted
        assert monitor.counts() == counts


def test_exports_stand_where_the_document_puts_them(tmp_path: Path, clock: VirtualClock) -> None:
    """Closing writes the log, the training rows and the figures; export() writes CSV and Parquet."""
    with ModelMonitor(tmp_path, Config(), clock) as monitor:
        fill(monitor)
        assert monitor.export(tmp_path / "all.csv") == 120
        assert monitor.export(tmp_path / "some.parquet", since=START + 12 * HOUR, kind="parquet") == 60
    for name in ("predictions_log.csv", "training_data_new.csv"):
        assert len(pl.read_csv(tmp_path / "logs" / name)) == 120
    assert '"mae"' in (tmp_path / "logs/performance_metrics.json").read_text()


def test_after_close_records_are_dropped_and_counted_and_closing_twice_is_fine(
    tmp_path: Path, clock: VirtualClock
) -> None:
    """A collector that outlives its monitor is not brought down by it."""
    monitor = ModelMonitor(tmp_path, Config(), clock)
    fill(monitor)
    monitor.close()
    monitor.close()
    monitor.log_prediction_vs_actual(1, START, 1.0, 2.0)
    assert monitor.journal.dropped == 1
    with pytest.raises(ClosedError):
        monitor.log_many({"place_id": [1], "timestamp": [START], "actual": [1.0]})


def test_forgetting_to_close_is_a_warning(tmp_path: Path, clock: VirtualClock) -> None:
    """A monitor that logged and was dropped says so."""
    monitor = ModelMonitor(tmp_path, Config(), clock)
    fill(monitor)
    try:
        with pytest.warns(ResourceWarning, match="not closed"):
            monitor.__del__()
    finally:
        monitor.close()


def test_the_background_thread_prepares_drains_and_ends(tmp_path: Path) -> None:
    """With the system's clock a thread cares for the journal; close() ends it."""
    now = datetime.now(UTC)
    config = Config(monitor=MonitorConfig(segment_records=64, fsync_seconds=0.01))
    with ModelMonitor(tmp_path, config) as monitor:
        for i in range(1000):
            monitor.log_prediction_vs_actual(i % 9, now - timedelta(hours=i), 1.0, 2.0)
        keeper = monitor._keeper
        assert keeper is not None
        assert keeper._thread is not None
        assert monitor.get_model_health(days=60)["n"] == 1000
    assert not keeper._thread.is_alive()
