"""Models, a registry and a journal without a disk, for a `ModelHandle`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from demand_maint.config import Config, ServingConfig
from demand_maint.core.serving import Member, ServingSnapshot
from demand_maint.core.versions import Commit, FileHashes, LineUpEntry
from demand_maint.errors import DamagedModelError

NOW = 1_700_006_400.0


FEATURES = ("lag", "hour", "rain")


CHAMPION_ONLY = Config(serving=ServingConfig(serve="champion"))


class Linear:
    """A model that is a sum of its features times a factor; `broken` makes it misbehave."""

    def __init__(self, factor: float, names: tuple[str, ...] = FEATURES) -> None:
        self.factor = factor
        self.feature_names = names
        self.broken: Any = None

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predict; check what a real model would not."""
        assert rows.dtype == np.float32
        assert rows.shape[1] == len(self.feature_names)
        assert len(rows) == 1 or rows.flags.f_contiguous
        if isinstance(self.broken, Exception):
            raise self.broken
        values = rows.astype(np.float64) @ np.arange(1.0, len(self.feature_names) + 1) * self.factor
        return np.full(len(rows), self.broken) if self.broken is not None else values


class FakeRegistry:
    """Versions in a dictionary; bytes name the version."""

    def __init__(self, models: dict[int, Linear]) -> None:
        self.models = models
        self.commit: Commit | None = None
        self.damaged: set[int] = set()

    def deploy(self, champion: int, *others: int, until: float | None = None) -> None:
        """Make a commit."""
        number = self.commit.number + 1 if self.commit is not None else 1
        entries = tuple(LineUpEntry(version=v, role="candidate", entered_at=NOW, until=until) for v in others)
        self.commit = Commit(number=number, action="deploy", at=NOW, champion=champion, base=champion, line_up=entries)

    def head(self) -> Commit | None:
        """Newest commit."""
        return self.commit

    def hashes(self, number: int) -> FileHashes:
        """Hashes of a version."""
        return FileHashes(str(number), "")

    def model_bytes(self, number: int) -> bytes:
        """Bytes of a version."""
        if number in self.damaged:
            raise DamagedModelError("flipped")
        return str(number).encode()

    def load(self, data: bytes, *, sha256: str) -> Linear:
        """Stand in for `load_model`."""
        assert sha256 == data.decode()
        return self.models[int(data)]


class Kept:
    """A journal that keeps calls."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.versions: list[int] = []

    def log_served(
        self,
        places: Sequence[Any],
        timestamps: Any,
        served: Any,
        members: Any,
        snapshot: int,
        features: Any,
        *,
        champion: Any = None,
    ) -> None:
        """Keep a call."""
        self.rows.append({
            "places": list(places), "timestamps": timestamps, "served": served, "members": members,
            "snapshot": snapshot, "features": features, "champion": champion,
        })  # fmt: skip

    def set_version(self, number: int, features: Sequence[str] | None = None) -> None:
        """Keep a version."""
        assert features is not None
        self.versions.append(number)


def naive(places: Sequence[Any], slots: np.ndarray) -> list[float]:
    """Seasonal naive: 50 everywhere, unknown at "new"."""
    assert slots.dtype == np.int64
    assert (slots % 3600 == 0).all()
    return [float("nan") if place == "new" else 50.0 for place in places]


def snapshot(number: int = 1, columns: tuple[int, ...] = (1, 2, 0)) -> ServingSnapshot:
    """Equal weights for each model raw and calibrated and for the naive."""
    members = (*(Member(v, c) for v in columns if v for c in (False, True)), Member(0))
    weights = np.full((3, len(members)), 1 / len(members), dtype=np.float32)
    levels = np.full((3, len(columns)), 1.1, dtype=np.float32)
    return ServingSnapshot(number, NOW, columns, members, ("a", "b"), weights, levels)


ROW = {"lag": 10.0, "hour": 8, "rain": 0.5}


OWN = 10.0 + 16.0 + 1.5
