"""Places, members and their truth, lived through by a line-up."""

from collections.abc import Sequence

import numpy as np

from demand_maint.config import ServingConfig
from demand_maint.core.doubt import Doubt
from demand_maint.core.lineup import LineUp
from demand_maint.core.records import MaturedBatch
from demand_maint.core.serving import Member, Mixer, ServingSnapshot
from demand_maint.core.timegrid import TimeGrid

DAY = 86400


START = 1_700_006_400 // DAY * DAY


GRID = TimeGrid("UTC", 3600)


PLACES = ("a", "b", "c")


def batch(
    snapshot: ServingSnapshot,
    day: int,
    raw: dict[int, np.ndarray],
    actual: np.ndarray,
    *,
    place: np.ndarray | None = None,
    served: np.ndarray | None = None,
) -> MaturedBatch:
    """Rows of one day, 24 hours at each place in turn, served by the snapshot unless said otherwise."""
    n = len(actual)
    place = np.arange(n) % len(PLACES) if place is None else place
    members = np.stack([raw.get(version, np.full(n, np.nan)) for version in snapshot.columns], axis=1).astype(
        np.float32
    )
    served = Mixer(snapshot).mix(place.astype(np.intp), members) if served is None else served
    return MaturedBatch(
        place=place.astype(np.uint32),
        slot=np.int64(START + day * DAY) + (np.arange(n) // len(PLACES)) % 24 * 3600,
        version=np.full(n, snapshot.champion, dtype=np.uint16),
        predicted=members[:, 0].astype(np.float64),
        served=served,
        actual=actual,
        naive=raw.get(0, np.full(n, np.nan)),
        members=members,
        snapshot=np.full(n, snapshot.number, dtype=np.uint32),
        observed_at=np.full(n, START + (day + 1) * DAY + 3600.0),
    )


class World:
    """A line-up that lives through days of known errors.

    `errors` gives each version's relative error per day: (bias, noise).
    """

    def __init__(
        self,
        versions: Sequence[int],
        seed: int = 0,
        serving: ServingConfig | None = None,
        *,
        calibrate: bool = True,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.line_up = LineUp(GRID, serving, calibrate=calibrate)
        self.day = 0
        self.line_up.seat(versions, {}, at=START, places=PLACES)
        self.snapshots = [self.snap()]
        self.batches: list[MaturedBatch] = []

    def snap(self) -> ServingSnapshot:
        """The snapshot of the coming day."""
        made = self.line_up.snapshot(START + self.day * DAY + 1.0, PLACES)
        return made if made is not None else self.snapshots[-1]

    def live(self, days: int, errors: dict[int, tuple[float, float]], shared: float = 0.0) -> None:
        """Let days pass; `shared` is the part of the models' noise that is the demand's own and hits all alike."""
        for _ in range(days):
            n = 72
            actual = self.rng.gamma(20.0, 5.0, n)
            common = self.rng.normal(0.0, 100.0, n) * shared
            raw = {
                version: actual * (1.0 + bias)
                + noise * (common + self.rng.normal(0.0, 100.0, n) * np.sqrt(1 - shared**2))
                for version, (bias, noise) in errors.items()
            }
            rows = batch(self.snapshots[-1], self.day, raw, actual)
            self.batches.append(rows)
            self.line_up.update(rows)
            self.day += 1
            self.snapshots.append(self.snap())

    def suspend(self, faults: dict[int, int], since: dict[int, int] | None = None) -> bool:
        """Say of which places the feed is broken, and of which it may be."""
        return self.line_up.suspend(
            Doubt(faults, frozenset(faults), since or {}, (), START + self.day * DAY), self.rows
        )

    def rows(self, first: int, end: int) -> MaturedBatch:
        """Rows of all batches between two slots."""
        every = glued(self.batches)
        return rows_of(every, (every.slot >= first) & (every.slot < end))

    def weight(self, *members: Member) -> float:
        """Pooled weight of members."""
        newest = self.snapshots[-1]
        return sum(float(newest.weights[-1, newest.members.index(member)]) for member in members)


def rows_of(source: MaturedBatch, keep: np.ndarray) -> MaturedBatch:
    """Some rows of a batch."""
    return MaturedBatch(*(getattr(source, name)[keep] for name in MaturedBatch.__slots__))


def glued(batches: Sequence[MaturedBatch]) -> MaturedBatch:
    """Batches of equal width as one."""
    return MaturedBatch(*(np.concatenate([getattr(b, name) for b in batches]) for name in MaturedBatch.__slots__))
