"""What takes little memory, the keys of rounds and columns that seldom change, reads as if written out."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.key_index import KeyIndex, make_keys
from demand_maint.core.round_keys import RoundKeys
from demand_maint.core.steady_column import SteadyColumn


@given(
    places=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True).map(sorted),
    begun=st.integers(0, 3),
    counts=st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=5),
    asked=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=12),
)
def test_keys_of_rounds_are_found_as_single_ones(
    places: list[int], begun: int, counts: list[tuple[int, bool, bool]], asked: list[tuple[int, int]]
) -> None:
    """An index given rounds, single keys or both, some with a round left out between, tells what one of single keys tells."""
    size, begun = len(places), begun % len(places)
    codes = np.array(places, dtype=np.uint32)
    index, plain, row, at = KeyIndex(), KeyIndex(), 0, begun
    for count, in_rounds, skip in counts:
        at += skip * (size + 1)
        turns, mine = np.divmod(np.arange(at, at + count), size)
        keys = make_keys(codes[mine], turns * 3)
        index.append(RoundKeys(np.unique(turns) * 3, codes, at % size, count) if in_rounds else keys, row)
        plain.append(keys, row)
        row, at = row + count, at + count
    wanted = np.array([slot << 32 | place for slot, place in asked], dtype=np.uint64)
    every = plain.between(0, 1 << 63)
    for keys in (wanted, np.sort(wanted), every[1]):
        assert index.find(keys).tolist() == plain.find(keys).tolist()
        assert [index.row_of(key) for key in keys.tolist()] == plain.find(keys).tolist()
    for low, high in pairwise(sorted(wanted.tolist())):
        for mine, theirs in zip(index.between(low, high), plain.between(low, high), strict=True):
            assert mine.tolist() == theirs.tolist()
    assert index.newest == plain.newest
    assert index.oldest == plain.oldest
    assert index.newest_keys(3).tolist() == plain.newest_keys(3).tolist()
    assert index.stretch(every[1][-1:]) == plain.stretch(every[1][-1:])


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["next", "one", "keep"]), st.integers(1, 5), st.integers(0, 3)), max_size=200
    )
)
def test_a_steady_column_reads_as_it_was_written(steps: list[tuple[str, int, int]]) -> None:
    """Rows in turn, single rows and rows that were let go leave each row the last value it was given."""
    column, values = SteadyColumn(np.uint16), np.zeros(0, dtype=np.uint16)
    for step, count, value in steps:
        if step == "next":
            rows = slice(len(values), len(values) + count)
            column.make_room(rows.stop)
            column[rows] = np.full(count, value)
            values = np.append(values, np.full(count, value, dtype=np.uint16))
        elif len(values) and step == "one" and value == 3:
            column[np.array([count % len(values)])] = np.array([9])
            values[count % len(values)] = 9
        elif step == "keep" and value == 2 and len(values) > count:
            column, values = column.kept(slice(count, None)), values[count:].copy()
        for first in (0, len(values) // 2):
            assert column[first : len(values)].tolist() == values[first:].tolist()
        at = np.arange(len(values))[::-2]
        assert column[at].tolist() == values[at].tolist()
