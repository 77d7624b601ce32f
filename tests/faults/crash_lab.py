"""Live a script on a recording disk, then look at every crash of it."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from crash_states import Image, crash_states
from recording_disk import Op, RecordingDisk
from registry_life import Known, Life, faults_after_crash

__all__ = ["explore", "faults"]


def explore(
    workspace: Path,
    script: Sequence[str],
    *,
    seed: int,
    subsets: int,
    make_disk: Callable[[Path], RecordingDisk] = RecordingDisk,
    mutate: Callable[[list[Op]], list[Op]] = lambda trace: trace,
    stop_at_fault: bool = False,
    from_step: int = 0,
) -> Counter[str]:
    """Count crash states, distinct disks and broken promises (keys that begin with FAULT) of one life.

    Two states with the same disk and the same acknowledgements are looked at once. `from_step` leaves out crashes of the steps
    before. A life that breaks a promise without any crash is no subject for crashes and raises.
    """
    sources = workspace / "sources"
    sources.mkdir(exist_ok=True)
    disk = make_disk(workspace / "live")
    life = Life(workspace / "live", disk, sources)
    told = [life.known]
    for name in script:
        life.step(name)
        told.append(life.known)
        disk.ack(life.known)
    told.append(told[-1])
    shutil.rmtree(workspace / "live")
    counts: Counter[str] = Counter()
    seen: set[tuple[int, int, bool]] = set()
    crashed = workspace / "crashed"
    trace = mutate(disk.trace)
    assert _faults_without_crash(trace, disk, crashed, sources, told[-1]) == []
    start = [0, *(at for at, op in enumerate(trace, 1) if op[0] == "ack")][from_step]
    for state in crash_states(trace, seed, subsets, start):
        counts["states"] += 1
        key = (hash(state.image.signature(disk.directories)), state.acked, state.is_kill)
        if key in seen:
            continue
        seen.add(key)
        counts["disks"] += 1
        state.image.write(crashed, disk.directories)
        before, after = told[state.acked], told[state.acked + 1]
        for fault in faults_after_crash(crashed, sources, before, after, is_kill=state.is_kill):
            counts[f"FAULT {fault} (after op {state.cut}, {'kill' if state.is_kill else 'power cut'})"] += 1
        shutil.rmtree(crashed)
        if stop_at_fault and faults(counts):
            break
    return counts


def _faults_without_crash(trace: list[Op], disk: RecordingDisk, where: Path, sources: Path, known: Known) -> list[str]:
    image = Image()
    for op in trace:
        image.apply(op)
    image.write(where, disk.directories)
    found = faults_after_crash(where, sources, known, known, is_kill=True)
    shutil.rmtree(where)
    return found


def faults(counts: Counter[str]) -> list[str]:
    """Return what was broken."""
    return [what for what in counts if what.startswith("FAULT")]


def memory_folder() -> Path | None:
    """Return a folder in memory; ``None`` where there is none."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None
