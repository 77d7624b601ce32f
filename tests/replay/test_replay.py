"""A replay from file to page: every figure, interruption, and roots that stay usable."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from demand_maint.cli import main
from demand_maint.config import Config, PolicyConfig, TrainingConfig
from demand_maint.core.replay_policy import NAMED
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import ConfigError, HistoryFileError
from demand_maint.replay import ReplayReport, replay
from demand_maint.replay_life import LifeEvent
from demand_maint.report import report_data, report_html
from demand_maint.testing import VirtualClock, drifting_stream

DAY = 86400.0
START = 1_704_067_200.0
TRAINED = 30
CONFIG = Config(
    policy=PolicyConfig(fine_tune_interval_days=5.0, min_samples=50),
    training=TrainingConfig(full_iterations=15, fine_tune_iterations=8, fine_tune_days=14),
)

pytestmark = pytest.mark.catboost


def stream(days: int = 50) -> object:
    """Two places whose level doubles four days into the replay."""
    return drifting_stream(places=2, days=days, shift_day=TRAINED + 4, shift=2.0, seed=5)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReplayReport, Path, list[LifeEvent]]:
    """A replay of twenty days by four policies, two at a time."""
    out = tmp_path_factory.mktemp("replay")
    events: list[LifeEvent] = []
    report = replay(
        stream(),  # type: ignore[arg-type]
        ["default", "full-7d", "frozen", "naive"],
        train_until="2024-01-31",
        config=CONFIG,
        out=out,
        jobs=2,
        tell=events.append,
    )
    return report, out, events


def test_served_values_of_a_kept_root_are_explained(
    lived: tuple[ReplayReport, Path, list[LifeEvent]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A value served early in the replay is reproduced to the last bit from the root that is left, with the members named."""
    _, out, _ = lived
    at = "2024-02-05T13:00"
    place = str(stream()["place_id"][0])  # type: ignore[index]  # a frame
    root = str(out / "roots" / "default")
    assert main(["explain", "--root", root, "--place", place, "--at", at, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["exact"]
    assert len(told["shares"]) > 1


def test_every_policy_has_its_figures(lived: tuple[ReplayReport, Path, list[LifeEvent]]) -> None:
    """The results are those the issue lists, over the same rows for every policy, and plain JSON."""
    report, out, _ = lived
    told = json.loads((out / "replay.json").read_text())
    assert told == json.loads(json.dumps(report.as_dict()))
    assert [row["policy"] for row in told["policies"]] == ["default", "full-7d", "frozen", "naive"]
    wanted = {
        "policy", "mae", "mase", "bias", "n", "training_cpu_seconds", "training_wall_seconds", "fine_tunes", "full_retrains",
        "attempts", "rejected", "rollbacks", "false_alarms", "worst_places",
    }  # fmt: skip
    assert all(wanted <= set(row) for row in told["policies"])
    assert {row["n"] for row in told["policies"]} == {2 * 20 * 24}
    assert report.complete
    assert told["history"]["replayed_rows"] == 2 * 20 * 24
    assert told["history"]["advice"] == []


def test_frozen_trains_never_and_the_calendar_by_the_calendar(
    lived: tuple[ReplayReport, Path, list[LifeEvent]],
) -> None:
    """frozen has no training at all, full-7d one a week, the naive no cost and a MASE of one."""
    by_name = {result.policy: result for result in lived[0].policies}
    assert by_name["frozen"].attempts == 0
    assert by_name["full-7d"].full_retrains == by_name["full-7d"].deployed == 2
    assert by_name["full-7d"].fine_tunes == 0
    assert by_name["naive"].mase == pytest.approx(1.0)
    assert by_name["naive"].training_cpu_seconds == 0
    assert by_name["default"].attempts == by_name["default"].fine_tunes + by_name["default"].full_retrains > 0


def test_adapting_beats_standing_still(lived: tuple[ReplayReport, Path, list[LifeEvent]]) -> None:
    """When the level doubles, the maintained model is far more accurate than the frozen one."""
    by_name = {result.policy: result for result in lived[0].policies}
    assert (by_name["default"].mae or 0) < 0.75 * (by_name["frozen"].mae or 0)


def test_events_are_told_in_their_own_time(lived: tuple[ReplayReport, Path, list[LifeEvent]]) -> None:
    """Every training and deployment was told, each policy's in the order of virtual time."""
    _, _, events = lived
    assert {event.policy for event in events} >= {"default", "full-7d"}
    for policy in ("default", "full-7d"):
        times = [event.at for event in events if event.policy == policy]
        assert times == sorted(times)
    assert sum(event.kind == "deployed" and event.policy == "full-7d" for event in events) == 2


def test_the_page_shows_all_policies(lived: tuple[ReplayReport, Path, list[LifeEvent]]) -> None:
    """The page is written, small, and names every policy."""
    report, out, _ = lived
    assert report.report == out / "report.html"
    html = (out / "report.html").read_text(encoding="utf-8")
    assert len(html.encode()) <= 300_000
    assert all(name in html for name in ("default", "full-7d", "frozen", "naive", "Accuracy against cost"))
    assert html.count("<article") == 3


def test_a_policys_root_is_an_ordinary_root(lived: tuple[ReplayReport, Path, list[LifeEvent]]) -> None:
    """Status, history, report and rollback work on what a replay leaves behind."""
    _, out, _ = lived
    root = out / "roots" / "full-7d"
    deployer = ModelDeployer(root, CONFIG)
    assert [row["action"] for row in deployer.history()] == ["init", "promote", "promote"]
    data = report_data(root, CONFIG, VirtualClock(START + 50 * DAY))
    story = data.stories[0]
    assert len(story.days) == 21  # the first turn lies a day before the first row
    assert any(value is not None for value in story.champion)
    assert [span.label for span in story.reigns] == ["v1", "v2", "v3"]
    assert "Deployments" in report_html(data)
    done, sentence = deployer.rollback(who="test", why="to see it work")
    assert done, sentence


def test_an_interrupt_keeps_what_was_done(tmp_path: Path) -> None:
    """Ctrl-C ends every life at its next turn; the results say how far they came."""
    pressed = threading.Event()

    def progress(share: float, left: float | None) -> None:
        if share > 0.2 and not pressed.is_set():
            pressed.set()
            raise KeyboardInterrupt

    report = replay(
        stream(200),  # type: ignore[arg-type]
        ["calibrate-only", "frozen"],
        train_until="2024-01-31",
        config=CONFIG,
        jobs=2,
        out=tmp_path,
        progress=progress,
    )
    assert pressed.is_set()
    assert not report.complete
    assert all(not result.complete for result in report.policies)
    assert all(0 < result.n < 2 * 170 * 24 for result in report.policies)
    assert "interrupted" in report.table()
    assert (tmp_path / "report.html").exists()


def test_decisions_alone_fit_nothing() -> None:
    """Without training the rules are followed and told as advice; no fit is begun after the first champion's."""
    report = replay(
        stream(),  # type: ignore[arg-type]
        ["default"],
        train_until="2024-01-31",
        config=CONFIG,
        training=False,
    )
    result = report.policies[0]
    assert result.attempts == 0
    assert result.checks == 80
    assert result.training_cpu_seconds == 0
    assert result.drift_episodes >= 1


def test_late_truth_is_late_everywhere() -> None:
    """With labels two days late the features know nothing younger, and the replay still comes to its end."""
    table: dict[str, float] = {}
    for delay in (0.0, 2 * DAY):
        report = replay(
            stream(),  # type: ignore[arg-type]
            ["calibrate-only"],
            train_until="2024-01-31",
            config=CONFIG,
            label_delay=delay,
        )
        assert report.policies[0].n == 2 * 20 * 24
        table[report.history["horizon"]] = report.policies[0].mae or 0.0
    assert list(table) == ["1d", "259200s"]
    assert table["259200s"] > table["1d"]


def test_a_file_and_a_frame_are_replayed_alike(tmp_path: Path) -> None:
    """A Parquet file with other column names gives what the frame gives."""
    frame = drifting_stream(places=1, days=40)
    path = tmp_path / "demand.parquet"
    frame.rename({"actual": "count"}).write_parquet(path)
    results = [
        replay(source, ["frozen"], train_until=START + 30 * DAY, config=CONFIG, columns=columns).policies[0]
        for source, columns in ((frame, None), (path, {"actual": "count"}))
    ]
    assert results[0].mae == results[1].mae


def test_wrong_questions_get_clear_answers(tmp_path: Path) -> None:
    """An unknown policy, a bad date and a broken file are refused with what is wrong."""
    frame = drifting_stream(places=1, days=40)
    with pytest.raises(ConfigError, match="no policy"):
        replay(frame, ["weekly"], config=CONFIG)
    with pytest.raises(ConfigError, match="no date"):
        replay(frame, ["naive"], train_until="tomorrow", config=CONFIG)
    path = tmp_path / "broken.csv"
    path.write_text("place_id,timestamp,actual\na,2024-01-01T00:00,1\na,2024-01-01T01:00,many\n")
    with pytest.raises(HistoryFileError, match="actual"):
        replay(path, ["naive"], config=CONFIG)


def test_every_named_policy_lives() -> None:
    """Each name can be lived by; the cheap ones here for a few days."""
    frame = drifting_stream(places=1, days=36)
    names = [name for name in NAMED if name != "literal"]
    report = replay(frame, names, train_until=START + 30 * DAY, config=CONFIG, jobs=2)
    assert [result.policy for result in report.policies] == names
    assert all(result.mae is not None and np.isfinite(result.mae) for result in report.policies)
