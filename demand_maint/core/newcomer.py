"""What a version that joins the line-up says of itself: its own out-of-sample figures."""

from collections.abc import Sequence

import numpy as np

from demand_maint.core.serving import Place
from demand_maint.core.versions import ModelMetadata
from demand_maint.core.weighing import SEED_DAYS

__all__ = ["seeds", "skill"]


def skill(metadata: ModelMetadata | None) -> float | None:
    """Return its out-of-sample error over the seasonal naive's on the same rows."""
    mae = metadata.metrics.get("mae_where_naive", metadata.metrics.get("mae")) if metadata is not None else None
    naive = metadata.metrics.get("naive_mae") if metadata is not None else None
    return mae / naive if mae and naive and np.isfinite([mae, naive]).all() and naive > 0 else None


def seeds(metadata: ModelMetadata | None, places: Sequence[Place]) -> tuple[list[float], list[float]]:
    """Return its out-of-sample sums of actual and forecast by place code, cut to `SEED_DAYS` of weight."""
    if metadata is None or not metadata.levels:
        return [], []
    actual, forecast = [0.0] * len(places), [0.0] * len(places)
    for code, place in enumerate(places):
        sums = metadata.levels.get(str(place))
        if sums is not None and len(sums) >= 3 and np.isfinite(sums).all() and sums[1] > 0 and sums[2] > 0:
            share = min(SEED_DAYS / sums[2], 1.0)
            actual[code], forecast[code] = sums[0] * share, sums[1] * share
    return actual, forecast
