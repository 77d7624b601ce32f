"""The report of a real root: gathered from what is on disk, through the library, the runtime and the command line."""

import json
from pathlib import Path

import pytest

from demand_maint.cli import main
from demand_maint.config import Config, PolicyConfig, TrainingConfig
from demand_maint.model_monitor import ModelMonitor
from demand_maint.replay import replay
from demand_maint.report import REPORT_FILE, report_data, write_report
from demand_maint.runtime import MaintenanceRuntime
from demand_maint.testing import VirtualClock, drifting_stream

START, DAY = 1_704_067_200.0, 86400.0
CONFIG = Config(
    policy=PolicyConfig(fine_tune_interval_days=5.0, min_samples=50),
    training=TrainingConfig(full_iterations=15, fine_tune_iterations=8, fine_tune_days=14),
)

pytestmark = pytest.mark.catboost


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that was maintained for sixteen days."""
    folder = tmp_path_factory.mktemp("maintained") / "root"
    frame = drifting_stream(places=3, days=46, shift_day=34, shift=2.0, shifted_places=1, seed=5)
    replay(frame, ["default"], train_until=START + 30 * DAY, config=CONFIG, roots={"default": folder})
    return folder


def test_everything_is_gathered(root: Path) -> None:
    """Errors, checks, trainings, line-up, places, features, deployments and what comes next are all there."""
    story = report_data(root, CONFIG, VirtualClock(START + 46 * DAY)).stories[0]
    assert sum(value is not None for value in story.champion) == 16
    assert sum(value is not None for value in story.naive) >= 15
    assert any(event.kind == "train" for event in story.events)
    assert any(event.kind == "enter" for event in story.events)
    assert story.checks
    assert {row.place for row in story.places} == {"1", "2", "3"}
    assert story.members, "the newest serving snapshots are still on disk"
    assert story.features
    assert any(row.psi is not None for row in story.features)
    assert story.deployments[0].action == "init"
    assert {row.what for row in story.upcoming} >= {"Next check", "Full retrain"}


def test_details_of_health_tell_the_inputs_that_the_page_shows(root: Path) -> None:
    """The monitor's details must have the same indices as the page, each with its importance."""
    clock = VirtualClock(START + 46 * DAY)
    shown = {row.name: row.psi for row in report_data(root, CONFIG, clock).stories[0].features}
    with ModelMonitor(root, CONFIG, clock) as monitor:
        told = monitor.get_model_health(details=True)["inputs"]
        assert monitor.get_model_health().keys().isdisjoint({"inputs"})
    assert told
    assert all(row["importance"] is not None for row in told)
    assert {row["feature"]: row["psi"] for row in told}.items() <= shown.items()


def test_the_place_that_shifted_is_named(root: Path) -> None:
    """The place whose demand doubled stands first in the heat map."""
    story = report_data(root, CONFIG, VirtualClock(START + 46 * DAY)).stories[0]
    worst = max(story.places, key=lambda row: row.ratio or 0.0)
    assert worst.place == "1"
    assert (worst.ratio or 0.0) > 1.1


def test_looking_changes_nothing(root: Path, tmp_path: Path) -> None:
    """Writing the report elsewhere leaves commits and decisions as they were."""
    before = sorted((path.name, path.stat().st_size) for path in (root / "data/models/commits").iterdir())
    page = write_report(root, tmp_path / "deep" / "page.html", CONFIG, VirtualClock(START + 46 * DAY))
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert before == sorted((path.name, path.stat().st_size) for path in (root / "data/models/commits").iterdir())
    assert not (root / REPORT_FILE).exists()


def test_the_command_line_writes_it(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`demand-maint report --json` names the file and its size."""
    assert main(["report", "--root", str(root), "--out", str(tmp_path / "page.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["path"]).stat().st_size == told["bytes"] < 300_000


def test_an_empty_root_has_a_page_too(tmp_path: Path) -> None:
    """Where nothing was ever deployed the page says so."""
    page = write_report(tmp_path, None, Config(), VirtualClock(START))
    assert page == tmp_path / REPORT_FILE
    assert "No model has been deployed" in page.read_text(encoding="utf-8")


async def test_a_runtime_writes_it(root: Path, tmp_path: Path) -> None:
    """`await runtime.report()` writes the page off the loop."""
    async with MaintenanceRuntime(root=root, config=CONFIG, clock=VirtualClock(START + 46 * DAY)) as runtime:
        page = await runtime.report(tmp_path / "page.html")
    assert page.stat().st_size > 20_000
