"""``demand-maint explain --at T --place P`` takes a served value apart, to the last bit, whatever happened since."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demand_maint._storage.door import Door
from demand_maint._storage.serving_store import serving_store
from demand_maint.cli import main
from demand_maint.config import Config
from demand_maint.core.versions import Commit, FileHashes, LineUpEntry
from demand_maint.errors import DamagedModelError
from demand_maint.model_handle import ModelHandle
from demand_maint.model_monitor import ModelMonitor
from demand_maint.testing import VirtualClock

DAY, HOUR = 86400.0, 3600.0
START = 1_700_006_400.0 // DAY * DAY
DAYS = 13
SWAP_DAY = 9
BROKEN_DAY = 10
PLACES = ("north", 7)


class Wave:
    """A model: a factor times the daily wave it is given; where it is broken it returns nonsense."""

    feature_names = ("wave",)

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.broken = False

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predict."""
        return np.full(len(rows), np.nan) if self.broken else rows[:, 0].astype(np.float64) * self.factor


class Versions:
    """A registry in memory."""

    def __init__(self) -> None:
        self.models = {1: Wave(1.07), 2: Wave(0.96), 3: Wave(1.01), 4: Wave(0.9)}
        self.commits: list[Commit] = []

    def commit(self, champion: int, base: int, **roles: int) -> None:
        """Deploy `champion`; `roles` give the version of each other role."""
        entries = tuple(
            LineUpEntry(version=version, role=role, entered_at=START)  # type: ignore[arg-type]  # a role by its name
            for role, version in roles.items()
        )
        number = len(self.commits) + 1
        self.commits.append(
            Commit(number=number, action="deploy", at=START, champion=champion, base=base, line_up=entries)
        )

    def head(self) -> Commit:
        """Newest commit."""
        return self.commits[-1]

    def hashes(self, number: int) -> FileHashes:
        """Hashes of a version."""
        return FileHashes(str(number), "")

    def model_bytes(self, number: int) -> bytes:
        """Bytes of a version: its number."""
        return str(number).encode()

    def load(self, data: bytes, *, sha256: str) -> Wave:
        """Stand in for `load_model`."""
        if sha256 != data.decode():
            raise DamagedModelError("another version")
        return self.models[int(data)]


class Life:
    """Thirteen days of one root: predictions by batch and by row, truth mostly a day late, one swap, one bad day of a model."""

    def __init__(self, root: Path) -> None:
        self.served: dict[tuple[str | int, float], float] = {}
        self.rng = np.random.default_rng(4)
        self.clock = VirtualClock(START)
        self.versions = Versions()
        self.versions.commit(1, 1, candidate=3)
        with ModelMonitor(root, Config(), self.clock, background=False) as self.monitor:
            self.handle = ModelHandle(
                self.versions, config=Config(), clock=self.clock, journal=self.monitor.journal, naive=self.monitor.naive,
                snapshots=serving_store(Door(root)), load=self.versions.load,
            )  # fmt: skip
            for day in range(DAYS):
                self._live(day)
            # what was four days late comes in at the end
            self._know([key for key in self.served if late(key)])
            self.monitor.drain()

    def _live(self, day: int) -> None:
        now = START + day * DAY
        self.clock.set(now)
        if day == SWAP_DAY:
            self.versions.commit(2, 1, candidate=4, previous=3)
        self.versions.models[4].broken = day == BROKEN_DAY
        self.handle.refresh()
        self.monitor.drain()
        self.handle.publish(self.monitor.line_up, self.monitor.places, metadata=lambda _: None)  # type: ignore[arg-type, return-value]
        slots = now + HOUR * np.arange(24)
        wave = 50 + 20 * np.sin(np.arange(24) / 24 * 2 * np.pi)
        batch = self.handle.predict({"wave": wave}, "north", slots)
        self.served |= {("north", slot): value for slot, value in zip(slots.tolist(), batch.tolist(), strict=True)}
        for slot, value in zip(slots.tolist(), wave.tolist(), strict=True):
            self.served[7, slot] = float(self.handle.predict({"wave": value}, 7, slot)[0])
        if day == DAYS - 1:
            self.served["new", slots[5]] = float(self.handle.predict({"wave": wave[5]}, "new", slots[5])[0])
        self.clock.set(now + DAY)
        self._know([key for key in self.served if key[1] >= now and not late(key)])

    def _know(self, keys: list[tuple[str | int, float]]) -> None:
        for place, slot in keys:
            hour = (slot - START) / HOUR
            actual = 50 + 20 * np.sin(hour / 24 * 2 * np.pi) + self.rng.normal(0, 4)
            self.monitor.log_actual(place, slot, float(actual))


def late(key: tuple[str | int, float]) -> bool:
    """Whether the truth of a row comes at the very end."""
    return key[1] % (5 * HOUR) == 0


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Life]:
    """A root after thirteen days."""
    root = tmp_path_factory.mktemp("lived")
    return root, Life(root)


def asked(capsys: pytest.CaptureFixture[str], root: Path, place: str | int, slot: float) -> dict[str, Any]:
    """What the command says, as JSON."""
    at = datetime.fromtimestamp(slot, UTC).strftime("%Y-%m-%dT%H:%M")
    assert main(["explain", "--root", str(root), "--place", str(place), "--at", at, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("day", [1, 5, 8, SWAP_DAY, BROKEN_DAY, DAYS - 1])
@pytest.mark.parametrize("hour", [0, 13])
def test_a_served_value_is_reproduced(
    lived: tuple[Path, Life], capsys: pytest.CaptureFixture[str], place: str | int, day: int, hour: int
) -> None:
    """Before, at and after a swap, with early and late labels, in batches and by the row: the same float64."""
    root, life = lived
    slot = START + day * DAY + hour * HOUR
    told = asked(capsys, root, place, slot)
    assert told["served"] == life.served[place, slot]
    assert told["reproduced"] == life.served[place, slot]
    assert told["exact"] is True
    assert np.isfinite(told["actual"])
    assert sum(share["weight"] for share in told["shares"]) == pytest.approx(1.0, abs=1e-6)


def test_members_of_every_kind_take_part(lived: tuple[Path, Life], capsys: pytest.CaptureFixture[str]) -> None:
    """Champion, candidate, previous champion and base, raw and level-calibrated, and the naive are named with their shares."""
    root, _ = lived
    named = {
        day: {share["member"] for share in asked(capsys, root, 7, START + day * DAY + HOUR)["shares"]}
        for day in (1, 8, BROKEN_DAY, DAYS - 1)
    }
    assert named[1] == {"model 1"}
    assert named[8] == {
        "model 1", "model 1, level-calibrated", "model 3", "model 3, level-calibrated", "seasonal naive"
    }  # fmt: skip
    assert {"model 2", "model 2, level-calibrated", "model 4", "model 3", "model 1"} <= named[DAYS - 1]
    assert not {"model 4", "model 4, level-calibrated"} & named[BROKEN_DAY]


def test_a_place_never_seen_is_served_by_the_pool(lived: tuple[Path, Life], capsys: pytest.CaptureFixture[str]) -> None:
    """Its value too is reproduced, from the pooled weights."""
    root, life = lived
    slot = START + (DAYS - 1) * DAY + 5 * HOUR
    told = asked(capsys, root, "new", slot)
    assert told["reproduced"] == told["served"] == life.served["new", slot]
