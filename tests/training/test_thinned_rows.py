"""A log that is longer than a training can take."""

from pathlib import Path

import polars as pl
import pytest
from msgspec import structs

from demand_maint._training.preparation import clean_up
from demand_maint.config import Config, TrainingConfig
from demand_maint.core.jobs import TrainingJob
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock, drifting_stream
from demand_maint.train_model import FullRetrainer

START, DAY, DAYS, PLACES = 1_699_920_000.0, 86400.0, 40, 3
MOST = 1_000
END = START + DAYS * DAY
FEW = Config(training=TrainingConfig(max_rows=MOST))


@pytest.fixture(scope="module")
def demand() -> pl.DataFrame:
    """Forty days of three places, hourly."""
    return drifting_stream(places=PLACES, days=DAYS, start=START)


def rows_of(job: TrainingJob) -> pl.DataFrame:
    """The rows a job is about; the file is gone afterwards."""
    rows = pl.read_parquet(job.frame_path)
    clean_up(job)
    return rows


def test_a_training_takes_no_more_rows_than_allowed(tmp_path: Path, demand: pl.DataFrame) -> None:
    """What is left is spread over all places and days, and each row is the one it would have been among all."""
    clock = VirtualClock(END)
    few = rows_of(FullRetrainer(tmp_path, FEW, clock).prepare(demand))
    every = rows_of(FullRetrainer(tmp_path, Config(), clock).prepare(demand))
    assert (len(few), len(every)) == (MOST, len(demand))
    assert set(few["place_id"].value_counts()["count"]) <= set(range(300, 367))
    assert (few["timestamp"] // DAY).n_unique() == DAYS
    same = few.select("place_id", "timestamp").join(every, on=["place_id", "timestamp"], maintain_order="left")
    assert same.select(few.columns).equals(few)


def test_only_days_that_are_wanted_are_thinned(tmp_path: Path, demand: pl.DataFrame) -> None:
    """Rows before `full_days` take no room from the others, whether features are built or given."""
    training = structs.replace(FEW.training, full_days=10)
    trainer = FullRetrainer(tmp_path, structs.replace(FEW, training=training), VirtualClock(END))
    for frame in (demand, demand.with_columns(lag=pl.col("actual").shift(24, fill_value=0.0))):
        rows = rows_of(trainer.prepare(frame))
        assert len(rows) == 10 * 24 * PLACES
        assert rows["timestamp"].min() == END - 10 * DAY


def test_recorded_rows_are_thinned_before_features_are_made(tmp_path: Path, demand: pl.DataFrame) -> None:
    """`get_training_data` gives all rows, or as many as asked for."""
    with ModelMonitor(tmp_path, Config(), VirtualClock(END)) as monitor:
        monitor.import_history(demand)
        assert len(monitor.get_training_data(days=30)) == 30 * 24 * PLACES
        rows = monitor.get_training_data(days=30, max_rows=100)
    assert len(rows) == 100
    assert rows["place_id"].n_unique() == PLACES
