"""How every command line ends: exit codes, remedies, outputs that are full, closed or cut short, and the same words everywhere."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from demand_maint import data_collector, deploy_model, model_manager
from demand_maint._storage.history import describe, history_line
from demand_maint._training.pool import WorkerPool
from demand_maint.cli import main
from demand_maint.core.outcome_words import outcome_lines
from demand_maint.core.versions import Commit, GateVerdict
from demand_maint.data_collector import RealTimeDataCollector
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import TrainingFailedError
from demand_maint.model_manager import HybridModelManager
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock
from tests.commands import said

pytestmark = pytest.mark.usefixtures("quiet_logging")


def _shell(command: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Run `command` in bash with ``$DM`` for the command line."""
    script = f"DM='{sys.executable} -m demand_maint'; cd {root}; {command}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """A root with enough records that no pipe holds them."""
    with ModelMonitor(tmp_path, clock=VirtualClock(1.8e9)) as monitor:
        for hour in range(3000):
            monitor.log_prediction_vs_actual("north", 1.7e9 + 3600.0 * hour, 5.0, 4.0)
    return tmp_path


def test_an_export_to_standard_output_adds_and_may_be_cut_short(logged: Path) -> None:
    """`>> file` keeps what was in the file; `| head -1` is no error."""
    done = _shell("echo before > all.csv; $DM export --out - >> all.csv", logged)
    assert (done.returncode, done.stderr) == (0, "")
    lines = (logged / "all.csv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("before", 3002)
    done = _shell("$DM export --out - | head -1; exit ${PIPESTATUS[0]}", logged)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("place_id,timestamp")


def test_the_first_champion_is_trained_on_all_processors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`init` runs beside nobody, so it neither waits for one thread nor gives way; later trainings do."""
    asked: list[Any] = []

    def run(_: object, job: Any, **__: object) -> Any:
        asked.append((job.threads, job.nice))
        raise TrainingFailedError("enough", "said")

    monkeypatch.setattr(WorkerPool, "run", run)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    path = tmp_path / "history.csv"
    rows = [f"a,{1.7e9 + 3600 * hour},{hour % 24}" for hour in range(400)]
    path.write_text("\n".join(["place_id,timestamp,actual", *rows]) + "\n")
    code, answer = said(capsys, "init", "--root", str(tmp_path / "new"), "--history", str(path))
    assert (code, answer["kind"]) == (1, "TrainingFailedError")
    assert asked == [(16, 0)]


def test_verify_names_what_was_set_aside_the_next_time_too(logged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged segment is a problem with its remedy, and stays one until somebody has looked at it."""
    first = next((logged / "logs/predictions").glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-7])
    root = ["--root", str(logged)]
    code, answer = said(capsys, "verify", *root)
    assert (code, answer["problems"]) == (
        1,
        [f"logs/predictions/{first.name} is damaged. Put it back from a backup, or go on without its rows."],
    )
    code, answer = said(capsys, "verify", *root)
    assert (code, answer["problems"][0]) == (1, f"set aside earlier: logs/quarantine/{first.name}")


def test_a_terminal_of_few_letters_is_told_everything(tmp_path: Path) -> None:
    """Where the encoding lacks a letter its escape is written, in JSON one of JSON's; there is no traceback."""
    root = tmp_path / "übel"
    root.mkdir()
    run = f"PYTHONIOENCODING=ascii {sys.executable} -m demand_maint"
    done = _shell(f"{run}.model_manager --status; {run}.deploy_model; {run} status; {run} status --json", root)
    assert (done.returncode, done.stderr) == (0, "")
    *_, last = done.stdout.splitlines()
    assert json.loads(last)["deployment"]["root"] == str(root)
    assert done.stdout.count("\\xfcbel") == 3


def test_output_that_nobody_can_read_is_told_without_a_traceback(tmp_path: Path) -> None:
    """A full disk behind standard output is exit code 1 and a sentence; a closed one is what was asked for."""
    full = _shell("$DM status > /dev/full", tmp_path)
    assert full.returncode == 1
    assert full.stderr == "Failed: what was found cannot be printed: No space left on device. Free disk space.\n"
    closed = _shell("$DM status >&-", tmp_path)
    assert (closed.returncode, closed.stderr) == (0, "")


def test_what_the_disk_refuses_ends_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only root is no traceback on any command line: a sentence, and exit code 1."""

    def refuse(*_: object, **__: object) -> Any:
        raise OSError(errno.EROFS, "Read-only file system", "logs/maintainer.lock")

    monkeypatch.setattr(HybridModelManager, "update_model", refuse)
    monkeypatch.setattr(ModelDeployer, "roll_back", refuse)
    monkeypatch.setattr(RealTimeDataCollector, "force_maintenance", refuse)
    said_on = "Read-only file system: logs/maintainer.lock. Make the root writable."
    root = ["--root", str(tmp_path)]
    for run, words in (
        (main, ["update"]),
        (model_manager.main, ["--update"]),
        (deploy_model.main, ["--rollback"]),
        (data_collector.main, ["--force-maintenance"]),
    ):
        assert run([*words, *root]) == 1
        assert said_on in capsys.readouterr().err
        assert run([*words, *root, "--json"]) == 1
        assert said_on in json.loads(capsys.readouterr().out).values()


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (main, ["status"]),
        (model_manager.main, ["--status"]),
        (deploy_model.main, ["--status"]),
        (data_collector.main, []),
    ],
)
def test_a_wrong_setting_is_exit_code_2_on_every_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Callable[[list[str]], int], words: list[str]
) -> None:
    """The long forms end as ``demand-maint`` does."""
    (tmp_path / "demand_maint.toml").write_text("sauce = 1\n")
    assert run([*words, "--root", str(tmp_path)]) == 2
    assert "sauce" in capsys.readouterr().err


def test_both_forms_tell_a_status_in_the_same_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m demand_maint.model_manager --status`` is what ``demand-maint status`` says."""
    root = ["--root", str(tmp_path)]
    assert main(["status", *root]) == 0
    short = capsys.readouterr().out
    assert model_manager.main(["--status", *root]) == 0
    assert capsys.readouterr().out == short
    assert "champion    none; run `demand-maint init" in short


def test_an_outcome_reads_as_lines() -> None:
    """What a check came to: status with its meaning, rule, reason, and the verdict in words, typed or as JSON holds it."""
    verdict = GateVerdict(verdict="worse", method="live", relative=0.1)
    result = {"status": "rejected", "rule": "force", "reason": "r", "version": 3, "verdict": verdict}
    lines = list(outcome_lines(result))
    assert lines[1:] == ["  rule    force", "  reason  r", "  version 3", "  verdict worse on live truth: +10.0 %"]
    assert lines[0].startswith("rejected: ")
    assert list(outcome_lines(result | {"verdict": msgspec.to_builtins(verdict)})) == lines


def test_history_names_the_challenger_that_entered() -> None:
    """A change of the line-up names its version beside the one that serves."""
    commit = Commit(number=7, at=0.0, action="enter", champion=1, base=1, previous=1, who="w", why="y", subject=4)
    assert history_line(describe(commit)).split()[2:6] == ["enter", "4", "version", "1"]
