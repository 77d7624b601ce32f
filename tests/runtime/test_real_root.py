"""The runtime over the real parts: monitor, registry, manager, training children, CatBoost."""

import asyncio
import importlib.util
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from msgspec import structs

from demand_maint.core.events import (
    CheckCompleted,
    MaintenanceEvent,
    ModelDeployed,
    RolledBack,
    TrainingFinished,
    TrainingProgress,
    TrainingStarted,
)
from demand_maint.data_collector import RealTimeDataCollector
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import MaintainerBusyError
from demand_maint.runtime import MaintenanceRuntime
from demand_maint.testing import VirtualClock

pytestmark = pytest.mark.catboost
HOUR = 3600.0
SCRIPT = Path(__file__).with_name("real_root.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_root", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


real_root = _load()
VETOED = real_root.settings(serve="champion", promotion="metadata")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train one first champion for the whole module."""
    root = tmp_path_factory.mktemp("planted")
    real_root.plant(root, real_root.settings(), VirtualClock(real_root.START))
    return root


@pytest.fixture
def root(planted: Path, tmp_path: Path) -> Path:
    """A fresh copy of the planted root."""
    shutil.copytree(planted, tmp_path / "root")
    return tmp_path / "root"


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Let the loop run until `condition` holds."""
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


async def live(collector: RealTimeDataCollector, clock: VirtualClock, runtime: MaintenanceRuntime, hours: int) -> None:
    """Let hours pass, a collection each; the upkeep takes its turns as time goes by."""
    for hour in range(hours):
        clock.advance(HOUR)
        result = await collector.acollect_for_all_venues(real_root.PLACES)
        assert result["problem"] is None
        assert result["failed"] == {}
        if hour % 24 == 23:
            assert runtime._upkeep is not None
            await runtime._errands.run(runtime._upkeep.turn)


async def test_from_collecting_to_a_new_champion_and_back(root: Path) -> None:
    """Predictions are logged and judged, a forced fine-tune in a child earns its place at the gate, serves, and is rolled back."""
    clock, config = VirtualClock(real_root.START), real_root.settings(serve="champion")
    level = 1.0

    async def source(venue: int) -> dict[str, float]:
        return {"timestamp": clock.now(), "actual": real_root.demand(venue, clock.now(), level)}

    events: list[MaintenanceEvent] = []
    collector = RealTimeDataCollector(source, root=root, config=config, clock=clock)
    async with MaintenanceRuntime.attach(collector, root=root, config=config, clock=clock) as runtime:
        await until(lambda: runtime.status()["last_result"])
        runtime.pause()

        @runtime.on(TrainingStarted, TrainingProgress, TrainingFinished, ModelDeployed, RolledBack, CheckCompleted)
        async def note(event: MaintenanceEvent) -> None:
            events.append(event)

        await live(collector, clock, runtime, 48)
        level = 1.3
        await live(collector, clock, runtime, 24 * 10)
        health = await asyncio.to_thread(runtime.monitor.get_model_health)
        assert health["n"] >= 400
        result = await runtime.update_now("fine-tune")
        assert result["status"] in {"deployed", "rejected"}, result
        if result["status"] == "rejected":  # the gate may find 20 trees too few; an operator can insist
            staged = sorted((root / "data/models/finetuned").glob("*.cbm"))
            deploy = ModelDeployer(root, config, clock).deploy
            done, message = await asyncio.to_thread(deploy, staged[-1], force=True)
            assert done, message
        await until(lambda: runtime.model.version != 1)
        newer = runtime.model.version
        rolled, message = await runtime.rollback()
        assert rolled, message
        assert runtime.model.version == 1
        await runtime.hooks.drain(5.0)
        kinds = list(dict.fromkeys(type(event).__name__ for event in events))
        assert kinds[:3] == ["TrainingStarted", "TrainingProgress", "TrainingFinished"]
        assert all(
            event.rows is not None and event.rows >= 400 for event in events if isinstance(event, TrainingStarted)
        )
        (deployed,) = [event for event in events if isinstance(event, ModelDeployed)]
        (back,) = [event for event in events if isinstance(event, RolledBack)]
        assert (deployed.version, deployed.previous, back.version, back.previous) == (newer, 1, 1, newer)
    await collector.aclose()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("demand-maint u")]


async def test_closing_during_a_real_training_is_quick_and_leaves_no_child(root: Path) -> None:
    """aclose() in the middle of a fit: back within the grace period and a second, no orphan, the root free and unharmed."""
    clock = VirtualClock(real_root.START)
    config = real_root.settings()
    runtime = MaintenanceRuntime.attach(root=root, config=config, clock=clock)
    await runtime.start()
    await until(lambda: runtime.status()["last_result"])
    began_training = asyncio.Event()

    @runtime.on(TrainingStarted)
    async def note(event: TrainingStarted) -> None:
        began_training.set()

    update = asyncio.ensure_future(runtime.update_now("full-retrain"))
    await asyncio.wait_for(began_training.wait(), 20.0)
    await asyncio.sleep(0.3)
    began = time.monotonic()
    await runtime.aclose()
    assert time.monotonic() - began < config.runtime.grace_seconds + 1.0
    assert (await update)["status"] == "cancelled"
    children = await asyncio.to_thread(_children)
    assert not children, children
    async with MaintenanceRuntime.attach(root=root, config=config, clock=clock) as again:
        assert again.model.version == 1
        await until(lambda: again.role == "leader")
        assert again._parts is not None
        ledger = again._parts._ledger_file.load()  # type: ignore[attr-defined] # the real parts have one
        assert [attempt.outcome for attempt in ledger.attempts][-1] == "cancelled"


def _children() -> str:
    """Processes of the worker that still live, as ps sees them."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    import os

    mine = [line for line in listing.splitlines() if "demand_maint._training" in line]
    return "\n".join(line for line in mine if _parent_of(int(line.split()[0])) == os.getpid())


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except FileNotFoundError:
        return 0


async def test_a_follower_predicts_follows_and_takes_over_when_the_leader_is_killed(root: Path) -> None:
    """Beside another process that maintains: busy for checks, swaps on its deploys, maintains within 1 s of its SIGKILL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), str(root), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 30.0) == b"leader\n"
        config = real_root.settings()
        async with MaintenanceRuntime.attach(root=root, config=config) as runtime:
            assert runtime.role == "follower"
            with pytest.raises(MaintainerBusyError, match=f"pid {process.pid}"):
                await runtime.check_now()
            commit = await asyncio.to_thread(_redeploy, root)
            await until(lambda: runtime.model.version == commit, 5.0)
            runtime.monitor.log_prediction_vs_actual(1, time.time() - 60.0, 10.0, 11.0)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            began = time.monotonic()
            await until(lambda: runtime.role == "leader", 5.0)
            assert time.monotonic() - began < 1.0
            result = await runtime.check_now()
            assert result["status"] != "failed", result
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _number_of_commits(root: Path) -> int:
    return len(ModelDeployer(root, real_root.settings()).registry.commits())


def _redeploy(root: Path) -> int:
    """Deploy the champion's own file once more, as an operator in another process would; its new number."""
    deployer = ModelDeployer(root, real_root.settings())
    staged = sorted((root / "data/models/finetuned").glob("*.cbm"))
    done, message = deployer.deploy(staged[-1], force=True)
    assert done, message
    return deployer.registry.champion().champion


async def test_many_predictions_across_a_deploy_are_each_from_one_version(root: Path) -> None:
    """Tasks that predict without pause while another process's deploy lands: none fails, none is late, both versions answer."""
    config = real_root.settings(serve="champion")
    async with MaintenanceRuntime.attach(root=root, config=config) as runtime:
        rows = [dict.fromkeys(runtime.model.features, 1.0)]
        versions: list[int] = []
        slowest = 0.0
        stop = False

        async def predict() -> None:
            nonlocal slowest
            while not stop:
                began = time.perf_counter()
                detail = runtime.model.predict_detailed(rows, [1], [real_root.START])
                slowest = max(slowest, time.perf_counter() - began)
                versions.append(detail.version)
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(predict()) for _ in range(5)]
        newer = await asyncio.to_thread(_redeploy, root)
        await until(lambda: versions[-1] == newer)
        stop = True
        await asyncio.gather(*tasks)
        assert versions == sorted(versions)
        assert set(versions) == {1, newer}


async def test_a_collector_picks_up_deploys_without_a_lost_or_mixed_prediction(root: Path) -> None:
    """Three deploys by somebody else while a lone collector collects: every row is there, each round from one version."""
    clock, config = VirtualClock(real_root.START), real_root.settings(serve="champion")

    async def source(venue: int) -> dict[str, float]:
        await asyncio.sleep(0.001)
        return {"timestamp": clock.now(), "actual": real_root.demand(venue, clock.now())}

    collector = RealTimeDataCollector(source, root=root, config=config, clock=clock)
    rounds, versions = 0, [1]
    for _ in range(3):
        deploy = asyncio.ensure_future(asyncio.to_thread(_redeploy, root))
        while not deploy.done() or versions[-1] != deploy.result():
            clock.advance(HOUR)
            result = await collector.acollect_for_all_venues(real_root.PLACES)
            assert (result["predicted"], result["problem"], result["failed"]) == (3, None, {})
            versions.append(result["version"])
            rounds += 1
    monitor = collector.monitor
    records = await asyncio.to_thread(monitor.records)
    predicted = records.filter(records["predicted"].is_finite())
    assert len(predicted) == 3 * rounds
    assert predicted.group_by("slot").agg(pl.col("version").n_unique())["version"].max() == 1
    assert set(predicted["version"].to_list()) == set(versions)
    assert len(set(versions)) == 4
    assert versions == sorted(versions)
    await collector.aclose()


async def test_advise_mode_says_what_it_would_do_and_changes_nothing(root: Path) -> None:
    """With mode = "advise" a due retrain is decided, told and written down; nothing is trained, and not one commit is made."""
    clock = VirtualClock(real_root.START)
    usual = real_root.settings(full_retrain_interval_days=2, feed_fault_guard=False)
    config = structs.replace(usual, runtime=structs.replace(usual.runtime, mode="advise"))
    events: list[MaintenanceEvent] = []
    async with MaintenanceRuntime.attach(root=root, config=config, clock=clock) as runtime:
        await until(lambda: runtime.status()["last_result"])
        runtime.on(TrainingStarted, CheckCompleted)(events.append)
        for hour in range(3 * 24):
            clock.advance(HOUR)
            runtime.monitor.log_prediction_vs_actual(1, clock.now(), 20.0, real_root.demand(1, clock.now()))
            if hour % 24 == 23:
                assert runtime._upkeep is not None
                await runtime._errands.run(runtime._upkeep.turn)
        result = await runtime.check_now()
        assert result["status"] == "advised", result
        assert runtime.status()["mode"] == "advise"
        await runtime.hooks.drain(5.0)
    assert {type(event) for event in events} == {CheckCompleted}
    assert await asyncio.to_thread(_number_of_commits, root) == 1
    journal = "".join(path.read_text() for path in (root / "logs/decisions").glob("*.jsonl"))
    assert '"advised"' in journal


async def test_a_veto_keeps_the_champion_and_its_reason_is_on_record(root: Path) -> None:
    """A veto hook refuses a real promotion: the champion stays, and the reason stands in the result and the decision journal."""
    clock, config = VirtualClock(real_root.START), VETOED
    async with MaintenanceRuntime.attach(root=root, config=config, clock=clock) as runtime:
        runtime.veto(lambda step: f"no {step.kind} before the audit")
        result = await runtime.update_now("full-retrain")
        assert result["status"] == "vetoed", result
        assert "no full before the audit" in result["reason"]
        assert runtime.model.version == 1
    journal = "".join(path.read_text() for path in (root / "logs/decisions").glob("*.jsonl"))
    assert "no full before the audit" in journal
