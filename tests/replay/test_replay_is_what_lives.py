"""A replay does what production does: the same decisions, the same commits, the same served values."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from demand_maint._storage.decisions import DecisionJournal
from demand_maint._storage.door import Door
from demand_maint._storage.registry import Registry
from demand_maint.assembly import RootParts
from demand_maint.config import Config, PolicyConfig, RuntimeConfig, TrainingConfig
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Commit
from demand_maint.features import DemandFeatures
from demand_maint.model_monitor import ModelMonitor
from demand_maint.replay import replay
from demand_maint.testing import VirtualClock, drifting_stream

DAY, HOUR = 86400.0, 3600.0
START = 1_704_067_200.0
TRAINED, LIVED = 35, 17
CONFIG = Config(
    policy=PolicyConfig(fine_tune_interval_days=7.0, full_retrain_interval_days=15.0, min_samples=50),
    training=TrainingConfig(full_iterations=25, fine_tune_iterations=10, fine_tune_days=14),
    runtime=RuntimeConfig(interval_hours=6.0),
)


def stream() -> pl.DataFrame:
    """Three places whose level rises by half after five days of the replay."""
    return drifting_stream(places=3, days=TRAINED + LIVED, shift_day=TRAINED + 5, shift=1.5, seed=3)


def live(root: Path, first: Path, frame: pl.DataFrame, turn: float) -> None:
    """Collect hour by hour on a virtual clock with what a runtime is made of, trainings in real children."""
    replay_from = START + TRAINED * DAY
    lead = CONFIG.horizon_seconds - HOUR
    clock = VirtualClock(replay_from - math.ceil(lead / turn) * turn)
    before = frame.filter(pl.col("timestamp") < replay_from)
    demand = {(row[0], row[1]): row[2] for row in frame.iter_rows()}
    places = sorted(set(frame["place_id"].to_list()))
    features = DemandFeatures(TimeGrid(CONFIG.zone, CONFIG.step_seconds), CONFIG.horizon_seconds)
    with ModelMonitor(root, CONFIG, clock) as monitor:
        monitor.import_history(before)
    source, registry = Registry(first, read_only=True), Registry(root, clock=clock)
    version = registry.add_version(source.model_bytes(1), source.version(1).metadata)
    registry.commit("init", champion=version.number, base=version.number, who="live", why="the same first champion")
    parts = RootParts(root, CONFIG, clock)
    try:
        assert parts.try_lead()
        parts.refresh()
        features.observe_many(before.filter(pl.col("timestamp") < clock.now()))
        now, end = clock.now(), START + (TRAINED + LIVED) * DAY
        while now <= end:
            for place in places:
                actual = demand.get((place, now - HOUR))
                if actual is not None:
                    features.observe(place, now - HOUR, actual)
                    if now - HOUR >= replay_from:
                        parts.monitor.log_actual(place, now - HOUR, actual)
            if now % turn == 0:
                parts.drain()
                parts.refresh()
                parts.publish()
                if replay_from <= now < end and now % (6 * HOUR) == 0:
                    check(parts)
                    parts.drain()
                    parts.refresh()
                    parts.publish()
            slot = now + lead
            if replay_from <= slot < end:
                rows = features.rows(places, [slot] * len(places))
                parts.model.predict(rows, places, [slot] * len(places), schema=features.names)
            clock.advance(HOUR)
            now = clock.now()
        parts.drain()
    finally:
        parts.close()


def check(parts: RootParts) -> None:
    """Drive one cycle as a runtime does."""
    cycle = parts.begin(None)
    answer = None
    while True:
        try:
            step = cycle.send(answer)
        except StopIteration as stop:
            parts.finish(stop.value)
            return
        answer = parts.perform(step)


def decisions(root: Path) -> list[tuple[object, ...]]:
    """What was decided in a root, and on which figures."""
    return [
        (
            entry["at"],
            entry["type"],
            entry.get("action"),
            entry.get("rule"),
            entry.get("blocked_by"),
            entry.get("status"),
            (entry.get("evidence") or {}).get("degradation"),
        )
        for entry in DecisionJournal(Door(root)).read()
    ]


def told(commit: Commit) -> tuple[object, ...]:
    """What a commit changed, by whomever."""
    return (commit.number, commit.action, commit.at, commit.champion, commit.base, commit.subject, commit.verdict)


@pytest.mark.catboost
@pytest.mark.parametrize("turn", [HOUR, 6 * HOUR])
def test_a_live_root_and_a_replay_of_its_stream_agree(tmp_path: Path, turn: float) -> None:
    """Fed the same stream on a virtual clock, a runtime's parts decide, commit and serve exactly what the replay did."""
    frame, begin = stream(), START + TRAINED * DAY
    report = replay(frame, ["default"], train_until=begin, config=CONFIG, out=tmp_path / "replay", refresh=turn)
    replayed = tmp_path / "replay" / "roots" / "default"
    lived = tmp_path / "live"
    live(lived, replayed, frame, turn)
    assert report.policies[0].attempts >= 2, "nothing was trained, so nothing is proved"
    assert decisions(lived) == decisions(replayed)
    commits = [[told(commit) for commit in Registry(root, read_only=True).commits()] for root in (lived, replayed)]
    assert commits[0][1:] == commits[1][1:]
    records = []
    for root in (lived, replayed):
        with ModelMonitor(root, CONFIG, VirtualClock(START + (TRAINED + LIVED) * DAY)) as monitor:
            records.append(monitor.records().sort("slot", "place_id"))
    assert len(records[0]) == LIVED * 24 * 3
    for column in ("place_id", "slot", "version", "predicted", "actual", "naive", "served"):
        np.testing.assert_array_equal(records[0][column].to_numpy(), records[1][column].to_numpy(), err_msg=column)
