"""The built-in demand features: no leak, and the same numbers in training and live."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.config import Config
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import ConfigError
from demand_maint.features import DemandFeatures, FeatureBuilder, LiveFeatureBuilder, load_builder, seasonal_naive

DAY = 86400
START = 1_363_000_000 // DAY * DAY
SHAPES = [
    pytest.param("UTC", 3600, DAY, id="hourly, a day ahead"),
    pytest.param("America/New_York", 3600, DAY, id="hourly across daylight saving"),
    pytest.param("Europe/London", 1800, 3600, id="half-hourly, an hour ahead"),
    pytest.param("Asia/Kolkata", 900, 7200, id="quarter-hourly in a half-hour zone"),
    pytest.param("America/New_York", DAY, 10 * DAY, id="daily, ten days ahead"),
]


def demand(grid: TimeGrid, days: int, places: Sequence[int | str] = ("a", "b"), seed: int = 0) -> pl.DataFrame:
    """Noisy demand with gaps, fractions and a place that opens late."""
    rng = np.random.default_rng(seed)
    start = int(grid.floor([START])[0])
    if grid.step == DAY:
        slots = (
            grid.shift(np.full(days, start), 0) if days == 0 else grid.day_start(grid.day([start]) + np.arange(days))
        )
    else:
        slots = start + np.arange(days * DAY // grid.step) * grid.step
    frames = []
    for number, place in enumerate(places):
        opened = slots[len(slots) // 3 * (number % 2) :]
        level = 50 * (number + 1) + 20 * np.sin(opened / DAY * 2 * np.pi)
        values = np.round(np.maximum(level + rng.normal(0, 5, len(opened)), 0), 3)
        kept = rng.random(len(opened)) > 0.05
        frames.append(
            pl.DataFrame({"place_id": [place] * int(kept.sum()), "timestamp": opened[kept], "actual": values[kept]})
        )
    return pl.concat(frames)


def matrix(features: DemandFeatures, history: pl.DataFrame, keys: pl.DataFrame) -> np.ndarray:
    """Built features as a matrix."""
    return features.build(history, keys).select(features.names).to_numpy()


@pytest.mark.parametrize(("zone", "step", "horizon"), SHAPES)
def test_no_feature_sees_past_its_horizon(zone: str, step: int, horizon: int) -> None:
    """Features at t do not change when any actual later than t - horizon changes, appears or goes."""
    grid = TimeGrid(zone, step)
    history = demand(grid, 90 if step > 900 else 60)
    features = DemandFeatures(grid, horizon, ["2013-05-01"])
    rng = np.random.default_rng(1)
    for t in rng.choice(history["timestamp"].unique().sort().to_numpy()[-400:], 12, replace=False):
        keys = pl.DataFrame({"place_id": ["a", "b"], "timestamp": [int(t)] * 2})
        later = pl.col("timestamp") > int(t) - horizon
        changed = history.with_columns(
            actual=pl.when(later).then(pl.col("actual") * 7 + 1000).otherwise(pl.col("actual"))
        )
        before = matrix(features, history, keys)
        np.testing.assert_array_equal(before, matrix(features, changed, keys))
        np.testing.assert_array_equal(before, matrix(features, history.filter(~later), keys))


@pytest.mark.parametrize(("zone", "step", "horizon"), SHAPES)
def test_nothing_older_than_the_reach_is_looked_at(zone: str, step: int, horizon: int) -> None:
    """Features of a day are the same whether the history before their reach is there or not."""
    grid = TimeGrid(zone, step)
    features = DemandFeatures(grid, horizon, holidays=("2013-05-27",))
    history = demand(grid, features.reach_days + 40)
    end = float(history["timestamp"].max())  # type: ignore[arg-type]
    keys = history.filter(pl.col("timestamp") > end - DAY).select("place_id", "timestamp")
    begin = float(keys["timestamp"].min()) - (features.reach_days + 1) * DAY  # type: ignore[arg-type]
    recent = history.filter(pl.col("timestamp") >= begin)
    assert 0 < len(recent) < len(history)
    np.testing.assert_array_equal(matrix(features, recent, keys), matrix(features, history, keys))


@pytest.mark.parametrize(("zone", "step", "horizon"), SHAPES)
def test_the_newest_known_actual_is_used(zone: str, step: int, horizon: int) -> None:
    """The actual exactly one horizon before t is known and changes the row, so the leak test is not vacuous."""
    grid = TimeGrid(zone, step)
    history = demand(grid, 60)
    features = DemandFeatures(grid, horizon)
    t = int(history["timestamp"].to_numpy().max())
    keys = pl.DataFrame({"place_id": ["a"], "timestamp": [t]})
    at = (pl.col("timestamp") == int(grid.floor([t - horizon])[0])) & (pl.col("place_id") == "a")
    with_it = pl.concat(
        [
            history.filter(~at),
            pl.DataFrame({"place_id": ["a"], "timestamp": grid.floor([t - horizon]), "actual": [1.0]}),
        ]
    )
    changed = with_it.with_columns(actual=pl.when(at).then(pl.lit(999.0)).otherwise(pl.col("actual")))
    assert (matrix(features, with_it, keys) != matrix(features, changed, keys)).any()


@pytest.mark.parametrize(("zone", "step", "horizon"), SHAPES)
def test_live_rows_equal_built_rows(zone: str, step: int, horizon: int) -> None:
    """Rows made live, one observation at a time, equal the rows built at once from everything, to the last bit."""
    grid = TimeGrid(zone, step)
    history = demand(grid, 120 if step > 900 else 40).sort("timestamp")
    built = DemandFeatures(grid, horizon, ["2013-05-01"])
    live = DemandFeatures(grid, horizon, ["2013-05-01"])
    slots = np.unique(history["timestamp"].to_numpy())
    asked = set(np.random.default_rng(2).choice(slots[len(slots) // 4 :], 40, replace=False).tolist())
    rows, keys = [], []
    for (slot,), group in history.group_by("timestamp", maintain_order=True):
        for place, actual in group.select("place_id", "actual").iter_rows():
            live.observe(place, slot, actual)
        if slot in asked:
            target = int(grid.floor([slot + horizon])[0])
            rows.append(live.rows(["a", "b"], [target, target]))
            keys.append(pl.DataFrame({"place_id": ["a", "b"], "timestamp": [target] * 2}))
    np.testing.assert_array_equal(np.concatenate(rows), matrix(built, history, pl.concat(keys)))


def test_a_primed_builder_equals_one_that_watched() -> None:
    """observe_many at the start of a process leaves the same state as having observed everything."""
    grid = TimeGrid("Europe/London", 3600)
    history = demand(grid, 100)
    watched, primed = DemandFeatures(grid, DAY), DemandFeatures(grid, DAY)
    for place, slot, actual in history.sort("timestamp").iter_rows():
        watched.observe(place, slot, actual)
    primed.observe_many(history)
    last = int(history["timestamp"].to_numpy().max())
    for ahead in (-DAY, 0, 3600, DAY):
        np.testing.assert_array_equal(
            primed.rows(["a", "b"], [last + ahead] * 2), watched.rows(["a", "b"], [last + ahead] * 2)
        )
    primed.observe_many(history.with_columns(pl.col("timestamp") + 100 * DAY))
    assert not np.isnan(primed.row("a", last + 101 * DAY)[primed.names.index("mean_28d")])


@given(
    values=st.lists(st.tuples(st.integers(0, 600), st.floats(-1e15, 1e15, allow_nan=False)), min_size=1, max_size=40),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_order_of_arrival_does_not_matter(values: list[tuple[int, float]], order: object) -> None:
    """Whatever values come in whatever order, the live tables equal the built ones bit for bit."""
    grid = TimeGrid("UTC", 3600)
    distinct = list({slot: (slot, value) for slot, value in values}.values())
    history = pl.DataFrame(
        {
            "place_id": ["p"] * len(distinct),
            "timestamp": [START + 3600 * s for s, _ in distinct],
            "actual": [v for _, v in distinct],
        },
        schema={"place_id": pl.String, "timestamp": pl.Int64, "actual": pl.Float64},
    )
    live, built = DemandFeatures(grid, DAY), DemandFeatures(grid, DAY)
    live.observe("p", START + 3600 * 601, 1.0)
    shuffled = distinct.copy()
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands a random.Random
    for slot, value in shuffled:
        live.observe("p", START + 3600 * slot, value)
    key = START + 3600 * 601
    keys = pl.DataFrame({"place_id": ["p"], "timestamp": [key]})
    np.testing.assert_array_equal(live.rows(["p"], [key]), matrix(built, history, keys))


def test_one_stamp_from_the_far_future_does_no_harm() -> None:
    """A single slot years ahead, as a wrong clock makes it, wipes nothing out; after a real pause of years two slots go on."""
    grid = TimeGrid("UTC", 3600)
    features = DemandFeatures(grid, DAY)
    features.observe("a", START, 5.0)
    for _ in range(3):
        features.observe("a", START + 9 * 365 * DAY, 1.0)
    features.observe("a", START + 3600, 7.0)
    lag = features.names.index("lag_1d")
    assert [features.row("a", START + DAY + hours * 3600)[lag] for hours in (0, 1)] == [5.0, 7.0]
    later = START + 2 * 365 * DAY
    features.observe("a", later, 8.0)
    features.observe("a", later + 3600, 9.0)
    assert [features.row("a", later + DAY + hours * 3600)[lag] for hours in (0, 1)] == [8.0, 9.0]


def test_a_correction_replaces_the_first_value() -> None:
    """A second actual for a slot wins, live and built alike, and moves the pool too."""
    grid = TimeGrid("UTC", 3600)
    features = DemandFeatures(grid, DAY)
    features.observe("a", START, 5.0)
    features.observe("b", START, 7.0)
    features.observe("a", START, 9.0)
    row = dict(zip(features.names, features.row("a", START + DAY).tolist(), strict=True))
    assert (row["lag_1d"], row["pool_lag_1d"]) == (9.0, 8.0)
    history = pl.DataFrame({"place_id": ["a", "b", "a"], "timestamp": [START] * 3, "actual": [5.0, 7.0, 9.0]})
    keys = pl.DataFrame({"place_id": ["a"], "timestamp": [START + DAY]})
    np.testing.assert_array_equal(matrix(features, history, keys)[0], features.row("a", START + DAY))


def test_calendar_follows_the_local_clock_and_the_holidays() -> None:
    """Hour, weekday, month and holiday flags are those of the configured zone."""
    grid = TimeGrid("America/New_York", 3600)
    features = DemandFeatures(grid, DAY, [date(2013, 7, 4)])
    noon = 1_372_953_600  # 2013-07-04 12:00 in Washington, a Thursday
    row = dict(zip(features.names, features.row("x", noon).tolist(), strict=True))
    assert {name: row[name] for name in ("hour", "weekday", "hour_of_week", "month", "day_off", "holiday")} == {
        "hour": 12, "weekday": 3, "hour_of_week": 84, "month": 7, "day_off": 1, "holiday": 1,
    }  # fmt: skip
    assert dict(zip(features.names, features.row("x", noon + DAY).tolist(), strict=True))["beside_holiday"] == 2


def test_lags_meet_the_same_wall_clock_across_daylight_saving() -> None:
    """The lag of a week across the change of the clock is the same local hour, 167 elapsed hours before."""
    grid = TimeGrid("America/New_York", 3600)
    features = DemandFeatures(grid, DAY)
    before = int(grid.epoch([np.datetime64("2013-03-08T09", "s").astype(np.int64)])[0])
    after = int(grid.epoch([np.datetime64("2013-03-15T09", "s").astype(np.int64)])[0])
    assert after - before == 167 * 3600
    features.observe("a", before, 42.0)
    assert features.row("a", after)[features.names.index("lag_7d")] == 42.0


def test_rows_keep_their_order_columns_and_place_types() -> None:
    """build returns the very keys it was given, other columns included, with integer places as well."""
    grid = TimeGrid("UTC", 3600)
    history = demand(grid, 40, places=(7, 3))
    keys = history.sample(50, seed=3).with_columns(note=pl.lit("kept"))
    features = DemandFeatures(grid, DAY)
    built = features.build(history, keys)
    assert built.select(keys.columns).equals(keys)
    assert built.select(features.names).dtypes == [pl.Float32] * len(features.names)
    assert len(set(features.names)) == len(features.names)


def test_an_unknown_place_and_an_empty_past_give_nan_not_an_error() -> None:
    """A place nobody has seen has calendar and pool features; without any past everything but the calendar is NaN."""
    grid = TimeGrid("UTC", 3600)
    features = DemandFeatures(grid, DAY)
    empty = pl.DataFrame(schema={"place_id": pl.String, "timestamp": pl.Int64, "actual": pl.Float64})
    keys = pl.DataFrame({"place_id": ["new"], "timestamp": [START + DAY]})
    assert np.isnan(matrix(features, empty, keys)[0, features.names.index("lag_1d")])
    features.observe("old", START, 3.0)
    row = dict(zip(features.names, features.row("new", START + DAY).tolist(), strict=True))
    assert np.isnan(row["lag_1d"])
    assert row["pool_lag_1d"] == 3.0
    assert features.build(empty, empty.drop("actual")).height == 0


def test_values_that_are_no_numbers_are_passed_over() -> None:
    """NaN, infinity and null actuals leave no trace in any feature."""
    grid = TimeGrid("UTC", 3600)
    features = DemandFeatures(grid, DAY)
    features.observe("a", START, float("nan"))
    features.observe("a", START, float("inf"))
    assert np.isnan(features.row("a", START + DAY)[features.names.index("lag_1d")])
    history = pl.DataFrame(
        {
            "place_id": ["a"] * 3,
            "timestamp": [START, START + 3600, START + 7200],
            "actual": [float("nan"), None, float("inf")],
        }
    )
    keys = pl.DataFrame({"place_id": ["a"], "timestamp": [START + DAY]})
    assert np.isnan(matrix(features, history, keys)[0, features.names.index("mean_28d")])


def test_a_step_that_does_not_divide_a_day_is_refused() -> None:
    """The built-in features say which step they cannot use and what to do."""
    with pytest.raises(ConfigError, match="does not divide a day"):
        DemandFeatures(TimeGrid("UTC", 7 * 3600), DAY)


def test_seasonal_naive_takes_one_week_then_two() -> None:
    """The reference is the same wall-clock slot a week before, two weeks where that is missing, else NaN."""
    grid = TimeGrid("America/New_York", 3600)
    t = int(grid.epoch([np.datetime64("2013-03-15T09", "s").astype(np.int64)])[0])
    week = [int(grid.shift([t], -n * 7 * DAY)[0]) for n in (1, 2)]
    history = pl.DataFrame(
        {"place_id": ["a", "a", "b"], "timestamp": [week[0] + 742, week[1], week[1]], "actual": [5.0, 6.0, 7.0]}
    )
    keys = pl.DataFrame({"place_id": ["a", "b", "c"], "timestamp": [t] * 3})
    np.testing.assert_array_equal(seasonal_naive(history, keys, grid, 7 * DAY), [5.0, 7.0, np.nan])


def test_load_builder_gives_the_built_in_features_by_default() -> None:
    """Without a name the configuration's zone, step, horizon and holidays make DemandFeatures."""
    builder = load_builder(Config(zone="Europe/London", step="30m", holidays=("2016-12-25",)))
    assert isinstance(builder, DemandFeatures)
    assert isinstance(builder, FeatureBuilder)
    assert isinstance(builder, LiveFeatureBuilder)
    assert (builder.grid.zone, builder.grid.step, builder.layout.horizon) == ("Europe/London", 1800, DAY)


def test_load_builder_finds_a_users_own_beside_the_root(tmp_path: Path) -> None:
    """module:object is searched in the root; a class or function is called with the configuration."""
    (tmp_path / "own_features_here.py").write_text(
        "import polars as pl\n"
        "class Hour:\n"
        "    def __init__(self, config): self.names = ('hour',)\n"
        "    def build(self, history, keys): return keys.with_columns(hour=pl.col('timestamp') // 3600 % 24)\n"
        "ready = Hour(None)\n"
        "nothing = 7\n"
    )
    for name in ("Hour", "ready"):
        assert load_builder(Config(features=f"own_features_here:{name}"), tmp_path).names == ("hour",)
    for name, complaint in [("nothing", "failed"), ("absent", "cannot be imported")]:
        with pytest.raises(ConfigError, match=complaint):
            load_builder(Config(features=f"own_features_here:{name}"), tmp_path)
    with pytest.raises(ConfigError, match="module:object"):
        load_builder(Config(features="own_features_here"), tmp_path)


def test_bad_holidays_are_named() -> None:
    """A holiday that is no date is a configuration error."""
    with pytest.raises(ConfigError, match="no date"):
        DemandFeatures(TimeGrid("UTC", 3600), DAY, ["Christmas"])
