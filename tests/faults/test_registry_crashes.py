"""The registry under every crash that strict POSIX allows: old or new, whole, and ready for the next deploy."""

import random
import shutil
import sys
from collections import Counter
from pathlib import Path

from crash_lab import explore, faults
from crash_states import crash_states
from recording_disk import RecordingDisk
from registry_life import SCRIPT, SMALL_SCRIPT, Life, NoSyncDisk, faults_after_crash

STEPS = ("deploy", "deploy", "force", "rollback", "add", "retain", "recover", "save", "export", "decide")


def test_no_crash_breaks_a_promise(workspace: Path, big: bool) -> None:
    """Over a whole life (deploy, force, rollback, retention, export, recovery, state) no crash state breaks any promise."""
    total = explore(workspace, SCRIPT if big else SMALL_SCRIPT, seed=1, subsets=4 if big else 0)
    rounds = 1
    while big and total["disks"] < 50_000:
        chance = random.Random(rounds)
        total += explore(workspace, ("deploy", *chance.choices(STEPS, k=20)), seed=rounds, subsets=4)
        rounds += 1
    sys.stdout.write(f"\ncrash states {total['states']}, distinct disks {total['disks']}, lives {rounds}\n")
    assert faults(total) == []
    assert total["states"] >= 2_000
    assert not big or total["disks"] >= 50_000


def test_a_crash_during_recovery_is_recovered_from(workspace: Path, big: bool) -> None:
    """Start on a crashed disk, crash again inside that start, and start once more: still no promise is broken."""
    sources = workspace / "sources"
    sources.mkdir()
    disk = RecordingDisk(workspace / "live")
    life = Life(workspace / "live", disk, sources)
    told = [life.known]
    for name in ("deploy", "save", "add", "deploy", "rollback", "deploy", "retain"):
        life.step(name)
        told.append(life.known)
        disk.ack(life.known)
    told.append(told[-1])
    states = [state for state in crash_states(disk.trace, 3, 1) if state.acked]
    counts: Counter[str] = Counter()
    for state in random.Random(3).sample(states, 300 if big else 12):
        first = workspace / "first"
        state.image.write(first, disk.directories)
        again = RecordingDisk(first)
        again.adopt()
        start = len(again.trace)
        second_life = Life(first, again, sources)
        second_life.deployer.recover()
        before, after = told[state.acked], told[state.acked + 1]
        for second in crash_states(again.trace, 5, 1, start):
            counts["states"] += 1
            second.image.write(workspace / "second", again.directories)
            # decisions are acknowledged without a sync: only a kill alone has to keep them
            for fault in faults_after_crash(workspace / "second", sources, before, after, is_kill=False):
                counts[f"FAULT {fault}"] += 1
            shutil.rmtree(workspace / "second")
        shutil.rmtree(first)
    sys.stdout.write(f"\ncrash states inside recovery {counts['states']}\n")
    assert faults(counts) == []
    assert counts["states"] > 100


def test_recovery_done_twice_is_done_once(workspace: Path) -> None:
    """A second recovery changes no byte on disk."""
    (workspace / "sources").mkdir()
    life = Life(workspace / "live", NoSyncDisk(), workspace / "sources")
    for name in (*SCRIPT, "deploy"):
        life.step(name)
    life.registry.model_path(life.registry.champion().champion).write_bytes(b"damaged")
    life.start()
    assert life.deployer.recover()

    def tree() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in (workspace / "live").rglob("*") if path.is_file()}

    before = tree()
    life.start()
    assert life.deployer.recover() == []
    assert tree() == before
