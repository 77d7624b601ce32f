"""Every call of the door may fail, once or for good: old or new serves, and the next deploy works when the disk is well."""

import errno
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from failing_disk import CALLS, FailingDisk
from registry_life import Known, Life, faults_after_crash, joblib_bytes, model_bytes

from demand_maint._storage.disk import Disk
from demand_maint._storage.layout import EXPORT_MODEL
from demand_maint.errors import DemandMaintError

CODES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE, errno.EROFS, errno.EINTR)
STEPS = ("deploy", "force", "rollback", "add", "retain", "save", "recover", "export", "decide")
BASE = ("deploy", "save", "deploy", "add", "deploy", "deploy", "decide")


class Laboratory:
    """A life up to some point, from which steps are tried again and again."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.sources = workspace / "sources"
        self.sources.mkdir()
        life = Life(workspace / "base", FailingDisk(), self.sources)
        for name in BASE:
            life.step(name)
        self.known = life.known

    def life(self) -> Life:
        """Return a copy of that life, started as a new process."""
        root = self.workspace / "try"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.workspace / "base", root)
        return Life.resumed(root, FailingDisk(), self.sources, self.known)

    def clean(self, step: str) -> tuple[Known, int]:
        """Return what the step acknowledges when nothing fails, and how many calls it makes."""
        life = self.life()
        assert isinstance(life.disk, FailingDisk)
        life.disk.arm(0, 0, sticky=False)
        life.act(step)
        calls = life.disk.calls
        return life.knowledge(step), calls


def broken_by(laboratory: Laboratory, step: str, after: Known, at: int, code: int, *, sticky: bool) -> list[str]:
    """Let one call of one step fail and return what is not as promised."""
    life, before = laboratory.life(), laboratory.known
    disk = life.disk
    assert isinstance(disk, FailingDisk)
    disk.arm(at, code, sticky=sticky)
    found: list[str] = []
    done = True
    try:
        life.act(step)
    except (OSError, DemandMaintError):
        done = False
    disk.clear()
    head = life.registry.champion()
    if head.number not in {before.commit, after.commit}:
        found.append(f"commit {head.number} serves")
    identity = (before if head.number == before.commit else after).identity
    if life.registry.model_bytes(head.champion) != model_bytes(identity):
        found.append("the live object serves something else")
    if done and step in {"deploy", "force", "rollback"} and head.number != after.commit:
        found.append("a change was acknowledged that is not there")
    life.act("deploy")
    if life.registry.champion().number != head.number + 1:
        found.append("the next deploy went wrong")
    if life.door.read_bytes(EXPORT_MODEL) != joblib_bytes(life.registry.model_bytes(life.registry.champion().champion)):
        found.append("the next deploy left an old export")
    now = life.knowledge(step)
    decided = before.decisions + (done and step == "decide")
    now = Known(now.commit, now.identity, now.versions, now.state, decided)
    other = Known(now.commit, now.identity, now.versions, after.state, decided)
    found += faults_after_crash(laboratory.workspace / "try", laboratory.sources, now, other, is_kill=True)
    return found


def test_a_call_that_fails_breaks_nothing(workspace: Path, big: bool) -> None:
    """Whichever call fails, with whichever errno, once or for good, nothing acknowledged is lost and the next deploy works."""
    laboratory = Laboratory(workspace)
    counts: Counter[str] = Counter()
    for step in STEPS if big else [step for step in STEPS if step != "force"]:  # force makes the calls of deploy
        after, calls = laboratory.clean(step)
        for at in range(1, calls + 1):
            codes = CODES if big else (CODES[at % len(CODES)],)
            for code in codes:
                for sticky in (False, True) if big else (bool((at // len(CODES)) % 2),):
                    counts["runs"] += 1
                    for fault in broken_by(laboratory, step, after, at, code, sticky=sticky):
                        counts[f"FAULT {step} call {at} {errno.errorcode[code]} sticky={sticky}: {fault}"] += 1
    sys.stdout.write(f"\ninjected failures {counts['runs']}\n")
    assert [what for what in counts if what.startswith("FAULT")] == []
    assert counts["runs"] > 200


def test_the_failing_disk_counts_every_call() -> None:
    """No method of the disk escapes the injection, except close, whose failure tells nothing new."""
    public = {name for name in vars(Disk) if not name.startswith("_")}
    assert public - set(CALLS) == {"close"}


@pytest.mark.parametrize("code", CODES)
def test_the_deployers_answer_is_never_a_lie(workspace: Path, code: int) -> None:
    """With a disk that fails for good at any call, True means the new model serves, and False that it does not or says so."""
    laboratory = Laboratory(workspace)
    _, calls = laboratory.clean("deploy")
    for at in range(1, calls + 1, 5):
        life = laboratory.life()
        disk = life.disk
        assert isinstance(disk, FailingDisk)
        disk.arm(at, code, sticky=True)
        success, message = life.deployer.deploy(life.source(77), who="life")
        disk.clear()
        serves = life.registry.model_bytes(life.registry.champion().champion) == model_bytes(77)
        assert serves == success or (serves and "serves" in message)
