"""Several processes on one root: exactly one leads, and no two deployments ever get one number."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demand_maint._storage.registry import Registry

HERE = Path(__file__).parent


class Process:
    """A maintainer in a process of its own."""

    def __init__(self, root: Path) -> None:
        path = os.pathsep.join([str(HERE), str(HERE.parent.parent), *sys.path])
        self.child = subprocess.Popen(
            [sys.executable, str(HERE / "maintainer_process.py"), str(root)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.hear() == "ready"

    def say(self, word: str) -> None:
        """Ask for something without waiting."""
        assert self.child.stdin is not None
        self.child.stdin.write(word + "\n")
        self.child.stdin.flush()

    def hear(self) -> str:
        """Return the answer."""
        assert self.child.stdout is not None
        return self.child.stdout.readline().strip()

    def ask(self, word: str) -> str:
        """Ask and wait for the answer."""
        self.say(word)
        return self.hear()

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.child.pid, number)

    def end(self) -> None:
        """Kill and bury."""
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Give a function that starts a maintainer on the test's root."""
    started: list[Process] = []

    def begin() -> Process:
        started.append(Process(tmp_path))
        return started[-1]

    yield begin
    for process in started:
        process.end()


def test_a_killed_leader_is_succeeded_within_a_second(start: Callable[[], Process]) -> None:
    """The second is refused with the holder's pid; after SIGKILL of the holder it leads in under a second."""
    first, second = start(), start()
    assert first.ask("take") == "leader"
    assert f"pid {first.child.pid} on" in second.ask("take")
    second.say("wait")
    time.sleep(0.2)
    killed = time.monotonic()
    first.signal(signal.SIGKILL)
    assert second.hear() == "leader"
    assert time.monotonic() - killed < 1.0


def test_a_stopped_leader_stays_the_leader_and_is_fenced(start: Callable[[], Process], tmp_path: Path) -> None:
    """While the leader is stopped nobody else leads; a deploy from elsewhere wins, and the woken leader's old decision loses."""
    leader, other = start(), start()
    assert leader.ask("take") == "leader"
    assert leader.ask("look") == "0"
    leader.signal(signal.SIGSTOP)
    assert "MaintainerBusyError" in other.ask("take")
    other.ask("look")
    assert other.ask("commit") == "commit 1"
    leader.signal(signal.SIGCONT)
    assert "LostRaceError" in leader.ask("commit")
    assert leader.ask("held") == "True"
    assert leader.ask("look") == "1"
    assert leader.ask("commit") == "commit 2"
    assert [entry["number"] for entry in Registry(tmp_path).history()] == [1, 2]


def test_deleting_the_lock_file_makes_no_second_leader(start: Callable[[], Process], tmp_path: Path) -> None:
    """The file is removed under the leader, also while it is stopped: still exactly one leads, and the file comes back."""
    leader, other = start(), start()
    assert leader.ask("take") == "leader"
    leader.signal(signal.SIGSTOP)
    (tmp_path / "logs/maintainer.lock").unlink()
    assert "MaintainerBusyError" in other.ask("take")
    leader.signal(signal.SIGCONT)
    assert leader.ask("held") == "True"
    assert f"pid {leader.child.pid} on" in other.ask("take")
    leader.signal(signal.SIGKILL)
    assert other.ask("wait") == "leader"


def test_a_child_of_a_killed_leader_does_not_keep_the_lock(start: Callable[[], Process]) -> None:
    """The leader forks and is killed; its child lives on and the lock is free."""
    leader, other = start(), start()
    assert leader.ask("take") == "leader"
    child = int(leader.ask("fork"))
    leader.signal(signal.SIGKILL)
    try:
        assert other.ask("wait") == "leader"
    finally:
        os.kill(child, signal.SIGKILL)


def test_many_deployers_never_share_a_number(start: Callable[[], Process], tmp_path: Path) -> None:
    """Four processes commit 25 times each at once: 100 commits, every number once, every commit whole."""
    processes = [start() for _ in range(4)]
    for process in processes:
        process.say("rush")
    numbers = [int(number) for process in processes for number in process.hear().split()]
    assert sorted(numbers) == list(range(1, 101))
    registry = Registry(tmp_path)
    assert [commit.number for commit in registry.commits()] == list(range(1, 101))
    assert registry.verify() == []
    writers = {commit.number: commit.who for commit in registry.commits()}
    assert len(set(writers.values())) == 4


def test_starting_and_retiring_disturb_nobody(start: Callable[[], Process], tmp_path: Path) -> None:
    """Two processes deploy while one recovers and retires over and over: no deploy fails, nothing is set aside."""
    first, second, sweeper = start(), start(), start()
    first.ask("look")
    assert first.ask("commit") == "commit 1"
    for process, word in ((first, "rush"), (second, "rush"), (sweeper, "churn")):
        process.say(word)
    numbers = [int(number) for process in (first, second) for number in process.hear().split()]
    assert sorted(numbers) == list(range(2, 52))
    assert sweeper.hear() == "clean"
    assert Registry(tmp_path).verify() == []


def test_one_decision_wins_where_several_were_made(start: Callable[[], Process], tmp_path: Path) -> None:
    """Four processes decide on one head and commit at once: one is told it did, three that they lost."""
    processes = [start() for _ in range(4)]
    for process in processes:
        process.ask("look")
    for process in processes:
        process.say("commit")
    answers = sorted(process.hear().partition(":")[0] for process in processes)
    assert answers == ["LostRaceError"] * 3 + ["commit 1"]
    assert len(Registry(tmp_path).history()) == 1
