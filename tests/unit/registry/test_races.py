"""The registry beside other processes: who commits first, and what is noticed of others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from demand_maint._storage.commits import CommitLog
from demand_maint._storage.door import Door
from demand_maint._storage.registry import Registry
from demand_maint.core.roster import after_enter, after_promotion
from demand_maint.core.versions import (
    Baseline,
    Commit,
)
from demand_maint.errors import (
    LostRaceError,
)
from tests.unit.registry.deploying import add, deploy


def test_a_decision_made_on_an_old_head_is_refused(registry: Registry, tmp_path: Path) -> None:
    """Two processes that decided on one head: the first commits, the second is told and nothing changes."""
    deploy(registry, "a")
    other = Registry(tmp_path)
    number = add(other, "b").number
    seen = registry.champion().number
    other.commit("deploy", champion=number, base=number, who="t", why="t", expect=seen)
    with pytest.raises(LostRaceError) as caught:
        registry.commit("deploy", champion=1, base=1, who="t", why="t", expect=seen)
    assert (caught.value.expected, caught.value.found) == (1, 2)
    assert registry.champion().champion == number


@pytest.fixture
def raced(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Registry], object]], None]:
    """Give a function that says what another process commits just before the registry's next commit is put there."""

    def before_the_next(other: Callable[[Registry], object]) -> None:
        put = CommitLog.put

        def late(self: CommitLog, commit: Commit) -> bool:
            monkeypatch.setattr(CommitLog, "put", put)
            other(Registry(registry.door))
            return put(self, commit)

        monkeypatch.setattr(CommitLog, "put", late)

    return before_the_next


def enter(registry: Registry, text: str = "candidate") -> int:
    """Let a candidate into the line-up, as the maintainer does; its number."""
    head, number = registry.champion(), add(registry, text, kind="fine_tune", base=1).number
    registry.commit(
        "enter", champion=head.champion, base=head.base, subject=number, who="m", why="m",
        line_up=lambda before: after_enter(before, number, "fine_tune", 5.0),
    )  # fmt: skip
    return number


def test_bookkeeping_in_the_same_moment_refuses_no_deploy(registry: Registry, raced: Callable[..., None]) -> None:
    """The maintainer lets a candidate in and moves the baseline between an operator's look and commit: both stand."""
    deploy(registry, "a")
    number, seen = add(registry, "b").number, registry.champion().number
    enter(registry, "early")
    raced(lambda other: (enter(other, "late"), other.commit("rebaseline", champion=1, base=1, who="m", why="m")))
    commit = registry.commit(
        "deploy", champion=number, base=1, who="t", why="t", expect=seen,
        line_up=lambda before: after_promotion(before, number, 1, 9.0, 14.0),
    )  # fmt: skip
    assert (commit.number, commit.champion, commit.previous) == (5, number, 1)
    assert [(entry.version, entry.role) for entry in commit.line_up] == [
        (number, "champion"), (1, "previous"), (3, "candidate"), (4, "candidate"),
    ]  # fmt: skip


def test_bookkeeping_in_the_same_moment_refuses_no_rollback(registry: Registry, raced: Callable[..., None]) -> None:
    """A rollback that loses its number to a candidate's entry takes the next one and restores what it meant to."""
    for text in "ab":
        deploy(registry, text)
    raced(enter)
    commit = registry.rollback(who="t", why="t")
    assert (commit.number, commit.champion, commit.rolled_back) == (4, 1, (2,))


@pytest.mark.parametrize("between", ["deploy", "there and back"])
def test_a_changed_champion_refuses(registry: Registry, raced: Callable[..., None], between: str) -> None:
    """Another deploy in between, also one that was taken back again, leaves nothing to rebase on."""

    def other(registry: Registry) -> None:
        deploy(registry, "c")
        if between == "there and back":
            registry.rollback(who="o", why="o")

    for text in "ab":
        deploy(registry, text)
    raced(other)
    with pytest.raises(LostRaceError, match="changed the champion first"):
        registry.rollback(who="t", why="t")
    assert registry.commits()[-1].who in {"tester", "o"}


def test_a_damaged_commit_in_between_refuses(registry: Registry, tmp_path: Path) -> None:
    """What cannot be read may have changed the champion, so the decision is not rebased over it."""
    deploy(registry, "a")
    number, seen = add(registry, "b").number, registry.champion().number
    enter(registry)
    registry.commit("settle", champion=1, base=1, who="m", why="m")
    (tmp_path / "data/models/commits/00000002.json").write_text("{")
    with pytest.raises(LostRaceError):
        Registry(tmp_path).commit("deploy", champion=number, base=number, who="t", why="t", expect=seen)


def test_bookkeeping_for_a_champion_that_went_is_refused(registry: Registry, raced: Callable[..., None]) -> None:
    """A baseline or a candidate of the former champion never brings that champion back."""
    deploy(registry, "a")
    raced(lambda other: deploy(other, "b"))
    with pytest.raises(LostRaceError):
        registry.commit("rebaseline", champion=1, base=1, who="m", why="m", baseline=Baseline(mae=9.0))
    assert (registry.champion().champion, registry.champion().baseline) == (2, Baseline(mae=1.0))


def test_polling_the_head_reads_no_file_twice(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that finds nothing new is one directory listing, also where the newest commit is damaged."""
    for text in "ab":
        deploy(registry, text)
    path = registry.door.path("data/models/commits/00000002.json")
    path.write_bytes(b"{}")
    follower = Registry(registry.door)
    head = follower.champion()

    def never(*_: object) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr(Door, "read_bytes", never)
    assert follower.head() is head
    assert head.champion == 1


def test_commits_of_others_are_noticed_and_missed(registry: Registry, tmp_path: Path) -> None:
    """A registry that has looked before tells what somebody else has committed, set aside or taken away since."""
    other = Registry(tmp_path)
    first = deploy(registry, "one")
    assert [commit.number for commit in other.commits()] == [1]
    second = deploy(registry, "two")
    assert other.champion().champion == second
    assert [commit.number for commit in other.commits()] == [1, 2]
    newest = tmp_path / "data/models/commits/00000002.json"
    newest.rename(newest.with_name("00000002.json.damaged"))
    assert Registry(tmp_path).champion().champion == first
    deploy(registry, "three")
    assert [commit.number for commit in Registry(tmp_path).commits()] == [1, 3]
    assert other.champion().number == 3
    (tmp_path / "data/models/commits/00000003.json").unlink()
    newest.with_name("00000002.json.damaged").unlink()
    assert other.champion().number == 1
    assert [commit.number for commit in other.commits()] == [1]
