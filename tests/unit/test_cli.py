"""The command line's words, exit codes and output, without training anything."""

import io
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from demand_maint._cli import answers
from demand_maint._cli.answers import Answer
from demand_maint._cli.terminal import TrainingLine
from demand_maint._storage.decisions import DecisionJournal
from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint.cli import COMMANDS, build_parser, main
from demand_maint.core.status_words import decision_lines, evidence_lines, status_lines
from demand_maint.errors import (
    ConfigError,
    DeployRefusedError,
    HistoryFileError,
    MaintainerBusyError,
    NothingToRollBackError,
    SchemaMismatchError,
)
from demand_maint.testing import VirtualClock
from tests.commands import said

pytestmark = pytest.mark.usefixtures("quiet_logging")

PROMISED = [
    "init",
    "status",
    "check",
    "update",
    "fine-tune",
    "full-retrain",
    "deploy",
    "rollback",
    "history",
    "collect",
    "config",
    "export",
    "verify",
    "demo",
    "replay",
    "report",
    "explain",
]


def test_every_promised_subcommand_is_there() -> None:
    """The subcommands of the README exist, each with a sentence, and each target can be imported."""
    assert sorted(command.name for command in COMMANDS) == sorted(PROMISED)
    for command in COMMANDS:
        module, _, function = command.target.partition(":")
        __import__(f"demand_maint._cli.{module}")
        assert callable(getattr(sys.modules[f"demand_maint._cli.{module}"], function))


def test_shared_options_stand_before_or_after_the_subcommand() -> None:
    """--root and --json mean the same in both places; the later one wins."""
    parse = build_parser().parse_args
    for words in (
        ["--root", "a", "--json", "status"],
        ["status", "--root", "a", "--json"],
        ["--root", "b", "status", "--json", "--root", "a"],
    ):
        arguments = parse(words)
        assert (arguments.root, arguments.json) == ("a", True)
    assert (parse(["status"]).json, parse(["status"]).root) == (False, ".")


def test_the_root_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEMAND_MAINT_ROOT is the default of --root."""
    monkeypatch.setenv("DEMAND_MAINT_ROOT", "/somewhere")
    assert build_parser().parse_args(["status"]).root == "/somewhere"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["no-such"],
        ["deploy", "--no-such"],
        ["export", "--format", "xml"],
        ["history", "--last", "x"],
        ["history", "--last", "0"],
        ["replay", "x.csv", "--jobs", "-1"],
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown word or option ends with 2 and the usage on standard error."""
    assert main(words) == 2
    assert "usage: demand-maint" in capsys.readouterr().err


def test_help_and_version_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    """Asking for help is no failure; the exit codes are in it."""
    assert main(["--help"]) == 0
    assert "5 another process maintains this root" in capsys.readouterr().out.replace("\n", " ").replace("  ", " ")
    assert main(["deploy", "--help"]) == 0
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (HistoryFileError("x"), 1),
        (NothingToRollBackError("x"), 1),
        (OSError("x"), 1),
        (DeployRefusedError("x", ("worse",)), 4),
        (SchemaMismatchError(("a", "b"), ("a",)), 4),
        (MaintainerBusyError("pid 7"), 5),
    ],
)
def test_every_error_has_its_exit_code_and_one_json_object(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors become a sentence on standard error, or one JSON object with the kind."""

    def fails(_: Namespace) -> Answer:
        raise error

    assert answers.run(fails, Namespace(json=False, verbose=False)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert str(error) in printed.err
    assert answers.run(fails, Namespace(json=True, verbose=False)) == code
    assert json.loads(capsys.readouterr().out) == {"error": str(error), "kind": type(error).__name__}


def test_an_interrupt_is_130_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends quietly."""

    def interrupted(_: Namespace) -> Answer:
        raise KeyboardInterrupt

    assert answers.run(interrupted, Namespace(json=False, verbose=False)) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_json_holds_no_nan_and_knows_numpy() -> None:
    """What is no number becomes null; numpy scalars, paths and tuples become plain values."""
    import numpy as np

    plain = answers.plain({"a": float("nan"), 1: (np.float64(2.5), np.int64(3), Path("x"), True, None, np.arange(2))})
    assert plain == {"a": None, "1": [2.5, 3, "x", True, None, [0, 1]]}


def test_logs_go_to_standard_error_with_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """--json output stays clean: log lines, fields included, are on standard error."""
    from demand_maint.log import get_logger

    def speaks(_: Namespace) -> Answer:
        get_logger("test").warning("something odd", place=7)
        return Answer({"ok": True}, "fine")

    assert answers.run(speaks, Namespace(json=True, verbose=False)) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"ok": True}
    assert printed.err == "WARNING demand_maint.test: something odd place=7\n"


def test_an_empty_root_is_told_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """status names what to do; history, verify and config work; check, update and rollback fail with a sentence."""
    root = ["--root", str(tmp_path)]
    code, status = said(capsys, "status", *root)
    assert (code, status["status"]) == (0, "no_champion")
    assert said(capsys, "history", *root) == (0, [])
    assert said(capsys, "verify", *root) == (0, {"ok": True, "problems": []})
    for words in (["check"], ["update"], ["fine-tune"], ["rollback"], ["explain"]):
        code, answer = said(capsys, *words, *root)
        assert code == 1, words
        assert answer["error"]
    assert said(capsys, "status", *root, "--exit-code")[0] == 3
    assert not any(tmp_path.rglob("*.cbm"))


def test_looking_at_an_empty_root_leaves_it_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """status, check, history, config and verify write nothing."""
    for words in (["status"], ["check"], ["history"], ["config"], ["verify"]):
        main([*words, "--root", str(tmp_path)])
    capsys.readouterr()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped --root makes no new folder."""
    code, answer = said(capsys, "status", "--root", str(tmp_path / "absent"))
    assert (code, answer["kind"]) == (2, "ConfigError")
    assert not (tmp_path / "absent").exists()


def test_config_tells_where_each_value_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, the environment and defaults are told apart; a wrong key is exit code 2 with its path."""
    (tmp_path / "demand_maint.toml").write_text('zone = "Europe/London"\n[policy]\nwindow_days = 14\n')
    monkeypatch.setenv("DEMAND_MAINT_POLICY__COOLDOWN_HOURS", "12")
    code, values = said(capsys, "config", "--root", str(tmp_path))
    assert code == 0
    assert values["zone"] == {"value": "Europe/London", "origin": "demand_maint.toml"}
    assert values["policy.window_days"]["origin"] == "demand_maint.toml"
    assert values["policy.cooldown_hours"] == {"value": 12, "origin": "environment"}
    assert values["step"] == {"value": "1h", "origin": "default"}
    (tmp_path / "demand_maint.toml").write_text("[policy]\nwindow_days = 0\n")
    code, answer = said(capsys, "config", "--root", str(tmp_path))
    assert code == 2
    assert "policy.window_days" in answer["error"]


def test_init_refuses_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to adopt is a refusal; a bad history names row and column; an option against the file is named."""
    root = ["--root", str(tmp_path / "new")]
    code, answer = said(capsys, "init", *root)
    assert (code, answer["kind"]) == (4, "DeployRefusedError")
    bad = tmp_path / "bad.csv"
    bad.write_text("place_id,timestamp,actual\na,2013-01-01,many\n")
    code, answer = said(capsys, "init", *root, "--history", str(bad))
    assert code == 1
    assert "row 1 (line 2), column 'actual'" in answer["error"]
    assert said(capsys, "init", *root, "--history", str(bad), "--column", "actual")[0] == 2
    (tmp_path / "new" / "demand_maint.toml").write_text('zone = "UTC"\n')
    code, answer = said(capsys, "init", *root, "--history", str(bad), "--zone", "Europe/London")
    assert code == 2
    assert "--zone" in answer["error"]


def test_a_time_that_is_none_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--at, --since and --until want ISO times or epoch seconds."""
    code, answer = said(capsys, "history", "--at", "yesterday", "--root", str(tmp_path))
    assert code == 2
    assert "--at" in answer["error"]
    assert said(capsys, "history", "--at", "2013-01-31T08:00", "--root", str(tmp_path))[0] == 1
    assert said(capsys, "history", "--at", "1359633600", "--root", str(tmp_path))[0] == 1


def test_explain_tells_the_decision_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest decision up to --at is told with rule and evidence, in words and as JSON."""
    journal = DecisionJournal(Door(tmp_path))
    for at, reason in ((1000.0, "early"), (2000.0, "late")):
        journal.append(
            {
                "type": "decision",
                "at": at,
                "action": "fine_tune",
                "proposed": "fine_tune",
                "rule": "moderate_drift",
                "reason": reason,
                "blocked_by": "cooldown",
                "evidence": {"mae": 4.5, "n": 120},
            }
        )
    journal.append({"type": "outcome", "at": 2500.0})
    root = ["--root", str(tmp_path)]
    assert said(capsys, "explain", *root)[1]["reason"] == "late"
    assert said(capsys, "explain", *root, "--at", "1970-01-01T00:20")[1]["reason"] == "early"
    assert said(capsys, "explain", *root, "--at", "1970-01-01T00:10")[0] == 1
    assert main(["explain", *root]) == 0
    text = capsys.readouterr().out
    for words in ("1970-01-01T00:33:20Z", "fine_tune: late", "moderate_drift", "by cooldown", "mae: 4.5", "n: 120"):
        assert words in text
    assert said(capsys, "explain", *root, "--place", "a")[0] == 2


def test_a_held_lock_is_exit_code_5_for_init_and_never_for_looking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training waits for nobody; status, history and verify work beside another maintainer."""
    good = tmp_path / "good.csv"
    good.write_text("place_id,timestamp,actual\na,2013-01-01,1\n")
    root = tmp_path / "root"
    root.mkdir()
    with MaintainerLock(Door(root), who="somebody else"):
        code, answer = said(capsys, "init", "--root", str(root), "--history", str(good))
        assert (code, answer["kind"]) == (5, "MaintainerBusyError")
        assert "somebody else" in answer["error"]
        for words in ("status", "history", "verify", "config"):
            assert said(capsys, words, "--root", str(root))[0] == 0


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_training_line_moves_on_a_terminal_only() -> None:
    """It shows trees and time left, is rewritten in place, vanishes at the end, and is silent in a pipe."""
    clock, terminal, pipe = VirtualClock(), _Terminal(), io.StringIO()
    line, quiet = TrainingLine(terminal, "training", clock), TrainingLine(pipe, "training", clock)
    for done in (1, 50, 100):
        for one in (line, quiet):
            one(done, 100)
        clock.advance(2)
    assert "50/100 trees, about 2 s left" in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 0
    line.close()
    quiet.close()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert pipe.getvalue() == ""


def test_decisions_read_as_sentences() -> None:
    """A blocked decision says what was proposed and what held it back; empty evidence is left out."""
    decision = {"action": "nothing", "reason": "r", "proposed": "fine_tune", "rule": "interval", "blocked_by": "budget"}
    assert list(decision_lines(decision)) == ["decision    nothing: r", "held back   fine_tune (interval) by budget"]
    assert list(evidence_lines({"a": None, "b": 0.123456, "c": {"d": 1}, "e": []})) == [
        "  b: 0.1235",
        "  c:",
        "    d: 1",
    ]


def test_status_names_places_that_got_worse_and_feed_faults() -> None:
    """The status of a root in trouble says which places, which faults, and what holds maintenance back."""
    found = {
        "status": "critical",
        "deployment": {"root": "/r", "version": 3, "since": "t", "why": "w", "line_up": ["3 (champion)"], "rollback_to": 2, "staged": ["data/models/finetuned/a.cbm"], "stale_exports": ["x.joblib"], "problem": "damaged"},
        "health": {"mae": 5.0, "n": 700, "baseline_mae": 4.0, "degradation": 0.25, "places": [{"place": "north", "degradation": 1.0, "drifting": True}, {"place": "east", "degradation": 0.0, "drifting": False}], "feed": {f"p{n}": "constant" for n in range(7)}},
        "decision": {"action": "nothing", "reason": "r", "proposed": "full_retrain", "rule": "critical_drift", "blocked_by": "feed fault"},
        "maintenance": {"last_check_at": 0.0, "cooldown_until": 86400.0, "trainings_this_week": 2, "fine_tunes": 1},
    }  # fmt: skip
    text = "\n".join(status_lines(found))
    for words in ("critical", "version 3", "damaged", "+25.0 %", "north (+100.0 %)", "p0: constant", "and 2 more", "full_retrain (critical_drift) by feed fault", "paused until 1970-01-02T00:00:00Z", "to version 2", "a.cbm", "x.joblib"):  # fmt: skip
        assert words in text
    assert "east" not in text


def test_help_loads_no_third_party_package() -> None:
    """--help is an argument parser and no more: neither numpy nor anything else from outside is imported."""
    script = (
        "import sys; from demand_maint.cli import main; main(['--help']); "
        "heavy = {'numpy', 'polars', 'catboost', 'msgspec', 'structlog', 'apscheduler', 'asyncio', 'joblib'} & set(sys.modules); "
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("words", "forbidden"), [("status", "catboost"), ("history", "polars"), ("config", "numpy")])
def test_light_commands_stay_light(tmp_path: Path, words: str, forbidden: str) -> None:
    """status loads no model library, history no data frames, config no arrays."""
    script = (
        f"import sys; from demand_maint.cli import main; main([{words!r}, '--root', {str(tmp_path)!r}]); "
        f"sys.exit({forbidden!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_costs_little_over_a_bare_interpreter() -> None:
    """CPU time of --help is at most 100 ms over that of an empty program (best of five each)."""

    def best(*words: str) -> float:
        found = []
        for _ in range(5):
            begin = _children_cpu()
            subprocess.run([sys.executable, *words], check=True, capture_output=True, timeout=60)
            found.append(_children_cpu() - begin)
        return min(found)

    assert best("-m", "demand_maint", "--help") - best("-c", "pass") <= 0.1


def _children_cpu() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_a_closed_pipe_is_no_error() -> None:
    """`demand-maint config | head -1` ends without a traceback."""
    command = f"{sys.executable} -m demand_maint config | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 0
