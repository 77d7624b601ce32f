"""The manager on real parts: a short life of three places, trained in place, in virtual time."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from demand_maint import model_manager
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.serving_store import serving_store
from demand_maint._training.in_place import InPlacePool
from demand_maint.config import Config, PolicyConfig, ServingConfig, TrainingConfig
from demand_maint.core.cycle import STATUSES
from demand_maint.errors import MaintainerBusyError, NoChampionError
from demand_maint.features import load_builder
from demand_maint.maintenance import staged_metadata
from demand_maint.model_handle import ModelHandle
from demand_maint.model_manager import HybridModelManager
from demand_maint.testing import VirtualClock, drifting_stream
from demand_maint.train_model import FullRetrainer

DAY = 86400.0
FIRST_DAY = 35
STREAM = drifting_stream(places=3, days=70, step=3600 * 3, seed=3)
START = float(np.min(STREAM["timestamp"].to_numpy()))
TRAINING = TrainingConfig(full_iterations=30, fine_tune_iterations=10, full_depth=4)
GATE = Config(
    step="3h",
    training=TRAINING,
    serving=ServingConfig(serve="champion"),
    policy=PolicyConfig(promotion="gate", min_samples=50),
)
LIVE = structs.replace(GATE, serving=ServingConfig(), policy=PolicyConfig(min_samples=50))


class Life:
    """One root that lives through the stream, a day at a time."""

    def __init__(self, root: Path, config: Config) -> None:
        self.root, self.config = root, config
        self.clock = VirtualClock(START + FIRST_DAY * DAY)
        self.manager = HybridModelManager(root, config=config, clock=self.clock, pool=InPlacePool())
        monitor, registry = self.manager.monitor, self.manager.registry
        monitor.import_history(STREAM.filter(pl.col("timestamp") < self.clock.now()))
        trained = FullRetrainer(root, config, self.clock, monitor=monitor, pool=self.manager.pool).retrain()
        version = registry.add_version(Path(trained.model_path).read_bytes(), staged_metadata(trained.metadata_path))
        self.manager.deployer.promote(version.number, action="init", why="first")
        self.handle = ModelHandle(
            registry,
            config=config,
            clock=self.clock,
            journal=monitor.journal,
            snapshots=serving_store(registry.door),
            naive=monitor.naive,
        )
        self.handle.refresh()
        self.builder = load_builder(config)

    def day(self, distortion: float = 1.0) -> None:
        """Predict the coming day, then let it happen; `distortion` multiplies the truth."""
        now, monitor = self.clock.now(), self.manager.monitor
        rows = STREAM.filter((pl.col("timestamp") >= now) & (pl.col("timestamp") < now + DAY))
        keys = rows.select("place_id", "timestamp")
        features = self.builder.build(STREAM.filter(pl.col("timestamp") < now), keys)
        served = self.handle.predict(
            features, place_id=keys["place_id"].to_list(), timestamp=keys["timestamp"].to_numpy()
        )
        self.clock.advance(DAY)
        for (place, stamp), predicted, actual in zip(keys.iter_rows(), served.tolist(), rows["actual"], strict=True):
            monitor.log_prediction_vs_actual(place, stamp, predicted, actual * distortion)
        monitor.drain()
        if self.config.serving.serve == "mixture":
            self.handle.publish(monitor.line_up, monitor.places)

    def days(self, count: int, distortion: float = 1.0) -> None:
        """Live several days."""
        for _ in range(count):
            self.day(distortion)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Life]:
    """A root where challengers meet the gate."""
    life = Life(tmp_path, GATE)
    yield life
    life.manager.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Life]:
    """A root whose predictions go through the handle."""
    life = Life(tmp_path, LIVE)
    yield life
    life.manager.close()


def test_a_root_without_a_model_says_so(tmp_path: Path) -> None:
    """Without a champion there is nothing to maintain, and the error tells how to begin."""
    with HybridModelManager(tmp_path) as manager, pytest.raises(NoChampionError, match="demand-maint init"):
        manager.update_model()
    with HybridModelManager(tmp_path) as manager:
        assert manager.status()["status"] == "no_champion"


def test_what_is_past_keeping_is_looked_for_once_a_day(live: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four quiet checks a day look through the versions once; the next day's first does again."""
    looks: list[float] = []
    monkeypatch.setattr(live.manager.deployer, "retain", lambda lock: looks.append(live.clock.now()))
    live.day()
    begun = live.clock.now()
    for _ in range(8):
        assert live.manager.update_model()["status"] == "no_action"
        live.clock.advance(DAY / 4)
    assert looks == [begun, begun + DAY]


def test_a_week_at_the_gate(gated: Life) -> None:
    """Nothing to do for days; a fine-tune falls due, is judged on days it has not seen, and becomes champion; a rollback undoes it."""
    gated.days(2)
    assert gated.manager.update_model()["status"] == "no_action"
    assert gated.manager.should_fine_tune()[0] is False
    gated.days(6)
    due, reason = gated.manager.should_fine_tune()
    assert (due, "8.0 days" in reason) == (True, True)
    result = gated.manager.update_model()
    assert (result["status"], result["rule"]) == ("deployed", "fine_tune_due"), result["reason"]
    assert result["verdict"]["method"] == "gate"
    assert result["verdict"]["days"] >= 7
    head = gated.manager.registry.champion()
    assert (head.champion, head.base, head.fine_tunes) == (result["version"], 1, 1)
    assert "fine_tune_due" in head.why
    assert gated.handle.refresh()
    assert gated.handle.version == result["version"]
    assert gated.manager.update_model()["status"] == "no_action"
    undone, sentence = gated.manager.rollback()
    assert (undone, gated.manager.registry.champion().champion) == (True, 1), sentence


def test_a_young_champion_is_not_challenged(gated: Life) -> None:
    """Too few days with truth: a due training is held back and says why, without training anything."""
    gated.days(6)
    gated.clock.advance(DAY)
    result = gated.manager.update_model()
    assert (result["status"], result["rule"]) == ("blocked", "fine_tune_due")
    assert "days with truth" in result["reason"]


def test_an_operator_may_train_at_once(gated: Life) -> None:
    """A forced fine-tune without live truth is compared by metadata, and the history says that it is unproven."""
    gated.days(2)
    result = gated.manager.update_model("fine-tune")
    assert result["rule"] == "force"
    assert result["status"] in {"deployed", "rejected"}
    assert result["verdict"]["method"] == "metadata"
    if result["status"] == "deployed":
        assert gated.manager.registry.champion().verdict is not None


def test_too_little_data_is_told_and_paused(gated: Life) -> None:
    """A training without enough rows fails with the count and the need, and the next check waits."""
    gated.day()
    config = structs.replace(GATE, policy=structs.replace(GATE.policy, min_samples=100_000))
    with HybridModelManager(gated.root, config=config, clock=gated.clock, monitor=gated.manager.monitor) as manager:
        result = manager.update_model("fine-tune")
    assert result["status"] == "failed"
    assert "100000 needed" in result["reason"].replace(" ", " ")
    gated.clock.advance(3600)
    assert gated.manager.situation().ledger.failures == 1


def test_live_truth_promotes_a_candidate(live: Life) -> None:
    """Through the handle: a due fine-tune enters the line-up, predicts every row, and live truth makes it champion."""
    statuses = []
    for _ in range(18):
        live.day()
        statuses.append(live.manager.update_model()["status"])
        live.handle.refresh()
    assert "candidate" in statuses
    assert "deployed" in statuses
    assert statuses.index("candidate") < statuses.index("deployed")
    promotion = next(commit for commit in live.manager.registry.commits() if commit.action == "promote")
    assert promotion.why == "line-up: proved itself on live truth"
    assert promotion.verdict is not None
    assert promotion.verdict.days >= 7
    assert {entry.role for entry in promotion.line_up} >= {"champion", "previous"}
    assert promotion.baseline is not None
    assert promotion.baseline.days >= 7
    assert promotion.baseline.since is not None
    assert promotion.baseline.since > START + FIRST_DAY * DAY, "measured live, not on the days it was trained on"


def test_deleting_the_state_forgets_attempts_not_dates(gated: Life) -> None:
    """Removing the manager's state clears attempts; when models were trained is read from the commits."""
    gated.days(2)
    gated.manager.update_model("fine-tune")
    before = gated.manager.situation()
    assert before.ledger.attempts
    (gated.root / "logs/model_manager_state.json").unlink()
    after = gated.manager.situation()
    assert after.ledger.attempts == ()
    assert after.facts == before.facts


def test_a_damaged_state_is_set_aside(gated: Life) -> None:
    """A state file that is no JSON is kept under another name, and maintenance goes on."""
    state = gated.root / "logs/model_manager_state.json"
    state.parent.mkdir(exist_ok=True)
    state.write_text('{"attempts": [')
    gated.day()
    assert gated.manager.update_model()["status"] == "no_action"
    assert (gated.root / "logs/model_manager_state.json.damaged").exists()


def test_every_decision_is_kept_with_its_evidence(gated: Life) -> None:
    """Also "nothing" is written down, with the numbers it rests on."""
    gated.days(2)
    result = gated.manager.update_model()
    assert result["status"] in STATUSES
    decision = next(entry for entry in gated.manager.decisions.read() if entry["type"] == "decision")
    assert decision["action"] == "nothing"
    assert decision["evidence"]["champion"] == 1


def test_a_second_maintainer_is_refused(gated: Life) -> None:
    """While somebody holds the root, maintaining is refused with the holder named."""
    lock = MaintainerLock(gated.manager.registry.door, who="the other one")
    manager = HybridModelManager(gated.root, config=GATE, clock=gated.clock)
    with lock, manager as other, pytest.raises(MaintainerBusyError):
        other.update_model()


def test_an_unknown_force_is_refused(gated: Life) -> None:
    """Only the two kinds of training can be asked for."""
    with pytest.raises(ValueError, match="full-retrain"):
        gated.manager.begin("everything")


def test_the_command_of_the_document(gated: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """``--status --json`` prints one object; without a model it exits with 1 and says what to do."""
    gated.manager.close()
    assert model_manager.main(["--status", "--json", "--root", str(gated.root)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["deployment"]["version"] == 1
    assert model_manager.main(["--update", "--root", str(gated.root / "nothing-here")]) == 1
    assert "demand-maint init" in capsys.readouterr().err
