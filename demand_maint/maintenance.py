"""Carries out the steps of a maintenance cycle: trains in a child, compares, commits.

What is to be done, and in which order, is decided in `demand_maint.core.cycle`; nothing here decides.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from demand_maint._storage.door import Door
from demand_maint._storage.formats import MAX_JSON_BYTES, decode_metadata
from demand_maint._storage.layout import WORK
from demand_maint._training.pool import WorkerPool
from demand_maint._training.preparation import clean_up
from demand_maint._training.requests import EvaluateJob
from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.core.baseline import baseline_from_days
from demand_maint.core.cycle import (
    Discard,
    Enter,
    Evaluate,
    Failed,
    Promote,
    Promoted,
    Rollback,
    Settle,
    Step,
    Train,
    Vetoed,
)
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.core.promotion import gate_verdict, metadata_verdict
from demand_maint.core.roster import after_discard, after_enter, after_promotion, after_settling
from demand_maint.core.sampling import paired_days
from demand_maint.core.versions import Baseline, GateVerdict, ModelMetadata, ModelVersion
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import DataError, DemandMaintError, LostRaceError, TrainingCancelledError, TrainingFailedError
from demand_maint.gather import Gather
from demand_maint.model_monitor import ModelMonitor

__all__ = ["OnProgress", "StepPerformer"]

OnProgress = Callable[[int, int], None]
DAY = 86400.0


class StepPerformer:
    """Does what a cycle asks for, on one root.

    Parameters
    ----------
    monitor, deployer, pool
        Where truth comes from, versions go to, and children run.
    gather
        Where the rows of trainings come from.
    who
        Written into commits.
    """

    def __init__(
        self,
        monitor: ModelMonitor,
        deployer: ModelDeployer,
        pool: WorkerPool,
        gather: Gather,
        *,
        root: Path,
        config: Config,
        clock: Clock,
        who: str,
    ) -> None:
        self._monitor, self._deployer, self._pool, self._gather = monitor, deployer, pool, gather
        self._registry = deployer.registry
        self._root, self._config, self._clock, self._who = root, config, clock, who

    def perform(self, step: Step, on_progress: OnProgress | None = None) -> Any:
        """Carry out one step; the answer is what `demand_maint.core.cycle` documents for its class."""
        match step:
            case Train():
                return self._train(step, on_progress)
            case Evaluate():
                return self._evaluate(step)
            case Enter():
                return self._enter(step)
            case Promote():
                return self._promote(step)
            case Discard():
                self._discard(step)
            case Rollback():
                return self._deployer.roll_back(who=self._who, why="probation: live truth shows a regression").champion
            case Settle():
                self._settle(step)
        return None

    # training

    def _train(self, step: Train, on_progress: OnProgress | None) -> TrainingOutcome | Failed:
        job: TrainingJob | None = None
        try:
            job = self._gather(step)
            return self._pool.run(job, on_progress=on_progress)
        except TrainingCancelledError:
            raise
        except TrainingFailedError as error:
            return Failed(reason=error.reason, detail=error.detail)
        except DemandMaintError as error:
            return Failed(reason="insufficient_data" if isinstance(error, DataError) else "error", detail=str(error))
        finally:
            if job is not None:
                clean_up(job)

    # comparing

    def _evaluate(self, step: Evaluate) -> GateVerdict:
        if step.method == "metadata":
            champion = self._registry.version(self._registry.champion().champion).metadata.metrics.get("mae")
            return metadata_verdict(champion, step.challenger.metrics.get("mae"), self._config.policy)
        if step.since is None:
            return GateVerdict(verdict="inconclusive", reasons=("no_holdout",), method="gate")
        rows = self._holdout(step)
        day = self._monitor.grid.day(rows["timestamp"].to_numpy())
        actual = rows["actual"].to_numpy()
        pairs = paired_days(
            day, abs(rows["predicted"].to_numpy() - actual), abs(rows["challenger"].to_numpy() - actual)
        )
        return gate_verdict(pairs, self._config.policy)

    def _holdout(self, step: Evaluate) -> pl.DataFrame:
        """Rows since the holdout began with the champion's own logged prediction, the challenger's, and the truth."""
        since, now = step.since or 0.0, self._clock.now()
        champion = self._registry.champion().champion
        logged = self._monitor.records(since, now).filter(pl.col("version") == champion)
        logged = logged.filter(pl.col("predicted").is_finite() & pl.col("actual").is_finite())
        logged = logged.select("place_id", pl.col("slot").cast(pl.Float64).alias("timestamp"), "predicted", "actual")
        days = (now - since) / DAY
        features = self._monitor.get_training_data(days=days, min_samples=1)
        names = staged_metadata(step.challenger.metadata_path).features
        features = features.filter(pl.col("timestamp") >= since).select("place_id", "timestamp", *names)
        predicted = self._predictions(step.challenger, features)
        return logged.join(predicted, on=["place_id", "timestamp"], how="inner")

    def _predictions(self, challenger: TrainingOutcome, features: pl.DataFrame) -> pl.DataFrame:
        door = Door(self._root)
        door.makedirs(WORK)
        name = f"{Path(challenger.model_path).stem}_holdout"
        frame = f"{WORK}/{name}_rows.parquet"
        door.write_frame(frame, features.write_parquet)
        answer = ""
        try:
            job = EvaluateJob(
                model_path=challenger.model_path,
                frame_path=str(door.path(frame)),
                output_directory=str(door.path(WORK)),
                name=name,
            )
            answer = self._pool.run(job).predictions_path
            found = pl.read_parquet(answer)
        finally:
            for path in (frame, f"{WORK}/{Path(answer).name}" if answer else ""):
                if path:
                    door.unlink(path, missing_ok=True)
        return found.select("place_id", "timestamp", pl.col("predicted").alias("challenger"))

    # committing

    def _register(self, challenger: TrainingOutcome) -> ModelVersion:
        metadata = staged_metadata(challenger.metadata_path)
        limit = self._config.storage.max_model_megabytes << 20
        data = Door(Path(challenger.model_path).parent).read_bytes(Path(challenger.model_path).name, limit=limit)
        return self._registry.add_version(data, metadata)

    def _enter(self, step: Enter) -> int:
        version = self._register(step.challenger).number
        head, now = self._registry.champion(), self._clock.now()
        self._registry.commit(
            "enter",
            champion=head.champion,
            base=head.base,
            subject=version,
            line_up=lambda before: after_enter(before, version, step.kind, now, step.replaces),
            who=self._who,
            why=step.why,
            expect=head.number,
        )
        return version

    def _promote(self, step: Promote) -> Promoted | Vetoed:
        head = self._registry.champion()
        version = step.version if step.version is not None else None
        if version is None:
            assert step.challenger is not None
            version = self._register(step.challenger).number
        base = version if step.kind == "full" else self._base_of(version, head.base)
        now, days = self._clock.now(), self._config.policy.probation_days
        try:
            self._deployer.promote(
                version,
                who=self._who,
                why=step.why,
                verdict=step.verdict,
                baseline=None if step.version is None else self._live_baseline(version),
                base=base,
                line_up=lambda before: after_promotion(before, version, base, now, days),
                expect=head.number,
            )
        except LostRaceError as error:
            return Vetoed(reason=str(error))
        return Promoted(version=version)

    def _live_baseline(self, version: int) -> Baseline | None:
        """Return the baseline of a candidate from what it predicted in the line-up; that of its metadata where that is too little."""
        pairs = self._monitor.line_up.paired_days(version, 0)
        if len(pairs.day) < self._config.policy.matured_days:
            return None
        grid = self._monitor.grid
        every = np.arange(pairs.day[0], pairs.day[-1] + 2, dtype=np.int64)
        edges = grid.day_start(every)
        known = self._monitor.sums.blocks(edges // 3600)
        at = pairs.day - pairs.day[0]
        sums = {
            "n": pairs.n,
            "abs_error": pairs.champion,
            "naive_n": pairs.n,
            "naive_abs_error": pairs.challenger,
            "abs_error_naive": pairs.champion,
            # as fresh as the champion's errors were that day, which was as lucky for both
            "fresh_error": pairs.champion * known["fresh_error"][at] / np.maximum(known["abs_error"][at], 1e-9),
            "abs_actual": known["abs_actual"][at] / np.maximum(known["n"][at], 1.0) * pairs.n,
        }
        return baseline_from_days(sums, since=float(edges[0]), until=float(edges[-1]), source="out_of_sample")

    def _base_of(self, version: int, current: int) -> int:
        base = self._registry.version(version).metadata.base
        return current if base is None else base

    def _discard(self, step: Discard) -> None:
        version = step.version
        if version is None:
            return
        head = self._registry.champion()
        self._registry.commit(
            "expire" if step.expired else "discard",
            champion=head.champion,
            base=head.base,
            subject=version,
            line_up=lambda before: after_discard(before, version),
            verdict=step.verdict,
            who=self._who,
            why="undecided for too long" if step.expired else "did not earn its place",
            expect=head.number,
        )

    def _settle(self, step: Settle) -> None:
        head = self._registry.champion()
        self._registry.commit(
            "settle",
            champion=head.champion,
            base=head.base,
            subject=step.version,
            line_up=after_settling,
            who=self._who,
            why="the champion passed its probation",
            expect=head.number,
        )


def staged_metadata(path: str) -> ModelMetadata:
    """Return what the ``_metadata.json`` of a challenger says."""
    file = Path(path)
    return decode_metadata(Door(file.parent).read_bytes(file.name, limit=MAX_JSON_BYTES), file.name)
