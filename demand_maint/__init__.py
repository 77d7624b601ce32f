"""Keep a demand-forecasting CatBoost model healthy from inside the process that collects the data.

Names load on first use, so that ``import demand_maint`` costs next to nothing and loads no third-party package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demand_maint.clock import Clock, SystemClock
    from demand_maint.config import Config, PolicyConfig, load_config
    from demand_maint.core.events import (
        ChallengerRejected,
        CheckCompleted,
        DriftDetected,
        FeedFaultSuspected,
        HookFailed,
        MaintenanceEvent,
        ModelDeployed,
        RolledBack,
        StorageDegraded,
        StorageRecovered,
        TrainingFailed,
        TrainingFinished,
        TrainingProgress,
        TrainingStarted,
    )
    from demand_maint.data_collector import RealTimeDataCollector
    from demand_maint.deploy_model import ModelDeployer, deploy_finetuned_model
    from demand_maint.errors import DemandMaintError
    from demand_maint.features import DemandFeatures, FeatureBuilder
    from demand_maint.fine_tune_model import FineTuner, fine_tune_from_monitor_data, fine_tune_from_processed_data
    from demand_maint.model_handle import ModelHandle
    from demand_maint.model_manager import HybridModelManager
    from demand_maint.model_monitor import ModelMonitor
    from demand_maint.runtime import MaintenanceRuntime
    from demand_maint.train_model import FullRetrainer

__version__ = "0.1.0"

# public name -> module that holds it
_HOMES = {
    "ChallengerRejected": "core.events",
    "CheckCompleted": "core.events",
    "Clock": "clock",
    "Config": "config",
    "DemandFeatures": "features",
    "DemandMaintError": "errors",
    "DriftDetected": "core.events",
    "FeatureBuilder": "features",
    "FeedFaultSuspected": "core.events",
    "FineTuner": "fine_tune_model",
    "FullRetrainer": "train_model",
    "HookFailed": "core.events",
    "HybridModelManager": "model_manager",
    "MaintenanceEvent": "core.events",
    "MaintenanceRuntime": "runtime",
    "ModelDeployed": "core.events",
    "ModelDeployer": "deploy_model",
    "ModelHandle": "model_handle",
    "ModelMonitor": "model_monitor",
    "PolicyConfig": "config",
    "RealTimeDataCollector": "data_collector",
    "RolledBack": "core.events",
    "StorageDegraded": "core.events",
    "StorageRecovered": "core.events",
    "SystemClock": "clock",
    "TrainingFailed": "core.events",
    "TrainingFinished": "core.events",
    "TrainingProgress": "core.events",
    "TrainingStarted": "core.events",
    "deploy_finetuned_model": "deploy_model",
    "fine_tune_from_monitor_data": "fine_tune_model",
    "fine_tune_from_processed_data": "fine_tune_model",
    "load_config": "config",
}

__all__ = [
    "ChallengerRejected",
    "CheckCompleted",
    "Clock",
    "Config",
    "DemandFeatures",
    "DemandMaintError",
    "DriftDetected",
    "FeatureBuilder",
    "FeedFaultSuspected",
    "FineTuner",
    "FullRetrainer",
    "HookFailed",
    "HybridModelManager",
    "MaintenanceEvent",
    "MaintenanceRuntime",
    "ModelDeployed",
    "ModelDeployer",
    "ModelHandle",
    "ModelMonitor",
    "PolicyConfig",
    "RealTimeDataCollector",
    "RolledBack",
    "StorageDegraded",
    "StorageRecovered",
    "SystemClock",
    "TrainingFailed",
    "TrainingFinished",
    "TrainingProgress",
    "TrainingStarted",
    "deploy_finetuned_model",
    "fine_tune_from_monitor_data",
    "fine_tune_from_processed_data",
    "load_config",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'demand_maint' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - kept out of the import time of the package

    value = getattr(import_module(f"demand_maint.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
