"""The line-up: scores, levels, weights and snapshots, whatever the order in which truth comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.core import lineup_state
from demand_maint.core.lineup import LineUp
from demand_maint.core.records import MaturedBatch
from demand_maint.core.serving import Member
from demand_maint.errors import DamagedRegistryError
from tests.unit.core.lineup.world import DAY, GRID, PLACES, START, World, batch, glued, rows_of


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


def test_a_clock_that_is_put_back_stops_no_snapshots() -> None:
    """A snapshot that was made while the clock was years ahead is followed by others once it is right again."""
    world = World([1])
    world.live(4, {1: (0.1, 0.1), 0: (0.0, 0.2)})
    world.line_up.update(rows_of(world.batches[-1], np.array([0])))
    ahead = world.line_up.snapshot(START + 4000 * DAY, PLACES)
    assert ahead is not None
    world.live(1, {1: (0.1, 0.1), 0: (0.0, 0.2)})
    assert world.snapshots[-1].number == ahead.number + 1
    assert world.snapshots[-1].at < ahead.at
    assert not world.line_up.due(world.snapshots[-1].at - 1800.0)


def test_a_change_of_members_makes_a_snapshot_at_once() -> None:
    """A deploy does not wait for the hour."""
    world = World([1])
    assert not world.line_up.seat([1], {}, at=START + 2.0)
    assert world.line_up.seat([2, 1], {}, at=START + 2.0)
    made = world.line_up.snapshot(START + 3.0, PLACES)
    assert made is not None
    assert made.columns == (2, 1, 0)


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
    assert len(world.snap().members) == 5
