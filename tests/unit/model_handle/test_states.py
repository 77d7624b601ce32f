"""The serving states of a `ModelHandle`: how they are picked up, published and swapped."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.registry import Registry
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint.core.answering import ServingState
from demand_maint.core.lineup import LineUp
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import NoChampionError
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
    naive,
    snapshot,
)


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
    """After a loss no number is used twice."""
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
