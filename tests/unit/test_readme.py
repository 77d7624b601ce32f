"""What the README shows can be typed: its Python runs, its command lines are ones that exist."""

import asyncio
import contextlib
import io
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demand_maint import data_collector, deploy_model, model_manager
from demand_maint._storage.registry import Registry
from demand_maint.cli import build_parser, main
from demand_maint.errors import InsufficientDataError
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import drifting_stream

pytestmark = pytest.mark.usefixtures("quiet_logging")

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Every fenced block of `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


PYTHON = {kind: next(code for code in blocks("python") if mark in code) for kind, mark in (
    ("attach", "MaintenanceRuntime.attach"), ("monitor", "ModelMonitor()"), ("collector", "RealTimeDataCollector("),
    ("service", "runtime.model.predict"),
)}  # fmt: skip
COMMANDS = [
    line
    for block in blocks("sh") + blocks("")
    for line in block.splitlines()
    if re.match(r"demand-maint |python -m demand_maint\.", line)
]


def test_no_snippet_is_left_out() -> None:
    """Every block of Python is known here, and there are a dozen command lines or more; a new block needs a test here."""
    assert len(blocks("python")) == len(PYTHON)
    assert len(COMMANDS) >= 12


def test_the_first_snippet_runs_with_any_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that knows nothing of maintenance is attached to, and goes round and round, with news and without."""

    class EnoughError(Exception):
        pass

    class Collector:
        model = None
        rounds = 0

        async def collect_for_all_venues(self, venues: list[int]) -> dict[str, Any]:
            self.rounds += 1
            if self.rounds > 20:
                raise EnoughError
            await asyncio.sleep(0.01)
            return {"collected": len(venues)}

    monkeypatch.chdir(tmp_path)
    (tmp_path / "demand_maint.toml").write_text("[runtime]\ngrace_seconds = 1\n")
    names: dict[str, Any] = {"venues": [1, 2]}
    exec(compile(PYTHON["attach"], "README", "exec"), names)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(EnoughError):
        asyncio.run(names["main"](Collector()))
    assert set(said.getvalue().split()) <= {"running", "failed"}


def test_the_snippet_of_the_monitor_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging and health work on an empty root; training data of a single record is refused with a remedy."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    try:
        with pytest.raises(InsufficientDataError, match="lower min_samples"):
            exec(compile(PYTHON["monitor"], "README", "exec"), names)
    finally:
        names["monitor"].close()


def test_the_snippet_of_the_collector_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One collection, with the check that comes after it."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"fetch_venue": lambda venue: 4.0, "venues": [1, 2]}
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(PYTHON["collector"], "README", "exec"), names)
    finally:
        names["collector"].close()
    assert names["result"]["collected"] == 2
    assert said.getvalue() == "Maintenance status: failed\n"  # there is no champion yet


def test_the_snippet_of_the_service_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forecast for each question, and the truth in the journal, under the settings that the README shows."""
    monkeypatch.chdir(tmp_path)
    settings = blocks("toml")[0].replace("[training]", "[training]\nfull_iterations = 5")
    (tmp_path / "demand_maint.toml").write_text(settings)
    drifting_stream(places=2, days=20).write_parquet("demand.parquet")
    assert main(["init", "--history", "demand.parquet"]) == 0
    names = Registry(tmp_path).version(1).metadata.features
    question = SimpleNamespace(features=dict.fromkeys(names, 1.0), place_id=1, timestamp=time.time(), actual=3.0)
    said, scope = io.StringIO(), dict[str, Any]()
    exec(compile(PYTHON["service"], "README", "exec"), scope)
    with contextlib.redirect_stdout(said):
        asyncio.run(scope["serve"]([question]))
    assert re.fullmatch(r"-?[0-9.]+ by version 1\n", said.getvalue())
    with ModelMonitor(tmp_path, background=False) as monitor:
        assert monitor.records()["actual"].to_list() == [3.0]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_is_one_that_exists(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words and options are known to the parser of that command."""
    words = shlex.split(line, comments=True)
    if words[0] == "demand-maint":
        assert build_parser().parse_args(words[1:]).command == words[1]
        return
    module: Any = {one.__name__: one for one in (data_collector, deploy_model, model_manager)}[words[2]]
    reached: list[Any] = []

    def performed(arguments: Any) -> int:
        reached.append(arguments)
        return 0

    monkeypatch.setattr(module, "_main", performed)
    run: Callable[[list[str]], int] = module.main
    assert run(words[3:]) == 0
    assert reached
