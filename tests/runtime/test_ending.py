"""However a host ends, and whatever maintenance was doing: back in time, nobody left behind, nothing lost or half done."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from demand_maint.deploy_model import ModelDeployer
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

pytestmark = pytest.mark.catboost
PHASES = ("log", "drain", "gather", "fine-tune", "gate", "deploy")
WAYS = ("aclose", "cancel", "sigterm", "loop", "exit")
ONCE = dict(zip(PHASES, ("cancel", "aclose", "sigterm", "sigterm", "exit", "loop"), strict=True))


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_root", Path(__file__).with_name("real_root.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


real_root = _load()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one first champion for the whole module."""
    root = tmp_path_factory.mktemp("planted")
    real_root.plant(root, real_root.settings(), VirtualClock(real_root.START))
    return root


def workers_below(pid: int) -> list[int]:
    """Children that gather or train and name `pid` as their parent, or were orphaned."""
    listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()[1:]]
    return [int(row[0]) for row in rows if len(row) == 3 and "-m demand_maint." in row[2] and int(row[1]) in {pid, 1}]


@pytest.mark.parametrize("phase", PHASES)
def test_a_host_ends_in_time_and_leaves_all_in_order(planted: Path, tmp_path: Path, phase: str, big: bool) -> None:
    """Within the grace period and a second it is over; no child lives on, every record is counted, history is whole.

    Every phase and every way of ending once; with --big each with each.
    """
    for way in WAYS if big else (ONCE[phase],):
        _ends(planted, tmp_path / way, phase, way)


def _ends(planted: Path, folder: Path, phase: str, way: str) -> None:
    root = folder / "root"
    shutil.copytree(planted, root)
    before = set(workers_below(1))
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ending_host.py")), str(root), phase, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as host:
        assert host.stdout is not None
        assert host.stderr is not None
        line = host.stdout.readline()
        told_at = time.monotonic()
        status = host.wait(60)
        leaving = time.monotonic() - told_at
        said = host.stderr.read()
    assert status == 0, said
    told = json.loads(line)
    grace = real_root.settings().runtime.grace_seconds
    assert (leaving if way == "exit" else told["seconds"]) < grace + 1.0
    assert not set(workers_below(1)) - before, "a training child lives on"
    _is_whole(root, told["logged"], phase)


def _is_whole(root: Path, logged: int, phase: str) -> None:
    with ModelMonitor(root, real_root.settings(), background=False) as monitor:
        monitor.drain()
        assert int(monitor.sums.window(0, 10**6).n) == logged
        assert monitor.counts()["dropped"] == 0
    deployer = ModelDeployer(root, real_root.settings())
    deployer.recover()
    commits = deployer.registry.commits()
    assert [commit.number for commit in commits] == list(range(1, len(commits) + 1))
    assert deployer.registry.model_bytes(commits[-1].champion)
    if phase == "deploy":
        assert [commit.champion for commit in commits] in ([1], [1, 2])
    else:
        assert commits[-1].champion == 1
