"""The crash explorer is worth its name: it finds every protocol that is wrong in a way that matters.

Left out on purpose, for they are equivalent: the syncs of the exported metadata and history (a stale or torn export is written
again at the next start), of what a child leaves in staging (removed again), of decisions (not promised), and the sync of the
commits at a start (only a kill leaves unsynced entries to be seen, and the next commit syncs them before it is acknowledged).
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_lab import explore, faults
from recording_disk import Op, RecordingDisk

from demand_maint._storage import recovery
from demand_maint._storage.commits import CommitLog
from demand_maint._storage.door import Door
from demand_maint._storage.layout import ARCHIVE, COMMITS, version_dir
from demand_maint._storage.registry import Registry
from demand_maint._storage.snapshots import SnapshotStore
from demand_maint._storage.versions import VersionStore
from demand_maint.core.versions import Commit

SCRIPT = ("deploy", "save", "deploy", "add", "rollback", "deploy", "deploy", "retain", "save", "recover")
Skips = Callable[[str, str], bool]
TRUTH = "logs/history_of_its_own.json"

# every sync site of the protocol
SYNCS: dict[str, Skips] = {
    "model.cbm": lambda kind, path: kind == "sync" and path.endswith("/model.cbm"),
    "metadata.json": lambda kind, path: kind == "sync" and path.endswith("/metadata.json"),
    "SHA256SUMS": lambda kind, path: kind == "sync" and path.endswith("/SHA256SUMS"),
    "version directory": lambda kind, path: kind == "syncdir" and f"/{ARCHIVE}/" in path,
    "archive": lambda kind, path: kind == "syncdir" and path.endswith(f"/{ARCHIVE}"),
    "commit": lambda kind, path: kind == "sync" and f"/{COMMITS}/" in path,
    "commits": lambda kind, path: kind == "syncdir" and path.endswith(f"/{COMMITS}"),
    "snapshot": lambda kind, path: kind == "sync" and "/logs/state/sums/" in path,
    "snapshots": lambda kind, path: kind == "syncdir" and path.endswith("/logs/state/sums"),
    "exported model": lambda kind, path: kind == "sync" and path.endswith("rf_model.joblib"),
    "root": lambda kind, path: kind == "syncdir" and path.endswith("/live"),
    "data": lambda kind, path: kind == "syncdir" and path.endswith("/live/data"),
    "data/models": lambda kind, path: kind == "syncdir" and path.endswith("/live/data/models"),
    "logs": lambda kind, path: kind == "syncdir" and path.endswith("/live/logs"),
    "logs/state": lambda kind, path: kind == "syncdir" and path.endswith("/live/logs/state"),
    "everything": lambda kind, path: True,
}


@pytest.mark.parametrize("site", SYNCS)
def test_every_sync_is_needed(site: str, workspace: Path) -> None:
    """Leave out any one kind of sync, and some crash breaks a promise."""
    skips = SYNCS[site]

    class Skipping(RecordingDisk):
        def skips(self, kind: str, path: str) -> bool:
            return skips(kind, path)

    assert faults(explore(workspace, SCRIPT, seed=1, subsets=1, make_disk=Skipping, stop_at_fault=True))


def _published_after_commit(trace: list[Op]) -> list[Op]:
    """Move each version's publication behind the commit that names it."""
    found: list[Op] = []
    late: list[Op] = []
    committed = None
    for op in trace:
        if op[0] == "move" and re.fullmatch(r"\d{6}", op[4]):
            late = [op]
        elif len(late) == 1 and op == ("syncdir", late[0][3]):
            late.append(op)
        else:
            found.append(op)
            if op[0] == "add" and re.fullmatch(r"\d{8}\.json", op[2]):
                committed = op[1]
            if late and op == ("syncdir", committed):
                found += late
                late, committed = [], None
    return found + late


def _synced_after_link(trace: list[Op]) -> list[Op]:
    """Move the sync of each commit file behind its link and that one's sync."""
    found = list(trace)
    for at, op in enumerate(trace):
        if op[0] == "add" and re.fullmatch(r"\d{8}\.json", op[2]) and found[at - 1] == ("sync", op[3]):
            found[at - 1], found[at], found[at + 1] = found[at], found[at + 1], found[at - 1]
    return found


@pytest.mark.parametrize("mutate", [_published_after_commit, _synced_after_link])
def test_every_order_is_needed(mutate: Callable[[list[Op]], list[Op]], workspace: Path) -> None:
    """Publish a version after its commit, or sync a commit after its link, and some crash breaks a promise."""
    assert faults(explore(workspace, SCRIPT, seed=1, subsets=1, mutate=mutate, stop_at_fault=True))


def _commit_in_place(patch: pytest.MonkeyPatch) -> None:
    def put(self: Door, rel: str, data: bytes) -> bool:
        if self.exists(rel):
            return False
        self.write_new(rel, data)
        self.sync_dir(rel.rpartition("/")[0])
        return True

    patch.setattr(Door, "put_if_absent", put)


def _history_of_its_own(patch: pytest.MonkeyPatch) -> None:
    put = CommitLog.put

    def put_and_note(self: CommitLog, commit: Commit) -> bool:
        done = put(self, commit)
        entries = json.loads(self._door.read_bytes(TRUTH)) if self._door.exists(TRUTH) else []
        entries.append({"number": commit.number, "version": commit.champion})
        self._door.replace(TRUTH, json.dumps(entries).encode())
        return done

    patch.setattr(CommitLog, "put", put_and_note)
    patch.setattr(Registry, "history", lambda self: json.loads(self.door.read_bytes(TRUTH)))


def _pointer_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """Overwrite one pointer file in place, as a copy over the production model does."""
    put = CommitLog.put

    def put_and_point(self: CommitLog, commit: Commit) -> bool:
        self._door.unlink("pointer", missing_ok=True)
        done = put(self, commit)
        self._door.write_new("pointer", str(commit.number).encode())
        self._door.sync_dir(".")
        return done

    def head(self: CommitLog) -> Commit | None:
        return self.get(int(self._door.read_bytes("pointer"))) if self._highest() else None

    patch.setattr(CommitLog, "put", put_and_point)
    patch.setattr(CommitLog, "head", head)


def _version_in_place(patch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def in_place(self: Door, parent: str) -> Iterator[str]:
        if parent != ARCHIVE:
            with building_dir(self, parent) as work:
                yield work
            return
        number = max([0, *(int(name) for name in self.listdir(ARCHIVE) if name.isdigit())]) + 1
        self.makedirs(version_dir(number))
        yield version_dir(number)

    def already(self: Door, src: str, dst: str) -> bool:
        return src == version_dir(int(dst[-6:]) - 1) or rename_new(self, src, dst)

    add = VersionStore.add

    def add_in_place(self: VersionStore, model: bytes, metadata: Any, above: int) -> Any:
        number, hashes = add(self, model, metadata, above)
        return number - 1, hashes

    building_dir, rename_new = Door.building_dir, Door.rename_new
    patch.setattr(Door, "building_dir", in_place)
    patch.setattr(Door, "rename_new", already)
    patch.setattr(VersionStore, "add", add_in_place)


def _retired_in_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(VersionStore, "retire", lambda self, number: version_dir(number))


def _retired_without_sync(patch: pytest.MonkeyPatch) -> None:
    def retire(self: VersionStore, number: int) -> str:
        hidden = f"{ARCHIVE}/.tmp-00-retired-{number:06d}"
        self._door.disk.rename(str(self._door.path(version_dir(number))), str(self._door.path(hidden)))
        return hidden

    patch.setattr(VersionStore, "retire", retire)


def _snapshot_in_place(patch: pytest.MonkeyPatch) -> None:
    save = SnapshotStore.save

    def in_place(self: SnapshotStore, number: int, payload: bytes) -> None:
        for old in self.numbers():
            self._door.unlink(self._path(old))
        save(self, number, payload)

    patch.setattr(SnapshotStore, "save", in_place)


def _nothing_is_swept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "_sweep", lambda registry: None)


def _export_metadata_first(patch: pytest.MonkeyPatch) -> None:
    replace = Door.replace

    def unordered(self: Door, rel: str, data: bytes, *, sync: bool = True) -> None:
        if rel.endswith("rf_model.joblib"):
            self.makedirs("data/models")
            held[rel] = data
            return
        replace(self, rel, data, sync=sync)
        if rel.endswith("rf_model_metadata.json"):
            late = held.pop("data/models/rf_model.joblib")
            replace(self, "data/models/rf_model.joblib", late, sync=sync)

    held: dict[str, bytes] = {}
    patch.setattr(Door, "replace", unordered)


# the mutant, the life it is caught in, and the step from which crashes are tried
PROTOCOLS = [
    (_commit_in_place, SCRIPT, 0),
    (_history_of_its_own, SCRIPT, 0),
    (_pointer_of_its_own, SCRIPT, 0),
    (_version_in_place, SCRIPT, 0),
    (_retired_in_place, ("deploy",) * 5 + ("retain",), 5),
    (_retired_without_sync, ("deploy",) * 5 + ("retain",), 5),
    (_snapshot_in_place, ("save", "save"), 1),
    (_nothing_is_swept, SCRIPT, 0),
    (_export_metadata_first, ("deploy", "deploy"), 1),
]


@pytest.mark.parametrize(("mutant", "script", "from_step"), PROTOCOLS)
def test_every_weaker_protocol_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None],
    script: tuple[str, ...],
    from_step: int,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Write in place, keep a second truth or skip a step, and some crash breaks a promise."""
    mutant(monkeypatch)
    assert faults(explore(workspace, script, seed=1, subsets=1, stop_at_fault=True, from_step=from_step))
