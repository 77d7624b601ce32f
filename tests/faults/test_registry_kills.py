"""A real process that deploys and rolls back is killed by SIGKILL, again and again; nothing it acknowledged is ever lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def campaign(workspace: Path, *options: str) -> dict[str, Any]:
    """Run a campaign in a process of its own and return its summary."""
    path = os.pathsep.join([str(HERE), str(ROOT), *sys.path])
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_campaign.py"), str(workspace), *options],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"\n{done.stdout}")
    return summary


def test_kills_lose_nothing(workspace: Path, big: bool) -> None:
    """Random kills and kills at named failpoints: old or new serves, whole, and the next deploy works; no CatBoost is imported."""
    kills = 10_000 if big else 50
    summary = campaign(workspace, "--kills", str(kills))
    assert summary["faults"] == []
    assert summary["kills"] == kills
    assert not summary["catboost_imported"]
    assert summary["failpoints"] > 50
    assert not big or summary["least_hit"] >= 20


@pytest.mark.catboost
def test_kills_with_real_models_lose_nothing(workspace: Path, big: bool) -> None:
    """The same with real CatBoost models, looked at in real children and exported as real joblib files."""
    kills = 500 if big else 5
    summary = campaign(workspace, "--kills", str(kills), "--real")
    assert summary["faults"] == []
    assert summary["kills"] == kills
