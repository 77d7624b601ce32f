"""Foreign model files, examined in a child: good ones come back canonical, bad ones never hurt the parent."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest
from catboost import CatBoostRegressor

from demand_maint._training.inspection import inspect
from demand_maint._training.loading import load_model
from demand_maint._training.pool import WorkerPool
from demand_maint._training.requests import EvaluateJob, InspectJob
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import (
    DamagedModelError,
    IncompatibleBaseError,
    ModelFileError,
    ModelTooLargeError,
    SchemaMismatchError,
)

pytestmark = pytest.mark.catboost


def metadata(**changes: Any) -> ModelMetadata:
    """Metadata that fit the base."""
    known: dict[str, Any] = {"features": ("lag", "hour", "noise"), "loss": "RMSE", "kind": "foreign", "created_at": 0.0}
    return ModelMetadata(**(known | changes))


def test_a_cbm_comes_back_as_it_was(lab: Any) -> None:
    """The canonical copy of a .cbm has its very bytes, and its structure and answers are told."""
    with WorkerPool() as pool:
        found = pool.inspect(lab.base, metadata(), [[0.0, 8.0, 0.0]], output_directory=lab.out)
    data = Path(found.cbm_path).read_bytes()
    assert data == lab.base.read_bytes()
    assert (found.sha256, found.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (found.features, found.loss, found.trees, found.dimension) == (lab.features, "RMSE", 20, 1)
    assert found.sample_predictions == load_model(data).predict(np.array([[0, 8, 0]], dtype=np.float32)).tolist()
    assert found.params["depth"] == 4


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 1), ("xz", 1)])
def test_a_joblib_dump_becomes_a_cbm(lab: Any, base_bytes: bytes, compress: Any) -> None:
    """Whatever joblib compressed it with, the dump of a model becomes a .cbm with the same predictions."""
    model = CatBoostRegressor()
    model.load_model(blob=base_bytes)
    path = lab.folder / "foreign.joblib"
    joblib.dump(model, path, compress=compress)
    job = InspectJob(path=str(path), output_directory=str(lab.out), name="seen", features=lab.features)
    found = inspect(job)
    rows = lab.matrix(lab.demand(30, seed=5))
    served = load_model(Path(found.cbm_path).read_bytes(), sha256=found.sha256)
    np.testing.assert_array_equal(served.predict(rows), model.predict(rows))


def test_other_features_or_loss_than_the_metadata_say_are_refused(lab: Any) -> None:
    """The message counts and names what differs, as 3 against 4 features."""
    with WorkerPool() as pool:
        with pytest.raises(SchemaMismatchError, match="needs 4 features, 3 were given; missing: 'rain'"):
            pool.inspect(lab.base, metadata(features=("lag", "hour", "noise", "rain")), output_directory=lab.out)
        with pytest.raises(IncompatibleBaseError, match="RMSE, Poisson is expected"):
            pool.inspect(lab.base, metadata(loss="Poisson"), output_directory=lab.out)


def test_a_staged_model_that_changed_since_is_refused(lab: Any) -> None:
    """Our own metadata note the sha256 of the model beside them, and inspection compares it."""
    outcome = lab.fit(lab.job())
    staged, noted = Path(outcome.model_path), lab.metadata(outcome)
    with WorkerPool() as pool:
        assert pool.inspect(staged, noted, output_directory=lab.out).sha256 == noted.notes["model_sha256"]
        staged.write_bytes(lab.base.read_bytes())
        with pytest.raises(DamagedModelError, match="changed since"):
            pool.inspect(staged, noted, output_directory=lab.out)


def test_unreadable_and_overlong_files_are_refused(lab: Any) -> None:
    """What is refused before parsing keeps its own error class across the process border."""
    with WorkerPool() as pool:
        with pytest.raises(ModelTooLargeError):
            pool.inspect(lab.base, output_directory=lab.out, limit_bytes=100)
        with pytest.raises(ModelFileError, match="regular file"):
            pool.inspect(lab.folder, output_directory=lab.out)
        (lab.folder / "text.joblib").write_text("hello")
        with pytest.raises(DamagedModelError):
            pool.inspect(lab.folder / "text.joblib", output_directory=lab.out)
    assert list(lab.out.iterdir()) == []


def test_a_damaged_file_never_hurts_the_parent(lab: Any, base_bytes: bytes, *, big: bool) -> None:
    """Flipped or cut, a file is either refused with a type or answers as a whole model; a crash of its parser stays in the child."""
    rng = np.random.default_rng(1)
    path = lab.folder / "damaged.cbm"
    with WorkerPool() as pool:
        for _ in range(600 if big else 3):
            damaged = bytearray(base_bytes[: rng.integers(len(base_bytes) // 2, len(base_bytes) + 1)])
            for _ in range(int(rng.integers(1, 4))):
                damaged[rng.integers(8, len(damaged))] ^= int(rng.integers(1, 256))
            path.write_bytes(damaged)
            try:
                found = pool.inspect(path, output_directory=lab.out, memory_megabytes=1500, deadline_seconds=5)
            except (ModelFileError, SchemaMismatchError):
                continue
            assert np.isfinite(found.sample_predictions).all()
        assert pool.inspect(lab.base, output_directory=lab.out).trees == 20


def test_a_parser_that_hangs_or_crashes_is_a_damaged_model(lab: Any) -> None:
    """The child's death by a file is told as a fault of the file, and says what happened."""
    worker = str(Path(__file__).with_name("bad_worker.py"))
    for way, reason in (("segfault", "crashed"), ("hangs", "deadline"), ("grabs_memory", "memory")):
        with (
            WorkerPool(command=[sys.executable, worker, way]) as pool,
            pytest.raises(DamagedModelError, match=f"could not be examined .{reason}"),
        ):
            pool.inspect(lab.base, output_directory=lab.out, deadline_seconds=1.5, memory_megabytes=300)


def test_looking_at_a_file_does_not_wait_for_a_training(lab: Any) -> None:
    """With the only slot taken by a long fit, an operator's deploy is examined at once."""
    with WorkerPool(slots=1, grace=0.5) as pool:
        busy = pool.submit(lab.job(iterations=200_000))
        assert pool.inspect(lab.base, output_directory=lab.out).trees == 20
        assert not busy.done()


def test_an_evaluation_predicts_every_row(lab: Any, base_bytes: bytes) -> None:
    """The Parquet file of an evaluation has the frame's keys in its order beside the model's predictions, and the right errors."""
    frame = lab.demand(90, seed=4)
    frame.write_parquet(lab.folder / "rows.parquet")
    job = EvaluateJob(
        model_path=str(lab.base),
        frame_path=str(lab.folder / "rows.parquet"),
        output_directory=str(lab.out),
        name="told",
    )
    with WorkerPool() as pool:
        found = pool.run(job)
    table = pl.read_parquet(found.predictions_path)
    predicted = load_model(base_bytes).predict(lab.matrix(frame))
    assert table.select("place_id", "timestamp", "actual", "naive").equals(
        frame.select("place_id", "timestamp", "actual", "naive")
    )
    np.testing.assert_array_equal(table["predicted"].to_numpy(), predicted)
    assert found.rows == 90
    assert found.metrics["mae"] == pytest.approx(np.abs(predicted - frame["actual"].to_numpy()).mean())


def test_an_evaluation_wants_the_committed_bytes_and_the_models_features(lab: Any) -> None:
    """Another digest or a missing column is refused with its type."""
    lab.demand(90).drop("hour").write_parquet(lab.folder / "rows.parquet")
    settings: dict[str, Any] = {
        "model_path": str(lab.base),
        "frame_path": str(lab.folder / "rows.parquet"),
        "output_directory": str(lab.out),
        "name": "told",
    }
    with WorkerPool() as pool:
        with pytest.raises(DamagedModelError, match="sha256"):
            pool.run(EvaluateJob(sha256="0" * 64, **settings))
        with pytest.raises(SchemaMismatchError, match="hour"):
            pool.run(EvaluateJob(**settings))
