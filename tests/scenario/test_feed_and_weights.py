"""A feed that breaks between two checks moves no weight: what it says waits until the feed has told whether it is broken."""

import pytest

from benchmarks.feed_faults import trace

# of a value that is like any other nothing can tell that it comes from a broken feed; the second equal one does
FIRST_VALUE = {"constant": 0.03}


@pytest.mark.parametrize("kind", ["constant", "invalid", "zeros", "unit x10", "negative", "silent"])
def test_a_feed_that_breaks_moves_nothing(kind: str) -> None:
    """Weights and levels are those of a twin to whom the faulty rows never came: of the place in fault, and of all others."""
    found = trace(kind, before=24 * 15 + 9, after=30)
    most = FIRST_VALUE.get(kind, 0.0)
    assert max(*found["place, until then"], *found["elsewhere, during"]) <= most
    assert found["place, suspended"] == [0.0, 0.0]
    assert found["recognised after, h"] is not None
    # what it was served with while it was frozen is another mixture than the twin's; the truth is the same
    assert found["place, after"][1] == found["elsewhere, after"][1] == 0.0
    assert max(found["place, after"][0], found["elsewhere, after"][0]) < 0.005
