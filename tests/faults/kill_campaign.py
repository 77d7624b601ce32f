"""Deploy, roll back and die: a process that lives the registry's life is killed by SIGKILL again and again.

Run as a program of its own, single-threaded, so that each life is a cheap fork; `test_registry_kills.py` starts it and reads the
summary. ``--real`` starts every life as a new process with real CatBoost models instead.
"""

import argparse
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import registry_life
from registry_life import Known, Life, faults_after_crash

from demand_maint._storage.disk import Disk

STEPS = ("deploy", "deploy", "force", "rollback", "add", "retain", "save", "export", "decide", "recover")
LIVES_PER_ROOT = 10
ALARM_SECONDS = 60.0
# calls that change something, and what of the registry they touch
CALLS = (
    "create",
    "write",
    "sync",
    "sync_dir",
    "link",
    "rename",
    "unlink",
    "make_dir",
    "remove_dir",
    "truncate",
    "lock",
)
SITES = (
    ("-retired-", "retired version"),
    ("-building", "version being built"),
    ("/archive", "archive"),
    ("/commits", "commits"),
    ("/finetuned", "staging"),
    ("rf_model.joblib", "exported model"),
    ("rf_model_metadata.json", "exported metadata"),
    ("deployment_history.json", "exported history"),
    ("/logs/state", "state"),
    ("/logs/decisions", "decisions"),
    ("maintainer.lock", "lock"),
)


def site_of(path: str) -> str:
    """Name what a path belongs to."""
    return next((name for part, name in SITES if part in path), "directories")


class FailpointDisk(Disk):
    """A real disk that kills its process before or after a named call; without a name it collects the names there are."""

    def __init__(self, failpoint: str = "", occurrence: int = 1) -> None:
        self.failpoint, self.left = failpoint, occurrence
        self.names: Counter[str] = Counter()
        self._paths: dict[int, str] = {}

    def create(self, path: str) -> int:
        descriptor: int = self._named("create", path, super().create, path)
        self._paths[descriptor] = path
        return descriptor

    def open_lock(self, path: str) -> int:
        descriptor = super().open_lock(path)
        self._paths[descriptor] = path
        return descriptor

    def open_append(self, path: str) -> int:
        descriptor = super().open_append(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        if self.failpoint == f"within write {site_of(self._paths[descriptor])}":
            super().write(descriptor, data[: len(data) // 2])
            self._reached(self.failpoint)
            super().write(descriptor, data[len(data) // 2 :])
            return
        self.names[f"within write {site_of(self._paths[descriptor])}"] += 1
        self._named("write", self._paths[descriptor], super().write, descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._named("sync", self._paths[descriptor], super().sync, descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        self._named("truncate", self._paths[descriptor], super().truncate, descriptor, size)

    def sync_dir(self, path: str) -> None:
        self._named("sync_dir", path, super().sync_dir, path)

    def link(self, source: str, target: str) -> None:
        self._named("link", target, super().link, source, target)

    def rename(self, source: str, target: str) -> None:
        self._named("rename", target, super().rename, source, target)

    def unlink(self, path: str) -> None:
        self._named("unlink", path, super().unlink, path)

    def make_dir(self, path: str) -> None:
        self._named("make_dir", path, super().make_dir, path)

    def remove_dir(self, path: str) -> None:
        self._named("remove_dir", path, super().remove_dir, path)

    def _named(self, call: str, path: str, act: Any, *arguments: Any) -> Any:
        name = f"{call} {site_of(path)}"
        self._reached(f"before {name}")
        answer = act(*arguments)
        self._reached(f"after {name}")
        return answer

    def _reached(self, name: str) -> None:
        self.names[name] += 1
        if name == self.failpoint:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def live(root: Path, sources: Path, seed: int, disk: Disk, out: int, rounds: int) -> None:
    """Start on what is there, tell what is known, then announce and do one step after another, each kind once in a round."""
    chance = random.Random(seed)
    life = Life(root, disk, sources)
    life.deployer.recover()
    saved = life.snapshots.latest()
    decisions = sum(1 for _ in life.decisions.read())
    first = Known(state=saved[0] if saved else 0, decisions=decisions)
    life = Life.resumed(root, disk, sources, first, identity=seed * 1000)
    life.known = life.knowledge("start")
    _tell(out, life.known, life.known)
    for name in (step for _ in range(rounds) for step in chance.sample(STEPS, len(STEPS))):
        _tell(out, life.known, life.foreseen(name))
        life.step(name)
        _tell(out, life.known, life.known)


def _tell(out: int, before: Known, after: Known) -> None:
    os.write(out, msgspec.json.encode([before, after]) + b"\n")


class Campaign:
    """Kills one life after another and looks at what each left."""

    def __init__(self, workspace: Path, *, real: bool) -> None:
        self.root, self.sources, self.copy = workspace / "root", workspace / "sources", workspace / "copy"
        self.sources.mkdir(parents=True, exist_ok=True)
        self.real = real
        self.pair = (Known(), Known())
        self.counts: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.faults: list[str] = []

    def failpoints(self) -> list[str]:
        """Return every named failpoint that a life passes."""
        disk = FailpointDisk()
        reader, writer = os.pipe()
        for seed in range(3):
            live(self.root, self.sources, seed, disk, writer, 2)
            select.select([reader], [], [], 0)
            os.read(reader, 1 << 16)
        os.close(reader)
        os.close(writer)
        shutil.rmtree(self.root)
        return sorted(disk.names)

    def kill_one(self, seed: int, failpoint: str, occurrence: int, delay: float) -> None:
        """Start a life and kill it at `failpoint`, or after `delay` seconds where that is empty."""
        if seed % LIVES_PER_ROOT == 0 or "make_dir" in failpoint:
            shutil.rmtree(self.root, ignore_errors=True)
            self.pair = (Known(), Known())
        reader, writer = os.pipe()
        child = self._start(seed, failpoint, occurrence, writer)
        os.close(writer)
        said = self._listen(reader, child, delay if not failpoint else ALARM_SECONDS)
        os.close(reader)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        self.counts["kills" if killed else "survivors"] += 1
        if killed and failpoint:
            self.hits[failpoint] += 1
        if not killed and os.waitstatus_to_exitcode(status) != 0:
            self.faults.append(f"seed {seed}: the life failed by itself with {os.waitstatus_to_exitcode(status)}")
        lines = [line for line in said.splitlines(keepends=True) if line.endswith(b"\n")]
        if lines:
            before, after = msgspec.json.decode(lines[-1], type=tuple[Known, Known])
            self.pair = (before, after)
        shutil.rmtree(self.copy, ignore_errors=True)
        if self.root.exists():
            shutil.copytree(self.root, self.copy)
            found = faults_after_crash(self.copy, self.sources, *self.pair, is_kill=True)
            self.faults += [f"seed {seed} at {failpoint or 'a random moment'}: {fault}" for fault in found]

    def _start(self, seed: int, failpoint: str, occurrence: int, writer: int) -> int:
        if self.real:
            command = [sys.executable, __file__, str(self.root.parent), "--live", str(seed), "--out", str(writer)]
            return subprocess.Popen(command, pass_fds=[writer]).pid
        child = os.fork()
        if child:
            return child
        try:
            live(self.root, self.sources, seed, FailpointDisk(failpoint, occurrence), writer, 2 if failpoint else 50)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"life {seed}: {type(error).__name__}: {error}\n")
            sys.stderr.flush()
        finally:
            os._exit(3)

    def _listen(self, reader: int, child: int, seconds: float) -> bytes:
        said, end = b"", time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([reader], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                os.kill(child, signal.SIGKILL)
                end = time.monotonic() + ALARM_SECONDS
                continue
            part = os.read(reader, 1 << 16)
            if not part:
                return said
            said += part


def main() -> int:
    """Run a campaign, or one life of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--live", type=int)
    parser.add_argument("--out", type=int)
    arguments = parser.parse_args()
    if arguments.real or arguments.live is not None:
        registry_life.use_real_models(arguments.workspace / "real")
    if arguments.live is not None:
        live(arguments.workspace / "root", arguments.workspace / "sources", arguments.live, Disk(), arguments.out, 50)
        return 0
    campaign = Campaign(arguments.workspace, real=arguments.real)
    chance = random.Random(arguments.kills)
    names = [] if arguments.real else campaign.failpoints()
    tried: Counter[str] = Counter()
    seed = 0
    while campaign.counts["kills"] < arguments.kills and seed < 3 * arguments.kills:
        seed += 1
        name = min(names, key=lambda one: (tried[one], chance.random())) if names and seed % 2 else ""
        tried[name] += 1
        delay = chance.uniform(0.8, 3.0) if arguments.real else chance.uniform(0.0, 0.06)
        campaign.kill_one(seed, name, 1 + (tried[name] % 3 == 0), delay)
        if seed % 500 == 0:
            sys.stderr.write(f"{campaign.counts['kills']} kills, {len(campaign.faults)} faults\n")
    summary = {
        **campaign.counts,
        "failpoints": len(names),
        "least_hit": min((campaign.hits[name] for name in names), default=0),
        "never_hit": [name for name in names if not campaign.hits[name]],
        "faults": campaign.faults,
        "catboost_imported": "catboost" in sys.modules,
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
