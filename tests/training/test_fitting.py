"""One fit as the child does it, here in this process."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from demand_maint._training.backend import FitControl, same_loss, schema_hash, train
from demand_maint._training.loading import load_model
from demand_maint.errors import (
    IncompatibleBaseError,
    InsufficientDataError,
    SchemaMismatchError,
    TargetError,
    TrainingCancelledError,
)

pytestmark = pytest.mark.catboost


FEATURES = ("lag", "hour", "noise")
START = 1_700_000_000.0


def test_a_fine_tune_adds_trees_to_the_base_and_keeps_its_own_trees(lab: Any) -> None:
    """A warm start has the base's trees plus the new ones, and cut to the base's trees it predicts what the base predicts."""
    before = lab.base.read_bytes()
    outcome = lab.fine_tune(lab.demand(300, seed=1, scale=1.3))
    assert outcome.trees == 35
    tuned, base = lab.loaded(outcome), load_model(before)
    rows = lab.matrix(lab.demand(50, seed=2))
    np.testing.assert_allclose(tuned._model.predict(rows, ntree_end=20), base.predict(rows))
    assert lab.base.read_bytes() == before


def test_a_fine_tune_moves_towards_the_new_level(lab: Any) -> None:
    """After demand grew by a third, a hundred gentle trees are nearer to the new rows than the base is."""
    outcome = lab.fine_tune(lab.demand(600, seed=1, scale=1.3), iterations=100)
    assert outcome.metrics["mae"] < 0.6 * outcome.metrics["base_mae"]


def test_fine_tuning_a_fine_tune_appends_no_earlier_trees_again(lab: Any) -> None:
    """Three fine-tunes in a row on the same rows have 20, 35, 50 and 65 trees."""
    trees, path, frame = [], lab.base, lab.demand(300)
    for _ in range(3):
        outcome = lab.fine_tune(frame, base_model_path=str(path))
        path = Path(outcome.model_path)
        trees.append(outcome.trees)
    assert trees == [35, 50, 65]


def test_the_figures_are_those_of_rows_that_were_not_trained_on(lab: Any) -> None:
    """With a holdout the challenger's metrics are its errors on the rows from that moment on, whatever the rows' order."""
    frame = lab.demand(600).sample(fraction=1.0, shuffle=True, seed=3)
    until = START + 150 * 3600
    outcome = lab.fit(lab.job(frame, train_until=until))
    held = frame.filter(pl.col("timestamp") >= until).sort("timestamp", maintain_order=True)
    predicted = lab.loaded(outcome).predict(lab.matrix(held))
    error = np.abs(predicted - held["actual"].to_numpy())
    assert outcome.rows == 450
    assert outcome.metrics["rows"] == 150
    assert outcome.metrics["mae"] == pytest.approx(error.mean())
    assert outcome.metrics["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert outcome.metrics["naive_mae"] == pytest.approx((held["naive"] - held["actual"]).abs().mean())


def test_with_a_validation_share_the_challenger_knows_all_rows(lab: Any) -> None:
    """Ten per cent of the newest rows are measured out of sample, and the model that is kept was fitted on all of them."""
    frame = lab.demand(600)
    measured = lab.fit(lab.job(frame, validation=0.1))
    alone = lab.fit(lab.job(frame, validation=0.0))
    rows = lab.matrix(lab.demand(50, seed=2))
    assert measured.metrics["rows"] == 60
    assert measured.rows == 600
    assert alone.metrics == {}
    np.testing.assert_array_equal(lab.loaded(measured).predict(rows), lab.loaded(alone).predict(rows))
    until = frame["timestamp"][540]
    assert measured.metrics["mae"] == lab.fit(lab.job(frame, train_until=until)).metrics["mae"]


def test_rows_of_one_moment_stay_on_one_side(lab: Any) -> None:
    """The border between training and validation never runs through rows with the same timestamp."""
    frame = lab.demand(500)
    outcome = lab.fit(lab.job(frame, validation=0.1))
    metadata = lab.metadata(outcome)
    assert metadata.baseline is not None
    assert metadata.baseline.since is not None
    assert outcome.metrics["rows"] == frame.filter(pl.col("timestamp") >= metadata.baseline.since).height


def test_rows_without_times_are_taken_in_their_order(lab: Any) -> None:
    """A frame without timestamps trains; its newest tenth is its last one, and no moment is invented."""
    outcome = lab.fit(lab.job(lab.demand(600).drop("timestamp"), validation=0.1))
    metadata = lab.metadata(outcome)
    assert outcome.metrics["rows"] == 60
    assert (metadata.trained_until, metadata.levels) == (None, {})


def test_metadata_say_what_serving_and_judging_need(lab: Any) -> None:
    """Features, loss, parents, baseline, levels per place, quantiles and importances are all there and agree with the data."""
    frame = lab.demand(600, seed=1)
    outcome = lab.fine_tune(frame, base=3, parent=4, validation=0.1, feature_builder="x:y", horizon_seconds=86400)
    metadata = lab.metadata(outcome)
    held = frame[540:]
    assert (metadata.features, metadata.loss, metadata.kind) == (FEATURES, "RMSE", "fine_tune")
    assert (metadata.base, metadata.parent, metadata.trees, metadata.rows) == (3, 4, 35, 600)
    assert (metadata.trained_since, metadata.trained_until) == (START, START + 199 * 3600)
    assert metadata.baseline is not None
    assert metadata.baseline.mae == outcome.metrics["mae"]
    assert metadata.baseline.skill == pytest.approx(outcome.metrics["mae"] / outcome.metrics["naive_mae"])
    assert sum(metadata.importances.values()) == pytest.approx(100)
    assert metadata.levels["1"][0] == pytest.approx(held.filter(pl.col("place_id") == 1)["actual"].sum())
    assert metadata.levels["1"][2] == len({int(stamp // 86400) for stamp in held["timestamp"]})
    for name in FEATURES:
        quantiles = metadata.quantiles[name]
        assert len(quantiles) == 11
        assert quantiles == sorted(quantiles)
        assert quantiles[0] == pytest.approx(float(str(frame[name].min())))


def test_the_model_itself_says_who_it_is(lab: Any) -> None:
    """Identity, schema and parent stand inside the model file, and match the metadata beside it."""
    outcome = lab.fine_tune(parent=4)
    metadata, own = lab.metadata(outcome), lab.loaded(outcome).own_metadata
    assert own["id"] == metadata.notes["model_id"]
    assert own["schema"] == metadata.notes["schema"] == schema_hash(FEATURES)
    assert (own["parent"], own["kind"]) == ("4", "fine_tune")


def test_the_schema_hash_changes_with_names_and_order() -> None:
    """Any other name or order is another schema."""
    assert len({schema_hash(names) for names in (("a", "b"), ("b", "a"), ("a",), ("ab",), ("a", "b", "c"))}) == 5


@pytest.mark.parametrize("threads", [1, 2])
def test_one_seed_gives_one_model(lab: Any, threads: int) -> None:
    """The same rows and seed give the same predictions, with any number of threads."""
    rows = lab.matrix(lab.demand(50, seed=2))
    one = lab.loaded(lab.fine_tune()).predict(rows)
    np.testing.assert_array_equal(one, lab.loaded(lab.fine_tune(threads=threads)).predict(rows))


def test_a_poisson_model_predicts_demand_and_not_its_logarithm(lab: Any) -> None:
    """A Poisson model that went through .cbm still answers in units of demand, and its metrics were taken there."""
    outcome = lab.fit(lab.job(loss="Poisson", iterations=200))
    frame = lab.demand(60, seed=2)
    assert np.abs(lab.loaded(outcome).predict(lab.matrix(frame)) - frame["actual"].to_numpy()).mean() < 10
    assert outcome.metrics["mae"] < 10


def test_nothing_is_written_beside_the_outputs(lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No catboost_info in the working directory, and exactly two files in the output directory."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    lab.fit(lab.job())
    assert list((tmp_path / "cwd").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model1.cbm", "model1_metadata.json"]


def test_missing_and_infinite_features_are_learned_as_missing(lab: Any) -> None:
    """A lag that is null, NaN or infinite does not stop a training."""
    lag = lab.demand()["lag"].to_list()
    lag[3], lag[4], lag[5] = None, float("nan"), float("inf")
    assert lab.fit(lab.job(lab.demand().with_columns(lag=pl.Series(lag)))).trees == 20


@pytest.mark.parametrize(
    "loss", ["Poisson", "MAE", "Quantile:alpha=0.9", "RMSEWithUncertainty", "Tweedie:variance_power=1.5"]
)
def test_another_loss_than_the_bases_is_refused(lab: Any, loss: str) -> None:
    """CatBoost would continue an RMSE model with any loss and answer nonsense; here it is an error that names both."""
    with pytest.raises(IncompatibleBaseError, match=f"RMSE, the fine-tune asks for {loss.partition(':')[0]}"):
        lab.fine_tune(loss=loss)


def test_another_grow_policy_than_the_bases_is_refused(lab: Any) -> None:
    """Trees of two grow policies cannot be mixed, and the message says so before CatBoost does."""
    with pytest.raises(IncompatibleBaseError, match="SymmetricTree"):
        lab.fine_tune(params={"grow_policy": "Lossguide"})


def test_the_base_has_to_be_the_committed_file(lab: Any) -> None:
    """A base whose sha256 is another one is not continued."""
    with pytest.raises(IncompatibleBaseError, match="not the file that was committed"):
        lab.fine_tune(base_sha256=hashlib.sha256(b"other").hexdigest())
    assert lab.fine_tune(base_sha256=hashlib.sha256(lab.base.read_bytes()).hexdigest()).trees == 35


@pytest.mark.parametrize("features", [("lag", "hour"), ("hour", "lag", "noise"), ("lag", "hour", "noise", "naive")])
def test_other_features_than_the_bases_are_refused(lab: Any, features: tuple[str, ...]) -> None:
    """Fewer, more or reordered features never reach a warm start."""
    with pytest.raises(SchemaMismatchError):
        lab.fine_tune(features=features)


def test_a_column_that_is_no_number_is_refused(lab: Any) -> None:
    """Text in a feature column is a schema problem, named with its type."""
    with pytest.raises(SchemaMismatchError, match="String"):
        lab.fit(lab.job(lab.demand().with_columns(hour=pl.lit("noon"))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e39, None])
def test_actuals_that_are_no_demand_are_refused(lab: Any, value: float | None) -> None:
    """NaN, infinity, absurd size and null are refused with their number and the first of them."""
    actual = lab.demand()["actual"].to_list()
    actual[7] = value
    with pytest.raises(TargetError, match="1 of 600 actuals"):
        lab.fit(lab.job(lab.demand().with_columns(actual=pl.Series(actual, dtype=pl.Float64))))


def test_constant_negative_and_too_few_actuals_are_refused(lab: Any) -> None:
    """Nothing to learn, nothing for Poisson, and nothing at all each have their own sentence."""
    with pytest.raises(TargetError, match="nothing to learn"):
        lab.fit(lab.job(lab.demand().with_columns(actual=pl.lit(5.0))))
    with pytest.raises(TargetError, match="zero or more"):
        lab.fit(lab.job(lab.demand().with_columns(actual=pl.col("actual") - 60), loss="Poisson"))
    for rows in (0, 1, 9):
        with pytest.raises(InsufficientDataError, match=f"{rows} samples"):
            lab.fit(lab.job(lab.demand(600)[:rows]))
    with pytest.raises(InsufficientDataError, match="before the holdout"):
        lab.fit(lab.job(train_until=START))


def test_a_cancelled_fit_leaves_nothing(lab: Any, tmp_path: Path) -> None:
    """Cancel in the middle of a fit ends it within a tree, and no half challenger stays."""
    cancelled, seen = threading.Event(), []

    def report(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 5:
            cancelled.set()

    with pytest.raises(TrainingCancelledError):
        train(lab.job(iterations=1000), FitControl(report, cancelled))
    assert seen[-1][0] <= 6
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_counts_the_trees_of_both_fits(lab: Any) -> None:
    """Progress never goes back, and ends at the number announced from the start."""
    seen: list[tuple[int, int]] = []
    train(lab.job(validation=0.1), FitControl(lambda done, total: seen.append((done, total)), threading.Event()))
    assert {total for _, total in seen} == {40}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (40, 40)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("RMSE", "RMSE", True),
        ("RMSE", "MAE", False),
        ("Quantile:alpha=0.9", "Quantile:alpha=0.9", True),
        ("Quantile:alpha=0.9", "Quantile:alpha=0.5", False),
        ("Huber:delta=1;x=2", "Huber:x=2;delta=1", True),
    ],
)
def test_losses_are_compared_with_their_parameters(one: str, other: str, *, same: bool) -> None:
    """Two spellings name one loss only where name and parameters agree."""
    assert same_loss(one, other) is same
