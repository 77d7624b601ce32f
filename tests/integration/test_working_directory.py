"""A process may change its working directory; its doors stay where they were opened."""

from pathlib import Path

import pytest

from demand_maint.deploy_model import ModelDeployer
from demand_maint.fine_tune_model import FineTuner
from demand_maint.model_manager import HybridModelManager
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock
from demand_maint.train_model import FullRetrainer


def test_doors_opened_by_relative_paths_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged and asked after a change of directory concerns the folder of before, and nothing is made in the new one."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(project)
    clock = VirtualClock(1_700_000_000.0)
    with HybridModelManager(clock=clock) as manager:
        deployer, tuner, retrainer = ModelDeployer(clock=clock), FineTuner(clock=clock), FullRetrainer(clock=clock)
        monkeypatch.chdir(elsewhere)
        assert {manager.root, deployer.root, tuner.root, retrainer.root} == {project}
        monitor: ModelMonitor = manager.monitor  # opened when it is first asked for
        monitor.log_prediction_vs_actual("a", clock.now() - 60, 1.0, 2.0)
        monitor.drain()
        assert monitor.get_model_health()["mae"] == 1.0
    assert (project / "logs").is_dir()
    assert list(elsewhere.iterdir()) == []
