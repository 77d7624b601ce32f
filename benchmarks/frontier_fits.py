"""Fits of the policy frontier, as the training child does them, each one kept in a cache with the processor time it took."""

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.frontier_streams import Stream
from demand_maint._training.measure import errors, make_baseline, place_levels
from demand_maint.core.versions import Baseline, ModelMetadata

__all__ = ["Fit", "Fits"]


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model as its predictions of every row from `day` on (NaN before), and what it cost."""

    key: str
    kind: str
    day: int
    raw: NDArray[np.float32]
    metadata: ModelMetadata
    cpu: float
    measured_cpu: float


class Fits:
    """Fits on one stream; the same fit is done once, and costs the same however often it is asked for.

    A fit is measured like a training of the library: out-of-sample figures from a first fit without the newest tenth, then the
    model itself on all rows. `tune_borders` is CatBoost's ``border_count`` of the fine-tunes; `cpu` is the second fit's processor time, `measured_cpu` the first's.
    """

    def __init__(self, stream: Stream, cache: Path | None = None, tune_borders: int | None = None) -> None:
        self.stream = stream
        self.tune_borders = tune_borders
        self.folder = (cache or Path(tempfile.gettempdir()) / "demand_maint_frontier") / stream.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.done: dict[tuple[str, bool], Fit] = {}

    def full(self, day: int, days: int | None = None, *, measured: bool = True) -> Fit:
        """Retrain on everything before `day`, or its newest `days`; without figures where `measured` is off."""
        training = self.stream.config.training
        first = int(self.stream.day[0]) if days is None else day - days
        params = {
            "iterations": training.full_iterations,
            "depth": training.full_depth,
            "learning_rate": training.full_learning_rate,
        }
        return self._fit(f"full-{day}-{days or 'all'}", "full", first, day, params, None, measured=measured)

    def fine_tune(self, base: Fit, day: int, *, measured: bool = True) -> Fit:
        """Fine-tune `base` on the newest days before `day`."""
        training = self.stream.config.training
        params: dict[str, Any] = {
            "iterations": training.fine_tune_iterations,
            "depth": training.full_depth,
            "learning_rate": training.fine_tune_learning_rate,
        }
        key = f"{base.key}-tune-{day}"
        if self.tune_borders is not None:
            params["border_count"] = self.tune_borders
            key += f"-{self.tune_borders}"
        return self._fit(key, "fine_tune", day - training.fine_tune_days, day, params, base, measured=measured)

    def _fit(
        self, key: str, kind: str, first: int, day: int, params: dict[str, Any], base: Fit | None, *, measured: bool
    ) -> Fit:
        rows, base_path = (
            self.stream.rows(first, day),
            str(self.folder / f"{base.key}.cbm") if base is not None else None,
        )
        if (key, measured) in self.done:
            return self.done[key, measured]
        place, figures = self.folder / f"{key}.npz", self.folder / f"{key}-fresh.json"
        if not place.exists():
            self._make(place, rows, day, params, base_path)
        facts: dict[str, Any] = {"cpu": 0.0, "metadata": {}}
        if measured:
            if not figures.exists():
                self._measure(figures, rows, params, base_path)
            facts = json.loads(figures.read_text())
        raw = np.full(len(self.stream.slot), np.nan, dtype=np.float32)
        later = self.stream.rows(day, 1 << 40)
        with np.load(place) as stored:
            raw[later] = stored["raw"]
            cpu = float(stored["cpu"])
        metadata = ModelMetadata(
            features=self.stream.names, loss="RMSE", kind="full" if kind == "full" else "fine_tune", created_at=0.0,
            **msgspec.convert(facts["metadata"], dict[str, Any]),
        )  # fmt: skip
        if measured and facts["metadata"]["baseline"] is not None:
            metadata = msgspec.structs.replace(
                metadata, baseline=msgspec.convert(facts["metadata"]["baseline"], Baseline)
            )
        fit = self.done[key, measured] = Fit(key, kind, day, raw, metadata, cpu, facts["cpu"])
        return fit

    def _make(self, place: Path, rows: slice, day: int, params: dict[str, Any], base_path: str | None) -> None:
        model, cpu = self._one(rows, params, base_path)
        half = place.with_suffix(f".{os.getpid()}.cbm")
        model.save_model(str(half))
        half.replace(place.with_suffix(".cbm"))
        # forecasts reach to the end of the data, so that longer runs find them too
        raw = model.predict(self.stream.x[self.stream.rows(day, 1 << 40)]).astype(np.float32)
        half = place.with_suffix(f".{os.getpid()}.npz")
        np.savez(half, raw=raw, cpu=cpu)
        half.replace(place)

    def _measure(self, figures: Path, rows: slice, params: dict[str, Any], base_path: str | None) -> None:
        stream = self.stream
        split = rows.start + int((rows.stop - rows.start) * (1 - stream.config.training.validation))
        model, cpu = self._one(slice(rows.start, split), params, base_path)
        held = slice(split, rows.stop)
        predicted = model.predict(stream.x[held])
        frame = pl.DataFrame({
            "place_id": [str(stream.places[code]) for code in stream.place[held]],
            "timestamp": stream.slot[held].astype(np.float64), "actual": stream.actual[held], "naive": stream.naive[held],
        })  # fmt: skip
        metadata = {
            "metrics": errors(frame, predicted), "levels": place_levels(frame, predicted, stream.grid),
            "baseline": msgspec.to_builtins(make_baseline(frame, predicted, stream.grid, "out_of_sample")),
        }  # fmt: skip
        half = figures.with_suffix(f".{os.getpid()}.half")
        half.write_text(json.dumps({"cpu": cpu, "metadata": metadata}))
        half.replace(figures)

    def _one(self, rows: slice, params: dict[str, Any], base_path: str | None) -> tuple[Any, float]:
        from catboost import CatBoostRegressor, Pool

        model = CatBoostRegressor(
            **params, loss_function="RMSE", random_seed=0, thread_count=1, allow_writing_files=False, verbose=False
        )
        begin = time.process_time()
        model.fit(
            Pool(self.stream.x[rows], self.stream.actual[rows], feature_names=list(self.stream.names)),
            init_model=base_path,
        )
        return model, time.process_time() - begin
