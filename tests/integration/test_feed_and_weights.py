"""A feed that breaks between two checks moves no weight: it is looked at whenever weights and levels are renewed."""

from pathlib import Path

import numpy as np
import pytest

from demand_maint.config import Config
from demand_maint.core.serving import ServingSnapshot
from demand_maint.core.versions import Commit, FileHashes, LineUpEntry
from demand_maint.model_handle import ModelHandle
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

HOUR = 3600.0
START = 1_700_006_400.0 // 86400 * 86400
DAYS = 15  # before anything breaks
PLACES = ("broken", "well", "fine")


class Level:
    """A model that is told the demand and errs by a factor."""

    feature_names = ("demand",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predict."""
        return rows[:, 0].astype(np.float64) * self.factor


class TwoVersions:
    """A registry of a champion and its predecessor."""

    def head(self) -> Commit:
        """The only commit."""
        entry = LineUpEntry(version=1, role="previous", entered_at=START)
        return Commit(number=1, action="deploy", at=START, champion=2, base=2, line_up=(entry,))

    def hashes(self, number: int) -> FileHashes:
        """Hashes of a version."""
        return FileHashes(str(number), "")

    def model_bytes(self, number: int) -> bytes:
        """Bytes of a version: its number."""
        return str(number).encode()


class World:
    """Three places, predicted and known in steps of some hours; no check is ever made."""

    def __init__(self, root: Path) -> None:
        self.clock, self.rng, self.hour = VirtualClock(START), np.random.default_rng(7), 0
        self.monitor = ModelMonitor(root, Config(), self.clock, background=False)
        models = {b"1": Level(1.02), b"2": Level(0.98)}
        self.handle = ModelHandle(
            TwoVersions(), config=Config(), clock=self.clock, journal=self.monitor.journal, naive=self.monitor.naive,
            load=lambda data, *, sha256: models[data],
        )  # fmt: skip
        self.handle.refresh()

    def live(self, hours: int, factor: float = 1.0) -> ServingSnapshot:
        """Let hours pass; the truth of the broken place is multiplied by `factor`. The snapshot made of it."""
        ahead = np.arange(self.hour, self.hour + hours)
        wave = 50 + 20 * np.sin(ahead / 24 * 2 * np.pi)
        for place in PLACES:
            self.handle.predict({"demand": wave}, place, START + HOUR * ahead)
        self.hour += hours
        self.clock.set(START + self.hour * HOUR)
        for place in PLACES:
            truth = wave * np.exp(self.rng.normal(0, 0.1, hours)) * (factor if place == "broken" else 1.0)
            for hour, actual in zip(ahead.tolist(), truth.tolist(), strict=True):
                self.monitor.log_actual(place, START + HOUR * hour, actual)
        self.monitor.drain()
        self.monitor.watch_feed()
        self.handle.publish(self.monitor.line_up, self.monitor.places, metadata=lambda _: None)  # type: ignore[arg-type, return-value]
        newest = self.monitor.line_up.latest
        assert newest is not None
        return newest


@pytest.mark.parametrize(("factor", "within"), [(10.0, 2), (-1.0, 2), (0.0, 6)])
def test_a_feed_that_breaks_is_suspended_before_it_moves_anything(tmp_path: Path, factor: float, within: int) -> None:
    """Another unit, another sign, zeros: the place is frozen within hours, no level went far, and what was in force before stays."""
    world = World(tmp_path)
    with world.monitor as monitor:
        healthy = [world.live(24) for _ in range(DAYS)]
        before = healthy[-1]
        code, moved = monitor.places.index("broken"), []
        for hour in range(1, 25):
            after = world.live(1, factor)
            moved.append(float(np.abs(after.levels[code] - before.levels[code]).max()))
            assert hour < within or monitor.line_up.suspended == (code,)
        assert max(moved) < 0.12
        kept = [(s.weights[code].tolist(), s.levels[code].tolist()) for s in healthy[-2:]]
        assert (after.weights[code].tolist(), after.levels[code].tolist()) in kept
