"""The handle: names decide, one assignment swaps, what fails is left out, what is served is journalled."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.registry import Registry
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint.config import Config, ServingConfig
from demand_maint.core.answering import ServingState
from demand_maint.core.lineup import LineUp
from demand_maint.core.records import MaturedBatch
from demand_maint.core.serving import Member, ServingSnapshot
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Commit, FileHashes, LineUpEntry, ModelMetadata
from demand_maint.errors import DamagedModelError, NoChampionError, SchemaMismatchError
from demand_maint.model_handle import ModelHandle
from demand_maint.testing import VirtualClock

NOW = 1_700_006_400.0
FEATURES = ("lag", "hour", "rain")
CHAMPION_ONLY = Config(serving=ServingConfig(serve="champion"))


class Linear:
    """A model that is a sum of its features times a factor; `broken` makes it misbehave."""

    def __init__(self, factor: float, names: tuple[str, ...] = FEATURES) -> None:
        self.factor = factor
        self.feature_names = names
        self.broken: Any = None

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predict; check what a real model would not."""
        assert rows.dtype == np.float32
        assert rows.shape[1] == len(self.feature_names)
        assert len(rows) == 1 or rows.flags.f_contiguous
        if isinstance(self.broken, Exception):
            raise self.broken
        values = rows.astype(np.float64) @ np.arange(1.0, len(self.feature_names) + 1) * self.factor
        return np.full(len(rows), self.broken) if self.broken is not None else values


class FakeRegistry:
    """Versions in a dictionary; bytes name the version."""

    def __init__(self, models: dict[int, Linear]) -> None:
        self.models = models
        self.commit: Commit | None = None
        self.damaged: set[int] = set()

    def deploy(self, champion: int, *others: int, until: float | None = None) -> None:
        """Make a commit."""
        number = self.commit.number + 1 if self.commit is not None else 1
        entries = tuple(LineUpEntry(version=v, role="candidate", entered_at=NOW, until=until) for v in others)
        self.commit = Commit(number=number, action="deploy", at=NOW, champion=champion, base=champion, line_up=entries)

    def head(self) -> Commit | None:
        """Newest commit."""
        return self.commit

    def hashes(self, number: int) -> FileHashes:
        """Hashes of a version."""
        return FileHashes(str(number), "")

    def model_bytes(self, number: int) -> bytes:
        """Bytes of a version."""
        if number in self.damaged:
            raise DamagedModelError("flipped")
        return str(number).encode()

    def load(self, data: bytes, *, sha256: str) -> Linear:
        """Stand in for `load_model`."""
        assert sha256 == data.decode()
        return self.models[int(data)]


class Kept:
    """A journal that keeps calls."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.versions: list[int] = []

    def log_served(
        self,
        places: Sequence[Any],
        timestamps: Any,
        served: Any,
        members: Any,
        snapshot: int,
        features: Any,
        *,
        champion: Any = None,
    ) -> None:
        """Keep a call."""
        self.rows.append({
            "places": list(places), "timestamps": timestamps, "served": served, "members": members,
            "snapshot": snapshot, "features": features, "champion": champion,
        })  # fmt: skip

    def set_version(self, number: int, features: Sequence[str] | None = None) -> None:
        """Keep a version."""
        assert features is not None
        self.versions.append(number)


def naive(places: Sequence[Any], slots: np.ndarray) -> list[float]:
    """Seasonal naive: 50 everywhere, unknown at "new"."""
    assert slots.dtype == np.int64
    assert (slots % 3600 == 0).all()
    return [float("nan") if place == "new" else 50.0 for place in places]


def snapshot(number: int = 1, columns: tuple[int, ...] = (1, 2, 0)) -> ServingSnapshot:
    """Equal weights for each model raw and calibrated and for the naive."""
    members = (*(Member(v, c) for v in columns if v for c in (False, True)), Member(0))
    weights = np.full((3, len(members)), 1 / len(members), dtype=np.float32)
    levels = np.full((3, len(columns)), 1.1, dtype=np.float32)
    return ServingSnapshot(number, NOW, columns, members, ("a", "b"), weights, levels)


@pytest.fixture
def registry() -> FakeRegistry:
    """Three versions, the first deployed with the second beside it."""
    found = FakeRegistry({1: Linear(1.0), 2: Linear(1.2), 3: Linear(3.0)})
    found.deploy(1, 2)
    return found


@pytest.fixture
def journal() -> Kept:
    """A journal that keeps calls."""
    return Kept()


@pytest.fixture
def handle(registry: FakeRegistry, journal: Kept) -> ModelHandle:
    """A handle that serves a mixture of versions 1, 2 and the naive."""
    made = ModelHandle(registry, clock=VirtualClock(NOW), journal=journal, naive=naive, load=registry.load)
    made.refresh()
    made.adopt(snapshot())
    return made


ROW = {"lag": 10.0, "hour": 8, "rain": 0.5}
OWN = 10.0 + 16.0 + 1.5


# --- features ---------------------------------------------------------------------------------------------------------------


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


# --- serving ----------------------------------------------------------------------------------------------------------------


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


# --- swapping ---------------------------------------------------------------------------------------------------------------


def test_a_new_commit_is_picked_up_whole(handle: ModelHandle, registry: FakeRegistry, journal: Kept) -> None:
    """After a deploy elsewhere `refresh` swaps model and version together, tells callbacks and the journal."""
    seen: list[tuple[int, int | None]] = []
    handle.on_swap(lambda new, old: seen.append((new.version, old.version if old else None)))
    handle.on_swap(lambda new, old: "".index("x"))
    assert not handle.refresh()
    registry.deploy(3, 1)
    assert handle.refresh()
    assert (handle.version, handle.versions) == (3, (3, 1))
    assert handle.predict(ROW).tolist() == [OWN * 3]
    assert seen == [(3, 1)]
    assert journal.versions == [1, 3]


def test_until_a_snapshot_knows_the_new_champion_it_serves_alone(handle: ModelHandle, registry: FakeRegistry) -> None:
    """A snapshot made for another champion is not used."""
    registry.deploy(3, 1)
    handle.refresh()
    assert handle.predict(ROW, "a", NOW).tolist() == [OWN * 3]
    handle.adopt(snapshot(2, (3, 1, 0)))
    assert handle.predict_detailed(ROW, "a", NOW).snapshot == 2


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one_serving(
    handle: ModelHandle, registry: FakeRegistry
) -> None:
    """A damaged deploy is reported, not served; a damaged member is left out."""
    registry.damaged = {3}
    registry.deploy(3)
    assert not handle.refresh()
    assert handle.version == 1
    assert handle.faults[3, "cannot be loaded"] == 1
    registry.deploy(2, 3)
    assert handle.refresh()
    assert handle.versions == (2,)


def test_nothing_deployed_is_said_so() -> None:
    """Predicting before the first deploy raises the typed error."""
    with pytest.raises(NoChampionError):
        ModelHandle(FakeRegistry({})).predict(ROW)


def test_a_member_sits_until_its_time_is_over(registry: FakeRegistry) -> None:
    """An entry with an end leaves at the next refresh after it, without a commit."""
    clock = VirtualClock(NOW)
    registry.deploy(1, 2, until=NOW + 10.0)
    handle = ModelHandle(registry, clock=clock, load=registry.load)
    handle.refresh()
    assert list(handle.versions) == [1, 2]
    clock.advance(11.0)
    assert handle.refresh()
    assert list(handle.versions) == [1]


def test_publishing_reaches_followers(registry: FakeRegistry, tmp_path: Path) -> None:
    """The maintainer's snapshot serves here at once, and in another process after one refresh."""
    clock = VirtualClock(NOW)
    stores = [SnapshotStore(Door(tmp_path), "serving") for _ in range(2)]
    leader, follower = (
        ModelHandle(registry, clock=clock, snapshots=store, naive=naive, load=registry.load) for store in stores
    )
    follower.refresh()
    line_up = LineUp(TimeGrid("UTC", 3600))
    metadata = ModelMetadata(features=FEATURES, loss="RMSE", kind="full", created_at=NOW)
    assert leader.publish(line_up, ["a", "b"], lambda version: metadata)
    assert not leader.publish(line_up, ["a", "b"], lambda version: metadata), "nothing is due"
    assert line_up.columns == (1, 2, 0)
    assert follower.refresh()
    one, two = (each.predict_detailed(ROW, "a", NOW) for each in (leader, follower))
    assert one.snapshot == two.snapshot == 1
    assert one.values.tolist() == two.values.tolist()
    assert not follower.refresh()


def test_a_line_up_that_lost_its_state_continues_the_numbers(registry: FakeRegistry, tmp_path: Path) -> None:
    """After a loss the kept snapshots are recalled, their rows can be read, and no number is used twice."""
    clock = VirtualClock(NOW)
    store = SnapshotStore(Door(tmp_path), "serving", keep=10)
    handle = ModelHandle(registry, clock=clock, snapshots=store, naive=naive, load=registry.load)
    metadata = ModelMetadata(features=FEATURES, loss="RMSE", kind="full", created_at=NOW)
    first = LineUp(TimeGrid("UTC", 3600))
    assert handle.publish(first, ["a", "b"], lambda version: metadata)
    forgetful = LineUp(TimeGrid("UTC", 3600))
    assert handle.publish(forgetful, ["a", "b"], lambda version: metadata)
    assert forgetful.latest is not None
    assert forgetful.latest.number == 2
    recalled = LineUp(TimeGrid("UTC", 3600))
    handle.recall(recalled)
    assert recalled.columns == (1, 2, 0)
    assert recalled.latest is not None
    assert recalled.latest.encode() == forgetful.latest.encode()


def test_truth_moves_the_served_weights(registry: FakeRegistry, journal: Kept) -> None:
    """Predict, journal, mature, publish: the member that is right ends up serving."""
    clock = VirtualClock(NOW)
    handle = ModelHandle(registry, clock=clock, journal=journal, naive=naive, load=registry.load)
    line_up = LineUp(TimeGrid("UTC", 3600))
    meta = ModelMetadata(features=FEATURES, loss="RMSE", kind="full", created_at=NOW)
    handle.publish(line_up, ["a", "b"], lambda version: meta)
    for day in range(8):
        journal.rows.clear()
        frame = pl.DataFrame({"lag": np.linspace(10, 50, 48), "hour": np.arange(48) % 24, "rain": np.zeros(48)})
        stamps = clock.now() + (np.arange(48) // 2) * 3600.0
        served = handle.predict(frame, ["a", "b"] * 24, stamps)
        truth = handle.predict_detailed(frame).values * 1.2
        (row,) = journal.rows
        clock.advance(86400.0)
        line_up.update(MaturedBatch(
            place=np.tile([0, 1], 24).astype(np.uint32), slot=stamps.astype(np.int64),
            version=np.full(48, 1, dtype=np.uint16), predicted=row["champion"], served=served, actual=truth,
            naive=np.full(48, 50.0), members=row["members"],
            snapshot=np.full(48, row["snapshot"], dtype=np.uint32), observed_at=np.full(48, clock.now()),
        ))  # fmt: skip
        assert handle.publish(line_up, ["a", "b"], lambda version: meta), day
    assert served == pytest.approx(truth, rel=0.02)
    pairs = line_up.paired_days(1, 2)
    assert pairs.challenger.sum() < pairs.champion.sum() / 100


@pytest.mark.catboost
def test_real_models_through_the_real_registry(tmp_path: Path) -> None:
    """Committed CatBoost bytes are verified, loaded and served; a rollback is picked up."""
    from catboost import CatBoostRegressor, Pool

    from demand_maint._training.loading import cbm_bytes

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    registry = Registry(tmp_path, clock=VirtualClock(NOW))
    own = []
    for seed in (1, 2):
        model = CatBoostRegressor(iterations=10 * seed, verbose=False, allow_writing_files=False, thread_count=1)
        model.fit(Pool(x, x @ [1.0, 2.0, 3.0] * seed, feature_names=list(FEATURES)))
        own.append(model.predict(x))
        meta = ModelMetadata(features=FEATURES, loss="RMSE", kind="full", created_at=NOW)
        number = registry.add_version(cbm_bytes(model), meta).number
        registry.commit("deploy", champion=number, base=number, who="test", why="test")
    handle = ModelHandle(registry)
    assert handle.predict(x) == pytest.approx(own[1], abs=0)
    assert handle.predict(x[:1]) == pytest.approx(own[1][:1], abs=0)
    registry.rollback()
    assert handle.refresh()
    assert handle.predict(x) == pytest.approx(own[0], abs=0)
    assert hashlib.sha256(registry.model_bytes(handle.version)).hexdigest() == registry.hashes(handle.version).model


def test_many_threads_see_whole_states(registry: FakeRegistry, big: bool) -> None:
    """While another thread swaps, every detailed prediction is one version's value under that version's number."""
    import threading

    handle = ModelHandle(registry, config=CHAMPION_ONLY, load=registry.load)
    handle.refresh()
    factors = {version: model.factor for version, model in registry.models.items()}
    wrong: list[tuple[int, float]] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            found = handle.predict_detailed(ROW)
            if found.values[0] != OWN * factors[found.version]:
                wrong.append((found.version, found.values[0]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for swap in range(5000 if big else 500):
        registry.deploy(swap % 3 + 1)
        assert handle.refresh()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_state_cannot_be_changed(handle: ModelHandle) -> None:
    """What serves is frozen; only the handle's one attribute moves."""
    state: ServingState = handle.state
    with pytest.raises(AttributeError):
        state.version = 5  # type: ignore[misc]  # the point of the test
