"""What maintenance tells the world; one frozen class per kind, handed to hooks as it is."""

from typing import Any

from msgspec import Struct

__all__ = [
    "ChallengerRejected",
    "CheckCompleted",
    "DriftDetected",
    "FeedFaultSuspected",
    "HookFailed",
    "MaintenanceEvent",
    "ModelDeployed",
    "RolledBack",
    "StorageDegraded",
    "StorageRecovered",
    "TrainingFailed",
    "TrainingFinished",
    "TrainingProgress",
    "TrainingStarted",
]


class MaintenanceEvent(Struct, frozen=True, kw_only=True, tag_field="event", tag=True):
    """Something happened at `at` (epoch seconds)."""

    at: float


class CheckCompleted(MaintenanceEvent, frozen=True, kw_only=True):
    """A maintenance check ended; `result` is the dict of `HybridModelManager.update_model`."""

    result: dict[str, Any]


class DriftDetected(MaintenanceEvent, frozen=True, kw_only=True):
    """The champion got worse; `places` names the worst where the drift is local."""

    status: str
    degradation: float | None
    mae: float | None
    baseline_mae: float | None
    places: tuple[str, ...] = ()


class FeedFaultSuspected(MaintenanceEvent, frozen=True, kw_only=True):
    """The truth of some places looks wrong; `faults` maps place to kind."""

    faults: dict[str, str]


class TrainingStarted(MaintenanceEvent, frozen=True, kw_only=True):
    """A child process begins to train on `rows` rows, those that will be held back among them."""

    kind: str
    rows: int | None = None


class TrainingProgress(MaintenanceEvent, frozen=True, kw_only=True):
    """`done` of `total` iterations."""

    kind: str
    done: int
    total: int


class TrainingFinished(MaintenanceEvent, frozen=True, kw_only=True):
    """A challenger came out."""

    kind: str
    mae: float | None
    wall_seconds: float
    cpu_seconds: float


class TrainingFailed(MaintenanceEvent, frozen=True, kw_only=True):
    """No challenger came out; `reason` as in `TrainingFailedError`."""

    kind: str
    reason: str
    detail: str


class ChallengerRejected(MaintenanceEvent, frozen=True, kw_only=True):
    """A challenger did not earn its place."""

    kind: str
    version: int | None
    reasons: tuple[str, ...]
    detail: str = ""


class ModelDeployed(MaintenanceEvent, frozen=True, kw_only=True):
    """A new champion serves."""

    version: int
    previous: int | None
    who: str
    why: str


class RolledBack(MaintenanceEvent, frozen=True, kw_only=True):
    """An earlier champion serves again."""

    version: int
    previous: int
    who: str
    why: str


class StorageDegraded(MaintenanceEvent, frozen=True, kw_only=True):
    """Records stay in memory; what is wrong with the disk stands in `reason`."""

    reason: str


class StorageRecovered(MaintenanceEvent, frozen=True, kw_only=True):
    """The disk is well again; `dropped` records were lost meanwhile."""

    dropped: int


class HookFailed(MaintenanceEvent, frozen=True, kw_only=True):
    """A hook raised, hung or blocked."""

    hook: str
    failed_event: str
    reason: str
