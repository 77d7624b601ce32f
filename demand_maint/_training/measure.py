"""Figures of a model on rows it was not trained on: errors, baseline, levels per place, quantiles of the inputs."""

from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint.core.baseline import baseline_from_errors
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline

__all__ = ["errors", "feature_quantiles", "make_baseline", "place_levels"]

QUANTILES = np.linspace(0.0, 1.0, 11)


def errors(frame: pl.DataFrame, predicted: NDArray[np.float64]) -> dict[str, float]:
    """Out-of-sample figures: mae, rmse, bias (mean of predicted - actual), rows; naive_mae and the model's mae on the same rows.

    Parameters
    ----------
    frame
        ``actual`` and, where known, ``naive``.
    """
    if not len(predicted):
        return {}
    actual = frame["actual"].to_numpy().astype(np.float64)
    error = predicted - actual
    found = {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "bias": float(error.mean()),
        "rows": float(len(error)),
    }
    naive = _naive(frame)
    known = np.isfinite(naive)
    if known.any():
        found["naive_mae"] = float(np.abs(naive[known] - actual[known]).mean())
        found["mae_where_naive"] = float(np.abs(error[known]).mean())
        found["naive_rows"] = float(known.sum())
    return found


def make_baseline(
    frame: pl.DataFrame,
    predicted: NDArray[np.float64],
    grid: TimeGrid,
    source: Literal["holdout", "out_of_sample"],
) -> Baseline | None:
    """Error to expect of this model, with its skill against the seasonal-naive forecast and the daily spread of that."""
    figures = errors(frame, predicted)
    if not figures:
        return None
    naive_mae = figures.get("naive_mae")
    skill = figures["mae_where_naive"] / naive_mae if naive_mae else None
    if "timestamp" not in frame.columns:
        return Baseline(mae=figures["mae"], skill=skill, naive_mae=naive_mae, n=len(predicted), source=source)
    stamps = frame["timestamp"].to_numpy().astype(np.float64)
    days = grid.day(stamps)
    actual = frame["actual"].to_numpy().astype(np.float64)
    places = frame["place_id"].cast(pl.String).to_numpy() if "place_id" in frame.columns else None
    naive = np.abs(_naive(frame) - actual)
    start = baseline_from_errors(stamps, predicted - actual, naive, actual, grid, places=places)
    return Baseline(
        mae=figures["mae"],
        skill=skill,
        naive_mae=naive_mae,
        log_scale=None if start is None else start.log_scale,
        log_centre=None if start is None else start.log_centre,
        log_days=0 if start is None else start.log_days,
        n=len(predicted),
        days=len(np.unique(days)),
        since=float(stamps.min()),
        until=float(stamps.max()),
        source=source,
    )


def _naive(frame: pl.DataFrame) -> NDArray[np.float64]:
    if "naive" not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame["naive"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def place_levels(frame: pl.DataFrame, predicted: NDArray[np.float64], grid: TimeGrid) -> dict[str, list[float]]:
    """Sum of actuals, sum of predictions and number of days per place, the start of a new model's level calibration."""
    if not {"place_id", "timestamp"} <= set(frame.columns) or not len(predicted):
        return {}
    table = pl.DataFrame(
        {
            "place": frame["place_id"].cast(pl.String),
            "actual": frame["actual"].cast(pl.Float64),
            "predicted": predicted,
            "day": grid.day(frame["timestamp"].to_numpy()),
        }
    )
    sums = table.group_by("place").agg(pl.col("actual", "predicted").sum(), pl.col("day").n_unique()).sort("place")
    return {str(place): [float(a), float(p), float(d)] for place, a, p, d in sums.iter_rows()}


def feature_quantiles(rows: NDArray[np.float32], names: tuple[str, ...]) -> dict[str, list[float]]:
    """Minimum, nine deciles and maximum of every feature over its finite values; empty where it has none."""
    found: dict[str, list[float]] = {}
    for index, name in enumerate(names):
        column: NDArray[Any] = rows[:, index]
        ordered = np.sort(
            column[np.isfinite(column)]
        )  # once; a partition for each of the quantiles takes ten times as long
        at = QUANTILES * (len(ordered) - 1)
        found[name] = np.interp(at, np.arange(len(ordered)), ordered).tolist() if len(ordered) else []
    return found
