"""How good the built-in features are: CatBoost day-ahead on the shipped data, never retrained against retrained by the calendar.

Run ``./run bench feature_quality [--every 7] [--first-year 2012]``; prints a mean absolute error per line. A weekly
replay of two bike years takes some minutes: it fits about a hundred models.
"""

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from catboost import CatBoostRegressor

from demand_maint.core.timegrid import TimeGrid
from demand_maint.features import DemandFeatures, seasonal_naive

DATA = Path(__file__).resolve().parents[1] / "examples" / "data"
DAY = 86400


def us_holidays(years: range) -> list[date]:
    """Federal holidays of the United States that close offices."""

    def nth(year: int, month: int, weekday: int, n: int) -> date:
        first = date(year, month, 1)
        return first + timedelta((weekday - first.weekday()) % 7 + 7 * (n - 1))

    found = []
    for year in years:
        memorial = date(year, 5, 31)
        found += [date(year, 1, 1), date(year, 7, 4), date(year, 11, 11), date(year, 12, 25)]
        found += [nth(year, 1, 0, 3), nth(year, 2, 0, 3), memorial - timedelta(memorial.weekday())]
        found += [nth(year, 9, 0, 1), nth(year, 10, 0, 2), nth(year, 11, 3, 4)]
    return found


class Study:
    """One history with its features, ready to be fitted and replayed."""

    def __init__(self, name: str, zone: str, holidays: list[date], first: date, start: date, end: date) -> None:
        self.grid = TimeGrid(zone, 3600)
        frame = pl.read_parquet(DATA / f"{name}.parquet")
        slots = self.grid.floor(self.grid.epoch(frame["timestamp"].dt.epoch("s").to_numpy()))
        history = (
            frame.select("place_id", pl.col("actual").cast(pl.Float64))
            .with_columns(timestamp=slots)
            .group_by("place_id", "timestamp", maintain_order=True)
            .agg(pl.col("actual").mean() if name != "dc_bikes_hourly" else pl.col("actual").last())
        )
        features = DemandFeatures(self.grid, DAY, holidays)
        began = time.perf_counter()
        self.rows = np.asfortranarray(features.build(history, history).select(features.names).to_numpy())
        self.build_seconds = time.perf_counter() - began
        self.slots = history["timestamp"].to_numpy()
        self.actual = history["actual"].to_numpy()
        self.naive = seasonal_naive(history, history, self.grid, 7 * DAY)
        self.names = features.names
        self.first, self.start, self.end = (self._epoch(day) for day in (first, start, end))

    def _epoch(self, day: date) -> int:
        wall = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        return int(self.grid.epoch([wall])[0])

    def fit(self, until: int) -> CatBoostRegressor:
        """Fit 300 trees of depth 6 on what is known before `until`."""
        known = (self.slots >= self.first) & (self.slots < until)
        model = CatBoostRegressor(
            iterations=300,
            depth=6,
            learning_rate=0.08,
            verbose=0,
            allow_writing_files=False,
            thread_count=1,
            random_seed=0,
        )
        return model.fit(self.rows[known], self.actual[known])

    def naive_error(self) -> float:
        """Error of the actual of a week before."""
        asked = (self.slots >= self.start) & (self.slots < self.end)
        return float(np.nanmean(np.abs(self.naive - self.actual)[asked]))

    def error(self, every: int | None) -> float:
        """Mean absolute error over the replayed period with a retrain `every` so many days, or never."""
        return float(np.concatenate(list(self._errors(every))).mean())

    def _errors(self, every: int | None) -> Iterator[np.ndarray]:
        begin = self.start
        while begin < self.end:
            until = min(begin + every * DAY, self.end) if every else self.end
            rows = (self.slots >= begin) & (self.slots < until)
            if rows.any():
                yield np.abs(self.fit(begin).predict(self.rows[rows]) - self.actual[rows])
            begin = until


def main() -> None:
    """Print one table per history."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, nargs="*", default=[28], help="days between retrains")
    parser.add_argument("--first-year", type=int, default=2010, help="first bike year to train on")
    parser.add_argument("--only", choices=["bikes", "parking"])
    arguments = parser.parse_args()
    bikes = ("dc_bikes_hourly", "America/New_York", us_holidays(range(2010, 2016)))
    studies = {
        "bikes": (*bikes, date(arguments.first_year, 1, 1), date(2013, 1, 1), date(2015, 1, 1)),
        "parking": ("birmingham_parking", "Europe/London", [], date(2016, 1, 1), date(2016, 11, 1), date(2016, 12, 20)),
    }
    for name, settings in studies.items():
        if arguments.only in {None, name}:
            study = Study(*settings)
            print(f"{name}: {len(study.names)} features, {len(study.rows)} rows built in {study.build_seconds:.2f} s")
            print(f"  {'seasonal naive':24}{study.naive_error():8.1f}")
            print(f"  {'never retrained':24}{study.error(None):8.1f}")
            for days in arguments.every:
                print(f"  {f'retrained every {days} d':24}{study.error(days):8.1f}")


if __name__ == "__main__":
    main()
