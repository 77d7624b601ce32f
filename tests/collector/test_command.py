"""The collector's command line, on a real root without a champion."""

import asyncio
import json
from pathlib import Path

import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint.config import Config
from demand_maint.data_collector import main
from demand_maint.model_monitor import ModelMonitor
from demand_maint.sources import ReplaySource
from demand_maint.testing import VirtualClock


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a root whose source is a file of two places and four hours."""
    (tmp_path / "demand_maint.toml").write_text('source = "history.csv"\n')
    rows = [f"{place},2026-01-01T0{hour}:00,{10 * place + hour}" for hour in range(4) for place in (1, 2)]
    (tmp_path / "history.csv").write_text("\n".join(["place_id,timestamp,actual", *rows]) + "\n")
    return tmp_path


def test_a_file_is_collected_round_by_round(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every moment of the file is one collection; its actuals are in the monitor afterwards."""
    assert main(["--root", str(root), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["collected"] for line in lines] == [2, 2, 2, 2]
    assert "demand-maint init" in lines[0]["problem"]
    clock = VirtualClock(ReplaySource(root / "history.csv").clock.now() + 86400)
    with ModelMonitor(root, Config(), clock) as monitor:
        assert sorted(monitor.truth()["actual"].to_list()) == [10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0]


def test_maintenance_is_told_in_words(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --auto-maintain a check happens as the file's time goes by, and the line says what came of it."""
    assert main(["--root", str(root), "--auto-maintain", "--maintenance-interval", "2", "--venue", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("collected 1 from 1 venues, predicted 0")
    assert [("maintenance: failed NoChampionError" in line) for line in lines] == [True, False, True, False]


def test_force_maintenance_checks_now(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--force-maintenance makes one check and ends: 1 where it failed, 5 where another process maintains the root."""
    assert main(["--root", str(root), "--force-maintenance"]) == 1
    assert capsys.readouterr().out.startswith("maintenance: failed NoChampionError: No production model")
    with MaintainerLock(Door(root), who="somebody else"):
        assert main(["--root", str(root), "--force-maintenance", "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "busy"
    assert "somebody else" in told["reason"]


def test_a_live_source_is_asked_every_so_often(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A source of one's own is collected in real time, with the runtime beside it where maintenance is asked for."""
    (root / "live_feed_module.py").write_text("async def feed(venue):\n    return 4.0\n")
    (root / "demand_maint.toml").write_text('source = "live_feed_module:feed"\n[runtime]\ngrace_seconds = 1\n')
    arguments = ["--root", str(root), "--auto-maintain", "--venue", "1", "--venue", "north", "--every", "0.05"]
    assert main([*arguments, "--rounds", "3", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["collected"] for line in lines] == [2, 2, 2]
    with MaintainerLock(Door(root)):
        pass
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to collect from. Pass source=..., or set `source`"),
        ('source = "nowhere.csv"\n', "cannot be replayed"),
        ("sauce = 1\n", "sauce"),
    ],
)
def test_what_is_missing_is_told(root: Path, capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    """No source, a source that is not there, a key that is none: wrong configuration, a sentence or one JSON object."""
    (root / "demand_maint.toml").write_text(text)
    assert main(["--root", str(root)]) == 2
    assert message in capsys.readouterr().err
    assert main(["--root", str(root), "--json"]) == 2
    assert message in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--every", "-1"], ["--maintenance-interval", "nan"]])
def test_a_number_that_makes_no_sense_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Rounds are at least one, times above zero."""
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert words[0] in capsys.readouterr().err
