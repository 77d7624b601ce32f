"""What is known about the champion's health, as one value."""

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from demand_maint.core.drift import DriftState
from demand_maint.core.feed import FeedFault
from demand_maint.core.places import PlaceHealth
from demand_maint.core.psi import FeatureDrift
from demand_maint.core.versions import Baseline
from demand_maint.core.view import PlaceId

__all__ = ["HealthReport", "Status", "VersionHealth"]

Status = Literal["insufficient_data", "healthy", "degraded", "critical"]


class VersionHealth(Struct, frozen=True, kw_only=True):
    """One version's own error in the window."""

    version: int
    n: int
    mae: float | None


class HealthReport(Struct, frozen=True, kw_only=True):
    """Everything known about the champion's health; `as_dict` gives the user's keys.

    Parameters
    ----------
    status, needs_retrain, healthy
        The decision over ``policy.window_days``, whatever window the figures are for.
    mae, baseline_mae, degradation
        Figures of the asked window: ``degradation == mae / baseline_mae - 1``; undefined ones are ``None``.
    n
        Rows with truth in the window.
    raw_degradation, raw_baseline_mae
        The same against the fixed baseline.
    skill
        The champion's error divided by the seasonal-naive error of the same rows.
    method, reason
        ``difficulty_adjusted`` or ``raw``; why the status or the method is what it is.
    coverage
        Share of the window's predictions whose truth is known.
    interval
        90 % interval of `degradation`, by resampling days; with details only.
    window_degradation, recent_degradation
        Degradation over ``policy.window_days`` and over the last 24 h, what the rules look at.
    pool_fault
        What is wrong with the truth as a whole, ``None`` where nothing is.
    newest_age
        Age of the newest record, seconds.
    inputs
        Change of the features since training, with their importance; filled in by whoever has the features.
    """

    status: Status
    mae: float | None = None
    baseline_mae: float | None = None
    degradation: float | None = None
    needs_retrain: bool = False
    healthy: bool = True
    n: int = 0
    raw_degradation: float | None = None
    raw_baseline_mae: float | None = None
    skill: float | None = None
    method: Literal["difficulty_adjusted", "raw"] = "raw"
    reason: str = ""
    coverage: float | None = None
    interval: tuple[float, float] | None = None
    window_degradation: float | None = None
    recent_degradation: float | None = None
    drift: DriftState = DriftState()
    places: tuple[PlaceHealth, ...] = ()
    feed: dict[PlaceId, str] = field(default_factory=dict)
    feed_faults: tuple[FeedFault, ...] = ()
    pool_fault: str | None = None
    versions: tuple[VersionHealth, ...] = ()
    served_mae: float | None = None
    newest_age: float | None = None
    days: float = 7
    champion: int | None = None
    baseline: Baseline | None = None
    inputs: tuple[FeatureDrift, ...] = ()

    def as_dict(self, *, details: bool = False) -> dict[str, Any]:
        """Return the document's keys and ``n``; with `details` everything, in plain types."""
        short: dict[str, Any] = {
            "status": self.status,
            "mae": self.mae,
            "baseline_mae": self.baseline_mae,
            "degradation": self.degradation,
            "needs_retrain": self.needs_retrain,
            "healthy": self.healthy,
            "n": self.n,
        }
        if self.status == "insufficient_data":
            short["reason"] = self.reason
            short["newest_age"] = self.newest_age
        if not details:
            return short
        rest = {name: getattr(self, name) for name in self.__struct_fields__ if name not in short}
        short |= msgspec.to_builtins(rest)
        return short

    def evidence(self) -> dict[str, Any]:
        """Return the figures a decision is kept with."""
        return {
            "status": self.status,
            "mae": self.mae,
            "baseline_mae": self.baseline_mae,
            "degradation": self.window_degradation if self.window_degradation is not None else self.degradation,
            "recent_degradation": self.recent_degradation,
            "raw_degradation": self.raw_degradation,
            "n": self.n,
            "coverage": self.coverage,
            "method": self.method,
            "health_reason": self.reason,
            "retrain_alarm": self.drift.retrain_alarm,
            "warn_alarm": self.drift.warn_alarm,
            "statistic": self.drift.statistic,
            "retrain_threshold": self.drift.retrain_threshold,
            "warn_threshold": self.drift.warn_threshold,
            "drift_since": self.drift.since,
            "set_aside": self.drift.set_aside,
            "places": msgspec.to_builtins([place for place in self.places if place.drifting]),
            "feed": {str(place): kind for place, kind in self.feed.items()},
            "pool_fault": self.pool_fault,
        }
