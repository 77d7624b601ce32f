"""How often a feed that is well is called broken, and how soon one that is broken is: ``python -m benchmarks.feed_alarms``.

Hourly demand of places with few customers and with many (negative binomial around a daily and weekly shape, days that differ by
a third), and the shipped bikes. Every look is the one before a serving snapshot: once in six hours for what is well, hourly for
what is broken. A third of the places are broken at a random hour, for three days.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detector_feeds import FAULTS
from benchmarks.timing import arguments, show
from demand_maint.core.feed import FeedState, feed_state
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.view import PlaceId
from demand_maint.demo import bikes

HOUR, DAY = 3600, 86400
START = 1_700_006_400 // DAY * DAY
#: Days that are only compared with.
KNOWN = 35
LASTS = 3

Floats = NDArray[np.float64]
KINDS = ("zeros", "unit x10", "unit x1000", "negative", "constant")


@dataclass
class Stream:
    """Hourly demand of P places from `start` on, (H, P), and what the monitor would have summed up of it."""

    demand: Floats
    start: int = START

    def __post_init__(self) -> None:
        self.grid = TimeGrid("UTC", HOUR)
        self.places: list[PlaceId] = list(range(self.demand.shape[1]))
        self.feed = FeedSums()
        self.hours = 0

    @property
    def newest(self) -> float | None:
        """Newest slot whose truth is known."""
        return float(self.start + (self.hours - 1) * HOUR) if self.hours else None

    @property
    def sums(self) -> Any:
        """Nobody asks for errors here."""
        raise NotImplementedError

    def look(self, hour: int) -> FeedState:
        """Let the hours before `hour` happen, and look at the feed."""
        known = self.demand[self.hours : hour]
        at, place = np.nonzero(np.isfinite(known))
        slot = self.start + (self.hours + at) * HOUR
        actual = known[at, place]
        if len(actual):
            self.feed.add(place.astype(np.uint32), slot, actual, np.zeros(len(at), dtype=bool), expected=True)
        self.hours = hour
        return feed_state(self, float(self.start + hour * HOUR))


def counts(mean: float, *, days: int, places: int = 20, seed: int = 1) -> Floats:
    """Return customers an hour, (H, P)."""
    rng = np.random.default_rng(seed)
    hour = np.arange(days * 24)
    shape = np.clip(1 + np.sin((hour % 24 - 8) / 24 * 2 * np.pi), 0.05, None)
    shape *= np.where(hour // 24 % 7 >= 5, 0.6, 1.0)
    day = np.repeat(np.exp(rng.normal(0, 0.35, (days, places))), 24, axis=0)
    return rng.poisson(mean * shape[:, None] * day * rng.gamma(2, 0.5, day.shape)).astype(np.float64)


def city_bikes() -> Stream:
    """Return the shipped bikes, as they were."""
    frame = bikes().drop_nulls("actual")
    epoch = frame["timestamp"].to_numpy().astype(np.int64)
    demand = np.full(((epoch[-1] - epoch[0]) // HOUR + 1, 1), np.nan)
    demand[(epoch - epoch[0]) // HOUR, 0] = frame["actual"].to_numpy()
    return Stream(demand, int(epoch[0]))


def alarms(stream: Stream) -> dict[str, float]:
    """Episodes that begin in a thousand days of a place, by kind, all of them false."""
    open_: dict[PlaceId, str] = {}
    found: dict[str, float] = {"unit": 0.0, "zeros": 0.0, "other": 0.0}
    hours = range(KNOWN * 24, len(stream.demand), 6)
    for hour in hours:
        now = stream.look(hour).by_place
        for place, kind in now.items():
            if open_.get(place) != kind:
                found[kind if kind in found else "other"] += 1
        open_ = now
    per = 1000 / (len(hours) / 4 * len(stream.places))
    return {kind: number * per for kind, number in found.items()}


def delays(demand: Floats, fault: str, seed: int = 5) -> Iterator[float]:
    """Hours from the beginning of a fault until it is named, infinite where it never is."""
    rng = np.random.default_rng(seed)
    demand, begin = demand.copy(), (KNOWN + 15) * 24
    begun = begin + rng.integers(0, 24, demand.shape[1])
    sick = range(0, demand.shape[1], 3)
    for place in sick:
        here = slice(begun[place], begun[place] + LASTS * 24)
        demand[here, place] = FAULTS[fault](demand[here, place][None], rng)[0]
    stream, named = Stream(demand), dict[PlaceId, int]()
    for hour in range(begin, begin + (LASTS + 1) * 24):
        for place in stream.look(hour).by_place:
            if hour > begun[int(place)]:
                named.setdefault(place, hour)
    yield from (named[place] - begun[place] if place in named else np.inf for place in sick)


def main() -> None:
    """Measure and print."""
    options = arguments(
        __doc__ or "", days=(200, "days of each stream without a fault"), repeat=(3, "streams per fault")
    )
    streams: dict[str, Any] = {f"{mean:g} customers an hour": mean for mean in (1, 4, 10, 50)}
    rows: list[dict[str, Any]] = []
    for name, mean in streams.items():
        row: dict[str, Any] = {"stream": name}
        false = alarms(Stream(counts(mean, days=options.days)))
        row["false a 1000 place-days"] = sum(false.values())
        row |= {f"of them {kind}": number for kind, number in false.items()}
        for fault in KINDS:
            took = [
                hours
                for seed in range(options.repeat)
                for hours in delays(counts(mean, days=60, seed=2 + seed), fault, seed)
            ]
            row[f"{fault} named after, h"] = float(np.median(took))
        rows.append(row)
    false = alarms(city_bikes())
    rows.append(
        {"stream": "city bikes, 9 years", "false a 1000 place-days": sum(false.values())}
        | {f"of them {kind}": number for kind, number in false.items()}
        | {f"{fault} named after, h": "-" for fault in KINDS}
    )
    show("feed_alarms", rows, as_json=options.json)


if __name__ == "__main__":
    main()
