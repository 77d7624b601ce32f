"""Drawing fewer rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.thinning import evenly_thinned


@given(rows=st.integers(1, 5_000), most=st.integers(1, 500), seed=st.integers(0, 9))
def test_one_row_comes_out_of_each_stretch(rows: int, most: int, seed: int) -> None:
    """As many rows as asked for are kept, each once and in order, no gap longer than two stretches; the same seed keeps the same."""
    kept = evenly_thinned(rows, most, seed)
    if rows <= most:
        assert kept == slice(None)
        return
    assert isinstance(kept, np.ndarray)
    assert len(kept) == most
    assert (np.diff(kept) > 0).all()
    longest = -(-rows // most)
    assert kept[0] < longest
    assert kept[-1] >= rows - longest
    assert np.diff(kept).max(initial=0) < 2 * longest
    again = evenly_thinned(rows, most, seed)
    assert isinstance(again, np.ndarray)
    assert (again == kept).all()


def test_no_limit_keeps_all() -> None:
    """Without a limit every row stays."""
    assert evenly_thinned(10**12, None) == slice(None)
