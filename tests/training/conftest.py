"""A small frame, and a small base model trained on it, for everything that trains or loads."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from demand_maint._training.backend import FitControl, train
from demand_maint._training.loading import CatBoostModel, load_model
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.core.versions import ModelMetadata

FEATURES = ("lag", "hour", "noise")
START = 1_700_000_000.0


def demand(rows: int = 600, *, seed: int = 0, start: float = START, scale: float = 1.0) -> pl.DataFrame:
    """Hourly demand of three places that follows its features, with a naive forecast beside it."""
    rng = np.random.default_rng(seed)
    lag, hour = rng.normal(size=rows), np.arange(rows) // 3 % 24
    actual = scale * (50 + 8 * lag + 2 * hour + rng.normal(size=rows))
    return pl.DataFrame(
        {
            "place_id": np.arange(rows) % 3,
            "timestamp": start + np.arange(rows) // 3 * 3600.0,
            "actual": actual,
            "naive": actual + rng.normal(scale=5, size=rows),
            "lag": lag.astype(np.float32),
            "hour": hour.astype(np.float32),
            "noise": rng.normal(size=rows).astype(np.float32),
        }
    )


class Lab:
    """What the tests of training share: rows, jobs, a base model, and fits in this process."""

    features = FEATURES
    start = START
    demand = staticmethod(demand)

    def __init__(self, folder: Path, base: bytes) -> None:
        self.folder, self.out = folder, folder / "out"
        self.out.mkdir()
        self.base = folder / "base.cbm"
        self.base.write_bytes(base)
        self._made = 0

    def job(self, frame: pl.DataFrame | None = None, **changes: Any) -> TrainingJob:
        """Write a frame and describe a fit on it."""
        self._made += 1
        path = self.folder / f"frame{self._made}.parquet"
        (demand() if frame is None else frame).write_parquet(path)
        settings: dict[str, Any] = {
            "kind": "full",
            "frame_path": str(path),
            "features": FEATURES,
            "output_directory": str(self.out),
            "name": f"model{self._made}",
            "iterations": 20,
            "learning_rate": 0.1,
            "depth": 4,
            "nice": 0,
            "created_at": START,
            "deadline_seconds": 60.0,
        }
        return TrainingJob(**(settings | changes))

    def fine_tune_job(self, frame: pl.DataFrame | None = None, **changes: Any) -> TrainingJob:
        """Describe a fine-tune of the base by fifteen trees."""
        settings = {
            "kind": "fine_tune",
            "base_model_path": str(self.base),
            "learning_rate": 0.03,
            "depth": None,
            "iterations": 15,
        }
        return self.job(frame, **(settings | changes))

    def fit(self, job: TrainingJob) -> TrainingOutcome:
        """Fit in this process."""
        return train(job, FitControl(lambda done, total: None, threading.Event()))

    def fine_tune(self, frame: pl.DataFrame | None = None, **changes: Any) -> TrainingOutcome:
        """Fine-tune in this process."""
        return self.fit(self.fine_tune_job(frame, **changes))

    @staticmethod
    def loaded(outcome: TrainingOutcome) -> CatBoostModel:
        """Model that a fit left."""
        return load_model(Path(outcome.model_path).read_bytes())

    @staticmethod
    def metadata(outcome: TrainingOutcome) -> ModelMetadata:
        """Metadata that a fit left."""
        return msgspec.json.decode(Path(outcome.metadata_path).read_bytes(), type=ModelMetadata)

    @staticmethod
    def matrix(frame: pl.DataFrame) -> NDArray[np.float32]:
        """Features as the models take them."""
        return np.asfortranarray(frame.select(FEATURES).to_numpy().astype(np.float32))


@pytest.fixture(scope="session")
def base_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of a fitted RMSE model with twenty trees."""
    from catboost import CatBoostRegressor, Pool

    frame = demand()
    model = CatBoostRegressor(
        iterations=20,
        depth=4,
        learning_rate=0.1,
        random_seed=0,
        thread_count=1,
        allow_writing_files=False,
        verbose=False,
    )
    model.fit(Pool(frame.select(FEATURES).to_numpy(), frame["actual"].to_numpy(), feature_names=list(FEATURES)))
    path = tmp_path_factory.mktemp("base") / "base.cbm"
    model.save_model(str(path))
    return path.read_bytes()


@pytest.fixture
def lab(tmp_path: Path, base_bytes: bytes) -> Lab:
    """Return a lab with a folder of its own."""
    return Lab(tmp_path, base_bytes)
