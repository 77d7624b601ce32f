"""What judging costs: one update of the sequential test, and a check over many places.

Processor time of this thread, the median of several rounds. A *check* is the figures of seven days on top of what whole days
said, which is kept until the day ends; *whole days* is that: feed, sequential test and places, once a day.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.detector_feeds import City, health_now
from benchmarks.timing import median, show
from demand_maint.config import Config
from demand_maint.core.drift import DegradationTest
from demand_maint.core.health import daily_state, window_health

__all__ = ["costs", "print_costs"]


def _spent(work: Callable[[], object], rounds: int, count: int = 1) -> float:
    """Microseconds of processor time each time."""
    work()
    found = []
    for _ in range(rounds):
        begin = time.thread_time_ns()
        for _ in range(count):
            work()
        found.append((time.thread_time_ns() - begin) / count / 1000)
    return median(found)


def costs(*, places: int = 1000, days: int = 84) -> list[dict[str, Any]]:
    """Measure on a city of that many places with hourly rows."""
    values = np.random.default_rng(1).normal(0.0, 0.2, 1000).tolist()
    test = DegradationTest(centre=0.0, scale=0.2)

    def thousand_updates() -> None:
        for value in values:
            test.update(value)

    rows = [{"what": "detector update", "us": _spent(thousand_updates, 41) / 1000, "wanted us": 5.0}]
    city, config = City(1, places=places, days=days), Config()
    truth, end = city.draw(), 24 * days - 12
    city.settle(truth, (24 * 8, 24 * 29))
    for begin in range(0, end, 24 * 7):
        city.live(truth, begin, min(begin + 24 * 7, end))
    now, since = health_now(city, end), float(city.slots[24 * 29])
    whole = daily_state(city, city.baseline, now, config, 1, since)
    rows.append(
        {
            "what": f"check over {places} places x 7 days",
            "us": _spent(lambda: window_health(city, whole, now, config, 7, 1, since), 41, 5),
            "wanted us": 20_000.0,
        }
    )
    rows.append(
        {
            "what": "the same, with interval and versions",
            "us": _spent(lambda: window_health(city, whole, now, config, 7, 1, since, details=True), 21),
        }
    )
    rows.append(
        {
            "what": f"whole days of {places} places, {days} days kept",
            "us": _spent(lambda: daily_state(city, city.baseline, now, config, 1, since), 7),
        }
    )
    return rows


def print_costs(*, as_json: bool) -> None:
    """Measure and print."""
    show("detector_scorecard --costs", costs(), as_json=as_json)
