"""Rows in rounds are summed as if one by one."""

from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.hour_table import HOUR, Cells
from demand_maint.core.key_index import KeyIndex, ascending_keys, make_keys
from demand_maint.core.metrics import HourlySums
from demand_maint.core.records import MaturedBatch
from demand_maint.core.round_keys import RoundKeys
from demand_maint.core.rounds import find_rhythm, find_rounds


@given(
    places=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    turns=st.integers(1, 40),
    rest=st.integers(0, 5),
    begin=st.integers(0, 5),
    seconds=st.sampled_from([60, 600, 1800, 3600]),
    spoil=st.booleans(),
    known=st.booleans(),
)
def test_cells_sum_whatever_order_rows_come_in(
    places: list[int], turns: int, rest: int, begin: int, seconds: int, spoil: bool, known: bool
) -> None:
    """Sums, counts and extremes per hour and place are those of a loop over the rows, in rounds or out of them."""
    place = np.array(
        (places * (turns + 6))[begin : begin + turns * len(places) + min(rest, len(places))], dtype=np.uint32
    )
    slot = 7 * HOUR + (np.arange(len(place)) + begin) // len(places) * seconds
    if spoil:
        place[len(place) // 2] = 11
    values = np.random.default_rng(len(place)).normal(size=len(place))
    cells = Cells(place, slot, find_rhythm(place, slot.astype(np.float64)) if known else None)
    wanted: dict[tuple[int, int], list[float]] = {}
    for row in range(len(place)):
        wanted.setdefault((int(slot[row]) // HOUR, int(place[row])), []).append(float(values[row]))
    lowest = np.full(len(cells.sum(values)), np.inf)
    cells.extreme(values, np.minimum, lowest)
    found = dict(zip(_keys(cells), zip(cells.counts, cells.sum(values), lowest, strict=True), strict=True))
    assert {key for key, (count, *_) in found.items() if count} == set(wanted)
    for key, mine in wanted.items():
        assert np.allclose(found[key], (len(mine), sum(mine), min(mine)))


def _keys(cells: Cells) -> list[tuple[int, int]]:
    if cells.places is None:
        return [(int(hour), place) for hour in cells.hours for place in range(cells.width)]
    return list(zip(cells.hours.tolist(), cells.places.tolist(), strict=True))


def test_rounds_are_seen_only_where_each_place_comes_once() -> None:
    """A place that comes twice in a round, a round that differs, and hours of few rounds are left to others."""
    assert find_rounds(np.array([1, 2, 3, 4] * 10), [0, 40]) is not None
    assert find_rounds(np.array([1, 2, 1, 4] * 10), [0, 40]) is None
    assert find_rounds(np.array([1, 2, 3, 4] * 9 + [1, 2, 4, 3]), [0, 40]) is None
    assert find_rounds(np.arange(40), [0, 40]) is None
    assert find_rounds(np.array([1, 2] * 20), list(range(0, 42, 2))) is None


@given(
    places=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    turns=st.integers(5, 12),
    begin=st.integers(0, 5),
    rest=st.integers(0, 5),
    cuts=st.lists(st.integers(0, 70), max_size=3),
)
def test_what_a_rhythm_tells_is_what_the_rows_say(
    places: list[int], turns: int, begin: int, rest: int, cuts: list[int]
) -> None:
    """Wherever rows in rounds are cut, places, slots and keys of a part follow from its rhythm."""
    size = len(places)
    place = np.array((places * (turns + 2))[begin % size :][: turns * size + rest % size], dtype=np.uint32)
    slot = (np.arange(len(place)) + begin % size) // size * 600
    rhythm = find_rhythm(place, slot.astype(np.float64))
    assert rhythm is not None
    index, row = KeyIndex(), 0
    edges = sorted({0, len(place), *(cut % len(place) for cut in cuts)})
    for start, end in pairwise(edges):
        part = rhythm.after(start)
        assert part.repeated(end - start).tolist() == place[start:end].tolist()
        assert part.spread(part.one_each(slot[start:end]), end - start).tolist() == slot[start:end].tolist()
        keys, found = (
            make_keys(place[start:end], slot[start:end]),
            ascending_keys(place[start:end], slot[start:end], part),
        )
        if sorted(places) != places:
            assert found is None
            continue
        assert isinstance(found, RoundKeys)
        assert found.written(0, len(found)).tolist() == keys.tolist()
        index.append(found, row)
        assert index.find(keys).tolist() == list(range(row, row + len(keys)))
        row += len(keys)


def test_rounds_of_several_times_have_no_rhythm() -> None:
    """Rows of a round that differ in time, the first, a middle or the last, are not taken for a round."""
    place, time = np.array([4, 2, 7] * 6), np.repeat(np.arange(6) * 60.0, 3)
    assert find_rhythm(place, time) is not None
    for row in (0, 7, 17):
        other = time.copy()
        other[row] += 1
        assert find_rhythm(place, other) is None


@given(served=st.booleans(), naive=st.sampled_from(["none", "some", "all"]))
def test_errors_of_rounds_are_those_of_single_rows(served: bool, naive: str) -> None:
    """Hourly sums of a batch in rounds are those of its rows added one by one, whatever stands beside them."""
    draw = np.random.default_rng(3)
    place = np.tile(np.arange(3, dtype=np.uint32), 40)
    slot = np.repeat(np.arange(40) * 300, 3)
    predicted, other, actual, before = draw.normal(size=(4, 120))
    known = {"none": np.zeros(120, dtype=bool), "some": draw.random(120) < 0.5, "all": np.ones(120, dtype=bool)}[naive]
    version = np.broadcast_to(np.uint16(2), (120,))

    def batch(rows: slice) -> MaturedBatch:
        own = predicted[rows]
        return MaturedBatch(
            place[rows], slot[rows], version[rows], own, other[rows] if served else own, actual[rows],
            np.where(known, before, np.nan)[rows], np.empty((len(own), 0), dtype=np.float32),
            np.zeros(len(own), dtype=np.uint32), np.zeros(len(own)),
        )  # fmt: skip

    together, apart = HourlySums(), HourlySums()
    together.add(batch(slice(None)), Cells(place, slot, find_rhythm(place, slot.astype(np.float64))), predicted=True)
    for row in range(120):
        apart.add(batch(slice(row, row + 1)), predicted=True)
    for window in ((0, 1, None), (1, 4, None), (0, 4, 1)):
        found = together.window(window[0], window[1], 2, window[2])
        wanted = apart.window(window[0], window[1], 2, window[2])
        assert np.allclose(msgspec.structs.astuple(found), msgspec.structs.astuple(wanted))
