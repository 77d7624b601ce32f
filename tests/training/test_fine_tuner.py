"""The doors to training, on a real registry and real recorded demand."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import demand_maint
from demand_maint._storage.registry import Registry
from demand_maint._training.in_place import InPlacePool
from demand_maint._training.loading import cbm_to_joblib
from demand_maint._training.pool import WorkerPool
from demand_maint.config import Config, PolicyConfig, TrainingConfig
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import (
    HistoryFileError,
    InsufficientDataError,
    ModelFileError,
    NoChampionError,
    SchemaMismatchError,
    TargetError,
)
from demand_maint.fine_tune_model import FineTuner, fine_tune_from_monitor_data, fine_tune_from_processed_data
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock, drifting_stream
from demand_maint.train_model import FullRetrainer

pytestmark = pytest.mark.catboost
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(demand_maint.__file__).parents[1])}
NOW = 1_700_000_000.0
QUICK = Config(training=TrainingConfig(full_iterations=15, full_depth=3, fine_tune_iterations=10, nice=0))


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """One pool for all, that fits in this process: children are tested elsewhere."""
    with InPlacePool() as shared:
        yield shared


@pytest.fixture
def root(lab: Any, base_bytes: bytes, tmp_path: Path) -> Path:
    """Folder whose champion is the base model, deployed as version 1."""
    folder = tmp_path / "root"
    registry = Registry(folder)
    metadata = ModelMetadata(
        features=lab.features,
        loss="RMSE",
        kind="full",
        created_at=NOW,
        params={"iterations": 20, "depth": 4, "l2_leaf_reg": 5, "model_type": "catboost"},
    )
    version = registry.add_version(base_bytes, metadata)
    registry.commit("init", champion=version.number, base=version.number, who="test", why="test")
    return folder


def tuner(root: Path, pool: WorkerPool, **settings: Any) -> FineTuner:
    """Return a fine-tuner of the production version."""
    return FineTuner(root=root, config=QUICK, clock=VirtualClock(NOW), pool=pool, **settings)


def test_the_export_path_means_the_production_version(lab: Any, root: Path, pool: WorkerPool) -> None:
    """rf_model.joblib as base continues the champion's committed bytes, whatever lies at that path, and names it as parent."""
    export = root / "data/models/rf_model.joblib"
    export.write_bytes(b"damaged export")
    rows = lab.demand(300, seed=1)
    door = FineTuner(str(export), str(root / "data/models/finetuned"), config=QUICK, clock=VirtualClock(NOW), pool=pool)
    outcome = door.fine_tune(rows.drop("actual"), rows["actual"], learning_rate=0.03, iterations=12)
    metadata = lab.metadata(outcome)
    assert (outcome.trees, metadata.parent, metadata.base, metadata.kind) == (32, 1, 1, "fine_tune")
    assert metadata.params["learning_rate"] == pytest.approx(0.03)


def test_outputs_are_staged_under_the_time(lab: Any, root: Path, pool: WorkerPool) -> None:
    """The model and its metadata are called after the UTC moment, a second one in the same second after its number too, and the frame is gone."""
    rows = lab.demand(200, seed=1)
    one = tuner(root, pool).fine_tune(rows, rows["actual"])
    two = tuner(root, pool).fine_tune(rows, rows["actual"])
    staged = root / "data/models/finetuned"
    assert Path(one.model_path) == staged / "rf_model_finetuned_20231114T221320Z.cbm"
    assert Path(one.metadata_path) == staged / "rf_model_finetuned_20231114T221320Z_metadata.json"
    assert Path(two.model_path) == staged / "rf_model_finetuned_20231114T221320Z-2.cbm"
    assert list((root / "data/models/work").iterdir()) == []
    digest = hashlib.sha256(Path(one.model_path).read_bytes()).hexdigest()
    assert lab.metadata(one).notes["model_sha256"] == digest


def test_rows_in_any_dress_give_the_same_model(lab: Any, root: Path, pool: WorkerPool) -> None:
    """Polars, pandas with shuffled columns, an array in the schema's order, and a list of dicts train one and the same model."""
    pandas = pytest.importorskip("pandas")
    rows = lab.demand(200, seed=1)
    features = rows.select(lab.features)
    handed_in: list[tuple[Any, Any]] = [
        (features, rows["actual"]),
        (
            pandas.DataFrame(features.to_dict(as_series=False))[["noise", "lag", "hour"]],
            pandas.Series(rows["actual"].to_list()),
        ),
        (features.to_numpy(), rows["actual"].to_numpy()),
        (features.to_dicts(), rows["actual"].to_list()),
    ]
    asked = lab.matrix(lab.demand(20, seed=9))
    answers = [lab.loaded(tuner(root, pool).fine_tune(x, y)).predict(asked) for x, y in handed_in]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_times_order_the_validation(lab: Any, root: Path, pool: WorkerPool) -> None:
    """Given as epochs, datetimes or ISO text, times decide which rows are newest and until when the model knows the world."""
    rows = lab.demand(300, seed=1).sample(fraction=1.0, shuffle=True, seed=1)
    epochs = rows["timestamp"].to_list()
    newest = max(epochs)
    moments = [datetime.fromtimestamp(stamp, UTC) for stamp in epochs]
    for stamps in (epochs, moments, [moment.isoformat() for moment in moments]):
        outcome = tuner(root, pool).fine_tune(
            rows.select(lab.features), rows["actual"], timestamps=stamps, place_ids=rows["place_id"]
        )
        assert lab.metadata(outcome).trained_until == newest
        assert outcome.metrics["rows"] == 30
        assert set(lab.metadata(outcome).levels) == {"0", "1", "2"}


def test_without_a_pool_a_child_is_started_and_gone_again(lab: Any, root: Path) -> None:
    """The doors need no pool: they start a child of their own and leave nothing running."""
    rows, seen = lab.demand(200, seed=1), []
    door = FineTuner(root=root, config=QUICK, clock=VirtualClock(NOW))
    outcome = door.fine_tune(rows, rows["actual"], on_progress=lambda done, total: seen.append((done, total)))
    assert outcome.trees == 30
    assert seen[-1] == (20, 20)


def test_what_cannot_be_learned_from_is_refused(lab: Any, root: Path, pool: WorkerPool) -> None:
    """A missing feature, an unlabelled array of another width, too many or unusable actuals each have a typed error, and nothing is staged."""
    rows, door = lab.demand(100), tuner(root, pool)
    with pytest.raises(SchemaMismatchError, match="missing: 'noise'"):
        door.fine_tune(rows.drop("noise"), rows["actual"])
    with pytest.raises(SchemaMismatchError, match=r"needs 3 features, 4 columns were given\. Give one"):
        door.fine_tune(np.zeros((100, 4)), rows["actual"])
    with pytest.raises(TargetError, match="100 rows of features, but 99"):
        door.fine_tune(rows, rows["actual"][:99])
    with pytest.raises(TargetError, match="is no number"):
        door.fine_tune(rows, ["many"] * 100)
    with pytest.raises(TargetError, match="1 of 100"):
        door.fine_tune(rows, [None, *rows["actual"].to_list()[1:]])
    with pytest.raises(TargetError, match="timestamp"):
        door.fine_tune(rows.select(lab.features), rows["actual"], timestamps=["tomorrow"] * 100)
    assert list((root / "data/models/finetuned").iterdir()) == []


@pytest.mark.parametrize("suffix", ["cbm", "joblib"])
def test_a_foreign_base_is_examined_first(
    lab: Any, base_bytes: bytes, tmp_path: Path, pool: WorkerPool, suffix: str
) -> None:
    """A model file outside any registry can be continued, after a child has opened it."""
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(base_bytes if suffix == "cbm" else cbm_to_joblib(base_bytes))
    rows = lab.demand(200, seed=1)
    door = FineTuner(path, tmp_path / "staged", root=tmp_path, config=QUICK, pool=pool)
    outcome = door.fine_tune(rows, rows["actual"])
    assert outcome.trees == 30
    assert lab.metadata(outcome).base is None
    assert Path(outcome.model_path).parent == tmp_path / "staged"
    assert list((tmp_path / "data/models/work").iterdir()) == []


def test_without_a_usable_base_there_is_a_typed_error(lab: Any, tmp_path: Path, pool: WorkerPool) -> None:
    """An empty root has no production model; another missing or broken file is a model-file error."""
    rows = lab.demand(50)
    with pytest.raises(NoChampionError):
        FineTuner(root=tmp_path, config=QUICK, pool=pool).fine_tune(rows, rows["actual"])
    with pytest.raises(ModelFileError):
        FineTuner("missing.cbm", root=tmp_path, config=QUICK, pool=pool).fine_tune(rows, rows["actual"])


def deployed_full(root: Path, pool: WorkerPool, lab: Any, config: Config = QUICK) -> tuple[pl.DataFrame, VirtualClock]:
    """Train a first champion with the built-in features on forty days of two places, and deploy it."""
    stream = drifting_stream(places=2, days=40, seed=3)
    clock = VirtualClock(float(str(stream["timestamp"].max())) + 3600)
    outcome = FullRetrainer(root, config, clock, pool=pool).retrain(stream)
    registry = Registry(root, clock=clock)
    version = registry.add_version(Path(outcome.model_path).read_bytes(), lab.metadata(outcome))
    registry.commit("init", champion=version.number, base=version.number, who="test", why="test")
    return stream, clock


def test_a_full_retrain_builds_features_and_beats_the_naive_forecast(
    lab: Any, tmp_path: Path, pool: WorkerPool
) -> None:
    """From place, time and actual alone comes a model with the builder's features that is measured out of sample on recent weeks."""
    config = Config(training=TrainingConfig(full_iterations=60, full_learning_rate=0.15, nice=0))
    stream = drifting_stream(places=1, days=300, seed=3)
    outcome = FullRetrainer(tmp_path, config, VirtualClock(NOW), pool=pool).retrain(stream)
    metadata = lab.metadata(outcome)
    assert (metadata.kind, metadata.base, metadata.rows) == ("full", None, len(stream))
    assert len(metadata.features) >= 20
    assert outcome.metrics["mae"] < outcome.metrics["naive_mae"]
    assert metadata.baseline is not None
    assert metadata.baseline.days <= 29
    assert metadata.trained_until == stream["timestamp"].max()
    assert Path(outcome.model_path).name.startswith("rf_model_full_")


def test_recorded_demand_is_fine_tuned_on(lab: Any, tmp_path: Path, pool: WorkerPool) -> None:
    """What the monitor recorded, with features it builds itself, continues the last full retrain."""
    stream, clock = deployed_full(tmp_path, pool, lab)
    with ModelMonitor(tmp_path, config=QUICK, clock=clock) as monitor:
        for place, stamp, actual in stream[-1000:].select("place_id", "timestamp", "actual").iter_rows():
            monitor.log_prediction_vs_actual(place, stamp, actual + 1.0, actual)
        with pytest.raises(InsufficientDataError, match="1000000 needed"):
            fine_tune_from_monitor_data(30, 1_000_000, tmp_path, config=QUICK, clock=clock, monitor=monitor)
        outcome = fine_tune_from_monitor_data(30, 100, tmp_path, config=QUICK, clock=clock, monitor=monitor, pool=pool)
    metadata = lab.metadata(outcome)
    assert (metadata.kind, metadata.base, metadata.parent, metadata.trees) == ("fine_tune", 1, 1, 25)
    assert metadata.features == Registry(tmp_path).version(1).metadata.features
    assert {"mae", "naive_mae"} <= set(outcome.metrics)


def test_fine_tunes_start_from_the_base_unless_they_shall_chain(lab: Any, tmp_path: Path, pool: WorkerPool) -> None:
    """With a fine-tune as champion the next one still starts from the full retrain; the policy can say otherwise."""
    stream, clock = deployed_full(tmp_path, pool, lab)
    (tmp_path / "data/processed").mkdir(parents=True)
    stream.write_parquet(tmp_path / "data/processed/demand.parquet")
    first = fine_tune_from_processed_data(tmp_path, config=QUICK, clock=clock, pool=pool)
    registry = Registry(tmp_path, clock=clock)
    version = registry.add_version(Path(first.model_path).read_bytes(), lab.metadata(first))
    registry.commit("deploy", champion=version.number, base=1, who="test", why="test")
    assert fine_tune_from_processed_data(tmp_path, config=QUICK, clock=clock, pool=pool).trees == 25
    chained = Config(training=QUICK.training, policy=PolicyConfig(chain_fine_tunes=True))
    assert fine_tune_from_processed_data(tmp_path, config=chained, clock=clock, pool=pool).trees == 35
    tuned = FineTuner(root=tmp_path, config=QUICK, clock=clock, pool=pool)
    job = tuner(tmp_path, pool).prepare(np.zeros((30, len(tuned.base().features))), np.arange(30.0))
    assert (job.parent, job.base) == (2, 1)


def test_processed_files_may_hold_features_or_demand(lab: Any, root: Path, pool: WorkerPool) -> None:
    """CSV and Parquet with the model's features are read together; what lacks columns, rows or files is a typed error that names it."""
    folder = root / "data/processed"
    settings: dict[str, Any] = {"config": QUICK, "clock": VirtualClock(NOW), "pool": pool}
    with pytest.raises(InsufficientDataError, match="data/processed"):
        fine_tune_from_processed_data(root, **settings)
    folder.mkdir(parents=True)
    lab.demand(150, seed=1).write_parquet(folder / "a.parquet")
    with pytest.raises(InsufficientDataError, match="150 samples, 200 needed"):
        fine_tune_from_processed_data(root, min_samples=200, **settings)
    lab.demand(150, seed=2).with_columns(timestamp=pl.from_epoch("timestamp")).write_csv(folder / "b.csv")
    outcome = fine_tune_from_processed_data(root, min_samples=200, **settings)
    assert (outcome.rows, outcome.trees) == (300, 30)
    lab.demand(20).drop("actual").write_csv(folder / "c.csv")
    with pytest.raises(HistoryFileError, match=r"c\.csv lacks 'actual'"):
        fine_tune_from_processed_data(root, **settings)
    (folder / "c.csv").write_bytes(b"\xff\xfe\x00")
    (folder / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(HistoryFileError, match=r"data/processed/[cd]\."):
        fine_tune_from_processed_data(root, **settings)


def test_a_retrain_takes_the_bases_parameters_unless_configured(lab: Any, root: Path, pool: WorkerPool) -> None:
    """What the last full retrain was trained with is kept; a setting that was changed from its default wins."""
    rows = lab.demand(300)
    plain = FullRetrainer(root, Config(), VirtualClock(NOW), pool=pool).prepare(rows)
    assert (plain.iterations, plain.depth, plain.params, plain.loss) == (20, 4, {"l2_leaf_reg": 5}, "RMSE")
    chosen = FullRetrainer(root, QUICK, VirtualClock(NOW), pool=pool).prepare(rows)
    assert (chosen.iterations, chosen.depth, chosen.params["l2_leaf_reg"]) == (15, 3, 5)
    assert lab.fit(chosen).trees == 15


def test_a_retrain_of_a_users_own_features_uses_what_was_logged(lab: Any, root: Path, pool: WorkerPool) -> None:
    """A model whose features no builder makes is retrained on the feature rows that were logged with its predictions."""
    rows, clock = lab.demand(720, start=NOW - 240 * 3600), VirtualClock(NOW)
    config = Config(training=QUICK.training, policy=PolicyConfig(feed_fault_guard=False))  # all comes at once, so late
    with ModelMonitor(root, config=config, clock=clock) as monitor:
        for row in rows.iter_rows(named=True):
            features = {name: row[name] for name in lab.features}
            monitor.log_prediction(row["place_id"], row["timestamp"], row["actual"] + 1, features=features)
            monitor.log_actual(row["place_id"], row["timestamp"], row["actual"])
        outcome = FullRetrainer(root, config, clock, monitor=monitor, pool=pool).retrain()
    assert lab.metadata(outcome).features == lab.features
    assert outcome.rows == 720


def test_too_little_history_is_said(tmp_path: Path, pool: WorkerPool) -> None:
    """A full retrain on a handful of rows tells how many there are and what to do."""
    with pytest.raises(InsufficientDataError, match=r"full retrain: 48 samples, 100 needed\..*init --history"):
        FullRetrainer(tmp_path, QUICK, VirtualClock(NOW), pool=pool).retrain(drifting_stream(places=2, days=1))


def test_loading_the_doors_loads_no_catboost() -> None:
    """Importing the trainers costs no CatBoost; it is loaded where a model is touched."""
    code = "import sys, demand_maint.fine_tune_model, demand_maint.train_model; print('catboost' in sys.modules, 'joblib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout.split() == ["False", "False"]
