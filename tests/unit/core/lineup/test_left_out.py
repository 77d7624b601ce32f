"""Places at fault and rows in doubt leave no trace in weights and levels."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.core.left_out import LeftOut
from demand_maint.core.lineup import LineUp
from tests.unit.core.lineup.world import DAY, GRID, PLACES, START, World, batch, glued, rows_of


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
