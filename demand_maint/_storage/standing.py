"""How a registry stands: what serves, since when, and where a rollback would go."""

from typing import Any

from demand_maint._storage.history import describe, reign_began
from demand_maint._storage.registry import Registry
from demand_maint.core.versions import COMMIT_FORMAT
from demand_maint.errors import RegistryError

__all__ = ["standing"]


def standing(registry: Registry) -> dict[str, Any]:
    """Return the facts for people and programs; `version` is ``None`` where nothing was ever deployed."""
    head = registry.head()
    common = {"root": str(registry.door.root), "versions": registry.versions()}
    if head is None:
        return {"version": None, **common}
    entry, since = describe(head), describe(reign_began(registry.commits()))
    target = registry.rollback_target()
    facts: dict[str, Any] = {
        "version": head.champion,
        "base": head.base,
        "since": since["at"],
        "action": since["action"],
        "who": since["who"],
        "why": since["why"],
        "commit": head.number,
        "fine_tunes": head.fine_tunes,
        "baseline_mae": entry["baseline_mae"],
        "model_sha256": entry["model_sha256"],
        "line_up": [f"{member.version} ({member.role})" for member in head.line_up],
        "rollback_to": target.champion if target else None,
    }
    if head.format > COMMIT_FORMAT:
        facts["problem"] = f"commit {head.number} was written by a newer release: served, but read-only here. Upgrade."
    try:
        metadata = registry.version(head.champion).metadata
        facts |= {
            "kind": metadata.kind,
            "loss": metadata.loss,
            "trees": metadata.trees,
            "features": len(metadata.features),
            "metrics": metadata.metrics,
        }
    except RegistryError as error:
        facts["problem"] = str(error)
    return facts | common
