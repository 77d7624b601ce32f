"""What a replay is made of: policies by name, the table of rows, the figures."""

import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from demand_maint._storage.observation_store import ObservationStore
from demand_maint.config import Config, TrainingConfig
from demand_maint.core.replay_policy import NAMED, own_policy, policy_config
from demand_maint.core.replay_result import PolicyResult, rolling_error, score, summary_table
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import ConfigError, InsufficientDataError
from demand_maint.features import load_builder, seasonal_naive
from demand_maint.replay import find_policy, replay, scratch_folder
from demand_maint.replay_life import LifeEvent
from demand_maint.replay_table import table_of
from demand_maint.replay_words import ProgressLine, event_line
from demand_maint.testing import drifting_stream

DAY = 86400.0
START = 1_704_067_200.0


@pytest.mark.parametrize("kept", [True, False])
def test_only_a_root_that_is_kept_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool) -> None:
    """Rows are sealed at the end where somebody will look at the root, and not where it goes at once."""
    sealed: list[float] = []
    seal = ObservationStore.seal

    def noted(store: ObservationStore, now: float) -> list[str]:
        sealed.append(now)
        return seal(store, now)

    monkeypatch.setattr(ObservationStore, "seal", noted)
    stream = drifting_stream(places=2, days=30)
    small = Config(training=TrainingConfig(full_iterations=5))
    roots = {"default": tmp_path / "root"} if kept else None
    replay(stream, ["default"], train_until=START + 21 * DAY, config=small, training=False, roots=roots)
    assert bool(sealed) is kept
    assert kept is bool(list(tmp_path.glob("root/logs/predictions/*.parquet")))


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_named_policy_is_a_valid_configuration(name: str) -> None:
    """Each name the issue lists lays settings over a configuration without an error."""
    config = policy_config(Config(zone="Europe/London"), NAMED[name])
    assert config.zone == "Europe/London"
    assert config.policy.name == ("default" if name in {"default", "naive"} else name)


def test_the_names_are_those_of_the_document() -> None:
    """default, literal, frozen, the calendars, calibrate-only and naive are there."""
    assert {
        "default",
        "literal",
        "frozen",
        "full-1d",
        "full-7d",
        "full-28d",
        "full-90d",
        "calibrate-only",
        "naive",
    } == set(NAMED)


def test_frozen_has_no_rule_left_and_a_calendar_has_one() -> None:
    """frozen can never train; full-28d knows only its interval and serves the champion alone."""
    frozen = policy_config(Config(), NAMED["frozen"])
    rules = (
        "suggest_degradation",
        "critical_degradation",
        "full_retrain_interval_days",
        "fine_tune_interval_days",
        "max_fine_tunes",
    )
    assert [getattr(frozen.policy, rule) for rule in rules] == [None] * 5
    calendar = policy_config(Config(), NAMED["full-28d"])
    assert [getattr(calendar.policy, rule) for rule in rules] == [None, None, 28.0, None, None]
    assert calendar.serving.serve == "champion"


def test_a_policy_of_ones_own_is_a_file(tmp_path: Path) -> None:
    """A TOML file with [policy] or with its bare keys is a policy named as the file; a wrong key is named."""
    path = tmp_path / "eager.toml"
    path.write_text("fine_tune_interval_days = 1\n")
    assert policy_config(Config(), find_policy(path)).policy.fine_tune_interval_days == 1
    path.write_text('[policy]\nmethod = "raw"\n[serving]\nserve = "champion"\n')
    found = find_policy(path)
    assert found.name == "eager"
    assert policy_config(Config(), found).serving.serve == "champion"
    path.write_text("fine_tune_intervall = 1\n")
    with pytest.raises(ConfigError, match="fine_tune_intervall"):
        find_policy(path)
    with pytest.raises(ConfigError, match="zone"):
        own_policy("x", {"policy": {}, "zone": "UTC"})
    with pytest.raises(ConfigError, match="Known are default"):
        find_policy("defualt")


def test_rows_come_in_slot_order_with_the_features_of_their_moment() -> None:
    """The table's features are those a builder makes from what was known one horizon before each slot."""
    config = Config()
    frame = drifting_stream(places=2, days=40)
    table = table_of(frame, config, train_until=START + 30 * DAY)
    assert len(table) == 2 * 240
    assert (np.diff(table.slot) >= 0).all()
    assert len(table.before) == 2 * 720
    row = 300
    slot, place = table.slot[row], table.place[row]
    known = frame.filter(pl.col("timestamp") <= slot - config.horizon_seconds)
    key = pl.DataFrame({"place_id": [place], "timestamp": [float(slot)]})
    expected = load_builder(config).build(known, key).select(table.names).row(0)
    np.testing.assert_array_equal(table.features[row], np.array(expected, dtype=np.float32))
    naive = seasonal_naive(frame, key, TimeGrid(config.zone, config.step_seconds), config.season_seconds)
    assert table.naive[row] == naive[0]


def test_columns_beside_the_three_are_features() -> None:
    """A file that brings its own features is replayed with those."""
    frame = drifting_stream(places=1, days=20).with_columns(rain=pl.lit(1.0), sun=pl.col("timestamp") * 0)
    table = table_of(frame, Config(), train_until=START + 15 * DAY)
    assert table.own_features
    assert table.names == ("rain", "sun")


def test_missing_slots_are_zeros_where_the_configuration_says_so() -> None:
    """Event-only counts are filled from a place's first row to the end; gaps stay gaps otherwise."""
    frame = drifting_stream(places=2, days=20)
    holes = frame.filter(~((pl.col("place_id") == 2) & (pl.col("timestamp") < START + 5 * DAY))).filter(
        pl.col("timestamp") % 7200 == 0
    )
    zero = table_of(holes, Config(missing_actual="zero"), train_until=START + 10 * DAY)
    gaps = table_of(holes, Config(), train_until=START + 10 * DAY)
    assert len(zero) == 2 * 240 - 2
    assert len(gaps) == 2 * 120
    assert (zero.actual[zero.slot % 7200 != 0] == 0).all()
    assert len(zero.before.filter(pl.col("place_id") == 2)) == 5 * 24


def test_too_little_on_either_side_of_the_cut_is_named() -> None:
    """A cut that leaves nothing to train on or nothing to replay is refused with what to do."""
    frame = drifting_stream(places=1, days=20)
    with pytest.raises(InsufficientDataError, match="later --train-until"):
        table_of(frame, Config(), train_until=START + DAY)
    with pytest.raises(InsufficientDataError, match="earlier --train-until"):
        table_of(frame, Config(), train_until=START + 60 * DAY)


def test_scores_count_what_was_served() -> None:
    """Rows without a served value or a truth count nowhere; the worst place is the one furthest above the naive."""
    served = np.array([10.0, 10.0, np.nan, 10.0])
    actual = np.array([12.0, 20.0, 1.0, np.nan])
    naive = np.array([11.0, 19.0, 1.0, 1.0])
    found = score(served, actual, naive, np.array([0, 1, 0, 1]), ["a", "b"])
    assert (found.n, found.mae, found.bias) == (2, 6.0, -6.0)
    assert found.mase == pytest.approx(12.0 / 2.0)
    assert [place.place for place in found.worst_places] == ["b", "a"]


def test_rolling_error_covers_four_weeks() -> None:
    """The mean of a day covers the 28 days before it, and there is none in the first two weeks."""
    day = np.repeat(np.arange(60), 2)
    served, actual = np.zeros(120), np.where(day < 30, 1.0, 3.0)
    found = rolling_error(served, actual, day, np.arange(60))
    assert np.isnan(found[:14]).all()
    assert found[20] == 1.0
    assert found[59] == 3.0
    assert 1.0 < found[40] < 3.0


def result(name: str, mae: float | None, **more: object) -> PolicyResult:
    """Return a result with the figures that matter here."""
    figures: dict[str, object] = {
        "text": "", "n": 10, "mase": 0.9, "bias": 0.1, "training_cpu_seconds": 1.0, "training_wall_seconds": 1.0,
        "fine_tunes": 1, "full_retrains": 0, "attempts": 1, "rejected": 0, "rollbacks": 0, "false_alarms": 0,
    }  # fmt: skip
    return PolicyResult(policy=name, mae=mae, **(figures | more))  # type: ignore[arg-type]


def test_the_table_compares_with_frozen() -> None:
    """The best comes first, with its distance to frozen; an interrupted one says so."""
    table = summary_table([result("frozen", 100.0), result("default", 75.0), result("literal", None, complete=False)])
    lines = table.splitlines()
    assert lines[2].startswith("default")
    assert "-25.0 %" in lines[2]
    assert lines[-1].endswith("(interrupted)")


def test_trainings_without_gain_are_explained_where_there_are_any() -> None:
    """The number of trainings that did not help stands in its column, and the last line says what it counts."""
    table = summary_table([result("default", 75.0, false_alarms=26)])
    head, _, row, note = table.splitlines()
    assert row[: head.index("no gain") + len("no gain")].split()[-1] == "26"
    assert note.startswith("no gain: ")
    assert "no gain:" not in summary_table([result("default", 75.0)])


def test_trainings_that_failed_have_a_column_where_there_are_any() -> None:
    """Of 61 trainings 42 that came to nothing are told; a table without any has no such column."""
    table = summary_table([result("default", 75.0, attempts=61, failed=42), result("frozen", 100.0)])
    head, _, row = table.splitlines()[:3]
    assert row[: head.index("failed") + len("failed")].split()[-2:] == ["61", "42"]
    assert "failed" not in summary_table([result("default", 75.0)])


def test_events_are_one_line_each() -> None:
    """An event's line has the local time, the policy, what happened and the figures behind it."""
    verdict = {"verdict": "not_worse", "method": "live", "relative": -0.02, "low": -0.03, "high": -0.01, "days": 7}
    told = {
        "status": "deployed",
        "action": "promote",
        "rule": "line-up",
        "reason": "proved itself",
        "verdict": verdict,
        "version": 3,
    }
    line = event_line(LifeEvent(policy="default", at=START, kind="deployed", text="x", result=told), "Europe/Berlin")
    assert line.startswith("2024-01-01 01:00  default")
    assert "version 3: not worse on live truth: -2.0 %" in line
    drift = event_line(LifeEvent(policy="default", at=START, kind="drift", text="degraded: error 9"), "UTC")
    assert drift.endswith("degraded: error 9")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_the_progress_line_gives_way_to_events() -> None:
    """On a terminal the line is rewritten in place and events scroll above it; elsewhere it is seldom printed."""
    stream = Terminal()
    line = ProgressLine(stream)
    line(0.5, 75.0)
    line.line("something happened")
    line.close()
    assert "50 %, about 75 s left" in stream.getvalue()
    assert "\r\x1b[Ksomething happened\n" in stream.getvalue()
    plain = io.StringIO()
    line = ProgressLine(plain)
    for share in np.linspace(0.0, 0.99, 50):
        line(float(share), 200.0)
    assert len(plain.getvalue().splitlines()) == 1
    assert "\r" not in plain.getvalue()


def test_large_roots_go_to_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody keeps lies in memory only where it takes little of what is free: the rest of the machine needs it too."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4 << 30))
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert scratch_folder(1 << 29) == "/dev/shm"
    assert scratch_folder(1 << 31) is None
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert scratch_folder(1) is None, "nobody may write there"
