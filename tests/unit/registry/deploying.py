"""Small models that are added and deployed."""

from typing import Any, Literal

from demand_maint._storage.registry import Registry
from demand_maint.core.versions import (
    Baseline,
    ModelMetadata,
    ModelVersion,
)


def metadata(kind: Literal["full", "fine_tune"] = "full", mae: float = 1.0, **more: Any) -> ModelMetadata:
    """Return the metadata of a small model."""
    return ModelMetadata(
        features=("a", "b"), loss="RMSE", kind=kind, created_at=0.0, baseline=Baseline(mae=mae), **more
    )


def add(registry: Registry, text: str, **more: Any) -> ModelVersion:
    """Add a version whose model is `text`."""
    return registry.add_version(text.encode(), metadata(**more))


def deploy(registry: Registry, text: str, **more: Any) -> int:
    """Add a version and make it champion and base."""
    number = add(registry, text, **more).number
    registry.commit("deploy", champion=number, base=number, who="tester", why=text)
    return number
