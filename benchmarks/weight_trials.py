"""How fast a forced regression loses its weight; a table of ``python -m benchmarks.verdict_trials``.

A line-up of one model and the seasonal naive has lived for three weeks; then a model whose error is 25 % larger is made champion
by force. Two versions of one model err alike on most rows, so most of the noise is theirs together; how much worse the new one is
scatters from day to day. Weights are the library's own, renewed once a day, pooled over places, raw and level-calibrated together.
"""

import math

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.lineup import LineUp
from demand_maint.core.records import MaturedBatch
from demand_maint.core.serving import Mixer, ServingSnapshot
from demand_maint.core.timegrid import TimeGrid

__all__ = ["half_weight_day", "weights_lost"]

DAY = 86400
START = 1_700_006_400 // DAY * DAY
GRID = TimeGrid("UTC", 3600)
PLACES = tuple(range(10))
BEFORE, DAYS = 21, 14
REGRESSION, TOGETHER = 0.25, 0.9
NOISE, NAIVE_NOISE = 0.15, 0.21
Floats = NDArray[np.float64]


class Life:
    """Days of ten places, hourly; version 1 is as it should be, version 2 is worse."""

    def __init__(self, rng: np.random.Generator, scatter: float) -> None:
        self.rng, self.scatter, self.day = rng, scatter, 0
        self.line_up = LineUp(GRID)
        self.snapshot = self.seated((1,))

    def seated(self, versions: tuple[int, ...]) -> ServingSnapshot:
        """Who serves from now on, the champion first."""
        self.line_up.seat(versions, {}, at=START + self.day * DAY, places=PLACES)
        made = self.line_up.snapshot(START + self.day * DAY + 1800.0, PLACES)
        if made is not None:
            self.snapshot = made
        return self.snapshot

    def live(self) -> None:
        """One day: served by the snapshot, its truth known the day after."""
        n, rng, columns = 24 * len(PLACES), self.rng, self.snapshot.columns
        actual = rng.gamma(20.0, 5.0, n)
        together = rng.normal(size=n)
        size = {1: NOISE, 2: NOISE * (1.0 + REGRESSION + self.scatter * rng.normal()), 0: NAIVE_NOISE}
        share = {1: TOGETHER, 2: TOGETHER, 0: 0.0}
        raw = [
            actual + 100.0 * size[v] * (share[v] * together + math.sqrt(1.0 - share[v] ** 2) * rng.normal(size=n))
            for v in columns
        ]
        members = np.stack(raw, axis=1).astype(np.float32)
        place = np.arange(n, dtype=np.uint32) % len(PLACES)
        self.line_up.update(
            MaturedBatch(
                place=place, slot=START + self.day * DAY + np.arange(n) // len(PLACES) * 3600,
                version=np.full(n, columns[0], dtype=np.uint16), predicted=members[:, 0].astype(np.float64),
                served=Mixer(self.snapshot).mix(place.astype(np.intp), members), actual=actual, naive=raw[-1],
                members=members, snapshot=np.full(n, self.snapshot.number, dtype=np.uint32),
                observed_at=np.full(n, START + (self.day + 1) * DAY + 1800.0),
            )
        )  # fmt: skip
        self.day += 1
        self.seated(columns[:-1])

    def weight(self, version: int) -> float:
        """Pooled weight of a version, raw and level-calibrated."""
        mine = [member.version == version for member in self.snapshot.members]
        return float(self.snapshot.weights[-1, mine].sum())


def half_weight_day(rng: np.random.Generator, scatter: float) -> float:
    """Days of labels after which a forced model that is 25 % worse has half of the weight it came with, or less."""
    life = Life(rng, scatter)
    for _ in range(BEFORE):
        life.live()
    life.seated((2, 1))
    first = life.weight(2)
    for day in range(1, DAYS + 1):
        life.live()
        if life.weight(2) <= first / 2:
            return day
    return math.inf


def weights_lost(count: int, scatter: float, seed: int = 0) -> dict[str, float]:
    """Count forced regressions under one scatter of the daily difference."""
    rng = np.random.default_rng([seed, int(1000 * scatter)])
    days = np.array([half_weight_day(rng, scatter) for _ in range(count)])
    return {
        "scatter": scatter,
        "median_days": float(np.median(days)),
        "within_1_day": float((days <= 1).mean()),
        "within_2_days": float((days <= 2).mean()),
    }
