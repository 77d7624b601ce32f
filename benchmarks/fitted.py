"""Fitted models and a registry in memory, for benchmarks that need a `ModelHandle` and nothing on disk."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint._training.loading import cbm_bytes
from demand_maint.core.versions import Commit, FileHashes, LineUpEntry

__all__ = ["FEATURES", "Fitted", "MemoryRegistry", "fitted_model", "rows"]

FEATURES = tuple(f"feature_{number:02d}" for number in range(35))


@dataclass(frozen=True)
class Fitted:
    """A CatBoostRegressor and its bytes."""

    model: Any
    data: bytes


def rows(n: int, seed: int = 0) -> NDArray[np.float32]:
    """Random feature rows, float32 in Fortran order."""
    return np.asfortranarray(np.random.default_rng(seed).normal(size=(n, len(FEATURES))).astype(np.float32))


def fitted_model(seed: int, trees: int = 300, depth: int = 6) -> Fitted:
    """Fit a model of the size the library trains, on noise."""
    x = rows(4000, seed)
    y = 100 + 20 * x[:, 0] + 5 * x[:, seed % 30] + np.random.default_rng(seed).normal(size=len(x))
    from catboost import CatBoostRegressor, Pool

    model = CatBoostRegressor(
        iterations=trees, depth=depth, learning_rate=0.1, random_seed=seed, verbose=False, allow_writing_files=False,
        thread_count=1,
    )  # fmt: skip
    model.fit(Pool(x, y, feature_names=list(FEATURES)))
    return Fitted(model, cbm_bytes(model))


@dataclass
class MemoryRegistry:
    """A registry that is a dictionary: the first version is champion, `line_up` sits beside it."""

    models: dict[int, Fitted]
    line_up: tuple[int, ...] = ()
    number: int = 1
    champion: int = 0
    _hashes: dict[int, FileHashes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.champion = self.champion or next(iter(self.models))
        self._hashes = {n: FileHashes(hashlib.sha256(m.data).hexdigest(), "") for n, m in self.models.items()}

    def deploy(self, version: int) -> None:
        """Make `version` champion."""
        self.number, self.champion = self.number + 1, version

    def head(self) -> Commit:
        """Newest commit."""
        entries = tuple(LineUpEntry(version=v, role="candidate", entered_at=0.0) for v in self.line_up)
        return Commit(
            number=self.number, action="deploy", at=0.0, champion=self.champion, base=self.champion, line_up=entries
        )

    def hashes(self, number: int) -> FileHashes:
        """Hashes of a version."""
        return self._hashes[number]

    def model_bytes(self, number: int) -> bytes:
        """Bytes of a version."""
        return self.models[number].data
