"""The log of commits: one file per change, numbered, put there once and never written again."""

from collections.abc import Sequence

from demand_maint._storage.door import Door, UnconfirmedWriteError
from demand_maint._storage.formats import MAX_JSON_BYTES, decode_commit, encode_commit
from demand_maint._storage.layout import COMMITS, commit_name, commit_number
from demand_maint.core.versions import Commit
from demand_maint.errors import CommitUnconfirmedError, DamagedRegistryError, PathError
from demand_maint.log import get_logger

__all__ = ["CHAMPION_ACTIONS", "CommitLog", "earlier_champions"]

CHAMPION_ACTIONS = frozenset({"init", "adopt", "deploy", "promote", "rollback"})
_log = get_logger("registry")


class CommitLog:
    """Commits on disk; read ones are kept, for they never change."""

    __slots__ = ("_all", "_cache", "_damaged", "_door", "_newest")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._cache: dict[int, Commit] = {}
        self._damaged: set[int] = set()
        self._newest: tuple[int, Commit | None] = (0, None)
        self._all: list[Commit] = []

    def head(self) -> Commit | None:
        """Newest readable commit; a look at two names where nothing changed, since commits are numbered without gaps."""
        top, commit = self._newest
        if commit is not None and commit.number == top:
            names = (commit_name(top), commit_name(top + 1))
            if self._door.which(COMMITS, names) == [True, False]:
                return commit
        return self.head_and_next()[0]

    def head_and_next(self) -> tuple[Commit | None, int]:
        """Newest readable commit and the number the next one has to take, from one look at the directory."""
        top = self._highest()
        if top != self._newest[0]:
            found = next((commit for n in range(top, 0, -1) if (commit := self.get(n)) is not None), None)
            self._newest = (top, found)
        return self._newest[1], top + 1

    def all(self) -> list[Commit]:
        """Every readable commit, oldest first."""
        head = self.head()
        if head is None or not self._all or self._all[-1] is not head:
            numbers = sorted({found[0] for name in self._door.listdir(COMMITS) if (found := commit_number(name))})
            self._all = [commit for number in numbers if (commit := self.get(number)) is not None]
        return self._all.copy()

    def get(self, number: int) -> Commit | None:
        """Return one commit; ``None`` where it is missing or damaged."""
        if number in self._cache:
            return self._cache[number]
        if number in self._damaged:
            return None
        try:
            commit = self.read(number)
        except FileNotFoundError:
            return None
        except DamagedRegistryError as error:
            _log.error("commit is damaged and skipped", commit=number, reason=str(error))
            self._damaged.add(number)
            return None
        self._cache[number] = commit
        return commit

    def read(self, number: int) -> Commit:
        """Read one commit from its file, whatever was read before.

        Raises
        ------
        DamagedRegistryError
            It is not what was written.
        """
        rel = f"{COMMITS}/{commit_name(number)}"
        try:
            data = self._door.read_bytes(rel, MAX_JSON_BYTES)
        except PathError as error:
            raise DamagedRegistryError(f"{rel} is no commit file: {error}") from None
        commit = decode_commit(data, rel)
        if commit.number != number:
            raise DamagedRegistryError(f"{rel} holds commit {commit.number}.")
        return commit

    def put(self, commit: Commit) -> bool:
        """Write `commit` under its number; ``False`` where somebody was first.

        Raises
        ------
        CommitUnconfirmedError
            It is there, but not known to survive a power loss.
        """
        try:
            done = self._door.put_if_absent(f"{COMMITS}/{commit_name(commit.number)}", encode_commit(commit))
        except UnconfirmedWriteError as error:
            raise CommitUnconfirmedError(commit.number, error.strerror or str(error)) from error
        if done:
            self._cache[commit.number] = commit
        return done

    def set_damaged_aside(self) -> list[str]:
        """Rename damaged commits in place, so that their numbers stay taken; tell which."""
        aside: list[str] = []
        for name in self._door.listdir(COMMITS):
            found = commit_number(name)
            if found is None or found[1]:
                continue
            try:
                self._cache[found[0]] = self.read(found[0])
            except DamagedRegistryError as error:
                self._door.rename(f"{COMMITS}/{name}", f"{COMMITS}/{name}.damaged")
                self._damaged.add(found[0])
                self._cache.pop(found[0], None)
                aside.append(str(error))
        if aside:
            self._newest, self._all = (0, None), []
        return aside

    def missing(self) -> list[int]:
        """Numbers below the newest that have no readable commit."""
        return [number for number in range(1, self._highest() + 1) if self.get(number) is None]

    def _highest(self) -> int:
        # names are listed in their order, which is that of the numbers
        names = reversed(self._door.listdir(COMMITS))
        return next((found[0] for name in names if (found := commit_number(name))), 0)


def earlier_champions(commits: Sequence[Commit]) -> list[Commit]:
    """Where a rollback may go, nearest first: the last commit of each earlier champion that was not itself rolled back.

    Deploys push, a rollback pops down to the version it restored; so a second rollback goes further back.
    """
    stack: list[Commit] = []
    for commit in commits:
        if commit.action == "rollback":
            while stack and stack[-1].champion != commit.champion:
                stack.pop()
        if stack and stack[-1].champion == commit.champion:
            stack[-1] = commit
        else:
            stack.append(commit)
    if not stack:
        return []
    current = stack[-1]
    seen = {current.champion, *current.rolled_back}
    found: list[Commit] = []
    for commit in reversed(stack[:-1]):
        if commit.champion not in seen:
            seen.add(commit.champion)
            found.append(commit)
    return found
