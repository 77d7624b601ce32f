"""The power fails at any instant: what was logged before the last sync is there, and nothing that was never logged."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from crash_states import CrashState, crash_states
from journal_disk import JournalDisk

from demand_maint._storage import journal_lanes
from demand_maint._storage.door import Door
from demand_maint._storage.journal import Journal
from demand_maint._storage.observation_frames import record_frame
from demand_maint._storage.observation_store import ObservationStore
from demand_maint.config import Config, MonitorConfig
from demand_maint.core.timegrid import TimeGrid

START = 1_700_000_000 // 3600 * 3600
CONFIG = Config(step="1m", monitor=MonitorConfig(segment_records=8))
GRID = TimeGrid("UTC", 60)
OPERATIONS = 40
Key = tuple[str, int]


@dataclass(frozen=True)
class Promise:
    """Operations logged, and how many of them a sync had covered."""

    logged: int
    synced: int


def rows_of(operation: int) -> dict[Key, float]:
    """Keys that an operation logs, each with its prediction; the truth is half of it where it is told."""
    many = 30 if operation % 10 == 8 else 3 if operation % 5 == 2 else 1
    place = f"place {operation // 6}"
    return {(place, START + 60 * (100 * operation + i)): 1000.0 * operation + i + 1 for i in range(many)}


def operate(journal: Journal, operation: int) -> None:
    """Log by one of the ways there are: a record, a row with features, a block, a block large enough for a call of its own."""
    rows = rows_of(operation)
    (place, slot), value = next(iter(rows.items()))
    if len(rows) > 1:
        codes, _ = journal.encode([place])
        times, values = np.array([slot for _, slot in rows], dtype=np.float64), np.array(list(rows.values()))
        journal.log_columns(np.repeat(codes, len(rows)), times, values, values / 2)
    elif operation % 3 == 0:
        journal.log_prediction(place, float(slot), value, (value, 2.0, 3.0))
    else:
        journal.log(place, float(slot), value, value / 2)


def lived(root: Path, disk: JournalDisk) -> list[Promise]:
    """Log, sync, count and seal on `disk`; return what was promised after each acknowledgement."""
    door = Door(root, disk)
    journal = Journal(door, CONFIG.monitor)
    store = ObservationStore(door, CONFIG, GRID)
    promises = [Promise(0, 0)]
    synced = 0
    for operation in range(OPERATIONS):
        operate(journal, operation)
        disk.look()
        if operation % 7 == 5:
            journal.maintain()
        if operation % 6 == 4:
            journal.sync()
            synced = operation + 1
        if operation % 13 == 11:
            store.drain(START + operation, lead=True, gentle=False)
            store.seal(START + operation)
        promises.append(Promise(operation + 1, synced))
        disk.ack(operation)
    return [*promises, promises[-1]]


def broken(root: Path, before: Promise, after: Promise, *, is_kill: bool) -> str:
    """Return what a process that starts after the crash finds amiss; nothing where all is well."""
    store = ObservationStore(Door(root), CONFIG, GRID)
    store.drain(START + 1e6, lead=False, gentle=False)
    frame = record_frame(store, None, None)
    found = {(place, int(slot)): value for place, slot, value in frame.select("place_id", "slot", "predicted").rows()}
    certain = before.logged if is_kill else before.synced
    for operation in range(certain):
        if any(found.get(key) != value for key, value in rows_of(operation).items()):
            return f"lost operation {operation}"
    logged = {key: value for operation in range(after.logged) for key, value in rows_of(operation).items()}
    if any(logged.get(key) != value for key, value in found.items()):
        return "invented a record"
    counts = store.metrics.counts
    if counts["duplicates"] or counts["replaced"] or counts["corrected"] or store.sealed.damaged:
        return "counted a record twice"
    return ""


def explore(
    workspace: Path, *, every: int, subsets: int, make_disk: Callable[[Path], JournalDisk] = JournalDisk
) -> tuple[int, list[str]]:
    """Live once, then look at every `every`-th crash of it; return how many there were, and what was broken."""
    disk = make_disk(workspace / "live")
    promises = lived(workspace / "live", disk)
    shutil.rmtree(workspace / "live")
    states, faults = 0, []
    seen: set[tuple[int, int, bool]] = set()
    state: CrashState
    for number, state in enumerate(crash_states(disk.trace, 20261123, subsets)):
        if number % every and not (state.is_kill and number % 7 == 0):
            continue
        key = hash(state.image.signature(disk.directories)), state.acked, state.is_kill
        if key in seen:
            continue
        seen.add(key)
        states += 1
        state.image.write(workspace / "crashed", disk.directories)
        before, after = promises[state.acked], promises[state.acked + 1]
        if fault := broken(workspace / "crashed", before, after, is_kill=state.is_kill):
            faults.append(f"{fault} after op {state.cut} {'by a kill' if state.is_kill else 'by a power cut'}")
        shutil.rmtree(workspace / "crashed")
    return states, faults


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that roll over within a short life, and blocks that are large for them."""
    monkeypatch.setattr(journal_lanes, "_BLOCK_SEGMENT", 4096 * 2)
    monkeypatch.setattr(journal_lanes, "_BY_CALL", 512)


@pytest.mark.timeout(24 * 3600)  # the whole campaign takes its time
def test_after_a_power_cut_everything_synced_is_there_and_nothing_is_invented(workspace: Path, big: bool) -> None:
    """Whatever part of the unsynced writes reaches the platter, synced records and the places they name are there, once."""
    states, faults = explore(workspace, every=1 if big else 8, subsets=8 if big else 2)
    assert faults == []
    assert states > 300


@pytest.mark.parametrize(
    ("what", "ending"), [("sync", "places.jsonl"), ("sync", ".seg"), ("syncdir", ""), ("sync", ".parquet")]
)
def test_a_journal_that_skips_a_sync_is_found_out(workspace: Path, what: str, ending: str) -> None:
    """The search is able to see what it looks for: without any one of the syncs it finds lost records."""

    class Skipping(JournalDisk):
        def skips(self, kind: str, path: str) -> bool:
            return kind == what and (ending in path if ending else "/journal/" in path)

    _, faults = explore(workspace, every=12, subsets=2, make_disk=Skipping)
    assert faults
