"""The full retrain: a new model from nothing but the data, on everything that is kept."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.layout import STAGING
from demand_maint._storage.registry import Registry
from demand_maint._training.gathering import built_rows, with_epochs, with_naive, with_slots
from demand_maint._training.pool import WorkerPool
from demand_maint._training.preparation import BaseModel, base_from_version, build_job, clean_up, training_frame
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config, load_config
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.core.thinning import evenly_thinned
from demand_maint.errors import InsufficientDataError, MissingFeaturesError
from demand_maint.features import FeatureBuilder, load_builder
from demand_maint.model_monitor import ModelMonitor

__all__ = ["FullRetrainer"]

KEY_COLUMNS = frozenset({"place_id", "timestamp", "actual", "naive"})
DAY = 86400.0


class FullRetrainer:
    """Trains a new base.

    Parameters
    ----------
    root
        Folder of the project.
    monitor
        Where the truth is; one of its own on `root` where ``None``.
    registry
        That of the root, where the caller has it open.
    pool
        Runs the child; by default one of its own for each fit.
    min_samples
        Fewest rows a model is trained on; ``policy.min_samples`` by default.
    """

    def __init__(
        self,
        root: str | Path = ".",
        config: Config | None = None,
        clock: Clock | None = None,
        *,
        monitor: ModelMonitor | None = None,
        registry: Registry | None = None,
        pool: WorkerPool | None = None,
        min_samples: int | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        self.config = config or load_config(root)
        self.clock = clock or SystemClock()
        self.min_samples = min_samples if min_samples is not None else self.config.policy.min_samples
        self._monitor, self._pool, self._registry = monitor, pool, registry

    def retrain(
        self,
        frame: pl.DataFrame | None = None,
        train_until: float | None = None,
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> TrainingOutcome:
        """Train on `frame`, or on all kept truth, and wait for it.

        Parameters
        ----------
        frame
            ``place_id``, ``timestamp``, ``actual``; features are built. Where it has further columns, those are the features.
        train_until
            Rows from this epoch second on are measured, not trained on.
        on_progress
            Called as ``on_progress(trees_done, trees_in_all)`` from a thread.

        Raises
        ------
        InsufficientDataError, MissingFeaturesError, TargetError
            The rows do not allow it.
        TrainingFailedError, TrainingCancelledError
            What happened to the child.
        """
        job = self.prepare(frame, train_until)
        try:
            if self._pool is not None:
                return self._pool.run(job, on_progress=on_progress)
            with WorkerPool() as pool:
                return pool.run(job, on_progress=on_progress)
        finally:
            clean_up(job)

    def prepare(
        self,
        frame: pl.DataFrame | None = None,
        train_until: float | None = None,
        *,
        output_dir: str | Path = STAGING,
        validation: float | None = None,
    ) -> TrainingJob:
        """Gather and write the rows, and return the job for a `WorkerPool`; `retrain` does that and runs it."""
        base = self._base()
        rows, names = self._rows(frame, base)
        if len(rows) < self.min_samples:
            raise InsufficientDataError(
                len(rows),
                self.min_samples,
                "a full retrain",
                "Collect longer, or import history with `demand-maint init --history FILE`.",
            )
        return build_job(
            "full",
            training_frame(rows, rows["actual"], names, zone=self.config.zone),
            names,
            door=Door(self.root),
            config=self.config,
            now=self.clock.now(),
            base=base,
            train_until=train_until,
            output_directory=self.root / output_dir,
            validation=validation,
        )

    def _base(self) -> BaseModel | None:
        """Return the last full retrain, whose parameters are taken over."""
        registry = self._registry or Registry(self.root)
        head = registry.head()
        return None if head is None else base_from_version(registry, head.base)

    def _since(self) -> float | None:
        days = self.config.training.full_days
        return None if days is None else self.clock.now() - days * DAY

    def _chosen(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Leave out of ready rows what is too old, and what is too many."""
        training, since = self.config.training, self._since()
        rows = rows if since is None else rows.filter(pl.col("timestamp") >= since)
        return rows[evenly_thinned(len(rows), training.max_rows, training.seed)]

    def _builder(self) -> FeatureBuilder:
        return load_builder(self.config, self.root)

    def _rows(self, frame: pl.DataFrame | None, base: BaseModel | None) -> tuple[pl.DataFrame, tuple[str, ...]]:
        if frame is not None:
            frame = with_epochs(frame, self.config)
            extra = tuple(name for name in frame.columns if name not in KEY_COLUMNS)
            if not extra:
                return built_rows(with_slots(frame, self.config), self.config, self._builder(), self._since())
            known = base is not None and set(base.features) <= set(extra)
            return self._chosen(frame), base.features if known and base is not None else extra
        if self._monitor is not None:
            return self._recorded(self._monitor, base)
        with ModelMonitor(self.root, config=self.config, clock=self.clock) as monitor:
            return self._recorded(monitor, base)

    def _recorded(self, monitor: ModelMonitor, base: BaseModel | None) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """Rebuild features from all truth; where the model's features are the user's own, take the rows logged with them."""
        builder = self._builder()
        if base is None or set(base.features) == set(builder.names):
            return built_rows(monitor.truth(), self.config, builder, self._since())
        days = self.config.training.full_days or self.config.monitor.features_days
        most = self.config.training.max_rows
        rows = monitor.get_training_data(days=days, min_samples=self.min_samples, max_rows=most)
        missing = [name for name in base.features if name not in rows.columns]
        if missing:
            raise MissingFeaturesError(
                f"The model needs features that were not logged and that no builder makes: {', '.join(missing[:5])}. "
                "Pass features to log_prediction, or set `features` in demand_maint.toml."
            )
        return with_naive(rows, monitor.truth, self.config), base.features
