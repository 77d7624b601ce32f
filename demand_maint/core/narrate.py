"""What a cycle has to tell: events out of its steps, their answers and its result.

A change of champion is not told here but where the pointer is followed, so that every process tells of it, whoever made it.
"""

from typing import Any

from demand_maint.core.cycle import Discard, Failed, Step, Train
from demand_maint.core.events import (
    ChallengerRejected,
    DriftDetected,
    FeedFaultSuspected,
    MaintenanceEvent,
    TrainingFailed,
    TrainingFinished,
)
from demand_maint.core.jobs import TrainingOutcome

__all__ = ["DriftNews", "step_ended"]

_SEVERITY = {"degraded": 1, "critical": 2}


def step_ended(step: Step, answer: Any, at: float) -> tuple[MaintenanceEvent, ...]:
    """Return what is to be told once `step` was answered."""
    match step, answer:
        case Train(), TrainingOutcome():
            return (
                TrainingFinished(
                    at=at,
                    kind=step.kind,
                    mae=answer.metrics.get("mae"),
                    wall_seconds=answer.wall_seconds,
                    cpu_seconds=answer.cpu_seconds,
                ),
            )
        case Train(), Failed():
            return (TrainingFailed(at=at, kind=step.kind, reason=answer.reason, detail=answer.detail),)
        case Discard(), _:
            reasons = (*step.verdict.reasons, *(("expired",) if step.expired else ()))
            return (
                ChallengerRejected(
                    at=at, kind=step.kind, version=step.version, reasons=reasons, detail=step.verdict.verdict
                ),
            )
    return ()


class DriftNews:
    """Tells of drift and feed faults when they begin or get worse, not again at every check.

    >>> news = DriftNews()
    >>> health = {"status": "degraded", "degradation": 0.2, "mae": 12.0, "baseline_mae": 10.0}
    >>> [len(news.tell(health, at=at)) for at in (0.0, 1.0, 2.0)]
    [1, 0, 0]
    """

    __slots__ = ("_faults", "_places", "_severity")

    def __init__(self) -> None:
        self._severity = 0
        self._places: frozenset[str] = frozenset()
        self._faults: dict[str, str] = {}

    def tell(self, health: dict[str, Any], at: float) -> tuple[MaintenanceEvent, ...]:
        """Return the events a health report (the dict of `HealthReport.as_dict`) gives reason for.

        ``places`` in it are dicts with ``place`` and ``drifting``, ``feed`` maps place to fault.
        """
        events: list[MaintenanceEvent] = []
        severity = _SEVERITY.get(str(health.get("status")), 0)
        places = frozenset(str(place["place"]) for place in health.get("places") or () if place.get("drifting"))
        if severity > self._severity or places - self._places:
            events.append(
                DriftDetected(
                    at=at,
                    status=str(health.get("status")),
                    degradation=health.get("degradation"),
                    mae=health.get("mae"),
                    baseline_mae=health.get("baseline_mae"),
                    places=tuple(sorted(places)),
                )
            )
        self._severity, self._places = severity, places
        faults = {str(place): str(fault) for place, fault in (health.get("feed") or {}).items() if fault}
        if any(self._faults.get(place) != fault for place, fault in faults.items()):
            events.append(FeedFaultSuspected(at=at, faults=faults))
        self._faults = faults
        return tuple(events)
