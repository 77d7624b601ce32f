"""When a check is due, by wall and by monotonic time."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from demand_maint.core.due import DueWatch
from demand_maint.testing import VirtualClock

HOUR = 3600.0


def six_hourly(at: float) -> float:
    """Six hours after `at`."""
    return at + 6 * HOUR


def test_never_checked_is_due_at_once() -> None:
    """A root without a check on record is due at once."""
    watch = DueWatch(six_hourly)
    watch.begin(now=1e9, monotonic=5.0, last=None)
    assert watch.due(now=1e9, monotonic=5.0) == "interval"


def test_a_restarted_collector_is_due_when_the_interval_has_passed_since_the_last_check() -> None:
    """A collector restarted every five hours is checked at the sixth all the same."""
    watch = DueWatch(six_hourly)
    watch.begin(now=1e9, monotonic=0.0, last=1e9 - 5 * HOUR)
    assert watch.due(now=1e9, monotonic=0.0) is None
    assert watch.next_at == 1e9 + HOUR
    watch.begin(now=1e9 + 5 * HOUR, monotonic=0.0, last=1e9 - 5 * HOUR)
    assert watch.due(now=1e9 + 5 * HOUR, monotonic=0.0) == "interval"


def test_a_last_check_in_the_future_is_no_excuse() -> None:
    """A check recorded by a clock that was a day ahead does not silence this process for a day."""
    watch = DueWatch(six_hourly)
    watch.begin(now=1e9, monotonic=0.0, last=1e9 + 24 * HOUR)
    assert watch.due(now=1e9, monotonic=0.0)


def test_a_suspended_machine_is_due_by_the_wall_clock() -> None:
    """Monotonic time stands still while a laptop sleeps; the wall clock tells."""
    watch = DueWatch(six_hourly)
    watch.checked(now=1e9, monotonic=0.0)
    assert watch.due(now=1e9 + 7 * HOUR, monotonic=1.0) == "interval"


def test_a_cron_moment_is_met_whatever_the_wall_clock_does() -> None:
    """With a nightly moment, a clock put back an hour makes the check at most early, never late by monotonic time."""
    start = datetime(2026, 3, 1, 1, tzinfo=UTC).timestamp()

    def nightly(at: float) -> float:
        return (at // 86400 + (1 if at % 86400 >= 2 * HOUR else 0)) * 86400 + 2 * HOUR

    watch = DueWatch(nightly)
    watch.checked(now=start, monotonic=0.0)
    assert watch.due(now=start - HOUR + HOUR - 1, monotonic=HOUR - 1) is None
    assert watch.due(now=start - HOUR + HOUR, monotonic=HOUR) == "interval (monotonic clock)"


@given(st.lists(st.one_of(st.floats(0, 4 * HOUR), st.floats(-5e6, 5e6).map(lambda x: ("set", x))), max_size=60))
def test_a_check_happens_within_the_interval_of_monotonic_time(moves: list[float | tuple[str, float]]) -> None:
    """Whatever is done to the wall clock, no more than interval + one look passes between two checks."""
    clock = VirtualClock()
    watch = DueWatch(six_hourly)
    watch.checked(now=clock.now(), monotonic=clock.monotonic())
    last = clock.monotonic()
    for move in moves:
        if isinstance(move, tuple):
            clock.set(clock.now() + move[1])
            continue
        end = clock.monotonic() + move
        while clock.monotonic() < end:
            clock.advance(min(end - clock.monotonic(), 20.0))
            if watch.due(now=clock.now(), monotonic=clock.monotonic()):
                assert clock.monotonic() - last <= 6 * HOUR + 60
                last = clock.monotonic()
                watch.checked(now=clock.now(), monotonic=clock.monotonic())
        assert clock.monotonic() - last <= 6 * HOUR + 20
