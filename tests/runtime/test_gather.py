"""Rows of a training, gathered in a child: the very rows, from a root that goes on living."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint._training.pool import WorkerPool
from demand_maint.core.cycle import Train
from demand_maint.errors import InsufficientDataError
from demand_maint.gather import gather_here, gather_in_child
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

pytestmark = pytest.mark.catboost
HOUR, DAYS = 3600.0, 12


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_root", Path(__file__).with_name("real_root.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


real_root = _load()
CONFIG = real_root.settings()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one first champion for the whole module."""
    root = tmp_path_factory.mktemp("planted")
    real_root.plant(root, CONFIG, VirtualClock(real_root.START))
    return root


@pytest.fixture
def root(planted: Path, tmp_path: Path) -> Path:
    """A fresh copy of the planted root."""
    shutil.copytree(planted, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def clock() -> VirtualClock:
    """The end of what `monitor` records."""
    return VirtualClock(real_root.START + DAYS * 24 * HOUR)


@pytest.fixture
def monitor(root: Path, clock: VirtualClock) -> Iterator[ModelMonitor]:
    """Lead the root with twelve days of pairs, some sealed, some only in the journal, one not drained yet."""
    with MaintainerLock(Door(root), who="test") as lock, ModelMonitor(root, CONFIG, clock, lock=lock) as monitor:
        hours = np.arange(DAYS * 24)
        for part in np.array_split(hours, 3):
            rows = [
                (p, real_root.START + HOUR * h, real_root.demand(p, real_root.START + HOUR * h))
                for h in part
                for p in (1, 2, 3)
            ]
            monitor.log_many(
                pl.DataFrame(rows, schema=["place_id", "timestamp", "actual"], orient="row").with_columns(
                    predicted=pl.lit(25.0)
                )
            )
            monitor.drain(gentle=False)
            monitor.save()
        monitor.log_prediction_vs_actual(1, clock.now(), 25.0, 26.0)
        yield monitor


@pytest.mark.parametrize(
    "step", [Train(kind="fine_tune"), Train(kind="full", measured=False)], ids=lambda step: step.kind
)
def test_a_child_gathers_what_the_host_would(
    root: Path, clock: VirtualClock, monitor: ModelMonitor, step: Train
) -> None:
    """Job and rows are those that the host's own monitor gives, down to what was logged a moment ago."""
    here = gather_here(root, CONFIG, clock, monitor)(step)
    wanted = pl.read_parquet(here.frame_path)
    with WorkerPool() as pool:
        there = gather_in_child(root, CONFIG, clock, pool)(step)
    assert there == here
    assert pl.read_parquet(there.frame_path).equals(wanted)
    assert there.rows == len(wanted) > DAYS * 24 * 3


def test_a_child_leaves_the_root_as_it_is(root: Path, clock: VirtualClock, monitor: ModelMonitor) -> None:
    """It seals, saves and exports nothing, and what it read is still read by the one who leads."""
    before = {path for path in root.rglob("*") if path.is_file()}
    with WorkerPool() as pool:
        job = gather_in_child(root, CONFIG, clock, pool)(Train(kind="fine_tune"))
    assert {path for path in root.rglob("*") if path.is_file()} - before == {Path(job.frame_path)}
    monitor.drain(gentle=False)
    assert int(monitor.sums.window(0, 10**6).n) == DAYS * 24 * 3 + 1


def test_too_few_rows_are_told_as_such(root: Path, clock: VirtualClock, monitor: ModelMonitor) -> None:
    """The child's typed error arrives with its figures."""
    wanting = structs.replace(CONFIG, policy=structs.replace(CONFIG.policy, min_samples=10**6))
    with WorkerPool() as pool, pytest.raises(InsufficientDataError, match="1000000"):
        gather_in_child(root, wanting, clock, pool)(Train(kind="fine_tune"))
    assert monitor.has_log()
