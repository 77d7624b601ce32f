"""Hostile pickles: nothing of them is executed, and the refusal names what they asked for."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pytest
from catboost import CatBoostRegressor

import demand_maint
from demand_maint._training.loading import load_model
from demand_maint._training.pickles import read_pickle
from demand_maint._training.pool import WorkerPool
from demand_maint.errors import DamagedModelError, UnsafePickleError

pytestmark = pytest.mark.catboost
HERE = Path(__file__).parent
REFUSALS = {"UnsafePickleError", "DamagedModelError", "ModelTooLargeError"}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(demand_maint.__file__).parents[1])}


def load_hostile() -> ModuleType:
    """Import the payloads from the file beside this one."""
    spec = importlib.util.spec_from_file_location("hostile", HERE / "hostile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOSTILE = load_hostile()


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every payload of a folder in other processes; a payload whose reader dies is reported as ``crashed``."""
    results: dict[str, dict[str, Any]] = {}
    while True:
        done = subprocess.run(
            [sys.executable, str(HERE / "hostile.py"), str(folder)],
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
        for line in done.stdout.splitlines():
            found = json.loads(line)
            results[found["file"]] = found
            (folder / found["file"]).unlink()
        if done.returncode == 0:
            return results
        culprit = min(folder.glob("*.bin"))
        results[culprit.name] = {"outcome": "crashed", "message": done.stderr[-500:], "events": []}
        culprit.unlink()


def real_dump() -> bytes:
    """Dump a model with parameters, evaluations and a numpy scalar, as users have them."""
    rows, target = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60.0)
    model = CatBoostRegressor(
        iterations=4,
        depth=3,
        learning_rate=np.float64(0.1),
        loss_function="RMSE",
        verbose=False,
        allow_writing_files=False,
    )
    model.fit(rows[:50], target[:50], eval_set=(rows[50:], target[50:]))
    stream = io.BytesIO()
    joblib.dump(model, stream)
    return stream.getvalue()


def test_no_hostile_pickle_executes_anything(tmp_path: Path) -> None:
    """More than sixty tricks in every wrapping: each is refused, names its global, and the interpreter saw no suspicious event."""
    canary, folder = tmp_path / "canary", tmp_path / "payloads"
    folder.mkdir()
    wanted = {}
    for number, (name, data, words) in enumerate(HOSTILE.hostile(str(canary))):
        (folder / f"{number:04d}.bin").write_bytes(data)
        wanted[f"{number:04d}.bin"] = (name, words)
    results = read_all(folder)
    assert not canary.exists()
    assert len(results) == len(wanted) >= 60
    for file, (name, words) in wanted.items():
        found = results[file]
        assert found["outcome"] in REFUSALS, (name, found)
        assert words in found["message"], (name, found)
        assert found["events"] == [], (name, found)


def test_no_mutation_of_a_good_dump_executes_anything(tmp_path: Path, *, big: bool) -> None:
    """A real dump is read, and hundreds of random mutations of a real dump either still hold a model or are refused; no code runs, no reader dies."""
    folder = tmp_path / "mutations"
    folder.mkdir()
    good = real_dump()
    assert load_model(read_pickle(good, HOSTILE.LIMIT)).tree_count == 4
    count = 5000 if big else 300
    for number in range(count):
        (folder / f"{number:05d}.bin").write_bytes(HOSTILE.mutated(good, number))
    results = read_all(folder)
    assert not Path("/tmp/never").exists()
    assert len(results) == count
    outcomes = {found["outcome"] for found in results.values()}
    assert outcomes <= REFUSALS | {"loaded"}, outcomes
    assert {"UnsafePickleError", "loaded"} <= outcomes
    assert [found for found in results.values() if found["events"]] == []


def test_the_refusal_reaches_the_operator(lab: Any, tmp_path: Path) -> None:
    """Through the child, a hostile file is an UnsafePickleError with the name it asked for and a way out; nothing happened."""
    canary = tmp_path / "canary"
    path = lab.folder / "model.joblib"
    path.write_bytes(HOSTILE.FRAME + HOSTILE.called("os", "system", HOSTILE.text(f"touch {canary}")) + HOSTILE.STOP)
    with WorkerPool() as pool, pytest.raises(UnsafePickleError, match=r"'os\.system'.*save_model") as caught:
        pool.inspect(path, output_directory=lab.out)
    assert caught.value.name == "os.system"
    assert not canary.exists()


def test_a_claim_of_a_terabyte_is_refused_quickly(lab: Any) -> None:
    """A few bytes that claim 1 TiB neither fill the memory nor hang the child."""
    path = lab.folder / "model.joblib"
    path.write_bytes(b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.")
    with WorkerPool() as pool, pytest.raises(DamagedModelError):
        pool.inspect(path, output_directory=lab.out, deadline_seconds=10)
