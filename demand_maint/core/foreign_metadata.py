"""Understand the metadata that other people write beside their models.

Our own ``metadata.json`` is read as it is. Anything else is read by the names such files usually use; what cannot be found
stays empty, and nothing is guessed that a comparison would depend on.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from demand_maint.core.versions import METADATA_FORMAT, Baseline, ModelMetadata

__all__ = ["understand_metadata"]

_FEATURES = ("features", "feature_names", "feature_columns", "feature_cols", "columns")
_LOSS = ("loss", "loss_function", "objective")
_MAE = ("mae", "test_mae", "val_mae", "validation_mae", "holdout_mae", "mae_test", "mae_val")
_CREATED = ("created_at", "trained_at", "training_date", "train_date", "date", "timestamp")
_ROWS = ("rows", "n_samples", "samples", "training_samples", "n_train")


def understand_metadata(tree: Mapping[str, Any], now: float) -> ModelMetadata:
    """Read `tree` as ours where it is, else by common names.

    Parameters
    ----------
    tree
        The parsed JSON object.
    now
        Epoch seconds, for a file that does not say when it was made.

    Raises
    ------
    ValueError
        A format newer than ours, or features that are no list of names.

    Examples
    --------
    >>> found = understand_metadata({"feature_names": ["lag"], "metrics": {"MAE": 2.5}}, now=0.0)
    >>> found.features, found.metrics, found.kind
    (('lag',), {'mae': 2.5}, 'foreign')
    """
    number = tree.get("format", METADATA_FORMAT)
    if isinstance(number, int) and number > METADATA_FORMAT:
        raise ValueError(
            f"the metadata have format {number}, this release reads up to {METADATA_FORMAT}. Upgrade demand-maint."
        )
    try:
        return msgspec.convert(tree, ModelMetadata)
    except msgspec.ValidationError:
        return _foreign(tree, now)


def _foreign(tree: Mapping[str, Any], now: float) -> ModelMetadata:
    metrics = _metrics(tree)
    rows = _first(tree, _ROWS)
    mae = metrics.get("mae")
    return ModelMetadata(
        features=_features(tree),
        loss=str(_first(tree, _LOSS) or _first(_section(tree, "params"), _LOSS) or ""),
        kind="foreign",
        created_at=_moment(_first(tree, _CREATED), now),
        rows=rows if isinstance(rows, int) and not isinstance(rows, bool) and rows > 0 else 0,
        metrics=metrics,
        baseline=Baseline(mae=mae, source="metadata") if mae is not None and mae > 0 else None,
        notes={"original": dict(tree)},
    )


def _features(tree: Mapping[str, Any]) -> tuple[str, ...]:
    names = _first(tree, _FEATURES)
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the features in the metadata are no list of names")
    return tuple(names)


def _metrics(tree: Mapping[str, Any]) -> dict[str, float]:
    sections = [_section(tree, name) for name in ("metrics", "performance", "scores")]
    found: dict[str, float] = {}
    for section in (*sections, tree):
        lowered = {str(key).lower(): value for key, value in section.items()}
        numbers = {key: float(value) for key, value in lowered.items() if _is_number(value)}
        if section is not tree:
            found = numbers | found
        if "mae" not in found:
            mae = next((numbers[name] for name in _MAE if name in numbers), None)
            found |= {"mae": mae} if mae is not None else {}
    return found


def _section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = tree.get(name)
    return section if isinstance(section, dict) else {}


def _first(tree: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((tree[name] for name in names if name in tree), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _moment(value: Any, now: float) -> float:
    if _is_number(value):
        return float(value)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return now
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
