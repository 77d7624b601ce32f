"""Judging some days and one more costs one day, and comes to what judging all of them comes to."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.config import Config
from demand_maint.core.difficulty import SeriesMemory, daily_series
from demand_maint.core.feed import FeedState
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.health import DayMemory, daily_state
from demand_maint.core.metrics import HourlySums
from demand_maint.core.records import MaturedBatch
from demand_maint.core.recurrence import Recurrence
from demand_maint.core.surprise import DemandMemory, day_surprises
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline
from demand_maint.core.view import Floats, local_days

DAY, HOUR = 86400, 3600
START = 1_700_006_400  # a UTC midnight
PLACES = 3
CONFIG = Config()
BASELINE = Baseline(mae=2.0, skill=0.5, naive_mae=4.0, log_centre=-0.3, log_scale=0.1, log_days=20, n=2000, days=20)


class Village:
    """Three places with one row a day each, written by hand."""

    def __init__(self) -> None:
        self.places: list[int | str] = list(range(PLACES))
        self.grid = TimeGrid("UTC", DAY)
        self.sums, self.feed = HourlySums(), FeedSums()
        self.newest: float | None = None

    def live(self, day: int, seed: int, *, error: float = 2.0, level: float = 20.0, version: int = 1) -> None:
        """Add a row of each place on `day`."""
        rng = np.random.default_rng(seed)
        place = np.arange(PLACES, dtype=np.uint32)
        slot = np.full(PLACES, START + day * DAY)
        actual = level + rng.uniform(0, 5, PLACES)
        naive = actual + rng.normal(0, 4, PLACES)
        predicted = actual + error * rng.uniform(0.2, 2.0, PLACES)
        versions = np.full(PLACES, version, dtype=np.uint16)
        nothing = np.empty((PLACES, 0), dtype=np.float32), np.zeros(PLACES, dtype=np.uint32), slot.astype(np.float64)
        self.feed.count("expected", place, slot)
        self.feed.add(place, slot, actual, np.zeros(PLACES, dtype=bool))
        self.sums.count_predictions(place, slot, versions)
        self.sums.add(MaturedBatch(place, slot, versions, predicted, predicted, actual, naive, *nothing))
        self.newest = float(max(self.newest or 0, slot.max()))


def moves() -> st.SearchStrategy[list[dict[str, Any]]]:
    """What may happen to a village: a day passes, or an earlier one gets more rows, or who is judged becomes another."""
    passing = st.fixed_dictionaries(
        {
            "move": st.just("day"),
            "seed": st.integers(0, 99),
            "error": st.sampled_from([1.0, 2.0, 9.0]),
            "level": st.sampled_from([20.0, 20.0, 20.0, 80.0]),
        }
    )
    gap = st.just({"move": "gap"})
    late = st.fixed_dictionaries({"move": st.just("late"), "back": st.integers(1, 45), "seed": st.integers(0, 99)})
    promoted = st.just({"move": "promoted"})
    return st.lists(st.one_of(passing, passing, passing, gap, late, promoted), min_size=1, max_size=12)


@settings(max_examples=60)
@given(lived=st.integers(3, 440), moves=moves())
def test_a_judgement_with_memory_is_the_judgement_without(lived: int, moves: list[dict[str, Any]]) -> None:
    """Whatever happens between two judgements, also beyond the days the test looks back, a memory must change no bit."""
    village, memory = Village(), DayMemory()
    for day in range(lived):
        village.live(day, day)
    today, champion, since = lived, 1, float(START)
    for move in moves:
        if move["move"] == "day":
            village.live(today, move["seed"], error=move["error"], level=move["level"], version=champion)
        elif move["move"] == "late":
            village.live(max(today - move["back"], 0), move["seed"], version=champion)
        elif move["move"] == "promoted":
            champion, since = champion + 1, float(START + today * DAY)
        today += move["move"] in {"day", "gap"}
        now = float(START + today * DAY + 60)
        kept = daily_state(village, BASELINE, now, CONFIG, champion, since, memory=memory)
        assert kept == daily_state(village, BASELINE, now, CONFIG, champion, since)


def test_one_more_day_is_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a memory, of a year of days only the new one is worked out."""
    village, memory, steps = Village(), SeriesMemory(), 0
    original = memory.unusual._step

    def counted(state: Any, value: float) -> Any:
        nonlocal steps
        steps += 1
        return original(state, value)

    monkeypatch.setattr(memory.unusual, "_step", counted)
    widths: list[int] = []

    def watched(rows: Floats, demand: Floats) -> Floats:
        widths.append(rows.shape[1])
        return day_surprises(rows, demand)

    monkeypatch.setattr("demand_maint.core.surprise.day_surprises", watched)
    for day in range(365):
        village.live(day, day)
    for _ in range(2):
        now = START + 365 * DAY + 60
        _, edges = local_days(village.grid, now - 400 * DAY, now)
        daily_series(village, edges, 1, 0, FeedState(), adjusted=True, memory=memory)
    first = steps
    assert first > 300
    village.live(365, 1)
    _, edges = local_days(village.grid, now - 399 * DAY, now + DAY)
    daily_series(village, edges, 1, 0, FeedState(), adjusted=True, memory=memory)
    assert steps == first + 1
    assert widths[-1] == 29


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.lists(st.integers(-3, 3), max_size=60), st.integers(0, 1)),
        min_size=1,
        max_size=6,
    )
)
def test_a_recurrence_gives_what_all_its_values_give(calls: list[tuple[int, list[int], int]]) -> None:
    """Kept, cut and changed values, and another start, must come to what they come to without a past."""

    def step(state: tuple[float, int], value: float) -> tuple[tuple[float, int], tuple[float, float]]:
        total, count = state
        return (0.9 * total + value, count + 1), (total, float(count))

    memory, values = Recurrence(step), np.empty(0)
    for kept, more, start in calls:
        values = np.concatenate([values[:kept], np.array(more, dtype=np.float64)])
        state, found = memory.run((float(start), 0), values)
        fresh, every = Recurrence(step).run((float(start), 0), values)
        assert state == fresh
        assert np.array_equal(found, every)


@given(seed=st.integers(0, 1000), days=st.integers(1, 120), changed=st.integers(0, 119), moved=st.integers(0, 3))
def test_surprises_with_memory_are_the_surprises_without(seed: int, days: int, changed: int, moved: int) -> None:
    """A day that changed, and a window that moved on, are noticed by what hangs on them."""
    rng = np.random.default_rng(seed)
    rows, demand = np.ones((5, days)), rng.uniform(5, 30, (5, days))
    rows[:, : rng.integers(0, 4)] = demand[:, : rng.integers(0, 4)] = 0.0
    edges = np.arange(days + 1) * 24
    memory = DemandMemory()
    memory.day_surprises(edges, rows, demand)
    later = edges[moved:] if moved < days else edges
    rows, demand = (np.array(table[:, len(edges) - len(later) :]) for table in (rows, demand))
    demand[2, changed % rows.shape[1]] += 1.0
    kept, fresh = memory.day_surprises(later, rows, demand), day_surprises(rows, demand)
    assert np.array_equal(kept, fresh, equal_nan=True)
