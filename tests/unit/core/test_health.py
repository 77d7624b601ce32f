"""Health end to end over real sums: figures, statuses, literal mode, feed faults, places."""

import math
import timeit
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_maint.config import Config, PolicyConfig
from demand_maint.core.baseline import due_refresh
from demand_maint.core.feed import FAULTS, classify
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.health import HealthReport, assess, daily_state, window_health
from demand_maint.core.metrics import HourlySums
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline

DAY, HOUR = 86400, 3600
START = 1_700_006_400  # a UTC midnight
CONFIG = Config()
BASELINE = Baseline(mae=2.0, skill=0.5, naive_mae=4.0, n=2000, days=14)


class Town:
    """Places with hourly rows; errors are set directly, so that every figure is known.

    Demand repeats every week: an ordinary forecast misses by nothing, and the naive error set here is all that tells.
    """

    def __init__(self, places: int = 4, zone: str = "UTC") -> None:
        self.places: list[int | str] = list(range(places))
        self.grid = TimeGrid(zone, HOUR)
        self.sums, self.feed = HourlySums(), FeedSums()
        self.newest: float | None = None

    def live(
        self,
        days: tuple[int, int],
        error: float,
        naive: float | None,
        *,
        version: int = 1,
        noise: float = 0.1,
        seed: int = 0,
        level: float = 20.0,
        only: tuple[int, ...] | None = None,
        worse: dict[int, float] | None = None,
    ) -> None:
        rng = np.random.default_rng([seed, *days])
        chosen = range(len(self.places)) if only is None else only
        hours = np.arange(days[0] * 24, days[1] * 24)
        place = np.repeat(np.array(list(chosen), dtype=np.uint32), len(hours))
        slot = np.tile(START + hours * HOUR, len(list(chosen)))
        count = len(slot)
        swing = np.repeat(np.exp(rng.normal(0, noise, count // 24 if count >= 24 else 1)), 24)[:count]
        ripple = np.random.default_rng(7).uniform(0, 0.5, 168)[(slot // HOUR + 5 * place) % 168]
        actual = level * (1 + 0.5 * np.sin(slot / DAY * 2 * np.pi)) + ripple
        factor = np.array([(worse or {}).get(int(p), 1.0) for p in place])
        own = error * swing * factor
        self.feed.count("expected", place, slot)
        self.sums.count_predictions(place, slot, np.full(count, version, dtype=np.uint16))
        self.feed.add(place, slot, actual, np.zeros(count, dtype=bool))
        self.sums.add(
            MaturedBatch(
                place=place,
                slot=slot,
                version=np.full(count, version, dtype=np.uint16),
                predicted=actual + own,
                served=actual + own / 2,
                actual=actual,
                naive=np.full(count, np.nan) if naive is None else actual - naive,
                members=np.empty((count, 0), dtype=np.float32),
                snapshot=np.zeros(count, dtype=np.uint32),
                observed_at=slot.astype(np.float64),
            )
        )
        self.newest = float(max(self.newest or 0, slot.max()))

    def ask(
        self, day: float, config: Config = CONFIG, baseline: Baseline | None = BASELINE, **changes: Any
    ) -> HealthReport:
        return assess(self, baseline, START + day * DAY - 1, config, **changes)


def test_the_users_identity_holds_for_the_expected_error_of_the_window() -> None:
    """degradation == mae / baseline_mae - 1, with baseline_mae = skill x the naive error of this very window."""
    town = Town()
    town.live((0, 40), 3.0, 5.0, noise=0.0)
    health = town.ask(40)
    assert health.method == "difficulty_adjusted"
    assert health.mae == pytest.approx(3.0)
    assert health.baseline_mae == pytest.approx(0.5 * 5.0)
    assert health.degradation == pytest.approx(health.mae / health.baseline_mae - 1)  # type: ignore[operator]
    assert health.raw_degradation == pytest.approx(0.5)
    assert health.skill == pytest.approx(0.6)
    assert health.n == 7 * 24 * 4
    assert health.coverage == 1.0
    assert health.served_mae == pytest.approx(1.5)


def test_a_hard_week_is_not_a_bad_model() -> None:
    """When the naive forecast suffers as much, a doubled error must stay healthy, though the raw figure doubles."""
    town = Town()
    town.live((0, 33), 2.0, 4.0)
    town.live((33, 40), 4.0, 8.0)
    health = town.ask(40)
    assert health.status == "healthy"
    assert health.degradation == pytest.approx(0.0, abs=0.05)
    assert health.raw_degradation == pytest.approx(1.0, abs=0.1)


def test_a_bad_model_is_critical_only_once_the_test_has_fired() -> None:
    """+60 % must be critical after a week of it, with the alarm dated; the floor alone, without alarm, must not be."""
    town = Town()
    town.live((0, 40), 2.0, 4.0)
    town.live((40, 47), 3.2, 4.0)
    health = town.ask(47)
    assert health.status == "critical"
    assert health.needs_retrain
    assert health.drift.retrain_alarm
    assert health.drift.since == pytest.approx(START + 40 * DAY, abs=4 * DAY)
    quiet = town.ask(47, baseline=Baseline(mae=1.0, skill=0.25, n=100, days=14), since=START + 46.0 * DAY, champion=1)
    assert quiet.status in {"healthy", "insufficient_data"}


@pytest.mark.parametrize("policy", [PolicyConfig.literal(), PolicyConfig(method="raw")])
def test_the_literal_mode_is_the_users_document(policy: PolicyConfig) -> None:
    """Raw 7-day MAE against the baseline, `>` 15 and 25 %, no test, no adjustment."""
    literal = Config(policy=policy)
    for error, status in ((2.29, "healthy"), (2.31, "degraded"), (2.49, "degraded"), (2.51, "critical")):
        town = Town()
        town.live((0, 10), error, 1.0, noise=0.0)
        health = town.ask(10, literal)
        assert (health.status, health.method) == (status, "raw")
        assert health.baseline_mae == 2.0
        assert health.degradation == pytest.approx(error / 2 - 1)
        assert health.as_dict().keys() == {
            "status",
            "mae",
            "baseline_mae",
            "degradation",
            "needs_retrain",
            "healthy",
            "n",
        }


def test_without_a_week_before_it_is_raw_and_says_so() -> None:
    """With no naive forecast the figures fall back to raw, with the reason in words."""
    town = Town()
    town.live((0, 5), 2.1, None)
    health = town.ask(5)
    assert health.method == "raw"
    assert "one or two weeks before" in health.reason
    assert health.degradation == health.raw_degradation


def test_drift_is_found_without_any_naive_forecast() -> None:
    """Where no row has a value a week before, the sequential test must run on the plain error and still alarm."""
    town = Town()
    town.live((0, 30), 2.0, None)
    assert not town.ask(30).drift.warn_alarm
    town.live((30, 37), 3.2, None)
    health = town.ask(37)
    assert (health.status, health.method) == ("critical", "raw")


def test_too_little_data_says_how_old_the_newest_record_is() -> None:
    """Undefined figures are None, the status is insufficient_data, and the age of the newest record is told."""
    town = Town()
    empty = town.ask(3)
    assert (empty.status, empty.mae, empty.degradation, empty.n) == ("insufficient_data", None, None, 0)
    assert "no record yet" in empty.reason
    town.live((0, 2), 2.0, None)
    late = town.ask(30)
    assert late.status == "insufficient_data"
    assert "28 days old" in late.reason
    assert late.as_dict()["newest_age"] == pytest.approx(28 * DAY, abs=2 * HOUR)


def test_status_is_always_about_the_policys_window() -> None:
    """`days` changes the figures, never the decision."""
    town = Town()
    town.live((0, 40), 2.0, 4.0)
    town.live((40, 47), 3.2, 4.0)
    short, long = town.ask(47, days=1), town.ask(47, days=30)
    assert short.status == long.status == "critical"
    assert short.n < long.n
    assert short.window_degradation == long.window_degradation
    assert long.degradation < short.degradation  # type: ignore[operator]


def test_a_replaced_models_errors_never_count_against_its_successor() -> None:
    """After a promotion only the new version's rows since then count, and the split by version shows both."""
    town = Town()
    town.live((0, 30), 2.0, 4.0, version=1)
    town.live((30, 40), 6.0, 4.0, version=1)
    town.live((40, 44), 2.0, 4.0, version=2)
    health = town.ask(44, champion=2, since=START + 40.0 * DAY, details=True)
    assert health.status == "healthy"
    assert health.mae == pytest.approx(2.0, rel=0.1)
    assert [split.version for split in health.versions] == [1, 2]
    assert not health.drift.warn_alarm


def test_the_first_fourteen_days_make_a_baseline_where_there_is_none() -> None:
    """Without a baseline: insufficient_data with the count of days, then judged against the first 14 days."""
    town = Town()
    town.live((0, 10), 2.0, 4.0)
    young = town.ask(10, baseline=None)
    assert young.status == "insufficient_data"
    assert "9 of the first 14 days" in young.reason
    town.live((10, 30), 2.0, 4.0)
    grown = town.ask(30, baseline=None)
    assert grown.status == "healthy"
    assert grown.baseline is not None
    assert grown.baseline.source == "first_days"
    assert grown.degradation == pytest.approx(0.0, abs=0.05)


def test_a_baseline_is_refreshed_after_four_calm_weeks_of_the_same_champion() -> None:
    """A refresh is due only when the last 28 days were this champion's, calm, without feed fault, and not yet counted."""
    town = Town()
    town.live((0, 60), 2.1, 4.0)
    now = START + 60 * DAY + 60.0
    calm = daily_state(town, BASELINE, now, CONFIG).drift.calm_days
    assert calm >= 28
    fresh = due_refresh(town, BASELINE, calm, (), now=now, champion=1, since=START)
    assert fresh is not None
    assert fresh.skill == pytest.approx(0.525, abs=0.01)
    assert fresh.until == START + 60 * DAY
    for changes in (
        {"calm_days": 27},
        {"excluded": ((0, (START + 50 * DAY) // HOUR, (START + 51 * DAY) // HOUR),)},
        {"since": START + 40 * DAY},
        {"baseline": fresh},
    ):
        given_values: dict[str, Any] = {
            "baseline": BASELINE,
            "calm_days": calm,
            "excluded": (),
            "since": START,
        } | changes
        assert due_refresh(town, now=now, champion=1, **given_values) is None


def test_the_interval_holds_the_degradation() -> None:
    """The 90 % interval by whole days must contain the figure and shrink as days agree."""
    town = Town()
    town.live((0, 40), 2.2, 4.0, noise=0.2)
    health = town.ask(40, details=True)
    assert health.interval is not None
    assert health.interval[0] <= health.degradation <= health.interval[1]  # type: ignore[operator]
    details = health.as_dict(details=True)
    assert {
        "raw_degradation",
        "skill",
        "method",
        "coverage",
        "interval",
        "places",
        "feed",
        "versions",
        "served_mae",
    } <= details.keys()


def test_one_place_of_many_is_named_while_the_pool_hides_it() -> None:
    """One venue of twenty that doubles its error must be named, its size told, and the pool stay healthy."""
    town = Town(places=20)
    town.live((0, 42), 2.0, 4.0, noise=0.2)
    town.live((42, 46), 2.0, 4.0, noise=0.2, worse={17: 2.0})
    health = town.ask(46)
    assert health.status == "healthy"
    assert [place.place for place in health.places if place.drifting] == [17]
    assert health.places[0].degradation == pytest.approx(1.0, abs=0.4)


def test_a_stuck_sensor_is_a_feed_fault_not_a_bad_model() -> None:
    """A place whose truth is one value for a day is named as feed, left out of the figures, and comes back by itself."""
    town = Town()
    town.live((0, 42), 2.0, 4.0)
    town.live((42, 43), 2.0, 4.0, only=(0, 1, 2))
    hours = np.arange(42 * 24, 43 * 24)
    slot, place = START + hours * HOUR, np.full(24, 3, dtype=np.uint32)
    town.feed.count("expected", place, slot)
    town.feed.add(place, slot, np.full(24, 500.0), np.zeros(24, dtype=bool))
    town.sums.add(
        MaturedBatch(
            place=place,
            slot=slot,
            version=np.ones(24, dtype=np.uint16),
            predicted=np.full(24, 20.0),
            served=np.full(24, 20.0),
            actual=np.full(24, 500.0),
            naive=np.full(24, 20.0),
            members=np.empty((24, 0), dtype=np.float32),
            snapshot=np.zeros(24, dtype=np.uint32),
            observed_at=slot.astype(np.float64),
        )
    )
    sick = town.ask(43)
    assert set(sick.feed) == {3}
    assert sick.mae == pytest.approx(2.0, rel=0.1)
    town.live((43, 50), 2.0, 4.0)
    well = town.ask(50)
    assert not well.feed
    assert well.mae == pytest.approx(2.0, rel=0.1)
    assert well.status == "healthy"


def test_a_silent_feed_suspends_judgement() -> None:
    """When no truth comes at all, beyond the horizon and a day, the pool is named faulty and nothing is judged."""
    town = Town()
    town.live((0, 40), 2.0, 4.0)
    hours = np.arange(40 * 24, 44 * 24)
    for place in range(4):
        town.feed.count("expected", np.full(len(hours), place, dtype=np.uint32), START + hours * HOUR)
    health = town.ask(44)
    assert health.pool_fault is not None
    assert "no truth at all" in health.pool_fault
    assert health.status == "insufficient_data"


def test_listed_holidays_say_nothing_about_the_model() -> None:
    """A week of listed holidays must not feed the sequential test."""
    town = Town()
    town.live((0, 40), 2.0, 4.0)
    town.live((40, 46), 4.0, 4.0)
    days = tuple(str(np.datetime64(START // DAY + d, "D")) for d in range(40, 46))
    assert town.ask(46).drift.retrain_alarm
    assert not town.ask(46, Config(holidays=days)).drift.warn_alarm


def test_the_two_halves_are_the_whole() -> None:
    """A kept daily state must give the same report as assessing anew, and the cheap half must stay cheap."""
    town = Town()
    town.live((0, 40), 2.0, 4.0)
    now = START + 40 * DAY - 1.0
    daily = daily_state(town, BASELINE, now, CONFIG)
    assert window_health(town, daily, now, CONFIG) == assess(town, BASELINE, now, CONFIG)
    cost = min(timeit.repeat(lambda: window_health(town, daily, now, CONFIG).as_dict(), number=50, repeat=5)) / 50
    assert cost < 500e-6  # 100 us on a quiet machine; other work may run beside


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 4.0), st.floats(0.5, 8.0), st.floats(0.2, 5.0))
def test_units_of_demand_change_no_judgement(error: float, naive: float, unit: float) -> None:
    """Measuring demand in another unit must change no status and no relative figure."""
    reports = []
    for factor in (1.0, unit):
        town = Town(places=2)
        town.live((0, 20), error * factor, naive * factor, level=20.0 * factor, noise=0.0)
        reports.append(
            town.ask(20, baseline=Baseline(mae=2.0 * factor, skill=0.5, naive_mae=4.0 * factor, n=100, days=14))
        )
    assert reports[0].status == reports[1].status
    assert reports[0].degradation == pytest.approx(reports[1].degradation)


ROW = {
    "n": 24.0,
    "total": 240.0,
    "minimum": 2.0,
    "maximum": 20.0,
    "zeros": 0.0,
    "negatives": 0.0,
    "invalid": 0.0,
    "duplicates": 0.0,
    "late": 0.0,
    "expected": 24.0,
}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("", {}),
        ("", {"total": 480.0, "maximum": 40.0}),
        ("silent", {"n": 0.0, "total": 0.0, "minimum": math.inf, "maximum": -math.inf}),
        ("invalid", {"invalid": 12.0}),
        ("negative", {"negatives": 24.0, "total": -240.0, "minimum": -20.0, "maximum": -2.0}),
        ("unit", {"total": 2400.0, "minimum": 20.0, "maximum": 200.0}),
        ("unit", {"total": 0.24, "minimum": 0.002, "maximum": 0.02}),
        ("constant", {"minimum": 10.0, "maximum": 10.0}),
        ("zeros", {"zeros": 20.0, "total": 40.0}),
        ("missing", {"n": 8.0, "total": 80.0}),
        ("duplicates", {"duplicates": 24.0}),
        ("late", {"late": 24.0}),
    ],
)
def test_each_kind_of_fault_is_told_apart(kind: str, changes: dict[str, float]) -> None:
    """Each kind must be recognised against four ordinary weeks, and a doubled level must not be one."""
    recent = {name: np.array([changes.get(name, value)]) for name, value in ROW.items()}
    past = {name: np.full((4, 1), value) for name, value in ROW.items()}
    assert FAULTS[int(classify(recent, past)[0])] == kind


@given(st.lists(st.floats(0, 50), min_size=10, max_size=10), st.lists(st.floats(0, 50), min_size=10, max_size=10))
def test_any_sums_can_be_classified(recent: list[float], past: list[float]) -> None:
    """Whatever the sums hold, a code of the table comes out and nothing warns."""
    now = {name: np.array([value]) for name, value in zip(ROW, recent, strict=True)}
    before = {name: np.full((4, 1), value) for name, value in zip(ROW, past, strict=True)}
    assert 0 <= int(classify(now, before)[0]) < len(FAULTS)
