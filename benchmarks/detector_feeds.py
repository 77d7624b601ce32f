"""Broken truth, clock changes and holiday weeks, through the whole judgement: sums, health, decision."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from demand_maint.config import Config
from demand_maint.core.baseline import baseline_from_errors
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.health import HealthReport, assess
from demand_maint.core.ledger import LedgerFacts
from demand_maint.core.metrics import HourlySums
from demand_maint.core.policy import Action, Situation, decide
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline

__all__ = ["FAULTS", "WEEKS", "City", "feed_scores", "week_scores"]

WEEKS = (
    "clock change",
    "holiday week, half foreseen",
    "holiday week, unforeseen but listed",
    "holiday week, unforeseen and not listed",
    "busy week, unforeseen and not listed",
)
#: Days of a change that stays, judged before it is given up.
PATIENCE = 28

DAY, HOUR = 86400, 3600
Floats = NDArray[np.float64]


def _stuck(values: Floats, rng: np.random.Generator) -> Floats:
    del rng
    return np.broadcast_to(values[:, :1], values.shape).copy() + 7.0


FAULTS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "constant": _stuck,
    "missing": lambda v, rng: np.where(rng.random(v.shape) < 0.7, np.nan, v),
    "silent": lambda v, _: np.full_like(v, np.nan),
    "invalid": lambda v, rng: np.where(rng.random(v.shape) < 0.6, np.inf, v),
    "zeros": lambda v, _: np.zeros_like(v),
    "unit x10": lambda v, _: v * 10,
    "unit x1000": lambda v, _: v * 1000,
    "negative": lambda v, _: -v,
    "late": lambda v, _: v,
    "duplicates": lambda v, _: v,
}


class City:
    """Some places, hourly demand, a champion that is about right, and what the monitor would have summed up."""

    def __init__(
        self, seed: int, *, places: int = 12, days: int = 84, zone: str = "UTC", start: float = 1_700_006_400.0
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.grid = TimeGrid(zone, HOUR)
        self.places: list[int | str] = [f"venue-{i}" for i in range(places)]
        first = int(self.grid.day(np.array([start]))[0])
        edges = self.grid.day_start(np.arange(first, first + days + 1))
        self.day_edges = edges
        self.slots = np.arange(edges[0], edges[-1], HOUR)
        wall = self.grid.local(self.slots)
        shape = 20 * (1 + 0.8 * np.sin(2 * np.pi * (wall % DAY) / DAY - 1.5)) * np.where(wall // DAY % 7 >= 5, 1.3, 1.0)
        size = np.exp(self.rng.normal(0, 0.5, places))[:, None]
        self.expected = size * shape
        self.forecast = self.expected
        self.holiday = np.ones(len(self.slots))
        self.newest: float | None = None
        self.sick: list[int] = []
        self.baseline: Baseline | None = None
        self.sums, self.feed = HourlySums(), FeedSums()

    def draw(self) -> Floats:
        """Actuals (P, H)."""
        return np.round(self.expected * self.holiday * np.exp(self.rng.normal(0, 0.25, self.expected.shape)), 1)

    def live(self, actual: Floats, begin: int, end: int, fault: str = "") -> None:
        """Let the hours from `begin` to `end` happen; NaN is no truth, infinite is invalid truth."""
        hours = np.arange(begin, end)
        place = np.repeat(np.arange(len(self.places), dtype=np.uint32), len(hours))
        at = np.tile(hours, len(self.places))
        slot = self.slots[at]
        back = np.searchsorted(self.slots, self.grid.shift(slot, -7 * DAY))
        clean = np.where(np.isfinite(actual), actual, np.nan)
        naive = np.where(slot - 7 * DAY >= self.slots[0], clean[place, back], np.nan)
        value = actual[place, at]
        self.feed.count("expected", place, slot)
        self.sums.count_predictions(place, slot, np.ones(len(slot), dtype=np.uint16))
        invalid = np.isinf(value)
        if invalid.any():
            self.feed.count("invalid", place[invalid], slot[invalid])
        known = np.isfinite(value)
        if not known.any():
            return
        late = np.full(int(known.sum()), fault == "late") & np.isin(place[known], self.sick)
        self.feed.add(place[known], slot[known], value[known], late)
        if fault == "duplicates":
            again = known & np.isin(place, self.sick)
            self.feed.count("duplicates", place[again], slot[again])
        predicted = self.forecast[place, at][known]
        count = int(known.sum())
        self.sums.add(
            MaturedBatch(
                place=place[known],
                slot=slot[known],
                version=np.ones(count, dtype=np.uint16),
                predicted=predicted,
                served=predicted,
                actual=value[known],
                naive=naive[known],
                members=np.empty((count, 0), dtype=np.float32),
                snapshot=np.zeros(count, dtype=np.uint32),
                observed_at=slot[known].astype(np.float64),
            )
        )
        self.newest = float(max(self.newest or 0.0, slot[known].max()))

    def judge(self, hour: int, config: Config, since: float) -> HealthReport:
        """Assess at the end of `hour`."""
        return assess(self, self.baseline, float(self.slots[hour - 1] + HOUR - 1), config, champion=1, since=since)

    def settle(self, actual: Floats, holdout: tuple[int, int]) -> None:
        """Take the champion's baseline from its errors in the hours of `holdout`."""
        begin, end = holdout
        at = np.tile(np.arange(begin, end), len(self.places))
        place = np.repeat(np.arange(len(self.places)), end - begin)
        slot = self.slots[at]
        back = np.searchsorted(self.slots, self.grid.shift(slot, -7 * DAY))
        naive = np.abs(actual[place, back] - actual[place, at])
        self.baseline = baseline_from_errors(
            slot.astype(np.float64),
            self.forecast[place, at] - actual[place, at],
            naive,
            actual[place, at],
            self.grid,
            places=place,
        )


def feed_scores(*, full: bool) -> dict[str, Any]:
    """Break the truth of one place and of all; count trainings, and whether the place is named as a feed fault."""
    config = Config()
    trainings = checks = named = cases = blamed = resumed = 0
    unnamed: list[str] = []
    for seed in range(6 if full else 1):
        for fault, spoil in FAULTS.items():
            for everywhere in (False, True):
                city = City(seed)
                truth, begin = city.draw(), 24 * 70
                city.sick = list(range(len(city.places))) if everywhere else [3]
                city.settle(truth, (24 * 8, 24 * 29))
                end = begin + 24 * 3
                broken = truth.copy()
                broken[city.sick, begin:end] = spoil(truth[city.sick, begin:end], city.rng)
                city.live(truth, 0, begin)
                at, seen = begin, None
                while at < end + 24 * 9:
                    step = 6 if at < end + 48 else 24
                    city.live(broken, at, at + step, fault if at < end else "")
                    at += step
                    since = float(city.slots[24 * 29])
                    health = city.judge(at, config, since)
                    facts = LedgerFacts(champion=1, base=1, promoted_at=since, last_update_at=health_now(city, at))
                    decision = decide(
                        Situation(health=health, now=health_now(city, at), policy=config.policy, facts=facts)
                    )
                    trainings += decision.action is not Action.NOTHING
                    checks += 1
                    suspects = set(health.feed) | ({city.places[3]} if everywhere and health.pool_fault else set())
                    if seen is None and at <= end and city.places[3] in suspects:
                        seen = at - begin
                    blamed += any(p.drifting and p.place in {city.places[i] for i in city.sick} for p in health.places)
                cases += 1
                named += seen is not None
                resumed += not health.feed and health.status == "healthy"
                if seen is None:
                    unnamed.append(f"{fault}{' everywhere' if everywhere else ''}")
    found = {
        "faults injected": cases,
        "named as feed faults": named,
        "not named": ", ".join(sorted(set(unnamed))) or "none",
        "checks": checks,
        "trainings": trainings,
        "checks that blamed the model of a faulty place": blamed,
        "judged again by themselves a week after the fault": resumed,
    }
    missed = [f"feed faults: {trainings} trainings, none wanted"] if trainings else []
    if named < cases:
        missed.append(f"feed faults: {cases - named} of {cases} not named ({found['not named']})")
    return found | {"misses": missed}


def health_now(city: City, hour: int) -> float:
    """Epoch second at the end of `hour`."""
    return float(city.slots[hour - 1] + HOUR - 1)


def week_scores(*, full: bool) -> dict[str, Any]:
    """Live through a change of the clocks and through unusual weeks; count runs in which anything was trained.

    In a holiday week demand falls by 40 %, in a busy one it rises by 40 %. A champion with calendar and lags foresees half of it;
    one that foresees nothing looks as bad as the seasonal-naive forecast for a week, and may have been right all the same. What
    that patience costs is the last figure: days until a training where demand falls like this and stays.
    """
    runs = 40 if full else 4
    clean = dict.fromkeys(WEEKS, 0)
    stays = []
    for seed in range(runs):
        for kind in WEEKS:
            factor = 1.0 if kind == "clock change" else 1.4 if kind.startswith("busy") else 0.6
            city, config = _changing_city(seed, factor, 7)
            if "half foreseen" in kind:
                city.forecast = city.expected * np.where(city.holiday < 1, 0.8, 1.0)
            elif "but listed" in kind:
                zone = ZoneInfo(config.zone)
                days = [datetime.fromtimestamp(float(edge), zone).date() for edge in city.day_edges[68:75]]
                config = structs.replace(config, holidays=tuple(day.isoformat() for day in days))
            clean[kind] += _days_until_training(city, config, 15) is None
        stays.append(_days_until_training(*_changing_city(seed, 0.6, PATIENCE), PATIENCE) or np.inf)
    found: dict[str, Any] = {f"runs without a training, {kind}": f"{count} of {runs}" for kind, count in clean.items()}
    found["median days until a training, demand falls by 40 % and stays"] = float(np.median(stays))
    missed = [f"{kind}: {runs - count} of {runs} runs trained" for kind, count in clean.items() if count < 0.95 * runs]
    return found | {"misses": missed}


def _changing_city(seed: int, factor: float, days: int) -> tuple[City, Config]:
    """Return a city whose demand changes by `factor` for `days` from its 68th day on."""
    # 31 March 2024, 01:00 UTC: day 75 of a city that begins on 16 January
    city = City(100 + seed, days=100, zone="Europe/London", start=1_705_363_200.0 + (seed % 5) * DAY)
    begin, end = (int(city.day_edges[day] - city.slots[0]) // HOUR for day in (68, 68 + days))
    city.holiday[begin:end] = factor
    return city, Config(zone="Europe/London")


def _days_until_training(city: City, config: Config, days: int) -> int | None:
    """Live on from day 68, judged daily; return the days until something is trained, ``None`` where nothing is."""
    truth = city.draw()
    city.settle(truth, (24 * 8, 24 * 29))
    city.live(truth, 0, 24 * 68)
    since = float(city.slots[24 * 29])
    for at in range(24 * 68, 24 * (68 + days), 24):
        city.live(truth, at, at + 24)
        now = health_now(city, at + 24)
        health = city.judge(at + 24, config, since)
        facts = LedgerFacts(champion=1, base=1, last_update_at=now)
        if decide(Situation(health=health, now=now, policy=config.policy, facts=facts)).action is not Action.NOTHING:
            return at // 24 - 67
    return None
