"""Looking at a model in a child: what a foreign file holds, and what a model says to given rows."""

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._training.backend import same_loss
from demand_maint._training.loading import (
    CBM_MAGIC,
    DEFAULT_LIMIT_BYTES,
    CatBoostModel,
    load_model,
    model_facts,
    parse_cbm,
    read_model_file,
    training_params,
)
from demand_maint._training.measure import errors
from demand_maint._training.pickles import read_pickle
from demand_maint._training.requests import EvaluateJob, Evaluation, InspectJob, ModelInspection
from demand_maint._training.training_rows import feature_rows
from demand_maint.errors import DamagedModelError, IncompatibleBaseError, SchemaMismatchError

__all__ = ["evaluate", "inspect"]

MADE_UP_ROWS = 32
KEYS = ("place_id", "timestamp", "actual", "naive")


def inspect(job: InspectJob) -> ModelInspection:
    """Read the file, judge its structure, let it predict, and write it as ``.cbm``.

    Raises
    ------
    ModelFileError
        Not a model, a damaged one, one of another kind, or one that answers with anything but finite numbers.
    SchemaMismatchError
        Other features than `job.features`.
    IncompatibleBaseError
        Another loss than `job.loss`.
    """
    data = read_model_file(job.path, job.limit_bytes)
    found = hashlib.sha256(data).hexdigest()
    if job.sha256 is not None and found != job.sha256:
        raise DamagedModelError(
            f"The file's sha256 is {found[:16]}..., its metadata say {job.sha256[:16]}...: it was changed since. Copy it again."
        )
    canonical = data if data.startswith(CBM_MAGIC) else read_pickle(data, job.limit_bytes)
    model = parse_cbm(canonical)
    facts = model_facts(model)
    names: tuple[str, ...] = facts["features"]
    if job.features and names != job.features:
        raise SchemaMismatchError(job.features, names)
    if job.loss is not None and not same_loss(facts["loss"], job.loss):
        raise IncompatibleBaseError(
            f"The model was trained with {facts['loss']}, {job.loss} is expected here. Train it with that loss."
        )
    served = CatBoostModel(model)
    rows = np.asarray(job.rows, dtype=np.float32) if job.rows else _made_up(len(names))
    predicted = served.predict(np.asfortranarray(rows))
    if not np.isfinite(predicted).all():
        raise DamagedModelError(
            f"The model answers {int((~np.isfinite(predicted)).sum())} of {len(predicted)} sample rows with no finite number. Train it again."
        )
    door = Door(job.output_directory)
    door.replace(f"{job.name}.cbm", canonical)
    return ModelInspection(
        features=names,
        trees=facts["trees"],
        loss=facts["loss"],
        dimension=facts["dimension"],
        params=training_params(model),
        own_metadata=served.own_metadata,
        sample_predictions=[float(value) for value in predicted],
        cbm_path=str(door.path(f"{job.name}.cbm")),
        sha256=hashlib.sha256(canonical).hexdigest(),
        size=len(canonical),
    )


def _made_up(width: int) -> NDArray[np.float32]:
    """Rows from tiny to huge, with missing values among them."""
    rows = np.random.default_rng(0).normal(scale=10.0, size=(MADE_UP_ROWS, width)).astype(np.float32)
    rows[0], rows[1], rows[2], rows[3] = 0, 1e6, -1e6, np.nan
    return rows


def evaluate(job: EvaluateJob) -> Evaluation:
    """Predict every row of the frame, and leave the predictions beside its keys as Parquet."""
    model = load_model(read_model_file(job.model_path, DEFAULT_LIMIT_BYTES), sha256=job.sha256)
    frame = pl.read_parquet(job.frame_path, memory_map=False)
    missing = [name for name in model.feature_names if name not in frame.columns]
    if missing:
        raise SchemaMismatchError(model.feature_names, tuple(name for name in frame.columns if name not in KEYS))
    predicted = model.predict(feature_rows(frame, model.feature_names)) if len(frame) else np.empty(0)
    table = frame.select(name for name in KEYS if name in frame.columns).with_columns(predicted=predicted)
    door = Door(job.output_directory)
    door.write_frame(f"{job.name}.parquet", table.write_parquet)
    return Evaluation(
        predictions_path=str(door.path(f"{job.name}.parquet")),
        rows=len(frame),
        metrics=errors(frame, predicted) if "actual" in frame.columns else {},
    )
