"""A registry's life in steps, and what must be true of any disk that life can leave behind. No CatBoost in it."""

import contextlib
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from demand_maint._storage.decisions import DecisionJournal
from demand_maint._storage.disk import Disk
from demand_maint._storage.door import TEMP, Door
from demand_maint._storage.layout import EXPORT_MODEL
from demand_maint._storage.registry import Registry
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint._training.requests import ModelInspection
from demand_maint.config import Config, StorageConfig
from demand_maint.core.versions import Commit, ModelMetadata
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import NoChampionError, NothingToRollBackError
from demand_maint.testing import VirtualClock

KEEP = 3
SCRIPT = (
    "retain", "deploy", "save", "deploy", "decide", "add", "rollback", "force", "retain", "deploy", "save", "recover", "deploy",
    "retain", "rollback", "export", "rollback", "save",
)  # fmt: skip
SMALL_SCRIPT = (
    "retain",
    "deploy",
    "save",
    "deploy",
    "decide",
    "add",
    "rollback",
    "force",
    "retain",
    "save",
    "export",
    "recover",
)


TREES = 5
_real_models: list[bytes] = []


def use_real_models(folder: Path) -> None:
    """From now on models are CatBoost's own, trained once into `folder`, and a real child looks at them."""
    if not folder.exists():
        import numpy as np
        from catboost import CatBoostRegressor

        folder.mkdir(parents=True)
        rows = np.random.default_rng(0).normal(size=(300, 2))
        for seed in range(4):
            model = CatBoostRegressor(
                iterations=TREES, depth=2 + seed, random_seed=seed, verbose=0, allow_writing_files=False, thread_count=1
            )
            model.fit(rows, rows[:, 0] * (seed + 1) - rows[:, 1])
            model.set_feature_names(["a", "b"])
            model.save_model(str(folder / f"{seed}.cbm"))
    _real_models[:] = [path.read_bytes() for path in sorted(folder.iterdir())]


def model_bytes(identity: int) -> bytes:
    """Return the model of this identity."""
    if _real_models:
        return _real_models[identity % len(_real_models)]
    return b"MODEL%04d" % identity + random.Random(identity).randbytes(120)


def joblib_bytes(model: bytes) -> bytes:
    """Return the joblib dump, or what stands in for it."""
    if _real_models:
        from demand_maint._training.loading import cbm_to_joblib

        return cbm_to_joblib(model)
    return b"JOBLIB" + model


def metadata(identity: int) -> ModelMetadata:
    """Return the metadata that belong to `model_bytes(identity)` and to no other."""
    return ModelMetadata(
        features=("a", "b"),
        loss="RMSE",
        kind="full",
        created_at=0.0,
        trees=TREES,
        params={"depth": 2},
        rows=identity,
        metrics={"mae": 1.0},
        notes={"model_sha256": hashlib.sha256(model_bytes(identity)).hexdigest()},
    )


class NoSyncDisk(Disk):
    """A disk for looking at what a crash left: nothing it does has to last."""

    def sync(self, descriptor: int) -> None:
        """Leave it to the cache."""

    def sync_dir(self, path: str) -> None:
        """Leave it to the cache."""


class StubInspector:
    """Copies the file, as the child does with a good model."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def inspect(
        self, path: str, metadata: ModelMetadata | None = None, rows: object = None, *, output_directory: str,
        limit_bytes: int = 0,
    ) -> ModelInspection:  # fmt: skip
        """Answer like a child that liked the model."""
        data = Path(path).read_bytes()
        assert metadata is not None
        Door(output_directory, self._disk).replace("inspected.cbm", data)
        return ModelInspection(
            features=metadata.features, trees=TREES, loss=metadata.loss, dimension=1, params={}, own_metadata={},
            sample_predictions=[0.0], cbm_path=f"{output_directory}/inspected.cbm", sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """What the world was told after a step."""

    commit: int = 0
    identity: int = 0
    versions: frozenset[int] = frozenset()
    state: int = 0
    decisions: int = 0


class Life:
    """One registry with everything around it, on a disk of the test's choice."""

    def __init__(
        self, root: Path, disk: Disk, sources: Path, make_door: Callable[[Path, Disk], Door] = Door,
        make_registry: Callable[..., Registry] = Registry,
    ) -> None:  # fmt: skip
        self.disk, self.sources = disk, sources
        self.door = make_door(root, disk)
        self.clock = VirtualClock(1_700_000_000.0)
        self._make_registry = make_registry
        self.known = Known()
        self._identity = self._state = 0
        self.start()

    def start(self) -> None:
        """Begin as a new process does."""
        self.registry = self._make_registry(self.door, clock=self.clock)
        self.deployer = ModelDeployer(
            self.door.root,
            Config(storage=StorageConfig(keep=KEEP)),
            self.clock,
            registry=self.registry,
            # looking at what a crash left is not worth a child per model
            pool=None if _real_models and not isinstance(self.disk, NoSyncDisk) else StubInspector(self.disk),
            to_joblib=joblib_bytes,
        )
        self.snapshots = SnapshotStore(self.door, "sums", keep=2)
        self.decisions = DecisionJournal(self.door, self.clock)

    @classmethod
    def resumed(cls, root: Path, disk: Disk, sources: Path, known: Known, identity: int = 100) -> "Life":
        """Go on with a life of which `known` was told; models are numbered on from `identity`."""
        life = cls(root, disk, sources)
        life.known = known
        life._identity, life._state = identity, known.state
        return life

    def foreseen(self, name: str) -> Known:
        """Return what will be known after the step of this name."""
        known = self.known
        if name in {"deploy", "force"}:
            return replace(known, commit=known.commit + 1, identity=self._identity + 1)
        if name == "rollback" and (target := self.registry.rollback_target()) is not None:
            identity = self.registry.version(target.champion).metadata.rows
            return replace(known, commit=known.commit + 1, identity=identity)
        if name == "retain":
            return replace(known, versions=frozenset(self.registry.needed_versions()))
        if name == "decide":
            return replace(known, decisions=known.decisions + 1)
        return replace(known, state=known.state + 1) if name == "save" else known

    def step(self, name: str) -> None:
        """Live through one step; what it acknowledged is in `known` afterwards."""
        self.act(name)
        self.known = self.knowledge(name)

    def act(self, name: str) -> None:
        """Do one step."""
        self.clock.advance(60.0)
        getattr(self, f"_{name}")()

    def knowledge(self, name: str) -> Known:
        """Return what is known after the step of this name was done."""
        head = self.registry.head()
        return Known(
            commit=head.number if head else 0,
            identity=self.registry.version(head.champion).metadata.rows if head else 0,
            versions=frozenset(self.registry.versions()),
            state=self._state,
            decisions=self.known.decisions + (name == "decide"),
        )

    def source(self, identity: int) -> Path:
        """Return a model file with its metadata beside it, outside the root."""
        path = self.sources / f"model_{identity}.cbm"
        if not path.exists():
            path.write_bytes(model_bytes(identity))
            (self.sources / f"model_{identity}_metadata.json").write_bytes(msgspec.json.encode(metadata(identity)))
        return path

    def _deploy(self) -> None:
        self._identity += 1
        self.deployer.deploy_file(self.source(self._identity), who="life")

    def _force(self) -> None:
        self._identity += 1
        self.deployer.deploy_file(self.source(self._identity), who="life", force=True)

    def _add(self) -> None:
        self._identity += 1
        self.registry.add_version(model_bytes(self._identity), metadata(self._identity))

    def _rollback(self) -> None:
        with contextlib.suppress(NothingToRollBackError, NoChampionError):
            self.deployer.roll_back(who="life")

    def _retain(self) -> None:
        self.deployer.retain()

    def _export(self) -> None:
        self.deployer.export()

    def _recover(self) -> None:
        self.start()
        self.deployer.recover()

    def _save(self) -> None:
        self.snapshots.save(self._state + 1, state_bytes(self._state + 1))
        self._state += 1

    def _decide(self) -> None:
        self.decisions.append({"n": self.known.decisions})


def state_bytes(number: int) -> bytes:
    """Return the state that is saved under a number."""
    return b"STATE%d" % number * 10


def faults_after_crash(root: Path, sources: Path, before: Known, after: Known, *, is_kill: bool) -> list[str]:
    """Start on what a crash left, go on working, and return every promise that is broken; destroys the tree.

    `before` is what was acknowledged, `after` what the step that was cut would have acknowledged.
    """
    try:
        return list(_broken(root, sources, before, after, is_kill=is_kill))
    except Exception as error:  # whatever is raised is a broken promise
        return [f"raised {type(error).__name__}: {error}"]


def _broken(root: Path, sources: Path, before: Known, after: Known, *, is_kill: bool) -> Iterator[str]:
    life = Life(root, NoSyncDisk(), sources)
    registry = life.registry
    if registry.recover():
        yield "a crash alone damaged something"
    life.deployer.recover()
    head = registry.head()
    number = head.number if head else 0
    if number not in {before.commit, after.commit}:
        yield f"commit {number} is neither {before.commit} nor {after.commit}"
    identity = (before if number == before.commit else after).identity
    if head is not None:
        yield from _not_served(life, head, identity)
    yield from _not_kept(life, before, after, is_kill=is_kill)
    if any(name.startswith(TEMP) for _, folders, files in os.walk(root) for name in (*folders, *files)):
        yield "litter is left after the start"
    yield from _not_usable(life, number)


def _not_served(life: Life, head: Commit, identity: int) -> Iterator[str]:
    registry = life.registry
    if registry.model_bytes(head.champion) != model_bytes(identity):
        yield "the served model is neither the old nor the new one"
    if registry.version(head.champion).metadata != metadata(identity):
        yield "the metadata are of another model"
    history = life.deployer.history()
    if [entry["number"] for entry in history] != list(range(1, head.number + 1)):
        yield "the history has a gap"
    if history[-1]["version"] != head.champion:
        yield "the history lies about what serves"
    if life.deployer.exports.stale() or life.door.read_bytes(EXPORT_MODEL) != joblib_bytes(model_bytes(identity)):
        yield "the export is not the champion"


def _not_kept(life: Life, before: Known, after: Known, *, is_kill: bool) -> Iterator[str]:
    registry = life.registry
    missing = (before.versions & after.versions) - set(registry.versions())
    if missing:
        yield f"acknowledged versions are gone: {sorted(missing)}"
    for version in registry.versions():
        if not registry.whole(version):
            yield f"version {version} is there and not whole"
    found = life.snapshots.latest()
    state = found[0] if found else 0
    if state not in {before.state, after.state} or (found and found[1] != state_bytes(state)):
        yield f"state {state} is neither {before.state} nor {after.state}"
    kept = [entry["n"] for entry in life.decisions.read()]
    if is_kill and kept[: before.decisions] != list(range(before.decisions)):
        yield "a decision is lost"


def _not_usable(life: Life, number: int) -> Iterator[str]:
    target = life.registry.rollback_target()
    if target is not None:
        commit = life.deployer.roll_back(who="check")
        number += 1
        if (commit.number, commit.champion) != (number, target.champion) or not life.registry.whole(commit.champion):
            yield "rollback did not restore the earlier version"
    commit = life.deployer.deploy_file(life.source(9000), who="check")
    if commit.number != number + 1 or life.registry.model_bytes(commit.champion) != model_bytes(9000):
        yield "the next deploy went wrong"
    life.deployer.retain()
    if life.registry.verify():
        yield "verify finds fault after a deploy"
