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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

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
from demand_maint._training.training_rows import TrainingRows, read_rows
from demand_maint.clock import SystemClock
from demand_maint.core.jobs import TrainingJob, TrainingOutcome
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline, ModelMetadata
from demand_maint.errors import (
    CatBoostMissingError,
    IncompatibleBaseError,
    SchemaMismatchError,
    TargetError,
    TrainingCancelledError,
)

if TYPE_CHECKING:
    from catboost import CatBoostRegressor

__all__ = ["INHERITED", "FitControl", "same_loss", "schema_hash", "train"]

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
    rows = read_rows(job)
    base = _read_base(job)
    fits = _plan(job, rows)
    trees = job.iterations * len(fits)
    model, measured = None, None
    for number, (end, measure) in enumerate(fits):
        control.check()
        model = _fit(job, rows, end, base, _EachTree(control, number * job.iterations, trees), measure=measure)
        control.check()
        _check_growth(model, base, job)
        if measure:
            measured = model
    assert model is not None
    control.report(trees, trees)
    metadata = _metadata(job, model, measured, base, rows, fits[-1][0])
    return _write(job, model, metadata, started, cpu)


def _plan(job: TrainingJob, rows: TrainingRows) -> list[tuple[int, bool]]:
    """Return the fits as (end of their rows, whether to measure them on the rest)."""
    if job.train_until is not None:
        return [(rows.split, rows.split < len(rows))]
    if rows.split == len(rows):
        return [(len(rows), False)]
    return [(rows.split, True), (len(rows), False)]


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


def _fit(
    job: TrainingJob,
    rows: TrainingRows,
    end: int,
    base: "CatBoostRegressor | None",
    callback: _EachTree,
    *,
    measure: bool,
) -> "CatBoostRegressor":
    """Fit on the first `end` rows; `measure` also follows the error on the rest."""
    try:
        from catboost import CatBoostError, CatBoostRegressor, Pool  # noqa: PLC0415  # costs a second: only in the child
    except ImportError as error:
        raise CatBoostMissingError(str(error)) from error

    target = rows.target[:end]
    if target.min() == target.max():
        raise TargetError(f"All {len(target)} actuals before the held-back rows are {target[0]:g}. Collect longer.")
    names = list(job.features)
    model = CatBoostRegressor(**_params(job, base))
    watched = Pool(rows.matrix[end:], rows.target[end:], feature_names=names) if measure else None
    try:
        model.fit(
            Pool(rows.matrix[:end], target, feature_names=names),
            eval_set=watched,
            use_best_model=False,
            init_model=base,
            callbacks=[callback],
        )
    except CatBoostError as error:
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
    rows: TrainingRows,
    trained: int,
) -> ModelMetadata:
    notes: dict[str, Any] = {"model_id": uuid.uuid4().hex, "schema": schema_hash(job.features), "seed": job.seed}
    figures = _Figures()
    if measured is not None:
        figures = _measure(job, measured, base, rows)
        notes["validation"] = _overfitting(measured)
    return ModelMetadata(
        features=job.features,
        loss=loss_of(model),
        kind=job.kind,
        created_at=job.created_at,
        params=training_params(model),
        trees=int(model.tree_count_),
        rows=trained,
        trained_since=rows.stamp(0),
        trained_until=rows.stamp(trained - 1),
        parent=job.parent,
        base=job.base,
        metrics=figures.metrics,
        baseline=figures.baseline,
        importances=CatBoostModel(model).importances(),
        quantiles=feature_quantiles(rows.matrix[:trained], job.features),
        levels=figures.levels,
        feature_builder=job.feature_builder,
        horizon_seconds=job.horizon_seconds,
        notes=notes,
    )


@dataclass(frozen=True)
class _Figures:
    metrics: dict[str, float] = field(default_factory=dict)
    baseline: Baseline | None = None
    levels: dict[str, list[float]] = field(default_factory=dict)


def _measure(
    job: TrainingJob, model: "CatBoostRegressor", base: "CatBoostRegressor | None", rows: TrainingRows
) -> _Figures:
    """Figures on the held-back rows; the base's own stand beside (it may have been trained on them)."""
    grid, held, matrix = TimeGrid(job.zone, 3600), rows.frame[rows.split :], rows.matrix[rows.split :]
    predicted = CatBoostModel(model).predict(matrix)
    metrics = errors(held, predicted)
    if base is not None:
        before = errors(held, CatBoostModel(base).predict(matrix))
        metrics |= {f"base_{key}": before[key] for key in ("mae", "rmse")}
    source: Literal["holdout", "out_of_sample"] = "holdout" if job.train_until is not None else "out_of_sample"
    return _Figures(metrics, make_baseline(held, predicted, grid, source), place_levels(held, predicted, grid))


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
    door.makedirs()

    def save(path: Path) -> None:
        model.save_model(str(path))
        metadata.notes["model_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()

    door.write_frame(f"{job.name}.cbm", save)
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
