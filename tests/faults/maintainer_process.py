"""A maintainer that does what its stdin says, one word per line, and answers each with one line."""

import os
import sys
import time
from pathlib import Path

from registry_life import metadata, model_bytes

from demand_maint._storage.door import Door
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.registry import Registry
from demand_maint.errors import DemandMaintError


class Maintainer:
    """One process's lock and registry."""

    def __init__(self, root: Path) -> None:
        self.registry = Registry(root)
        self.lock = MaintainerLock(Door(root), who="test")
        self.seen = 0

    def answer(self, word: str) -> str:
        """Do what the word says."""
        try:
            return str(getattr(self, word)())
        except DemandMaintError as error:
            return f"{type(error).__name__}: {error}"

    def take(self) -> str:
        """Take the lock at once or say who has it."""
        self.lock.acquire()
        return "leader"

    def wait(self) -> str:
        """Take the lock within ten seconds."""
        self.lock.acquire(10)
        return "leader"

    def held(self) -> bool:
        """Whether it still leads."""
        return self.lock.held

    def look(self) -> int:
        """Decide on the head there is."""
        head = self.registry.head()
        self.seen = head.number if head else 0
        return self.seen

    def commit(self) -> str:
        """Deploy what was decided on the head that was looked at."""
        version = self.registry.add_version(model_bytes(os.getpid()), metadata(os.getpid())).number
        done = self.registry.commit(
            "deploy", champion=version, base=version, who=str(os.getpid()), why="", expect=self.seen
        )
        return f"commit {done.number}"

    def rush(self) -> str:
        """Commit 25 times whatever the head is."""
        version = self.registry.add_version(model_bytes(os.getpid()), metadata(os.getpid())).number
        numbers = [
            self.registry.commit("deploy", champion=version, base=version, who=str(os.getpid()), why="").number
            for _ in range(25)
        ]
        return " ".join(map(str, numbers))

    def churn(self) -> str:
        """Start on the root again and again, and retire what can go, while others work."""
        for _ in range(60):
            other = Registry(self.registry.door)
            found = other.recover()
            if found:
                return f"set aside: {found}"
            other.retain(2)
        return "clean"

    def fork(self) -> int:
        """Leave a child behind that inherits everything and lives for a minute."""
        child = os.fork()
        if child == 0:
            os.close(1)
            time.sleep(60)
            os._exit(0)
        return child


def main() -> None:
    """Answer until stdin ends."""
    maintainer = Maintainer(Path(sys.argv[1]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(maintainer.answer(line.strip()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
