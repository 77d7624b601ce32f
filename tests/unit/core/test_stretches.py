"""Served rows and truths that take turns are taken in stretch by stretch, and come to what they come to one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.core.live_metrics import LiveMetrics
from demand_maint.core.observations import ACTUAL, SERVED, Events
from demand_maint.core.timegrid import TimeGrid

DAY, HOUR = 86400, 3600
START = 1_700_006_400
PLACES = 3
Stretch = tuple[int, int, int]


def events_of(stretches: list[Stretch]) -> Events:
    """Return rounds of hours `first` .. `end` of each place, predicted or told, one stretch after the other."""
    parts = [
        (kind, hour, place) for kind, first, end in stretches for hour in range(first, end) for place in range(PLACES)
    ]
    kind, hour, place = (np.array(column) for column in zip(*parts, strict=True))
    size = len(parts)
    value = 10.0 + 3 * place + hour % 5
    served = kind == SERVED
    return Events(
        place.astype(np.uint32),
        START + hour * HOUR,
        kind.astype(np.uint8),
        np.where(served, 1, 0).astype(np.uint16),
        np.where(served, value, np.nan),
        np.where(served, np.nan, value + 1),
        np.full(size, START + 9 * DAY, dtype=np.float64),
        np.full(size, START, dtype=np.float64),
        np.where(served, value + 0.5, np.nan),
        np.where(served, 7, 0).astype(np.uint32),
        np.where(served, value, np.nan).astype(np.float32).reshape(-1, 1),
    )


def taken_in(events: list[Events]) -> tuple[LiveMetrics, list[np.ndarray]]:
    """Take events in and return the sums, and the rows there are then."""
    metrics = LiveMetrics(TimeGrid("UTC", HOUR), 7 * DAY, DAY)
    buffer = metrics.new_buffer()
    for part in events:
        metrics.take(buffer, part)
    rows = buffer.rows(START, START + 30 * DAY, matured=False)
    columns = {name: getattr(rows, name) for name in rows.__slots__}
    columns["observed_at"] = np.where(np.isfinite(rows.actual), rows.observed_at, 0.0)  # until then it means nothing
    return metrics, list(columns.values())


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([SERVED, ACTUAL]), st.integers(0, 200), st.integers(1, 30)), min_size=1, max_size=12
    )
)
def test_stretches_come_to_what_their_rows_come_to(drawn: list[Stretch]) -> None:
    """In order, out of order, twice or never predicted: sums, counts and rows must not depend on how rows come together."""
    stretches = [(kind, first, first + length) for kind, first, length in drawn]
    together = events_of(stretches)
    one_by_one = [together.take(slice(i, i + 1)) for i in range(len(together))]
    (first, rows), (second, others) = taken_in([together]), taken_in(one_by_one)
    for a, b in zip(rows, others, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {k: v for k, v in first.counts.items() if v} == {k: v for k, v in second.counts.items() if v}
    hours = START // HOUR + np.arange(260)
    for sums in ("sums", "feed"):
        found = getattr(first, sums).blocks_by_place(hours)
        for name, other in getattr(second, sums).blocks_by_place(hours).items():
            np.testing.assert_allclose(found[name], other, rtol=1e-12, atol=1e-9)


def test_what_is_expected_and_what_is_awaited_takes_the_quick_way() -> None:
    """A turn of predictions ahead and of truths behind must be two stretches, each of one kind, the truths without what was served."""
    parts = events_of([(SERVED, 24, 48), (ACTUAL, 0, 24)]).stretches()
    assert [int(part.kind[0]) for part in parts] == [SERVED, ACTUAL]
    assert parts[0].served is not None
    assert parts[1].served is None
    assert sum(len(part) for part in parts) == 48 * PLACES


def test_kinds_that_take_turns_row_by_row_stay_together() -> None:
    """A hundred stretches of one row each must not be taken in one by one."""
    events = events_of([(kind, hour, hour + 1) for hour in range(20) for kind in (SERVED, ACTUAL)])
    assert events.stretches() == [events]
