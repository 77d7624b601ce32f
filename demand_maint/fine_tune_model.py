"""Fine-tuning: the production model goes on learning from new rows, gently.

CatBoost's warm start adds trees to a copy of the base at a low learning rate; base and result share features and loss, or the
fine-tune is refused. The work is done by a child process; what comes out is staged, and serves nobody before it is deployed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.layout import EXPORT_MODEL, STAGING, WORK
from demand_maint._storage.registry import Registry
from demand_maint._training.gathering import processed_rows, with_naive
from demand_maint._training.pool import WorkerPool
from demand_maint._training.preparation import (
    BaseModel,
    base_from_version,
    build_job,
    clean_up,
    training_frame,
)
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config, load_config
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.errors import InsufficientDataError
from demand_maint.model_monitor import ModelMonitor

__all__ = ["FineTuner", "fine_tune_from_monitor_data", "fine_tune_from_processed_data"]

OnProgress = Callable[[int, int], None]


class FineTuner:
    """Fine-tunes one base model.

    Parameters
    ----------
    base_model_path
        ``data/models/rf_model.joblib`` means the production version. Any other ``.cbm`` or ``.joblib`` is first examined in a
        child process.
    output_dir
        Where the challenger and its metadata go.
    root
        Folder of the project; taken from `base_model_path` where that is an export inside one.
    base_version
        A registered version to start from instead.
    registry
        That of the root, where the caller has it open.
    pool
        Runs the child; by default one of its own for each fit.
    """

    def __init__(
        self,
        base_model_path: str | Path = EXPORT_MODEL,
        output_dir: str | Path = STAGING,
        *,
        root: str | Path | None = None,
        base_version: int | None = None,
        config: Config | None = None,
        clock: Clock | None = None,
        registry: Registry | None = None,
        pool: WorkerPool | None = None,
    ) -> None:
        # the working directory may change while this lives
        self.root = (Path(root) if root is not None else _root_of(Path(base_model_path))).absolute()
        self.config = config or load_config(self.root)
        self.clock = clock or SystemClock()
        self.registry = registry or Registry(
            self.root, clock=self.clock, max_model_megabytes=self.config.storage.max_model_megabytes
        )
        self._base_path = Path(base_model_path).absolute() if root is None else self.root / base_model_path
        # relative paths are the caller's, except where they are ours or the root was named
        ours = root is not None or Path(output_dir) == Path(STAGING)
        self._output = self.root / output_dir if ours else Path(output_dir).absolute()
        self._base_version, self._pool = base_version, pool
        self._base: BaseModel | None = None

    def base(self) -> BaseModel:
        """Return the model that is continued; a foreign file is examined in a child.

        Raises
        ------
        NoChampionError
            The production version was asked for, and there is none.
        ModelFileError
            The file is no usable model.
        """
        if self._base_version is not None:
            return base_from_version(self.registry, self._base_version)
        if self._base_path == self.root / EXPORT_MODEL and (
            self.registry.head() is not None or not self._base_path.exists()
        ):
            return base_from_version(self.registry, self.registry.champion().champion)
        if self._base is None:
            self._base = self._examined()
        return self._base

    def fine_tune(
        self,
        X_new: Any,  # noqa: N803  # the user's own name
        y_new: Any,
        learning_rate: float | None = None,
        iterations: int | None = None,
        *,
        timestamps: Any = None,
        place_ids: Any = None,
        train_until: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> TrainingOutcome:
        """Train the challenger, and wait for it.

        Parameters
        ----------
        X_new
            Rows with the base's features by name (Polars or pandas frame, dicts), or an array of exactly its width. Columns
            ``timestamp`` and ``place_id`` beside them are used; without timestamps the rows have to be in time order.
        y_new
            What really happened, one number per row.
        learning_rate, iterations
            0.03 and 100 unless the configuration says otherwise.
        train_until
            Rows from this epoch second on are measured, not trained on.
        on_progress
            Called as ``on_progress(trees_done, trees_in_all)`` from a thread.

        Returns
        -------
        TrainingOutcome
            Paths of the staged model and metadata, and the out-of-sample figures.

        Raises
        ------
        SchemaMismatchError, TargetError, InsufficientDataError
            The rows cannot be learned from.
        IncompatibleBaseError
            The base cannot be continued.
        TrainingFailedError, TrainingCancelledError
            What happened to the child.
        """
        job = self.prepare(
            X_new,
            y_new,
            learning_rate,
            iterations,
            timestamps=timestamps,
            place_ids=place_ids,
            train_until=train_until,
        )
        try:
            return _run(job, self._pool, on_progress)
        finally:
            self._forget_copy()

    def prepare(
        self,
        X_new: Any,  # noqa: N803  # the user's own name
        y_new: Any,
        learning_rate: float | None = None,
        iterations: int | None = None,
        *,
        timestamps: Any = None,
        place_ids: Any = None,
        naive: Any = None,
        train_until: float | None = None,
    ) -> TrainingJob:
        """Check the rows, write them for the child, and return the job for a `WorkerPool`; `fine_tune` does that and runs it."""
        base = self.base()
        frame = training_frame(
            X_new,
            y_new,
            base.features,
            timestamps=timestamps,
            place_ids=place_ids,
            naive=naive,
            zone=self.config.zone,
        )
        return build_job(
            "fine_tune",
            frame,
            base.features,
            door=Door(self.root),
            config=self.config,
            now=self.clock.now(),
            base=base,
            train_until=train_until,
            output_directory=self._output,
            iterations=iterations,
            learning_rate=learning_rate,
        )

    def _forget_copy(self) -> None:
        """Remove the canonical copy of a foreign base; the next fit examines the file again."""
        if self._base is not None:
            Door(self.root).unlink(f"{WORK}/{Path(self._base.path).name}", missing_ok=True)
            self._base = None

    def _examined(self) -> BaseModel:
        door = Door(self.root)
        door.makedirs(WORK)
        pool = self._pool or WorkerPool()
        found = pool.inspect(
            self._base_path,
            output_directory=door.path(WORK),
            limit_bytes=self.config.storage.max_model_megabytes << 20,
        )
        return BaseModel(path=found.cbm_path, sha256=found.sha256, features=found.features, loss=found.loss)


def _root_of(path: Path) -> Path:
    """Return the project folder of an export's path, else the working directory."""
    tail = Path(EXPORT_MODEL).parts
    return Path(*path.parts[: -len(tail)]) if path.parts[-len(tail) :] == tail else Path()


def _run(job: TrainingJob, pool: WorkerPool | None, on_progress: OnProgress | None) -> TrainingOutcome:
    try:
        if pool is not None:
            return pool.run(job, on_progress=on_progress)
        with WorkerPool() as own:
            return own.run(job, on_progress=on_progress)
    finally:
        clean_up(job)


def fine_tune_from_monitor_data(
    days: int = 30,
    min_samples: int = 100,
    root: str | Path = ".",
    *,
    config: Config | None = None,
    clock: Clock | None = None,
    monitor: ModelMonitor | None = None,
    pool: WorkerPool | None = None,
    on_progress: OnProgress | None = None,
) -> TrainingOutcome:
    """Fine-tune the base on what the monitor recorded in the last `days`.

    Raises
    ------
    InsufficientDataError
        Fewer than `min_samples` rows with truth.
    MissingFeaturesError
        Nothing tells the features of those rows.
    """
    config = config or load_config(root)
    job = prepare_from_monitor(days, min_samples, root, config=config, clock=clock, monitor=monitor)
    return _run(job, pool, on_progress)


def prepare_from_monitor(
    days: int,
    min_samples: int,
    root: str | Path = ".",
    *,
    config: Config,
    clock: Clock | None = None,
    monitor: ModelMonitor | None = None,
    registry: Registry | None = None,
    train_until: float | None = None,
    output_dir: str | Path = STAGING,
) -> TrainingJob:
    """Return the job of `fine_tune_from_monitor_data`, for drivers that do not wait for it."""
    own = ModelMonitor(root, config=config, clock=clock) if monitor is None else None
    source = own or monitor
    assert source is not None
    try:
        rows = source.get_training_data(days=days, min_samples=min_samples, max_rows=config.training.max_rows)
        rows = with_naive(rows, source.truth, config)
    finally:
        if own is not None:
            own.close()
    tuner = _tuner(root, config, clock, registry=registry, output_dir=output_dir)
    return tuner.prepare(rows, rows["actual"], train_until=train_until)


def fine_tune_from_processed_data(
    root: str | Path = ".",
    *,
    min_samples: int = 100,
    config: Config | None = None,
    clock: Clock | None = None,
    pool: WorkerPool | None = None,
    on_progress: OnProgress | None = None,
) -> TrainingOutcome:
    """Fine-tune the base on the files ``data/processed/*.parquet`` and ``*.csv``.

    Each holds ``actual`` and either the base's features or ``place_id`` and ``timestamp``, from which features are built.

    Raises
    ------
    InsufficientDataError
        No files, or fewer than `min_samples` rows.
    HistoryFileError
        A file cannot be read, or lacks a column.
    """
    config = config or load_config(root)
    tuner = _tuner(root, config, clock, pool=pool)
    rows: pl.DataFrame = processed_rows(Door(root), tuner.base().features, config)
    if len(rows) < min_samples:
        raise InsufficientDataError(
            len(rows), min_samples, remedy="Put more rows into data/processed, or lower min_samples."
        )
    return _run(tuner.prepare(rows, rows["actual"]), pool, on_progress)


def _tuner(
    root: str | Path,
    config: Config,
    clock: Clock | None,
    *,
    registry: Registry | None = None,
    pool: WorkerPool | None = None,
    output_dir: str | Path = STAGING,
) -> FineTuner:
    """Start from the last full retrain; from the newest champion only where the policy chains fine-tunes."""
    commit = (registry or Registry(root)).champion()
    version = commit.champion if config.policy.chain_fine_tunes else commit.base
    return FineTuner(
        output_dir=output_dir, root=root, base_version=version, config=config, clock=clock, registry=registry, pool=pool
    )
