"""From rows in memory to a job on disk: one checked Parquet frame in ``data/models/work``, and the numbers that go with it."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._storage.layout import STAGING, WORK
from demand_maint._storage.registry import Registry
from demand_maint._storage.stamps import EARLIEST, LATEST, stamp_reader
from demand_maint._training.backend import INHERITED
from demand_maint.config import Config, TrainingConfig
from demand_maint.core.jobs import JobKind, TrainingJob
from demand_maint.core.schema import FeatureSchema, column_of
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import DemandMaintError, IncompatibleBaseError, TargetError

__all__ = ["BaseModel", "base_from_version", "build_job", "clean_up", "training_frame"]

DAY = 86400.0
# a full retrain is measured on the newest weeks, however long its history is
LONGEST_VALIDATION_DAYS = 28.0
KEYS = ("place_id", "timestamp", "actual", "naive")


class BaseModel(Struct, frozen=True, kw_only=True):
    """A model to train on from: where its proven bytes are, and what has to fit."""

    path: str
    sha256: str
    features: tuple[str, ...]
    loss: str
    version: int | None = None
    metadata: ModelMetadata | None = None


def base_from_version(registry: Registry, number: int) -> BaseModel:
    """Return a registered version as a base."""
    version = registry.version(number)
    return BaseModel(
        path=str(registry.model_path(number)),
        sha256=version.hashes.model,
        features=version.metadata.features,
        loss=version.metadata.loss,
        version=number,
        metadata=version.metadata,
    )


def training_frame(
    features: Any,
    actual: Any,
    names: tuple[str, ...],
    *,
    timestamps: Any = None,
    place_ids: Any = None,
    naive: Any = None,
    zone: str = "UTC",
) -> pl.DataFrame:
    """Put what a user holds into the frame a job reads.

    Parameters
    ----------
    features
        Frame (Polars, pandas), dicts, or array with the columns of `names` in that order. Columns ``place_id``, ``timestamp`` and
        ``naive`` beside the features are used where the arguments of those names are not given.
    actual
        One number per row.
    timestamps
        Epoch seconds, datetimes or ISO text; without them the rows have to be in time order.
    zone
        Of naive timestamps.

    Raises
    ------
    SchemaMismatchError
        A feature is missing, or an array has another width.
    TargetError
        Another number of actuals than rows, or one that is no number.
    """
    rows = FeatureSchema(names).rows(features)
    columns: dict[str, Any] = {}
    places = place_ids if place_ids is not None else column_of(features, "place_id")
    if places is not None:
        columns["place_id"] = places if _is_plain(places) else _places(_listed(places))
    stamps = timestamps if timestamps is not None else column_of(features, "timestamp")
    if stamps is not None:
        columns["timestamp"] = _epochs(stamps, zone)
    columns["actual"] = _numbers(actual)
    reference = naive if naive is not None else column_of(features, "naive")
    if reference is not None:
        columns["naive"] = _numbers(reference)
    for name, values in columns.items():
        if len(values) != len(rows):
            raise TargetError(f"{len(rows)} rows of features, but {len(values)} values of {name!r}. Give one per row.")
    return pl.DataFrame(columns | {name: rows[:, index] for index, name in enumerate(names)})


def _is_plain(values: Any) -> bool:
    """Whether a Polars column is of whole numbers or texts already: a loop over its rows would hold the interpreter."""
    return isinstance(values, pl.Series) and (values.dtype.is_integer() or values.dtype == pl.String)


def _floats(values: Any) -> NDArray[np.float64] | None:
    """Values of a Polars column of numbers, NaN where there is none; ``None`` for everything else."""
    if not isinstance(values, pl.Series) or not values.dtype.is_numeric():
        return None
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _listed(values: Any) -> list[Any]:
    for method in ("to_list", "tolist"):
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def _places(values: list[Any]) -> list[Any]:
    """Keep one type: ids of mixed types become text."""
    return values if len({type(value) for value in values}) <= 1 else [str(value) for value in values]


def _epochs(stamps: Any, zone: str) -> NDArray[np.float64]:
    numbers = _floats(stamps)
    if numbers is not None and ((numbers >= EARLIEST) & (numbers <= LATEST)).all():
        return numbers
    read, values = stamp_reader(zone), _listed(stamps)
    try:
        return np.array([read(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TargetError(f"A row has no usable timestamp: {error} Remove the row or mend it.") from error


def _numbers(values: Any) -> NDArray[np.float64]:
    plain = _floats(values)
    if plain is not None:
        return plain
    try:
        found = np.array([np.nan if value is None else value for value in _listed(values)], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TargetError(f"A row's actual is no number: {error}. Give numbers.") from error
    if found.ndim != 1:
        raise TargetError(f"Actuals have {found.ndim} dimensions, one is needed. Pass one number per row.")
    return found


def build_job(
    kind: JobKind,
    frame: pl.DataFrame,
    features: tuple[str, ...],
    *,
    door: Door,
    config: Config,
    now: float,
    base: BaseModel | None = None,
    train_until: float | None = None,
    output_directory: str | Path | None = None,
    iterations: int | None = None,
    learning_rate: float | None = None,
    validation: float | None = None,
) -> TrainingJob:
    """Write `frame` for the child and describe the fit.

    Parameters
    ----------
    kind
        ``fine_tune`` continues `base`; ``full`` starts from nothing, with the parameters of `base` where the configuration leaves
        them at their defaults.
    frame
        As `TrainingJob.frame_path` describes it; without ``timestamp`` its rows are taken to be in time order.
    now
        Epoch seconds, for names and metadata.
    output_directory
        Where the challenger goes; the staging folder by default.
    """
    training, tuning = config.training, kind == "fine_tune"
    target = Door(output_directory) if output_directory is not None else Door(door.path(STAGING))
    target.makedirs()
    door.makedirs(WORK)
    name = _free_name("rf_model_finetuned" if tuning else "rf_model_full", now, target)
    frame_name = f"{WORK}/{name}.parquet"
    wanted = [*(key for key in KEYS if key in frame.columns and key not in features), *features]
    # it lives as long as the fit: what is written fast is read fast
    door.write_frame(frame_name, partial(frame.select(wanted).write_parquet, compression="lz4"))
    share = training.validation if validation is None else validation
    settings = _warm_start(base, training) if tuning else _from_scratch(base, training)
    asked = {"iterations": iterations, "learning_rate": learning_rate}
    settings |= {key: value for key, value in asked.items() if value is not None}
    return TrainingJob(
        kind=kind,
        frame_path=str(door.path(frame_name)),
        features=features,
        output_directory=str(target.root),
        name=name,
        parent=base.version if base is not None else None,
        **settings,
        validation=share if tuning else _recent_share(frame, share),
        train_until=train_until,
        seed=training.seed,
        threads=training.threads,
        nice=training.nice,
        deadline_seconds=training.deadline_seconds,
        memory_megabytes=training.memory_megabytes,
        feature_builder=config.features or "demand_maint.features:DemandFeatures",
        horizon_seconds=config.horizon_seconds,
        zone=config.zone,
        rows=len(frame),
        created_at=now,
    )


def _warm_start(base: BaseModel | None, training: TrainingConfig) -> dict[str, Any]:
    """Return the settings of a fine-tune; parameters of the trees come from the base file itself."""
    if base is None:
        raise IncompatibleBaseError("A fine-tune needs a base model. Do a full retrain first.")
    return {
        "base_model_path": base.path,
        "base_sha256": base.sha256,
        "base": _root_version(base),
        "loss": base.loss,
        "iterations": training.fine_tune_iterations,
        "learning_rate": training.fine_tune_learning_rate,
        "params": {"border_count": training.fine_tune_border_count},
    }


def _from_scratch(base: BaseModel | None, training: TrainingConfig) -> dict[str, Any]:
    """Return the settings of a full retrain: those the configuration changes, else the last full retrain's, else the defaults."""
    defaults = TrainingConfig()
    own = {
        "iterations": training.full_iterations,
        "learning_rate": training.full_learning_rate,
        "depth": training.full_depth,
    }
    metadata = base.metadata if base is not None else None
    told = dict(metadata.params) if metadata is not None else {}
    # metadata of an adopted model may say anything; of a fine-tune, how it was continued and not how it began
    tuned = metadata is not None and metadata.kind == "fine_tune"
    known = {*INHERITED} - {"border_count"} if tuned else {*INHERITED, *own}
    inherited = {key: value for key, value in told.items() if key in known}
    if inherited.get("grow_policy") == "SymmetricTree":
        del inherited["grow_policy"]
    chosen = {key: value for key, value in own.items() if value != getattr(defaults, f"full_{key}")}
    given = {**own, **inherited, **chosen}
    keeps_loss = base is not None and training.loss == defaults.loss and base.loss != "unknown"
    return {
        "loss": base.loss if base is not None and keeps_loss else training.loss,
        "iterations": int(given.pop("iterations")),
        "learning_rate": float(given.pop("learning_rate")),
        "depth": int(given.pop("depth")),
        "params": given,
    }


def _root_version(base: BaseModel) -> int | None:
    """Return the full retrain that `base` goes back to, itself if it is one."""
    metadata = base.metadata
    chained = metadata is not None and metadata.kind == "fine_tune" and metadata.base is not None
    return metadata.base if chained and metadata is not None else base.version


def _recent_share(frame: pl.DataFrame, share: float) -> float:
    if "timestamp" not in frame.columns or not len(frame):
        return share
    newest = frame["timestamp"].max()
    assert isinstance(newest, int | float)
    recent = int((frame["timestamp"] > newest - LONGEST_VALIDATION_DAYS * DAY).sum())
    return min(share, recent / len(frame))


def _free_name(stem: str, now: float, target: Door) -> str:
    stamp = f"{stem}_{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    taken = set(target.listdir("."))
    name, number = stamp, 1
    while f"{name}.cbm" in taken or f"{name}_metadata.json" in taken:
        number += 1
        name = f"{stamp}-{number}"
    return name


def clean_up(job: TrainingJob, *, challenger: bool = False) -> None:
    """Remove the job's frame, and its challenger too where that is not wanted any more."""
    _remove(Path(job.frame_path))
    if challenger:
        _remove(Path(job.output_directory) / f"{job.name}.cbm")
        _remove(Path(job.output_directory) / f"{job.name}_metadata.json")


def _remove(path: Path) -> None:
    door = Door(path.parent)
    try:
        door.unlink(path.name, missing_ok=True)
    except (OSError, DemandMaintError):
        return
