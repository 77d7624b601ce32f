"""Whatever comes in whatever order, the monitor's sums are those of a plain dictionary."""

import shutil
import tempfile
from typing import Any

import msgspec
import numpy as np
import pytest
from dictionary_oracle import Oracle
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from demand_maint._storage.disk import Disk
from demand_maint.config import Config, MonitorConfig
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

PLACES: list[Any] = [1, "1", 0, "harbour", 7]
# around changes of daylight saving in Berlin, New York and Lord Howe
STARTS = {
    "UTC": 1_700_000_000,
    "Europe/Berlin": 1_698_530_000,
    "America/New_York": 1_710_040_000,
    "Australia/Lord_Howe": 1_712_400_000,
}
places = st.sampled_from(PLACES)
hours = st.integers(min_value=0, max_value=24 * 16)
values = st.integers(min_value=-3, max_value=9).map(float)


class MonitorMachine(RuleBasedStateMachine):
    """A monitor, its restarts and foreign writers against `Oracle`."""

    @initialize(zone=st.sampled_from(sorted(STARTS)), step=st.sampled_from(["30m", "1h", "1d"]))
    def begin(self, zone: str, step: str) -> None:
        self.directory = tempfile.mkdtemp()
        self.config = Config(zone=zone, step=step, monitor=MonitorConfig(segment_records=64))
        self.start = STARTS[zone] - 8 * 86400
        self.clock = VirtualClock(float(self.start + 17 * 86400))
        self.monitor = ModelMonitor(self.directory, self.config, self.clock)
        self.other: ModelMonitor | None = None
        self.oracle = Oracle(self.monitor.grid, self.config.season_seconds)
        self.version = 0

    def teardown(self) -> None:
        if hasattr(self, "monitor"):
            if self.other is not None:
                self.other.journal.close()
                self.other._closed = True
            self.monitor.close()
            shutil.rmtree(self.directory)

    @rule(place=places, hour=hours, predicted=values, actual=values, minute=st.sampled_from([0, 7, 31]))
    def pair(self, place: Any, hour: int, predicted: float, actual: float, minute: int) -> None:
        time = float(self.start + hour * 3600 + minute * 60)
        self.monitor.log_prediction_vs_actual(place, time, predicted, actual)
        self.oracle.predict(place, time, predicted, self.version, pair=True)
        self.oracle.observe(place, time, actual)

    @rule(hour=hours, count=st.integers(min_value=1, max_value=60), value=values)
    def rounds(self, hour: int, count: int, value: float) -> None:
        """A collection loop: all places, hour after hour."""
        for i in range(count):
            time = float(self.start + (hour + i) * 3600)
            for place in PLACES[:3]:
                self.monitor.log_prediction_vs_actual(place, time, value, value + i % 4)
                self.oracle.predict(place, time, value, self.version, pair=True)
                self.oracle.observe(place, time, value + i % 4)

    @rule(
        hour=hours,
        count=st.integers(min_value=1, max_value=60),
        value=values,
        how=st.sampled_from(["plain", "handle", "pair"]),
    )
    def rounds_with_late_truth(self, hour: int, count: int, value: float, how: str) -> None:
        """The predictions of many rounds are counted, then their truth comes in the same order."""
        times = [float(self.start + (hour + i) * 3600) for i in range(count)]
        for time in times:
            for place in PLACES[:3]:
                if how == "plain":
                    self.monitor.log_prediction(place, time, value)
                    self.oracle.predict(place, time, value, self.version)
                else:
                    raw, served = np.full((1, 2), value, dtype=np.float32), np.array([value + 0.5])
                    self.monitor.journal.log_served([place], time, served, raw, 3)
                    self.oracle.serve(place, time, value, value + 0.5, self.version)
        self.monitor.get_model_health()
        for i, time in enumerate(times):
            for place in PLACES[:3]:
                if how == "pair":
                    self.monitor.log_prediction_vs_actual(place, time, value, value + i % 4)
                    self.oracle.predict(place, time, value, self.version, pair=True)
                else:
                    self.monitor.log_actual(place, time, value + i % 4)
                self.oracle.observe(place, time, value + i % 4)

    @rule(place=places, hour=hours, value=values, features=st.booleans())
    def prediction(self, place: Any, hour: int, value: float, features: bool) -> None:
        time = float(self.start + hour * 3600)
        self.monitor.log_prediction(place, time, value, (1.0, 2.0) if features else None)
        self.oracle.predict(place, time, value, self.version)

    @rule(place=places, hour=hours, value=values)
    def actual(self, place: Any, hour: int, value: float) -> None:
        time = float(self.start + hour * 3600)
        self.monitor.log_actual(place, time, value)
        self.oracle.observe(place, time, value)

    @rule(chosen=st.lists(places, min_size=1, max_size=4), hour=hours, value=values, members=st.integers(1, 3))
    def served(self, chosen: list[Any], hour: int, value: float, members: int) -> None:
        time = float(self.start + hour * 3600)
        raw = np.full((len(chosen), members), value, dtype=np.float32)
        served = np.full(len(chosen), value + 0.5)
        self.monitor.journal.log_served(chosen, time, served, raw, 3)
        for place in chosen:
            self.oracle.serve(place, time, value, value + 0.5, self.version)

    @rule(place=places, hour=hours)
    def nonsense(self, place: Any, hour: int) -> None:
        time = float(self.start + hour * 3600)
        for value in (None, float("nan"), float("inf"), "12", 10**400, object()):
            self.monitor.log_actual(place, time, value)
        self.monitor.log_prediction_vs_actual(True, time, 1.0, 1.0)
        self.monitor.log_prediction_vs_actual(place, "yesterday", 1.0, 1.0)

    @rule(number=st.integers(min_value=0, max_value=3))
    def promote(self, number: int) -> None:
        self.version = number
        self.monitor.journal.set_version(number)

    @rule(place=places, hour=hours, value=values)
    def foreign_actual(self, place: Any, hour: int, value: float) -> None:
        """Another process's record; this one counts its own first."""
        if self.other is None:
            self.other = ModelMonitor(self.directory, self.config, self.clock)
        self.monitor.drain()
        time = float(self.start + hour * 3600)
        self.other.log_actual(place, time, value)
        self.oracle.observe(place, time, value)
        self.clock.advance(2)
        self.monitor.drain()

    @rule()
    def drain(self) -> None:
        self.monitor.drain()
        self.clock.advance(2)

    @rule()
    def read_only_drain(self) -> None:
        self.monitor.get_model_health()
        self.clock.advance(2)

    @rule(save=st.booleans())
    def restart(self, save: bool) -> None:
        """A new process; without `save` it is the death of the old one, which loses nothing."""
        old, version = self.monitor, self.version
        if save:
            old.close()
        else:
            old.journal._release()
            old._closed = True
            old.journal.closed = True
        self.monitor = ModelMonitor(self.directory, self.config, self.clock)
        self.monitor.journal.set_version(version)
        self.clock.advance(2)

    @invariant()
    def same_figures(self) -> None:
        if not hasattr(self, "monitor"):
            return
        self.monitor.get_model_health()
        end = int(self.clock.now()) // 3600 + 24 * 7  # behind every row: rounds go on after the present
        for version in (None, 0, 1, 2, 3):
            found = msgspec.structs.asdict(self.monitor.sums.window(0, end, version))
            del found["fresh_error"]  # no sum over rows; its own tests have a dictionary for it
            wanted = self.oracle.sums(version=version)
            assert found == pytest.approx({name: wanted.get(name, 0.0) for name in found}, abs=1e-6)
        counts = self.monitor.counts()
        for name in ("replaced", "duplicates", "corrected"):
            assert counts[name] == self.oracle.counts[name], name
        rows = self.oracle.rows.values()
        assert counts["orphans"] == sum(row.predicted is None and row.actual is not None for row in rows)
        assert counts["waiting"] == sum(row.predicted is not None and row.actual is None for row in rows)
        truths = sum(row.actual is not None for row in rows)
        assert self.monitor.feed.total("n") == truths
        assert len(self.monitor.truth()) == truths


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power loss, so nothing waits for the platter."""
    monkeypatch.setattr(Disk, "sync", lambda self, descriptor: None)
    monkeypatch.setattr(Disk, "sync_dir", lambda self, path: None)


@pytest.mark.timeout(24 * 3600)  # the whole campaign takes its time
def test_any_history_of_events_gives_the_figures_of_a_dictionary(big: bool) -> None:
    """Late, repeated, corrected, foreign and hostile events, restarts and zones with daylight saving change nothing."""
    run_state_machine_as_test(
        MonitorMachine,
        settings=settings(
            max_examples=3000 if big else 30,
            stateful_step_count=40 if big else 25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
