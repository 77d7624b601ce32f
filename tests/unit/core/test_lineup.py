"""The line-up: what it learns from matured rows, and what it does not let itself be told."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.config import PolicyConfig, ServingConfig
from demand_maint.core import lineup_state
from demand_maint.core.doubt import Doubt
from demand_maint.core.left_out import LeftOut
from demand_maint.core.lineup import LineUp
from demand_maint.core.promotion import probation_verdict
from demand_maint.core.records import MaturedBatch
from demand_maint.core.serving import Member, Mixer, ServingSnapshot
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import DamagedRegistryError

DAY = 86400
START = 1_700_006_400 // DAY * DAY
GRID = TimeGrid("UTC", 3600)
PLACES = ("a", "b", "c")


def batch(
    snapshot: ServingSnapshot,
    day: int,
    raw: dict[int, np.ndarray],
    actual: np.ndarray,
    *,
    place: np.ndarray | None = None,
    served: np.ndarray | None = None,
) -> MaturedBatch:
    """Rows of one day, 24 hours at each place in turn, served by the snapshot unless said otherwise."""
    n = len(actual)
    place = np.arange(n) % len(PLACES) if place is None else place
    members = np.stack([raw.get(version, np.full(n, np.nan)) for version in snapshot.columns], axis=1).astype(
        np.float32
    )
    served = Mixer(snapshot).mix(place.astype(np.intp), members) if served is None else served
    return MaturedBatch(
        place=place.astype(np.uint32),
        slot=np.int64(START + day * DAY) + (np.arange(n) // len(PLACES)) % 24 * 3600,
        version=np.full(n, snapshot.champion, dtype=np.uint16),
        predicted=members[:, 0].astype(np.float64),
        served=served,
        actual=actual,
        naive=raw.get(0, np.full(n, np.nan)),
        members=members,
        snapshot=np.full(n, snapshot.number, dtype=np.uint32),
        observed_at=np.full(n, START + (day + 1) * DAY + 3600.0),
    )


class World:
    """A line-up that lives through days of known errors.

    `errors` gives each version's relative error per day: (bias, noise).
    """

    def __init__(
        self,
        versions: Sequence[int],
        seed: int = 0,
        serving: ServingConfig | None = None,
        *,
        calibrate: bool = True,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.line_up = LineUp(GRID, serving, calibrate=calibrate)
        self.day = 0
        self.line_up.seat(versions, {}, at=START, places=PLACES)
        self.snapshots = [self.snap()]
        self.batches: list[MaturedBatch] = []

    def snap(self) -> ServingSnapshot:
        """The snapshot of the coming day."""
        made = self.line_up.snapshot(START + self.day * DAY + 1.0, PLACES)
        return made if made is not None else self.snapshots[-1]

    def live(self, days: int, errors: dict[int, tuple[float, float]], shared: float = 0.0) -> None:
        """Let days pass; `shared` is the part of the models' noise that is the demand's own and hits all alike."""
        for _ in range(days):
            n = 72
            actual = self.rng.gamma(20.0, 5.0, n)
            common = self.rng.normal(0.0, 100.0, n) * shared
            raw = {
                version: actual * (1.0 + bias)
                + noise * (common + self.rng.normal(0.0, 100.0, n) * np.sqrt(1 - shared**2))
                for version, (bias, noise) in errors.items()
            }
            rows = batch(self.snapshots[-1], self.day, raw, actual)
            self.batches.append(rows)
            self.line_up.update(rows)
            self.day += 1
            self.snapshots.append(self.snap())

    def suspend(self, faults: dict[int, int], since: dict[int, int] | None = None) -> bool:
        """Say of which places the feed is broken, and of which it may be."""
        return self.line_up.suspend(
            Doubt(faults, frozenset(faults), since or {}, (), START + self.day * DAY), self.rows
        )

    def rows(self, first: int, end: int) -> MaturedBatch:
        """Rows of all batches between two slots."""
        every = glued(self.batches)
        return rows_of(every, (every.slot >= first) & (every.slot < end))

    def weight(self, *members: Member) -> float:
        """Pooled weight of members."""
        newest = self.snapshots[-1]
        return sum(float(newest.weights[-1, newest.members.index(member)]) for member in members)


def rows_of(source: MaturedBatch, keep: np.ndarray) -> MaturedBatch:
    """Some rows of a batch."""
    return MaturedBatch(*(getattr(source, name)[keep] for name in MaturedBatch.__slots__))


def glued(batches: Sequence[MaturedBatch]) -> MaturedBatch:
    """Batches of equal width as one."""
    return MaturedBatch(*(np.concatenate([getattr(b, name) for b in batches]) for name in MaturedBatch.__slots__))


def test_the_champion_alone_serves_while_warming_up() -> None:
    """During the first three days every weight but the champion's is zero."""
    world = World([1])
    world.live(2, {1: (0.5, 0.1), 0: (0.0, 0.0)})
    assert all((s.weights[:, 0] == 1).all() and (s.weights[:, 1:] == 0).all() for s in world.snapshots[:3])
    world.live(2, {1: (0.5, 0.1), 0: (0.0, 0.0)})
    assert world.weight(Member(0)) > 0.9


def test_a_level_shift_is_calibrated_away() -> None:
    """A model that forecasts 20 % too low ends with a level near 1.25, and its calibrated variant carries the weight."""
    world = World([1])
    world.live(14, {1: (-0.2, 0.05), 0: (0.0, 0.3)})
    newest = world.snapshots[-1]
    assert newest.levels[:-1, 0] == pytest.approx(1.25, rel=0.03)
    assert world.weight(Member(1, True)) > 0.9
    assert newest.levels[0, newest.columns.index(0)] == 1.0


def test_rows_of_weights_sum_to_one() -> None:
    """Every place's weights, the pool's included, are a distribution."""
    world = World([1, 2])
    world.live(6, {1: (0.0, 0.1), 2: (0.02, 0.1), 0: (0.0, 0.2)})
    for snapshot in world.snapshots:
        assert snapshot.weights.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
        assert (snapshot.weights >= 0).all()


def test_the_order_of_truth_does_not_matter() -> None:
    """Rows in any order and any chunks, late ones included, leave the same sums."""
    world = World([1, 2])
    world.live(10, {1: (0.1, 0.1), 2: (0.0, 0.2), 0: (0.0, 0.2)})
    everything = glued(world.batches)
    order = np.random.default_rng(5).permutation(len(everything))
    shuffled = LineUp(GRID)
    shuffled.restore(world.line_up.encode())
    shuffled._state.sums.data[:] = 0.0
    for part in np.array_split(order, 37):
        shuffled.update(rows_of(everything, part))
    assert shuffled._state.sums.data == pytest.approx(world.line_up._state.sums.data, rel=1e-9, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_correction_equals_having_known_better(data: st.DataObject) -> None:
    """Retracting rows and counting them again with another actual is as if that had been their actual from the start."""
    world = World([1])
    world.live(3, {1: (0.1, 0.1), 0: (0.0, 0.2)})
    everything = glued(world.batches)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(everything) - 1), min_size=1, max_size=20, unique=True)))
    wrong = np.array(data.draw(st.lists(st.floats(0, 1e4), min_size=len(chosen), max_size=len(chosen))))
    line_up, clean = LineUp(GRID), LineUp(GRID)
    for each in (line_up, clean):
        each.restore(world.line_up.encode())
        each._state.sums.data[:] = 0.0
    clean.update(everything)
    bad = everything.actual.copy()
    bad[chosen] = wrong
    fields = {name: getattr(everything, name) for name in MaturedBatch.__slots__} | {"actual": bad}
    spoiled = MaturedBatch(**fields)
    line_up.update(spoiled)
    line_up.retract(rows_of(spoiled, chosen))
    line_up.update(rows_of(everything, chosen))
    assert line_up._state.sums.data == pytest.approx(clean._state.sums.data, rel=1e-7, abs=1e-5)


def test_encode_restore_is_exact() -> None:
    """A restored line-up goes on bit by bit like the one that was saved."""
    world = World([1, 2])
    world.live(8, {1: (0.1, 0.1), 2: (0.0, 0.2), 0: (0.0, 0.2)})
    world.suspend({1: START + 6 * DAY}, {2: START + 8 * DAY - 3600})
    twin = LineUp(GRID)
    twin.restore(world.line_up.encode())
    assert twin.encode() == world.line_up.encode()
    rows = batch(world.snapshots[-1], 8, {1: np.full(72, 90.0), 2: np.full(72, 95.0)}, np.full(72, 100.0))
    for each in (twin, world.line_up):
        each.update(rows)
    now = START + 9.5 * DAY
    one, two = twin.snapshot(now, PLACES), world.line_up.snapshot(now, PLACES)
    assert one is not None
    assert two is not None
    assert one.encode() == two.encode()


@pytest.mark.parametrize("payload", [b"", b"rubbish", b"\x91\x01\x00\x00\x00\x00"])
def test_damaged_state_is_refused(payload: bytes) -> None:
    """Bytes that are no line-up raise a typed error."""
    with pytest.raises(DamagedRegistryError):
        LineUp(GRID).restore(payload)


def test_a_state_of_an_older_format_is_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """State that lacks what is needed now is refused like damaged state, so that it is rebuilt from the journal."""
    payload = World([1]).line_up.encode()
    monkeypatch.setattr(lineup_state, "LINE_UP_FORMAT", lineup_state.LINE_UP_FORMAT + 1)
    with pytest.raises(DamagedRegistryError, match="rebuilt"):
        LineUp(GRID).restore(payload)


def test_a_member_that_misses_rows_is_not_judged_by_them() -> None:
    """Failing on the hard rows brings no advantage: errors are relative to what was served on the same rows."""
    world = World([1, 2])
    for day in range(8):
        rng = np.random.default_rng(day)
        actual = rng.gamma(20.0, 5.0, 72)
        hard = np.arange(72) % 2 == 0
        noise = np.where(hard, 40.0, 5.0)
        one = actual + rng.normal(0, 1, 72) * noise
        two = actual + rng.normal(0, 1, 72) * noise
        two[hard] = np.nan
        world.line_up.update(batch(world.snapshots[-1], day, {1: one, 2: two}, actual))
        world.day += 1
        world.snapshots.append(world.snap())
    assert world.weight(Member(2), Member(2, True)) < 0.65


def broken_and_twin(seen: Callable[[np.ndarray], np.ndarray]) -> tuple[World, World]:
    """A world whose place 1 reports `seen` of its truth in days 10 to 15, noticed two days late, and one that was never told that."""
    worlds = World([1]), World([1])
    for world in worlds:
        world.live(10, {1: (0.1, 0.1), 0: (0.0, 0.15)})
        for day in range(10, 16):
            rng = np.random.default_rng(day)
            actual = rng.gamma(20.0, 5.0, 72)
            raw = {1: actual * 1.1 + rng.normal(0, 10, 72), 0: actual + rng.normal(0, 15, 72)}
            broken = np.arange(72) % 3 == 1
            rows = batch(world.snapshots[-1], day, raw, np.where(broken, seen(actual), actual), served=raw[1])
            if world is worlds[1]:
                rows = rows_of(rows, ~broken)
            world.batches.append(rows)
            world.line_up.update(rows)
            world.day += 1
            # the first day of the fault is doubted, the second makes it one
            world.suspend({1: START + 10 * DAY} if day > 10 else {}, {1: START + 10 * DAY} if day == 10 else {})
            world.snapshots.append(world.snap())
    return worlds


@pytest.mark.parametrize("factor", [0.0, 10.0, -1.0])
def test_a_suspended_place_keeps_its_weights_and_teaches_nothing(factor: float) -> None:
    """A feed fault changes no weight and no level, not of the place, and not of others through the pool: to the last bit."""
    broken, twin = broken_and_twin(lambda actual: factor * actual)
    before, newest = broken.snapshots[9], broken.snapshots[-1]
    assert newest.number > before.number
    assert newest.weights[1].tolist() == before.weights[1].tolist()
    assert newest.levels[1].tolist() == before.levels[1].tolist()
    for ours, theirs in zip(broken.snapshots, twin.snapshots, strict=True):
        assert ours.encode() == theirs.encode()
    # and when the place is well again
    for world in (broken, twin):
        world.suspend({})
        world.live(3, {1: (0.0, 0.05), 0: (0.0, 0.3)})
    assert broken.line_up.suspended == ()
    assert broken.snapshots[-1].weights.tolist() == twin.snapshots[-1].weights.tolist()
    assert broken.snapshots[-1].levels.tolist() == twin.snapshots[-1].levels.tolist()
    assert broken.snapshots[-1].weights[1].tolist() != before.weights[1].tolist()


def test_what_was_only_doubted_counts_in_the_end() -> None:
    """Truth that turns out to be sound is counted as if it had never been doubted, and is not counted while it is."""
    doubted, twin = World([1]), World([1])
    for world in (doubted, twin):
        world.live(6, {1: (0.1, 0.1), 0: (0.0, 0.15)})
    sums, whole = doubted.line_up._state.sums, twin.line_up._state.sums
    assert doubted.suspend({}, {0: START + 5 * DAY + 20 * 3600, 2: START + 4 * DAY})
    assert sums.data[0, 0, -1].tolist() == [20.0, 24.0, 0.0]
    assert sums.data[0, 0, -2].tolist() == [24.0, 24.0, 0.0]
    assert doubted.line_up.left_out == {}
    assert doubted.suspend({})
    assert not doubted.suspend({})
    assert (sums.data == whole.data).all()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_sums_are_those_of_the_rows_that_are_not_left_out(data: st.DataObject) -> None:
    """Whatever was doubted, found faulty, corrected and cleared in what order: the sums are those of the other rows alone."""
    world = World([1])
    hours = st.integers(0, 24 * 5).map(lambda hour: START + hour * 3600)
    codes = st.dictionaries(st.integers(0, 2), hours, max_size=2)
    for _ in range(4):
        world.live(1, {1: (0.1, 0.1), 0: (0.0, 0.15)})
        faults, since = data.draw(codes), data.draw(codes)
        world.suspend(faults, {code: first for code, first in since.items() if code not in faults})
        at = data.draw(st.integers(0, 71))
        last = world.batches[-1]
        world.line_up.retract(rows_of(last, np.array([at])))
        last.actual[at] *= 2.0
        world.line_up.update(rows_of(last, np.array([at])))
    every = glued(world.batches)
    left_out = world.line_up._state.left_out.rows(every.place, every.slot)
    fresh = LineUp(GRID)
    fresh.restore(world.line_up.encode())
    fresh._state.sums.data[:] = 0.0
    fresh._state.left_out = LeftOut()
    fresh.update(every if left_out is None else rows_of(every, ~left_out))
    assert world.line_up._state.sums.data == pytest.approx(fresh._state.sums.data, rel=1e-9, abs=1e-6)


def test_a_line_up_that_is_counted_again_leaves_out_the_same() -> None:
    """Snapshots tell what counted nowhere; the journal counted anew gives the same weights and levels, to the last bit."""
    world, _ = broken_and_twin(lambda actual: 10.0 * actual)
    world.suspend({})
    world.snapshots.append(world.snap())
    again = LineUp(GRID)
    again.seat([1], {}, at=START, places=PLACES)
    again.recall(world.snapshots)
    for rows in world.batches:
        again.update(rows)
    newest, two = world.snapshots[-1], again.snapshot(START + 17 * DAY, PLACES)
    assert two is not None
    assert two.left_out == newest.left_out == ((1, START + 10 * DAY, START + 16 * DAY),)
    assert two.weights.tolist() == newest.weights.tolist()
    assert two.levels.tolist() == newest.levels.tolist()


def test_snapshots_change_at_most_hourly_and_are_numbered() -> None:
    """New truth within the hour makes no snapshot; the next hour makes the next number."""
    world = World([1])
    first = world.snapshots[-1]
    world.line_up.update(batch(first, 0, {1: np.full(72, 90.0)}, np.full(72, 100.0)))
    assert world.line_up.snapshot(START + 600.0, PLACES) is None
    made = world.line_up.snapshot(START + 3601.0, PLACES)
    assert made is not None
    assert made.number == first.number + 1
    assert world.line_up.snapshot(START + 8000.0, PLACES) is None, "nothing new was learnt"


def test_a_change_of_members_makes_a_snapshot_at_once() -> None:
    """A deploy does not wait for the hour."""
    world = World([1])
    assert not world.line_up.seat([1], {}, at=START + 2.0)
    assert world.line_up.seat([2, 1], {}, at=START + 2.0)
    made = world.line_up.snapshot(START + 3.0, PLACES)
    assert made is not None
    assert made.columns == (2, 1, 0)


def test_a_newcomer_starts_from_its_own_claim() -> None:
    """Whose own figures are worse than what is served starts with less; good ones prove nothing yet."""
    weights = []
    for mae in (10.0, 20.0, 60.0, 80.0):
        world = World([1])
        world.live(10, {1: (0.0, 0.2), 0: (0.0, 0.2)})
        metadata = ModelMetadata(
            features=("x",), loss="RMSE", kind="fine_tune", created_at=0.0, metrics={"mae": mae, "naive_mae": 40.0}
        )
        world.line_up.seat([1, 2], {2: metadata}, at=START + 10.0 * DAY, places=PLACES)
        world.snapshots.append(world.snap())
        weights.append(world.weight(Member(2), Member(2, True)))
    assert weights[0] == weights[1] > weights[2] >= weights[3]
    assert 0.001 < weights[3] < weights[0] < 0.99


def test_a_newcomer_far_off_the_mark_is_gone_the_next_day() -> None:
    """A model with five times the error keeps next to no weight after one day of truth."""
    world = World([1])
    world.live(10, {1: (0.0, 0.1), 0: (0.0, 0.15)})
    world.line_up.seat([1, 2], {}, at=START + 10.0 * DAY, places=PLACES)
    world.snapshots.append(world.snap())
    assert world.weight(Member(2), Member(2, True)) > 0.2
    world.live(1, {1: (0.0, 0.1), 2: (0.0, 0.75), 0: (0.0, 0.15)})
    assert world.weight(Member(2), Member(2, True)) < 0.02


def test_small_differences_count_where_days_are_quiet() -> None:
    """A model that is 5 % worse every single day loses most of its weight; amid days that swing by half it keeps its share."""
    left = []
    for swing in (0.0, 0.5):
        world = World([1, 2], serving=ServingConfig(calibration_half_life_days=30.0))
        rng = np.random.default_rng(3)
        for _ in range(12):
            first, second = 0.1 * np.exp(swing * rng.normal(size=2))
            world.live(1, {1: (0.0, first), 2: (0.0, 1.05 * second), 0: (0.0, 0.3)}, shared=1.0)
        left.append(world.weight(Member(2), Member(2, True)))
    assert left[0] < 0.3
    assert left[0] < 0.6 * left[1]


def test_a_member_that_errs_to_the_other_side_is_worth_more_than_its_error() -> None:
    """Of two equally bad members the one that balances the others gets more weight."""
    world, weights, served, best = World([1, 2, 3], calibrate=False), [], 0.0, 0.0
    for day in range(16):
        world.live(1, {1: (0.10, 0.02), 2: (0.12, 0.02), 3: (-0.12, 0.02), 0: (0.12, 0.02)})
        if day >= 6:
            weights.append((world.weight(Member(2)), world.weight(Member(3))))
            rows = world.batches[-1]
            served += float(np.abs(rows.served - rows.actual).sum())
            best += float(np.abs(rows.members[:, 0] - rows.actual).sum())
    same_side, other_side = np.mean(weights, axis=0)
    assert other_side > 2 * same_side
    assert served < 0.8 * best


def test_a_newcomers_levels_start_from_its_own_sums() -> None:
    """Per place, out-of-sample actual over predicted is the first level, shrunk as usual."""
    metadata = ModelMetadata(
        features=("x",), loss="RMSE", kind="full", created_at=0.0,
        levels={"a": [1500.0, 1000.0, 10.0], "b": [1000.0, 1000.0, 10.0], "c": [1000.0, 1000.0, 10.0]},
    )  # fmt: skip
    world = World([1])
    world.live(5, {1: (0.0, 0.1), 0: (0.0, 0.2)})
    world.line_up.seat([2, 1], {2: metadata}, at=START + 5.0 * DAY, places=PLACES)
    levels = world.snap().levels[:, 0]
    assert levels[0] > 1.2
    assert levels[1] == levels[2] < levels[0]


def test_a_forced_regression_loses_its_weight_and_is_taken_back(big: bool) -> None:
    """A model 25 % worse, deployed by force, loses half its weight within 2 days of labels and is rolled back within 4 (median)."""
    halved, taken_back = [], []
    for seed in range(200 if big else 41):
        world = World([1], seed)
        world.live(12, {1: (0.0, 0.1), 0: (0.0, 0.2)})
        world.line_up.seat([2, 1], {}, at=START + 12.0 * DAY, places=PLACES)
        world.snapshots.append(world.snap())
        at_first = world.weight(Member(2), Member(2, True))
        days_to_half = days_to_rollback = 99
        for day in range(1, 8):
            world.live(1, {1: (0.0, 0.1), 2: (0.0, 0.125), 0: (0.0, 0.2)}, shared=0.95)
            if world.weight(Member(2), Member(2, True)) <= at_first / 2:
                days_to_half = min(days_to_half, day)
            pairs = world.line_up.paired_days(1, 2)
            verdict = probation_verdict(
                pairs, PolicyConfig(), since_day=START // DAY + 12, today=START // DAY + world.day
            )
            if verdict.verdict == "worse":
                days_to_rollback = min(days_to_rollback, day)
        halved.append(days_to_half)
        taken_back.append(days_to_rollback)
    assert np.median(halved) <= 2
    assert np.median(taken_back) <= 4


def test_paired_days_are_those_both_predicted() -> None:
    """Daily errors of two versions cover the rows of both, and know nobody else."""
    world = World([1, 2])
    world.live(4, {1: (0.0, 0.1), 2: (0.1, 0.1), 0: (0.0, 0.2)})
    pairs = world.line_up.paired_days(1, 2)
    assert pairs.day.tolist() == [START // DAY + d for d in range(4)]
    rows = world.batches[0]
    assert pairs.champion[0] == pytest.approx(np.abs(rows.members[:, 0] - rows.actual).sum())
    assert pairs.challenger[0] == pytest.approx(np.abs(rows.members[:, 1] - rows.actual).sum())
    assert len(world.line_up.paired_days(1, 77)) == 0


def test_rows_without_a_line_up_teach_the_champions_level() -> None:
    """Four-argument calls, journalled without members, still count for the version that made them."""
    world = World([1])
    for day in range(5):
        rows = batch(world.snapshots[-1], day, {1: np.full(72, 80.0)}, np.full(72, 100.0))
        bare = MaturedBatch(
            rows.place, rows.slot, rows.version, rows.predicted, rows.predicted, rows.actual, rows.naive,
            np.zeros((72, 0), dtype=np.float32), np.zeros(72, dtype=np.uint32), rows.observed_at,
        )  # fmt: skip
        world.line_up.update(bare)
    world.day = 5
    assert world.snap().levels[0, 0] == pytest.approx(1.25, rel=0.03)


def test_nonsense_in_a_batch_is_not_counted() -> None:
    """NaN, infinite and far-future rows, and rows older than the window, change nothing."""
    world = World([1])
    world.live(4, {1: (0.0, 0.1), 0: (0.0, 0.2)})
    before = world.line_up._state.sums.data.copy()
    rows = batch(world.snapshots[-1], 4, {1: np.full(72, 80.0)}, np.full(72, np.nan))
    world.line_up.update(rows)
    future = batch(world.snapshots[-1], 4000, {1: np.full(72, 80.0)}, np.full(72, 1.0))
    fields = {name: getattr(future, name) for name in MaturedBatch.__slots__} | {"observed_at": rows.observed_at}
    world.line_up.update(MaturedBatch(**fields))
    ancient = batch(world.snapshots[-1], -400, {1: np.full(72, 80.0)}, np.full(72, 1.0))
    world.line_up.update(ancient)
    assert (world.line_up._state.sums.data == before).all()
    assert world.line_up._state.sums.too_old == 72


def test_truth_later_than_the_kept_snapshots_still_scores_every_member() -> None:
    """A row that names a snapshot long gone is read by the columns that were in force then."""
    world = World([1, 2])
    world.live(2, {1: (0.0, 0.1), 2: (0.1, 0.1), 0: (0.0, 0.2)})
    early = world.snapshots[-1]
    world.line_up.seat([2, 1], {}, at=START + 2.0 * DAY)
    for hour in range(100):
        world.line_up.update(batch(world.snap(), 2, {1: np.full(72, 9.0), 2: np.full(72, 9.0)}, np.full(72, 9.0)))
        assert world.line_up.snapshot(START + 2.0 * DAY + (hour + 1) * 3600.0, PLACES) is not None
    before = world.line_up.paired_days(1, 2)
    assert early.number not in world.line_up._state.levels
    world.line_up.update(batch(early, 1, {1: np.full(72, 100.0), 2: np.full(72, 130.0)}, np.full(72, 100.0)))
    after = world.line_up.paired_days(1, 2)
    assert after.champion[1] == pytest.approx(before.champion[1], abs=1e-3)
    assert after.challenger[1] == pytest.approx(before.challenger[1] + 72 * 30.0, rel=1e-4)


def test_versions_remembered_are_bounded() -> None:
    """However many versions come and go, the state keeps a dozen."""
    world = World([1])
    for version in range(2, 40):
        world.line_up.seat([1, version], {}, at=START + version * 10.0, places=PLACES)
    assert len(world.line_up._state.seats) <= 12
    assert world.line_up.columns == (1, 39, 0)
    assert len(world.line_up.standing()) == 5
