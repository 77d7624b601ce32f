"""The command line from nothing to a rolled-back deployment, on a real root with real trainings."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from demand_maint.cli import main
from demand_maint.config import load_config
from demand_maint.features import load_builder
from demand_maint.model_monitor import ModelMonitor
from tests.commands import said

pytestmark = [pytest.mark.catboost, pytest.mark.usefixtures("quiet_logging")]
HOUR, DAY = 3600, 86400
SMALL = """\
step = "1h"
[training]
full_iterations = 30
fine_tune_iterations = 10
[serving]
serve = "champion"
"""


def ask(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[int, Any]:
    """Run a command on `root`; its exit code and what it printed."""
    return said(capsys, *words, "--root", str(root))


def stream(days: int) -> pl.DataFrame:
    """Hourly demand of two places up to now."""
    end = int(time.time()) // HOUR * HOUR
    slots = np.arange(end - days * DAY, end, HOUR)
    rng = np.random.default_rng(5)
    frames = []
    for level, place in ((40, "north"), (90, "south")):
        daily = level * (1.5 + np.sin(slots % DAY / DAY * 2 * np.pi))
        frames.append(
            pl.DataFrame(
                {"place_id": place, "timestamp": slots, "actual": np.round(daily + rng.normal(0, 4, len(slots)), 1)}
            )
        )
    return pl.concat(frames)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a root that `init --history` began."""
    root = tmp_path_factory.mktemp("begun")
    (root / "demand_maint.toml").write_text(SMALL)
    history = root / "history.csv"
    stream(50).rename({"place_id": "station", "actual": "rides"}).write_csv(history)
    words = [
        "init",
        "--root",
        str(root),
        "--history",
        str(history),
        "--column",
        "place_id=station",
        "--column",
        "actual=rides",
    ]
    assert main(words) == 0
    return root


@pytest.fixture
def root(begun: Path, tmp_path: Path) -> Path:
    """Give each test a copy of that root."""
    copy = tmp_path / "root"
    shutil.copytree(begun, copy)
    return copy


def test_init_trains_keeps_the_history_and_leaves_no_litter(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After init version 1 serves, its history is kept for retrains, nothing waits in staging, exports are there."""
    code, status = ask(capsys, root, "status")
    assert (code, status["deployment"]["version"], status["deployment"]["kind"]) == (0, 1, "full")
    assert status["deployment"]["staged"] == []
    assert (root / "data/models/rf_model.joblib").is_file()
    assert not list(root.rglob("work/*.*"))
    code, history = ask(capsys, root, "history")
    assert [(entry["action"], entry["version"]) for entry in history] == [("init", 1)]
    with ModelMonitor(root) as monitor:
        assert len(monitor.truth()) == 2 * 50 * 24
    code, again = ask(capsys, root, "init", "--history", str(root / "history.csv"))
    assert (code, again["kind"]) == (4, "DeployRefusedError")


def test_full_retrain_deploy_and_rollback(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A forced retrain and a rollback go through, and history tells what was live when."""
    code, result = ask(capsys, root, "full-retrain")
    assert code in {0, 4}, result
    assert result["status"] in {"deployed", "rejected"}
    code, deployed = ask(capsys, root, "deploy", str(root / "data/models/archive/000001/model.cbm"), "--metadata", str(root / "data/models/archive/000001/metadata.json"), "--force", "--why", "once more")  # fmt: skip
    assert code == 0, deployed
    code, back = ask(capsys, root, "rollback", "--why", "to show it")
    assert code == 0
    assert back["version"] < deployed["version"]
    code, history = ask(capsys, root, "history")
    assert [history[0]["action"], history[-1]["action"]] == ["init", "rollback"]
    assert history[-1]["why"] == "to show it"
    code, then = ask(capsys, root, "history", "--at", str(time.time() + 1))
    assert (code, then["version"]) == (0, back["version"])
    assert ask(capsys, root, "history", "--at", "2001-01-01")[0] == 1
    assert ask(capsys, root, "verify")[1] == {"ok": True, "problems": []}


def test_a_model_with_a_feature_less_is_refused_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """deploy of a model with one feature removed exits with 4 and names count and feature."""
    from catboost import CatBoostRegressor

    metadata = json.loads((root / "data/models/archive/000001/metadata.json").read_text())
    names = metadata["features"]
    rng = np.random.default_rng(0)
    model = CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False)
    model.fit(rng.random((50, len(names) - 1)), rng.random(50))
    model.set_feature_names(names[:-1])
    path = root / "data/models/finetuned/fewer.cbm"
    path.parent.mkdir(exist_ok=True)
    model.save_model(path)
    path.with_name("fewer_metadata.json").write_text(json.dumps(metadata | {"features": names[:-1], "notes": {}}))
    code, answer = ask(capsys, root, "deploy")
    assert code == 4
    assert str(len(names)) in answer["error"]
    assert str(len(names) - 1) in answer["error"]
    assert names[-1] in answer["error"]
    assert ask(capsys, root, "status")[1]["deployment"]["version"] == 1


def test_monitoring_fine_tune_export_and_explain(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a week of logged predictions fine-tune trains, records are exported, decisions and values explained."""
    truth = stream(50)
    config = load_config(root)
    keys = truth.filter(pl.col("timestamp") >= truth["timestamp"].to_numpy().max() - 9 * DAY)
    features = load_builder(config).build(truth, keys)
    predicted = features["week_mean_4"].fill_nan(50.0).cast(pl.Float64)
    with ModelMonitor(root, background=False) as monitor:
        monitor.log_many(keys.with_columns(predicted=predicted))
    code, result = ask(capsys, root, "fine-tune")
    assert code in {0, 4}, result
    assert result["action"] == "fine_tune"
    code, exported = ask(capsys, root, "export", "--format", "parquet", "--since", str(int(time.time()) - 2 * DAY))
    assert code == 0
    frame = pl.read_parquet(exported["path"])
    assert len(frame) == exported["rows"]
    assert 0 < exported["rows"] <= 2 * 49
    assert ask(capsys, root, "export", "--format", "csv", "--out", str(root / "all.csv"))[1]["rows"] == len(keys)
    code, decision = ask(capsys, root, "explain")
    assert (code, decision["action"]) == (0, "fine_tune")
    slot = str(int(keys["timestamp"].to_numpy().max()))
    code, value = ask(capsys, root, "explain", "--place", "north", "--at", slot)
    assert (code, value["version"], value["place"]) == (0, 0, "north")
    assert value["served"] == value["predicted"]
    assert ask(capsys, root, "explain", "--place", "west", "--at", slot)[0] == 1


def test_export_to_standard_output_is_csv_alone(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`export --out -` prints nothing but the records."""
    now = int(time.time()) // HOUR * HOUR
    with ModelMonitor(root, background=False) as monitor:
        monitor.log_prediction_vs_actual("north", now, 5.0, 6.0)
    assert main(["export", "--root", str(root), "--out", "-"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("place_id,timestamp")
    assert len(lines) == 2


def test_report_is_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """report writes one page and tells where."""
    code, answer = ask(capsys, root, "report", "--out", str(root / "page.html"))
    assert code == 0
    assert (root / "page.html").read_text().lstrip().lower().startswith("<!doctype html")
    assert answer["bytes"] == (root / "page.html").stat().st_size


def test_collect_hands_over_to_the_collector(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """collect plays the configured file and prints one JSON object a round."""
    path = root / "new.csv"
    stream(1).write_csv(path)
    (root / "demand_maint.toml").write_text(f'source = "{path}"\n{SMALL}')
    capsys.readouterr()
    assert main(["collect", "--root", str(root), "--rounds", "3", "--json"]) == 0
    rounds = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["collected"] for answer in rounds] == [2, 2, 2]
    assert rounds[-1]["predicted"] == 2


def test_replay_prints_one_object(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """replay lives through a file by the named policies and prints history and policies."""
    code, answer = ask(
        capsys, root, "replay", str(root / "history.csv"), "--column", "place_id=station", "--column", "actual=rides",
        "--policy", "frozen", "--policy", "naive",
    )  # fmt: skip
    assert code == 0
    assert set(answer) == {"history", "policies"}
    assert [policy["policy"] for policy in answer["policies"]] == ["frozen", "naive"]
    assert all(policy["mae"] > 0 for policy in answer["policies"])


def test_init_adopts_what_was_there(begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plain init makes an existing rf_model.joblib with its metadata version 1."""
    models = tmp_path / "data" / "models"
    models.mkdir(parents=True)
    for name in ("rf_model.joblib", "rf_model_metadata.json"):
        shutil.copy(begun / "data" / "models" / name, models / name)
    code, answer = ask(capsys, tmp_path, "init", "--step", "1h", "--zone", "Europe/London")
    assert (code, answer["version"], answer["adopted"]) == (0, 1, True)
    assert load_config(tmp_path).zone == "Europe/London"
    assert ask(capsys, tmp_path, "status")[1]["deployment"]["version"] == 1
