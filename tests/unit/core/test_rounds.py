"""Rows in rounds are summed as if one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.hour_table import HOUR, Cells
from demand_maint.core.rounds import find_rounds


@given(
    places=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    turns=st.integers(1, 40),
    rest=st.integers(0, 5),
    begin=st.integers(0, 5),
    seconds=st.sampled_from([60, 600, 1800, 3600]),
    spoil=st.booleans(),
)
def test_cells_sum_whatever_order_rows_come_in(
    places: list[int], turns: int, rest: int, begin: int, seconds: int, spoil: bool
) -> None:
    """Sums, counts and extremes per hour and place are those of a loop over the rows, in rounds or out of them."""
    place = np.array(
        (places * (turns + 6))[begin : begin + turns * len(places) + min(rest, len(places))], dtype=np.uint32
    )
    slot = 7 * HOUR + (np.arange(len(place)) + begin) // len(places) * seconds
    if spoil:
        place[len(place) // 2] = 11
    values = np.random.default_rng(len(place)).normal(size=len(place))
    cells = Cells(place, slot)
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
