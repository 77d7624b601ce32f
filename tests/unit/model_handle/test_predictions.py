"""What `ModelHandle.predict` answers and journals."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from demand_maint.core.serving import Member
from demand_maint.errors import SchemaMismatchError
from demand_maint.model_handle import ModelHandle
from demand_maint.testing import VirtualClock
from tests.unit.model_handle.parts import (
    CHAMPION_ONLY,
    FEATURES,
    NOW,
    OWN,
    ROW,
    FakeRegistry,
    Kept,
    Linear,
    naive,
    snapshot,
)


@pytest.mark.parametrize(
    "features",
    [
        ROW,
        dict(reversed(ROW.items())),
        ROW | {"unused": "text"},
        [ROW],
        {name: [value] for name, value in ROW.items()},
        pl.DataFrame(ROW),
        pl.DataFrame(dict(reversed(ROW.items()))).with_columns(extra=pl.lit("x")),
        np.array([10.0, 8.0, 0.5]),
        np.array([[10.0, 8.0, 0.5]], dtype=np.float32),
        [10.0, 8.0, 0.5],
        (10, 8, 0.5),
    ],
)
def test_names_decide_and_order_does_not_matter(handle: ModelHandle, features: Any) -> None:
    """Every shape a row may come in gives the model's own answer."""
    values = handle.predict(features)
    assert values.dtype == np.float64
    assert values.tolist() == [OWN]


def test_an_array_with_a_schema_is_reordered() -> None:
    """Names given beside an array win over its order."""
    registry = FakeRegistry({1: Linear(1.0)})
    registry.deploy(1)
    handle = ModelHandle(registry, load=registry.load)
    array = np.array([[0.5, 99.0, 10.0, 8.0]])
    assert handle.predict(array, schema=("rain", "other", "lag", "hour")).tolist() == [OWN]
    with pytest.raises(SchemaMismatchError, match="rain"):
        handle.predict(array, schema=("x", "other", "lag", "hour"))
    with pytest.raises(SchemaMismatchError):
        handle.predict(array, schema=("rain", "lag", "hour"))


@pytest.mark.parametrize(
    "features",
    [
        np.zeros(2),
        np.zeros((5, 4)),
        np.float32(3.0),
        np.zeros((2, 3, 1)),
        {"lag": 1.0, "hour": 2.0},
        pl.DataFrame({"lag": [1.0], "hour": [2.0]}),
        [ROW, {"lag": 1.0}],
    ],
)
def test_what_does_not_fit_is_refused(handle: ModelHandle, features: Any) -> None:
    """A wrong width without names, or a missing name, raises and names the difference."""
    with pytest.raises(SchemaMismatchError):
        handle.predict(features)


def test_missing_values_stay_missing(handle: ModelHandle) -> None:
    """None in a row is NaN to the model, not an error."""
    assert np.isnan(handle.predict(ROW | {"rain": None}))[0]


def test_without_place_and_time_the_champion_answers_and_nothing_is_kept(handle: ModelHandle, journal: Kept) -> None:
    """A bare call is the champion's own prediction."""
    assert handle.predict(ROW).tolist() == [OWN]
    assert handle.predict(ROW, "a").tolist() == [OWN]
    assert journal.rows == []


def test_the_mixture_is_served_and_journalled(handle: ModelHandle, journal: Kept) -> None:
    """With place and time everybody's value is averaged, and the row says from what."""
    served = handle.predict(ROW, "a", NOW + 5.0)
    members = [OWN, OWN * 1.1, OWN * 1.2, OWN * 1.2 * 1.1, 50.0]
    assert served[0] == pytest.approx(np.mean(members), rel=1e-6)
    (row,) = journal.rows
    assert row["members"].dtype == np.float32
    assert row["members"][0] == pytest.approx([OWN, OWN * 1.2, 50.0])
    assert row["snapshot"] == 1
    assert row["champion"].tolist() == [OWN]
    assert row["features"].tolist() == [[10.0, 8.0, 0.5]]
    assert row["timestamps"].tolist() == [NOW + 5.0]


def test_place_and_time_may_be_columns(handle: ModelHandle, journal: Kept) -> None:
    """A frame that carries place_id and timestamp needs no arguments; a batch equals its rows."""
    frame = pl.DataFrame(
        {
            "place_id": ["a", "b", "new"],
            "timestamp": [NOW, NOW + 3600, NOW],
            "lag": [1.0, 2.0, 3.0],
            "hour": [1, 2, 3],
            "rain": [0.0, 0.5, 1.0],
        }
    )
    many = handle.predict(frame)
    ones = [handle.predict(row)[0] for row in frame.iter_rows(named=True)]
    assert many.tolist() == ones
    assert journal.rows[0]["places"] == ["a", "b", "new"]


def test_a_served_value_is_explained_to_the_last_bit(handle: ModelHandle, journal: Kept) -> None:
    """From snapshot and journalled values the same float64 comes out, with the members in words."""
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({name: rng.normal(50, 20, 200) for name in FEATURES})
    places = [("a", "b", "new")[i % 3] for i in range(200)]
    served = handle.predict(frame, places, NOW)
    for place, value, members in zip(places, served, journal.rows[0]["members"], strict=True):
        told = handle.explain(1, place, members)
        assert told is not None
        assert told.served == value
    last = handle.explain(1, places[-1], journal.rows[0]["members"][-1])
    assert last is not None
    assert "model 2, level-calibrated" in last.text
    assert handle.explain(99, "a", members) is None


def test_a_detailed_prediction_names_everybody(handle: ModelHandle) -> None:
    """Values, version, members, weights and raw values stand side by side."""
    found = handle.predict_detailed(ROW, "a", NOW)
    assert found.version == 1
    assert found.columns == (1, 2, 0)
    assert found.weights.shape == (1, 5)
    assert found.champion.tolist() == [OWN]
    alone = handle.predict_detailed(ROW)
    assert (alone.snapshot, alone.members) == (0, (Member(1),))


@pytest.mark.parametrize("broken", [RuntimeError("no"), float("nan"), float("inf"), 1e12, 1e300])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_member_that_fails_or_talks_nonsense_is_dropped(
    handle: ModelHandle, registry: FakeRegistry, broken: Any, rows: int
) -> None:
    """The rest of the line-up serves that call, and it is reported."""
    registry.models[2].broken = broken
    found = handle.predict_detailed([ROW] * rows, "a", NOW)
    assert found.values == pytest.approx(np.mean([OWN, OWN * 1.1, 50.0]), rel=1e-6)
    assert set(found.dropped) == {2}
    assert sum(handle.faults.values()) == 1
    registry.models[2].broken = None
    assert handle.predict_detailed(ROW, "a", NOW).dropped == {}


def test_a_failing_champion_is_stood_in_for(handle: ModelHandle, registry: FakeRegistry) -> None:
    """The other members serve a placed row while the champion raises."""
    registry.models[1].broken = RuntimeError("no")
    found = handle.predict_detailed(ROW, "a", NOW)
    assert found.values[0] == pytest.approx(np.mean([OWN * 1.2, OWN * 1.2 * 1.1, 50.0]), rel=1e-6)
    assert np.isnan(found.champion[0])


def test_a_failing_naive_is_left_out(registry: FakeRegistry) -> None:
    """A provider that raises or answers with another length costs only its own weight."""
    for provider in (lambda places, slots: 1 / 0, lambda places, slots: [1.0] * 7):
        handle = ModelHandle(registry, clock=VirtualClock(NOW), naive=provider, load=registry.load)
        handle.refresh()
        handle.adopt(snapshot())
        assert handle.predict_detailed(ROW, "a", NOW).dropped.keys() == {0}


def test_a_member_may_have_its_own_features() -> None:
    """A version trained on other columns picks its own; without them it is dropped, not guessed."""
    registry = FakeRegistry({1: Linear(1.0), 2: Linear(1.0, ("hour", "lag"))})
    registry.deploy(1, 2)
    handle = ModelHandle(registry, clock=VirtualClock(NOW), naive=naive, load=registry.load)
    handle.refresh()
    handle.adopt(snapshot())
    assert handle.predict_detailed(ROW, "a", NOW).raw[0, 1] == 8.0 + 20.0
    assert handle.predict_detailed(np.array([10.0, 8.0, 0.5]), "a", NOW).dropped.keys() == {2}


def test_champion_mode_serves_the_champion_and_journals(registry: FakeRegistry, journal: Kept) -> None:
    """With serve="champion" nobody else is loaded, and the row is kept without a snapshot."""
    handle = ModelHandle(registry, config=CHAMPION_ONLY, journal=journal, naive=naive, load=registry.load)
    assert handle.predict(ROW, "a", NOW).tolist() == [OWN]
    assert handle.versions == (1,)
    assert (journal.rows[0]["snapshot"], journal.rows[0]["members"].shape) == (0, (1, 1))


@pytest.mark.parametrize(
    "stamp", [NOW, int(NOW), "2023-11-15T00:00:00+00:00", np.float64(NOW), np.datetime64("2023-11-15T00:00:00")]
)
def test_timestamps_of_any_kind_mean_the_same(handle: ModelHandle, journal: Kept, stamp: Any) -> None:
    """Numbers, ISO text and numpy scalars come to the same epoch second."""
    handle.predict([ROW, ROW], ["a", "b"], stamp)
    handle.predict([ROW, ROW], ["a", "b"], [stamp, stamp])
    assert all(row["timestamps"].tolist() == [NOW, NOW] for row in journal.rows)


def test_lengths_have_to_agree(handle: ModelHandle) -> None:
    """Two places for three rows are a mistake that is named."""
    with pytest.raises(ValueError, match="2 place ids for 3 rows"):
        handle.predict([ROW] * 3, ["a", "b"], NOW)
    with pytest.raises(ValueError, match="2 timestamps for 3 rows"):
        handle.predict([ROW] * 3, "a", [NOW, NOW])
