"""The public surface, pinned."""

import subprocess
import sys

import demand_maint

PUBLIC = {
    "ChallengerRejected", "CheckCompleted", "Clock", "Config", "DemandFeatures", "DemandMaintError", "DriftDetected",
    "FeatureBuilder", "FeedFaultSuspected", "FineTuner", "FullRetrainer", "HookFailed", "HybridModelManager",
    "MaintenanceEvent", "MaintenanceRuntime", "ModelDeployed", "ModelDeployer", "ModelHandle", "ModelMonitor",
    "PolicyConfig", "RealTimeDataCollector", "RolledBack", "StorageDegraded", "StorageRecovered", "SystemClock",
    "TrainingFailed", "TrainingFinished", "TrainingProgress", "TrainingStarted", "deploy_finetuned_model",
    "fine_tune_from_monitor_data", "fine_tune_from_processed_data", "load_config",
}  # fmt: skip


def test_public_names_are_these() -> None:
    """The package offers exactly the names written down here."""
    assert set(demand_maint.__all__) == PUBLIC
    assert set(demand_maint._HOMES) == PUBLIC


def test_every_public_name_resolves() -> None:
    """Every public name can be had."""
    assert all(getattr(demand_maint, name) is not None for name in PUBLIC)


def test_import_loads_no_third_party_package() -> None:
    """Importing the package loads nothing that pip installed."""
    program = (
        "import sys; import demand_maint; "
        "names = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(names & {'catboost', 'polars', 'numpy', 'joblib', 'apscheduler', 'structlog', 'msgspec'}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
