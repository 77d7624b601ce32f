"""The deployer: what it refuses and why, what it records, what it exports, and its command line."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from registry_life import StubInspector, joblib_bytes

from demand_maint import deploy_model
from demand_maint._storage.disk import Disk
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.registry import Registry
from demand_maint._training.intake import take_in
from demand_maint.config import Config, StorageConfig
from demand_maint.core.roster import after_enter
from demand_maint.core.versions import GateVerdict, ModelMetadata
from demand_maint.deploy_model import ModelDeployer, deploy_finetuned_model, main
from demand_maint.errors import DeployRefusedError, LostRaceError
from demand_maint.exit_codes import FAILED, REFUSED, USAGE
from demand_maint.testing import VirtualClock

GOOD: dict[str, Any] = {"features": ["a", "b", "c"], "loss": "RMSE", "metrics": {"mae": 2.0}}


@pytest.fixture
def clock() -> VirtualClock:
    """Give a clock that stands still."""
    return VirtualClock(1000.0)


@pytest.fixture
def deployer(tmp_path: Path, clock: VirtualClock) -> ModelDeployer:
    """Give a deployer of an empty root that trusts every file."""
    return ModelDeployer(tmp_path / "root", Config(), clock, pool=StubInspector(Disk()), to_joblib=joblib_bytes)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Give a function that writes a model file and its metadata."""

    def model(name: str = "new.cbm", folder: Path = tmp_path, data: bytes = b"model", **changes: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(data)
        (folder / f"{path.stem}_metadata.json").write_text(json.dumps(GOOD | changes))
        return path

    return model


def test_a_deploy_serves_is_recorded_and_exported(deployer: ModelDeployer, write: Callable[..., Path]) -> None:
    """The model serves, the history says who and why, and the three exports show it."""
    assert deployer.deploy(write(), who="ann", why="better") == (
        True,
        "Version 1 serves (commit 1). Verdict: unproven.",
    )
    assert deployer.registry.model_bytes(1) == b"model"
    entry = deployer.history()[-1]
    assert (entry["who"], entry["why"], entry["verdict"]["method"]) == ("ann", "better", "metadata")
    door = deployer.registry.door
    assert door.read_bytes("data/models/rf_model.joblib") == joblib_bytes(b"model")
    exported = json.loads(door.read_bytes("data/models/rf_model_metadata.json"))
    assert (exported["version"], exported["features"]) == (1, ["a", "b", "c"])
    assert json.loads(door.read_bytes("logs/deployment_history.json")) == deployer.history()
    assert door.listdir("data/models/finetuned") == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"features": ["a", "b"]}, r"needs 3 features, 2 were given; missing: 'c'"),
        ({"features": ["a", "b", "c", "d"]}, r"needs 3 features, 4 were given; not known to the model: 'd'"),
        ({"features": ["a", "c", "b"]}, r"the order differs from position 1 on"),
        ({"features": ["a", "b", "x"]}, r"missing: 'c'; not known to the model: 'x'"),
        ({"metrics": {"mae": 2.5}}, r"worse than the champion: mae 2\.5 against 2 \(\+25\.0%"),
        ({"metrics": {"rmse": 1.0}}, r"hold no mae"),
        ({"loss": "Poisson"}, r"loss Poisson, the champion with RMSE"),
        ({"features": "abc"}, r"no list of names"),
        ({"format": 99}, r"format 99"),
        ({"notes": {"model_sha256": "0" * 64}, "kind": "full", "created_at": 0}, r"sha256 differs"),
    ],
)
def test_what_does_not_fit_the_champion_is_refused_by_name(
    deployer: ModelDeployer, write: Callable[..., Path], changes: dict[str, Any], says: str
) -> None:
    """Another feature count, name or order, loss, a worse or missing figure: refused with the difference, nothing changed."""
    deployer.deploy(write())
    versions, head = deployer.registry.versions(), deployer.registry.head()
    success, message = deployer.deploy(write("other.cbm", **changes))
    assert not success
    assert re.search(says, message), message
    assert (deployer.registry.versions(), deployer.registry.head()) == (versions, head)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a":' * 5000, "null", "\ud800", '{"metrics": {"mae": 1e999}}'],
)
def test_malformed_metadata_is_refused(deployer: ModelDeployer, write: Callable[..., Path], text: str) -> None:
    """Truncated, NaN, duplicate keys, deep nesting, wrong type or bad encoding: refused by the file's name."""
    path = write()
    metadata = path.with_name("new_metadata.json")
    metadata.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    success, message = deployer.deploy(path)
    assert not success
    assert "new_metadata.json" in message
    metadata.unlink()
    assert "does not exist" in deployer.deploy(path)[1]
    metadata.mkdir()
    assert "no regular file" in deployer.deploy(path)[1]
    assert deployer.registry.head() is None


def test_a_slightly_larger_error_is_within_the_margin(deployer: ModelDeployer, write: Callable[..., Path]) -> None:
    """The margin of the policy applies to the comparison of figures too."""
    deployer.deploy(write())
    assert deployer.deploy(write("new.cbm", metrics={"mae": 2.03}))[0]
    assert not deployer.deploy(write("new.cbm", metrics={"mae": 2.08}))[0]


def test_force_is_recorded_as_force(deployer: ModelDeployer, write: Callable[..., Path]) -> None:
    """A forced deploy skips the comparisons and the history says so, with both figures."""
    deployer.deploy(write())
    assert deployer.deploy(write("bad.cbm", metrics={"mae": 9.0}, features=["a"]), force=True)[0]
    verdict = deployer.history()[-1]["verdict"]
    assert (verdict["verdict"], verdict["champion_mae"], verdict["challenger_mae"]) == ("forced", 2.0, 9.0)


def test_the_documents_forced_deploy_works(deployer: ModelDeployer, write: Callable[..., Path]) -> None:
    """``d._archive_current(); d._do_deploy(model, metadata)`` archives, deploys as forced, and can be rolled back."""
    assert deployer._archive_current() is None
    deployer.deploy(write())
    bad = write("bad.cbm", metrics={"mae": 9.0})
    archived = deployer._archive_current()
    assert archived is not None
    assert (Path(archived) / "model.cbm").read_bytes() == b"model"
    assert deployer._do_deploy(str(bad), str(bad.with_name("bad_metadata.json"))).champion == 2
    assert deployer.history()[-1]["verdict"]["verdict"] == "forced"
    assert deployer.rollback() == (True, "Version 1 serves again (commit 3).")
    assert deployer.rollback()[0] is False


def test_a_failed_export_does_not_undo_a_deploy(
    deployer: ModelDeployer, write: Callable[..., Path], tmp_path: Path, clock: VirtualClock
) -> None:
    """When the joblib cannot be made the commit stands and says so; the next start writes the exports."""

    def fail(_: bytes) -> bytes:
        raise RuntimeError("no joblib today")

    broken = ModelDeployer(tmp_path / "root", Config(), clock, pool=StubInspector(Disk()), to_joblib=fail)
    success, message = broken.deploy(write())
    assert success
    assert "Not exported yet: data/models/rf_model.joblib" in message
    assert deployer.exports.stale() == ["data/models/rf_model.joblib", "data/models/rf_model_metadata.json"]
    assert deployer.recover() == []
    assert deployer.exports.stale() == []


def test_an_export_that_was_changed_is_written_again(deployer: ModelDeployer, write: Callable[..., Path]) -> None:
    """Exports are never read back: one that somebody cut or removed is stale, and export() writes all of them."""
    deployer.deploy(write())
    exported = deployer.root / "data/models/rf_model.joblib"
    exported.write_bytes(b"short")
    (deployer.root / "logs/deployment_history.json").unlink()
    assert deployer.exports.stale() == ["data/models/rf_model.joblib", "logs/deployment_history.json"]
    assert len(deployer.export()) == 3
    assert exported.read_bytes() == joblib_bytes(b"model")


def test_a_pair_from_before_us_becomes_version_1(deployer: ModelDeployer, write: Callable[..., Path]) -> None:
    """``adopt`` takes rf_model.joblib with its metadata in, in whatever words they are written, once."""
    with pytest.raises(DeployRefusedError, match=r"no data/models/rf_model\.joblib to adopt"):
        deployer.adopt()
    write("rf_model.joblib", deployer.root / "data/models", b"old")
    foreign = {
        "feature_names": ["a", "b", "c"],
        "performance": {"Test_MAE": 3.0},
        "objective": "RMSE",
        "trained_at": "2024-05-01",
    }
    (deployer.root / "data/models/rf_model_metadata.json").write_text(json.dumps(foreign))
    commit = deployer.adopt(who="ann")
    assert (commit.action, commit.champion) == ("adopt", 1)
    metadata = deployer.registry.version(1).metadata
    assert (metadata.metrics["mae"], metadata.created_at, metadata.notes["original"]) == (3.0, 1_714_521_600.0, foreign)
    assert commit.baseline is not None
    with pytest.raises(DeployRefusedError, match="version 1 serves"):
        deployer.adopt()


def test_the_newest_staged_model_is_deployed(
    tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``deploy_finetuned_model`` takes the newest stamp, and finds the root from the folder."""
    monkeypatch.setattr(deploy_model, "take_in", _taking_in(take_in))
    monkeypatch.setattr(deploy_model, "_cbm_to_joblib", joblib_bytes)
    staging = tmp_path / "root/data/models/finetuned"
    assert deploy_finetuned_model(staging) == (False, f"No model waits in {staging}. Run a fine-tune first.")
    for day in ("20250124", "20250301", "20250215"):
        write(f"rf_model_finetuned_{day}.cbm", staging, day.encode())
    write("zzz.cbm", staging, b"other")
    assert deploy_finetuned_model(staging)[0]
    assert ModelDeployer(tmp_path / "root").registry.model_bytes(1) == b"20250301"


def test_promote_keeps_the_base_of_a_fine_tune(deployer: ModelDeployer, write: Callable[..., Path]) -> None:
    """A fine-tune keeps its base and counts; a full retrain is its own base; an old decision is refused."""
    deployer.deploy(write())
    plain = ModelMetadata(features=("a", "b", "c"), loss="RMSE", kind="fine_tune", created_at=0.0, base=1)
    fine = deployer.registry.add_version(b"fine", plain).number
    verdict = GateVerdict(verdict="not_worse", method="live")
    commit = deployer.promote(fine, who="manager", why="live truth", verdict=verdict, expect=1)
    assert (commit.action, commit.base, commit.fine_tunes, commit.previous) == ("promote", 1, 1, 1)
    with pytest.raises(LostRaceError):
        deployer.promote(1, who="manager", why="late", expect=1)
    assert deployer.status()["line_up"] == ["2 (champion)", "1 (base)"]


def test_an_operator_need_not_ask_twice(tmp_path: Path, write: Callable[..., Path]) -> None:
    """A candidate enters while the operator's file is being looked at: the deploy stands, and the candidate stays."""

    class Slow(StubInspector):
        """Takes so long that the maintainer trains meanwhile."""

        def inspect(self, *arguments: Any, **options: Any) -> Any:
            registry = Registry(tmp_path / "root")
            if (head := registry.head()) is not None and len(head.line_up) == 1:
                entering = registry.add_version(b"candidate", registry.version(1).metadata).number
                registry.commit(
                    "enter", champion=1, base=1, subject=entering, who="m", why="m",
                    line_up=lambda before: after_enter(before, entering, "full", 5.0),
                )  # fmt: skip
            return super().inspect(*arguments, **options)

    deployer = ModelDeployer(tmp_path / "root", Config(), pool=Slow(Disk()), to_joblib=joblib_bytes)
    deployer.deploy(write())
    assert deployer.deploy(write("better.cbm")) == (True, "Version 3 serves (commit 3). Verdict: unproven.")
    assert deployer.status()["line_up"] == ["3 (champion)", "1 (previous)", "2 (candidate)"]


def test_retention_leaves_the_root_to_its_maintainer(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Old versions go when the lock is free or held by the caller, and stay when somebody else maintains."""
    config = Config(storage=StorageConfig(keep=1))
    deployer = ModelDeployer(tmp_path / "root", config, pool=StubInspector(Disk()), to_joblib=joblib_bytes)
    for _ in range(4):
        deployer.deploy(write())
    with MaintainerLock(deployer.registry.door, who="runtime") as lock:
        assert deployer.retain() == []
        assert deployer.retain(lock) == [1, 2]
    assert deployer.registry.versions() == [3, 4]
    assert deployer.retain() == []


def test_challengers_that_never_served_push_no_former_champion_out(tmp_path: Path, write: Callable[..., Path]) -> None:
    """However many versions came and went in between, a second rollback still goes further back."""
    config = Config(storage=StorageConfig(keep=3))
    deployer = ModelDeployer(tmp_path / "root", config, pool=StubInspector(Disk()), to_joblib=joblib_bytes)
    for _ in range(4):
        deployer.deploy(write())
    metadata = deployer.registry.version(4).metadata
    for number in range(9):
        deployer.registry.add_version(b"challenger %d" % number, metadata)
    assert deployer.retain() == [1, 5, 6, 7, 8, 9, 10]
    assert [deployer.rollback()[0] for _ in range(3)] == [True, True, False]
    assert deployer.registry.champion().champion == 2


def test_status_and_history_need_no_catboost(
    tmp_path: Path, deployer: ModelDeployer, write: Callable[..., Path]
) -> None:
    """Looking imports neither CatBoost nor joblib nor Polars."""
    deployer.deploy(write())
    code = (
        "import sys; from demand_maint.deploy_model import main\n"
        f"codes = [main(['--root', {str(deployer.root)!r}, flag]) for flag in ('--status', '--history', '--rollback')]\n"
        "assert codes == [0, 0, 1], codes\n"
        "assert not {'catboost', 'joblib', 'polars', 'pandas'} & set(sys.modules), 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "version: 1" in done.stdout


def test_the_command_line_answers_in_words_and_json(
    deployer: ModelDeployer,
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit codes: 0 done, 1 failed, 2 usage, 4 refused; --json prints one JSON document on stdout and nothing else."""
    monkeypatch.setattr(deploy_model, "take_in", _taking_in(take_in))
    monkeypatch.setattr(deploy_model, "_cbm_to_joblib", joblib_bytes)

    def run(*arguments: str) -> tuple[int, Any]:
        code = main([*arguments, "--root", str(deployer.root), "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    assert run("--deploy", str(write()))[1]["version"] == 1
    assert run("--status")[1]["version"] == 1
    code, answer = run("--deploy", str(write("less.cbm", features=["a", "b"])))
    assert (code, answer["refused"]) == (REFUSED, True)
    assert "missing: 'c'" in answer["message"]
    assert (
        run("--deploy", str(write("worse.cbm", metrics={"mae": 9.0})), "--force", "--why", "try\nit")[1]["version"] == 2
    )
    assert run("--rollback")[1]["version"] == 1
    assert run("--rollback")[0] == FAILED
    code, entries = run("--history")
    assert (code, [entry["version"] for entry in entries]) == (0, [1, 2, 1])
    assert run("--bogus")[0] == USAGE
    assert run("--deploy", "no\0path")[0] == REFUSED
    code, answer = run("--deploy", str(deployer.root / "missing.cbm"))
    assert (code, "missing.cbm does not exist" in answer["message"]) == (REFUSED, True)
    assert main(["--history", "--root", str(deployer.root)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def _taking_in(real: Callable[..., Any]) -> Callable[..., Any]:
    def with_stub(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **{**options, "pool": StubInspector(Disk())})

    return with_stub


def test_old_challengers_leave_staging(deployer: ModelDeployer) -> None:
    """Retention keeps the newest challengers that children staged, with their metadata, and nothing of others is touched."""
    folder = deployer.root / "data/models/finetuned"
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(1, 16):
        for kind in ("finetuned", "full"):
            for ending in (".cbm", "_metadata.json"):
                (folder / f"rf_model_{kind}_202501{day:02d}T000000Z{ending}").write_text("x")
    (folder / "mine.cbm").write_text("x")
    deployer.retain()
    kept = deployer.staged()
    assert kept[0].endswith("mine.cbm")
    assert [path[-20:-4] for path in kept[1:]] == [f"202501{day:02d}T000000Z" for day in range(11, 16) for _ in "ab"]
    assert len(list(folder.glob("*_metadata.json"))) == 10


def test_rows_that_killed_trainings_left_are_let_go(deployer: ModelDeployer) -> None:
    """Retention removes training rows older than two days by their names, and nothing that a job may be reading."""
    folder = deployer.root / "data/models/work"
    folder.mkdir(parents=True)
    now = datetime.fromtimestamp(deployer.clock.now(), UTC)
    for hours in (1, 47, 49, 900):
        (folder / f"rf_model_full_{now - timedelta(hours=hours):%Y%m%dT%H%M%SZ}.parquet").write_text("x")
        (folder / f"rf_model_finetuned_{now - timedelta(hours=hours):%Y%m%dT%H%M%SZ}_holdout_rows.parquet").write_text(
            "x"
        )
    (folder / "mine.parquet").write_text("x")
    deployer.retain()
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 5
    assert all(f"{now - timedelta(hours=48):%Y%m%dT%H%M%SZ}" < name.split("_")[3][:16] for name in left[1:])
