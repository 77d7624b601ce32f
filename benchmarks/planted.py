"""A root with a small champion, for the benchmarks that need one to look at or to swap."""

from pathlib import Path

import numpy as np
import polars as pl

from demand_maint._training.pool import WorkerPool
from demand_maint.config import Config
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.deploy_model import ModelDeployer

__all__ = ["frame", "plant", "trained"]


def frame(rows: int, features: int, *, seed: int = 0) -> pl.DataFrame:
    """Random rows whose target depends on some of them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, features)).astype(np.float32)
    actual = 50 + values[:, : min(features, 5)].sum(axis=1) * 4 + rng.normal(size=rows)
    columns = {f"f{i}": values[:, i] for i in range(features)}
    return pl.DataFrame(
        {
            "place_id": np.arange(rows) % 50,
            "timestamp": 1.7e9 + np.arange(rows) // 50 * 3600.0,
            "actual": actual,
            **columns,
        }
    )


def job(
    folder: Path, rows: int, features: int, *, iterations: int, base: str | None = None, name: str = "model"
) -> TrainingJob:
    """Write rows into `folder` and describe a fit on them."""
    path = folder / f"{name}.parquet"
    frame(rows, features).write_parquet(path)
    return TrainingJob(
        kind="full" if base is None else "fine_tune",
        frame_path=str(path),
        features=tuple(f"f{i}" for i in range(features)),
        output_directory=str(folder),
        name=name,
        base_model_path=base,
        iterations=iterations,
        learning_rate=0.08,
        depth=6 if base is None else None,
        created_at=1.7e9,
    )


def trained(folder: Path, *, rows: int = 2000, features: int = 10, iterations: int = 20) -> TrainingOutcome:
    """Fit a model in a child."""
    with WorkerPool() as pool:
        return pool.run(job(folder, rows, features, iterations=iterations))


def plant(root: Path, *, rows: int = 2000, features: int = 10, iterations: int = 20) -> TrainingOutcome:
    """Make a champion in `root`."""
    staging = root / "data/models/finetuned"
    staging.mkdir(parents=True, exist_ok=True)
    outcome = trained(staging, rows=rows, features=features, iterations=iterations)
    done, message = ModelDeployer(root, Config()).deploy(
        outcome.model_path, outcome.metadata_path, force=True, who="benchmark"
    )
    if not done:
        raise SystemExit(message)
    return outcome
