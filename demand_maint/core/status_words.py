"""What `HybridModelManager.status` found, in lines for people; every command line says it alike."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

__all__ = ["decision_lines", "evidence_lines", "iso", "status_lines"]


def status_lines(found: dict[str, Any]) -> Iterator[str]:
    """Say what serves, how it does, what the next check would do, and what waits."""
    deployment = found["deployment"]
    yield f"root        {deployment['root']}"
    yield f"status      {found['status']}"
    if deployment["version"] is None:
        yield "champion    none; run `demand-maint init --history FILE`"
        yield from _waiting(deployment)
        return
    parts = [f"version {deployment['version']}"]
    if "kind" in deployment:
        parts.append(f"{deployment['kind']}, {deployment['trees']} trees, {deployment['features']} features")
    yield f"champion    {' - '.join(parts)}, since {deployment['since']} ({deployment['why']})"
    if "problem" in deployment:
        yield f"problem     {deployment['problem']}"
    yield f"line-up     {', '.join(deployment['line_up']) or 'the champion alone'}"
    health = found["health"]
    yield (
        f"error       {_figure(health['mae'])} over {health['n']} rows; expected {_figure(health['baseline_mae'])}; "
        f"degradation {_percent(health['degradation'])}"
    )
    drifting = [place for place in health["places"] if place["drifting"]]
    if drifting:
        yield f"got worse   {_listed(map(_drifting, drifting))}"
    if health["feed"]:
        yield f"feed        {_listed(f'{place}: {fault}' for place, fault in health['feed'].items())}"
    yield from decision_lines(found["decision"])
    yield from _maintenance_lines(found["maintenance"])
    target = deployment["rollback_to"]
    yield f"roll back   {'nothing to go back to' if target is None else f'to version {target}'}"
    yield from _waiting(deployment)


def _waiting(deployment: dict[str, Any]) -> Iterator[str]:
    if deployment["staged"]:
        shown = [path.rpartition("/")[2] for path in deployment["staged"][-3:]]
        more = len(deployment["staged"]) - len(shown)
        yield f"staged      {', '.join(shown)}" + (f" and {more} older" if more else "")
    if deployment.get("stale_exports"):
        yield f"not exported {', '.join(deployment['stale_exports'])}; `demand-maint export` writes them"


def _maintenance_lines(maintenance: dict[str, Any]) -> Iterator[str]:
    yield f"last check  {iso(maintenance['last_check_at']) or 'never'}"
    paused = iso(maintenance["cooldown_until"])
    yield (
        f"trainings   {maintenance['trainings_this_week']} in the last 7 days, {maintenance['fine_tunes']} fine-tunes since the last full retrain"
        + (f"; paused until {paused}" if paused else "")
    )


def decision_lines(decision: dict[str, Any]) -> Iterator[str]:
    """Say a decision in a line or two."""
    yield f"decision    {decision['action']}: {decision['reason']}"
    if decision["blocked_by"]:
        yield f"held back   {decision['proposed']} ({decision['rule']}) by {decision['blocked_by']}"


def evidence_lines(evidence: dict[str, Any], indent: str = "  ") -> Iterator[str]:
    """Say what a decision stands on, one figure a line."""
    for name, value in evidence.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:"
            yield from evidence_lines(value, f"{indent}  ")
        elif value not in (None, "", [], {}):
            moment = isinstance(value, float) and name.endswith(("_at", "_until", "since"))
            said = iso(value) if moment else _figure(value) if isinstance(value, float) else str(value)
            yield f"{indent}{name}: {said}"


def iso(epoch: float | None) -> str | None:
    """Return an epoch second as people read it, in UTC."""
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _drifting(place: dict[str, Any]) -> str:
    return f"{place['place']} ({_percent(place['degradation'])})"


def _listed(words: Iterable[str], limit: int = 5) -> str:
    every = list(words)
    return ", ".join(every[:limit]) + (f" and {len(every) - limit} more" if len(every) > limit else "")


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:+.1f} %"
