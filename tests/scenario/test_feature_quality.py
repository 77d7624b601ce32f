"""A guard on the built-in features: one fit on each shipped history, held against the forecast by last week.

Trees cannot follow growth beyond what they were shown, so a single fit is no better than last week on data that drifts; features
that lost something make it much worse. `benchmarks/feature_quality.py` measures retraining over years.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from demand_maint._storage.tables import read_history
from demand_maint.core.timegrid import TimeGrid
from demand_maint.features import DemandFeatures, seasonal_naive

pytestmark = pytest.mark.catboost
DATA = Path(__file__).resolve().parents[2] / "examples" / "data"
DAY = 86400


def errors(history: pl.DataFrame, zone: str, first: str, start: str, days: int) -> tuple[float, float]:
    """Train on first .. start, forecast the `days` after it a day ahead; error of the model and of the naive forecast."""
    from catboost import CatBoostRegressor

    grid = TimeGrid(zone, 3600)
    features = DemandFeatures(grid, DAY)
    rows = np.asfortranarray(features.build(history, history).select(features.names).to_numpy())
    slots, actual = history["timestamp"].to_numpy(), history["actual"].to_numpy()
    begin, cut = (int(grid.epoch([np.datetime64(day, "s").astype(np.int64)])[0]) for day in (first, start))
    known, asked = (slots >= begin) & (slots < cut), (slots >= cut) & (slots < cut + days * DAY)
    model = CatBoostRegressor(
        iterations=300, depth=6, learning_rate=0.08, verbose=0, allow_writing_files=False, random_seed=0, thread_count=2
    )
    model.fit(rows[known], actual[known])
    naive = seasonal_naive(history, history, grid, 7 * DAY)
    return (
        float(np.abs(model.predict(rows[asked]) - actual[asked]).mean()),
        float(np.nanmean(np.abs(naive - actual)[asked])),
    )


def test_bikes_a_month_ahead_of_training() -> None:
    """Trained on twenty months of bikes, the four weeks after are forecast a day ahead within a quarter of last week's error."""
    history = read_history(DATA / "dc_bikes_hourly.parquet", zone="America/New_York")
    history = history.filter(pl.col("timestamp") < 1_360_000_000)
    model, naive = errors(history, "America/New_York", "2011-01-01", "2012-09-01", 28)
    assert model < 1.25 * naive


def test_car_parks_a_week_ahead_of_training() -> None:
    """Trained on seven weeks of car parks, the week after is forecast a day ahead within a fifth of last week's error."""
    history = read_history(DATA / "birmingham_parking.parquet", zone="Europe/London", combine="mean")
    model, naive = errors(history, "Europe/London", "2016-10-04", "2016-11-21", 7)
    assert model < 1.2 * naive
