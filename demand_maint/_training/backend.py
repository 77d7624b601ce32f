"""One fit with CatBoost, as the worker child does it: frame in, challenger and its metadata out.

Two fits where rows are held back by share: the first on the older rows gives the out-of-sample figures and shows overfitting,
the second on all rows is the challenger, because the newest rows are the ones worth most. With `train_until` there is one fit
on the rows before it, measured on the rest.
"""

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._training.loading import (
    DEFAULT_LIMIT_BYTES,
    OWN_KEYS,
    CatBoostModel,
    loss_of,
    model_facts,
    parse_cbm,
    read_model_file,
    training_params,
)
from demand_maint._training.measure import errors, feature_quantiles, make_baseline, place_levels
from demand_maint.clock import SystemClock
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import (
    IncompatibleBaseError,
    InsufficientDataError,
    SchemaMismatchError,
    TargetError,
    TrainingCancelledError,
)

if TYPE_CHECKING:
    from catboost import CatBoostRegressor

__all__ = ["FitControl", "feature_rows", "same_loss", "schema_hash", "train"]

MIN_ROWS = 10
LARGEST_TARGET = 1e30
POSITIVE_LOSSES = ("Poisson", "Tweedie", "MSLE")
# what a warm start takes over from the base's own training; anything else of it is CatBoost's default or this fit's business
INHERITED = (
    "depth", "grow_policy", "l2_leaf_reg", "border_count", "random_strength", "bagging_temperature", "bootstrap_type",
    "subsample", "rsm", "colsample_bylevel", "min_data_in_leaf", "max_leaves", "score_function", "leaf_estimation_method",
    "leaf_estimation_iterations", "monotone_constraints", "feature_weights", "nan_mode",
)  # fmt: skip


@dataclass
class FitControl:
    """How a running fit is watched and stopped: `report(done, total)` per tree, `cancelled` set from another thread."""

    report: Callable[[int, int], None]
    cancelled: threading.Event

    def check(self) -> None:
        """Stop here where somebody asked."""
        if self.cancelled.is_set():
            raise TrainingCancelledError("Training was stopped on request; nothing was deployed.")


class _EachTree:
    """CatBoost's callback: progress out, co-operative stop in."""

    def __init__(self, control: FitControl, done: int, total: int) -> None:
        self.control, self.done, self.total = control, done, total

    def after_iteration(self, info: Any) -> bool:
        """Tell how far the fit is; False stops it cleanly."""
        self.control.report(self.done + int(info.iteration), self.total)
        return not self.control.cancelled.is_set()


def cpu_seconds() -> float:
    """Processor time this process has used, in seconds."""
    used = os.times()
    return used.user + used.system


def schema_hash(features: tuple[str, ...]) -> str:
    """Sixteen hex digits that change with any name or the order of the features."""
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:16]


def train(job: TrainingJob, control: FitControl) -> TrainingOutcome:
    """Fit what `job` says, and leave ``<name>.cbm`` and ``<name>_metadata.json`` in its output directory.

    Raises
    ------
    SchemaMismatchError, TargetError, InsufficientDataError
        The rows cannot be trained on.
    IncompatibleBaseError, DamagedModelError
        The base cannot be continued.
    TrainingCancelledError
        Stopped on request.
    """
    started, cpu = SystemClock().monotonic(), cpu_seconds()
    frame = _read_frame(job)
    base = _read_base(job)
    rows, target = feature_rows(frame, job.features), frame["actual"].to_numpy().astype(np.float64)
    _check_target(target, job.loss, frame)
    params = _params(job, base)
    split = _split(frame["timestamp"].to_numpy(), job)
    fits = _plan(job, split, len(frame))
    trees = job.iterations * len(fits)
    model, measured = None, None
    for number, (end, measure) in enumerate(fits):
        control.check()
        held_back = (rows[split:], target[split:]) if measure else None
        callback = _EachTree(control, number * job.iterations, trees)
        model = _fit(params, job, rows[:end], target[:end], held_back, base, callback)
        control.check()
        if measure:
            measured = model
    assert model is not None
    control.report(trees, trees)
    _check_growth(model, base, job)
    metadata = _metadata(job, model, measured, base, frame, rows, split, fits[-1][0])
    return _write(job, model, metadata, started, cpu)


def _plan(job: TrainingJob, split: int, rows: int) -> list[tuple[int, bool]]:
    """Return the fits as (end of their rows, whether to measure them on the rest)."""
    if split == rows:
        return [(rows, False)]
    if job.train_until is not None:
        return [(split, True)]
    return [(split, True), (rows, False)]


def _read_frame(job: TrainingJob) -> pl.DataFrame:
    frame = pl.read_parquet(job.frame_path, memory_map=False)
    keys = {"place_id", "timestamp", "actual", "naive"}
    missing = [name for name in (*job.features, "timestamp", "actual") if name not in frame.columns]
    if missing:
        raise SchemaMismatchError(job.features, tuple(name for name in frame.columns if name not in keys))
    if len(frame) < MIN_ROWS:
        raise InsufficientDataError(len(frame), MIN_ROWS, "training")
    return frame.sort("timestamp", maintain_order=True)


def feature_rows(frame: pl.DataFrame, features: tuple[str, ...]) -> NDArray[np.float32]:
    """Return float32 rows in Fortran order, columns in the order of `features`, infinities as missing."""
    rows = np.empty((len(frame), len(features)), dtype=np.float32, order="F")
    with np.errstate(over="ignore"):
        for index, name in enumerate(features):
            column = frame[name]
            if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
                raise SchemaMismatchError(
                    features, (*features[:index], f"{name} ({column.dtype})", *features[index + 1 :])
                )
            rows[:, index] = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    rows[~np.isfinite(rows)] = np.nan
    return rows


def _check_target(target: NDArray[np.float64], loss: str, frame: pl.DataFrame) -> None:
    bad = ~np.isfinite(target) | (np.abs(target) > LARGEST_TARGET)
    if bad.any():
        raise TargetError(f"{_where(bad, frame, target)} Remove rows without a finite actual before training.")
    if loss.startswith(POSITIVE_LOSSES) and (target < 0).any():
        raise TargetError(f"{_where(target < 0, frame, target)} The loss {loss} needs actuals of zero or more.")
    if target.min() == target.max():
        raise TargetError(f"All {len(target)} actuals are {target[0]:g}; there is nothing to learn. Check the source.")


def _where(bad: NDArray[np.bool_], frame: pl.DataFrame, target: NDArray[np.float64]) -> str:
    first = int(np.flatnonzero(bad)[0])
    place = f"place {frame['place_id'][first]!r}, " if "place_id" in frame.columns else ""
    return f"{int(bad.sum())} of {len(bad)} actuals cannot be used, the first is {target[first]!r} ({place}timestamp {frame['timestamp'][first]!r})."


def _read_base(job: TrainingJob) -> "CatBoostRegressor | None":
    if job.base_model_path is None:
        return None
    data = read_model_file(job.base_model_path, DEFAULT_LIMIT_BYTES)
    if job.base_sha256 is not None and hashlib.sha256(data).hexdigest() != job.base_sha256:
        raise IncompatibleBaseError(
            f"The base {Path(job.base_model_path).name} is not the file that was committed. Run `demand-maint verify`."
        )
    base = parse_cbm(data)
    facts = model_facts(base)
    if facts["features"] != job.features:
        raise SchemaMismatchError(facts["features"], job.features)
    if not same_loss(facts["loss"], job.loss):
        raise IncompatibleBaseError(
            f"The base was trained with {facts['loss']}, the fine-tune asks for {job.loss}: CatBoost would accept that and answer nonsense. "
            "Use the base's loss, or do a full retrain."
        )
    asked, has = job.params.get("grow_policy"), training_params(base)["grow_policy"]
    if asked is not None and asked != has:
        raise IncompatibleBaseError(
            f"The base grew its trees by {has}, the fine-tune asks for {asked}; they cannot be mixed. Do a full retrain."
        )
    return base


def same_loss(one: str, other: str) -> bool:
    """Whether two spellings name one loss (parameters may stand in any order)."""
    return _loss_parts(one) == _loss_parts(other)


def _loss_parts(text: str) -> tuple[str, frozenset[str]]:
    name, _, params = text.partition(":")
    return name.strip(), frozenset(part.strip() for part in params.replace(",", ";").split(";") if part.strip())


def _params(job: TrainingJob, base: "CatBoostRegressor | None") -> dict[str, Any]:
    inherited = {}
    if base is not None:
        stored = training_params(base)
        inherited = {key: stored[key] for key in INHERITED if key in stored}
    own: dict[str, Any] = {
        "loss_function": job.loss,
        "iterations": job.iterations,
        "learning_rate": job.learning_rate,
        "random_seed": job.seed,
        "thread_count": job.threads,
        "allow_writing_files": False,
        "verbose": False,
    }
    if job.depth is not None:
        own["depth"] = job.depth
    return {**inherited, **job.params, **own}


def _split(stamps: NDArray[Any], job: TrainingJob) -> int:
    """First row that is not trained on in the measured fit; rows of one moment stay on one side."""
    total = len(stamps)
    if job.train_until is not None:
        split = int(np.searchsorted(stamps, job.train_until, side="left"))
        if split < MIN_ROWS:
            raise InsufficientDataError(split, MIN_ROWS, "training before the holdout", "Collect longer.")
        return split
    if job.validation <= 0:
        return total
    wanted = max(1, round(total * (1 - job.validation)))
    split = int(np.searchsorted(stamps, stamps[min(wanted, total - 1)], side="left"))
    return split if split >= MIN_ROWS // 2 else min(wanted, total - 1)


def _fit(
    params: dict[str, Any],
    job: TrainingJob,
    rows: NDArray[np.float32],
    target: NDArray[np.float64],
    held_back: tuple[NDArray[np.float32], NDArray[np.float64]] | None,
    base: "CatBoostRegressor | None",
    callback: _EachTree,
) -> "CatBoostRegressor":
    from catboost import CatBoostError, CatBoostRegressor, Pool  # noqa: PLC0415  # costs a second: only in the child

    if target.min() == target.max():
        raise TargetError(f"All {len(target)} actuals before the held-back rows are {target[0]:g}. Collect longer.")
    names = list(job.features)
    model = CatBoostRegressor(**params)
    pool = Pool(rows, target, feature_names=names)
    watched = Pool(*held_back, feature_names=names) if held_back is not None else None
    try:
        model.fit(pool, eval_set=watched, use_best_model=False, init_model=base, callbacks=[callback])
    except CatBoostError as error:
        if callback.control.cancelled.is_set():
            callback.control.check()
        if base is not None and "initial model" in str(error).lower():
            raise IncompatibleBaseError(f"CatBoost refuses this base: {error}. Do a full retrain.") from error
        raise
    return model


def _check_growth(model: "CatBoostRegressor", base: "CatBoostRegressor | None", job: TrainingJob) -> None:
    before = base.tree_count_ if base is not None else 0
    if not before < model.tree_count_ <= before + job.iterations:
        raise IncompatibleBaseError(
            f"The base has {before} trees, {job.iterations} were asked for, and {model.tree_count_} came out. Do a full retrain."
        )


def _metadata(
    job: TrainingJob,
    model: "CatBoostRegressor",
    measured: "CatBoostRegressor | None",
    base: "CatBoostRegressor | None",
    frame: pl.DataFrame,
    rows: NDArray[np.float32],
    split: int,
    trained: int,
) -> ModelMetadata:
    grid = TimeGrid(job.zone, 3600)
    notes: dict[str, Any] = {"model_id": uuid.uuid4().hex, "schema": schema_hash(job.features), "seed": job.seed}
    metrics: dict[str, float] = {}
    baseline, levels = None, {}
    if measured is not None:
        held, predicted = frame[split:], CatBoostModel(measured).predict(rows[split:])
        source: Literal["holdout", "out_of_sample"] = "holdout" if job.train_until is not None else "out_of_sample"
        metrics = errors(held, predicted)
        baseline = make_baseline(held, predicted, grid, source)
        levels = place_levels(held, predicted, grid)
        notes["validation"] = _overfitting(measured)
        if base is not None:
            metrics |= {
                f"base_{key}": value
                for key, value in errors(held, CatBoostModel(base).predict(rows[split:])).items()
                if key in {"mae", "rmse"}
            }
    stamps = frame["timestamp"]
    return ModelMetadata(
        features=job.features,
        loss=loss_of(model),
        kind=job.kind,
        created_at=job.created_at,
        params=training_params(model),
        trees=int(model.tree_count_),
        rows=trained,
        trained_since=float(stamps[0]),
        trained_until=float(stamps[trained - 1]),
        parent=job.parent,
        base=job.base,
        metrics=metrics,
        baseline=baseline,
        importances=CatBoostModel(model).importances(),
        quantiles=feature_quantiles(rows[:trained], job.features),
        levels=levels,
        feature_builder=job.feature_builder,
        horizon_seconds=job.horizon_seconds,
        notes=notes,
    )


def _overfitting(model: "CatBoostRegressor") -> dict[str, float]:
    """Where the error on the held-back rows was lowest, and how far above that it ended."""
    curves = model.get_evals_result().get("validation", {})
    curve = np.asarray(next(iter(curves.values()), []), dtype=np.float64)
    if not len(curve) or not np.isfinite(curve).all() or curve.min() <= 0:
        return {}
    best = int(curve.argmin())
    return {
        "best_tree": best + 1,
        "best": float(curve[best]),
        "last": float(curve[-1]),
        "rise": float(curve[-1] / curve[best] - 1),
    }


def _write(
    job: TrainingJob, model: "CatBoostRegressor", metadata: ModelMetadata, started: float, cpu: float
) -> TrainingOutcome:
    own = {
        "id": metadata.notes["model_id"],
        "schema": metadata.notes["schema"],
        "name": job.name,
        "kind": job.kind,
        "parent": "" if job.parent is None else str(job.parent),
        "base": "" if job.base is None else str(job.base),
        "created_at": repr(job.created_at),
        "trained_until": repr(metadata.trained_until),
    }
    inside = model.get_metadata()
    for key, value in own.items():
        inside[f"{OWN_KEYS}{key}"] = value
    door = Door(job.output_directory)
    door.write_frame(f"{job.name}.cbm", lambda path: model.save_model(str(path)))
    text = msgspec.json.format(json.dumps(msgspec.to_builtins(metadata), allow_nan=False), indent=2)
    door.replace(f"{job.name}_metadata.json", text.encode())
    return TrainingOutcome(
        model_path=str(door.path(f"{job.name}.cbm")),
        metadata_path=str(door.path(f"{job.name}_metadata.json")),
        metrics=metadata.metrics,
        rows=metadata.rows,
        trees=metadata.trees,
        cpu_seconds=cpu_seconds() - cpu,
        wall_seconds=SystemClock().monotonic() - started,
    )
