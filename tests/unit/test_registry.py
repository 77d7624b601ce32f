"""The registry: versions, commits, rollback, retention, and what it says of itself."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from demand_maint._storage import formats
from demand_maint._storage.commits import CommitLog
from demand_maint._storage.door import Door
from demand_maint._storage.registry import Registry
from demand_maint._storage.versions import VersionStore
from demand_maint.core.roster import after_enter, after_promotion
from demand_maint.core.versions import (
    Baseline,
    Commit,
    FileHashes,
    GateVerdict,
    LineUpEntry,
    ModelMetadata,
    ModelVersion,
)
from demand_maint.errors import (
    DamagedModelError,
    DamagedRegistryError,
    LostRaceError,
    ModelTooLargeError,
    NewerFormatError,
    NoChampionError,
    NothingToRollBackError,
    RegistryError,
    UnsupportedFilesystemError,
)
from demand_maint.testing import VirtualClock


def metadata(kind: Literal["full", "fine_tune"] = "full", mae: float = 1.0, **more: Any) -> ModelMetadata:
    """Return the metadata of a small model."""
    return ModelMetadata(
        features=("a", "b"), loss="RMSE", kind=kind, created_at=0.0, baseline=Baseline(mae=mae), **more
    )


def add(registry: Registry, text: str, **more: Any) -> ModelVersion:
    """Add a version whose model is `text`."""
    return registry.add_version(text.encode(), metadata(**more))


def deploy(registry: Registry, text: str, **more: Any) -> int:
    """Add a version and make it champion and base."""
    number = add(registry, text, **more).number
    registry.commit("deploy", champion=number, base=number, who="tester", why=text)
    return number


@pytest.fixture
def clock() -> VirtualClock:
    """Give a clock that stands still."""
    return VirtualClock(1000.0)


@pytest.fixture
def registry(tmp_path: Path, clock: VirtualClock) -> Registry:
    """Give an empty registry."""
    return Registry(tmp_path, clock=clock)


def test_nothing_is_made_on_disk_before_the_first_write(registry: Registry, tmp_path: Path) -> None:
    """Looking at an empty root leaves it empty and says there is no champion."""
    assert registry.head() is None
    assert registry.versions() == []
    assert registry.recover() == []
    with pytest.raises(NoChampionError):
        registry.champion()
    assert list(tmp_path.iterdir()) == []


def test_a_deploy_is_served_byte_for_byte_with_its_metadata(registry: Registry, tmp_path: Path) -> None:
    """What another process reads is what was added, and the commit holds its hashes."""
    number = deploy(registry, "model one", mae=2.5)
    other = Registry(tmp_path)
    head = other.champion()
    assert (head.number, head.champion, head.base, head.who, head.why) == (1, 1, 1, "tester", "model one")
    assert other.model_bytes(number) == b"model one"
    version = other.version(number)
    assert version.metadata.features == ("a", "b")
    assert version.stage == "production"
    assert head.files["1"] == version.hashes
    assert head.baseline == Baseline(mae=2.5)
    assert head.line_up == (LineUpEntry(version=1, role="champion", entered_at=1000.0),)


def test_numbers_are_never_used_twice(registry: Registry) -> None:
    """A version that retention removed does not give its number to the next one."""
    for text in "abcd":
        deploy(registry, text)
    registry.rollback(who="t", why="t")
    assert registry.retain(1) == [1]
    assert add(registry, "next").number == 5
    assert add(registry, "after").number == 6


def test_rollback_goes_further_back_and_never_toggles(registry: Registry) -> None:
    """Each rollback restores the nearest earlier champion that was not itself rolled back, then says there is none."""
    for text in "abc":
        deploy(registry, text)
    assert registry.rollback(who="t", why="t").champion == 2
    deploy(registry, "d")
    assert registry.rollback(who="t", why="t").champion == 2
    last = registry.rollback(who="t", why="t")
    assert last.champion == 1
    assert last.rolled_back == (2, 3, 4)
    with pytest.raises(NothingToRollBackError):
        registry.rollback(who="t", why="t")
    deploy(registry, "e")
    assert registry.rollback(who="t", why="t").champion == 1
    assert [entry["version"] for entry in registry.history()] == [1, 2, 3, 2, 4, 2, 1, 5, 1]


def test_rollback_restores_base_baseline_and_count(registry: Registry) -> None:
    """An earlier champion returns with the base, the baseline and the fine-tune count it last had, and fresh scores."""
    base = deploy(registry, "base")
    fine = add(registry, "fine", kind="fine_tune")
    registry.commit("promote", champion=fine.number, base=base, who="t", why="t")
    registry.commit("rebaseline", champion=fine.number, base=base, who="t", why="t", baseline=Baseline(mae=9.0))
    deploy(registry, "new base", mae=3.0)
    assert registry.champion().fine_tunes == 0
    back = registry.rollback(who="t", why="t")
    assert (back.champion, back.base, back.fine_tunes, back.baseline) == (fine.number, base, 1, Baseline(mae=9.0))
    assert [(entry.version, entry.role, entry.kind) for entry in back.line_up] == [
        (fine.number, "champion", "fine_tune"),
        (base, "base", "full"),
    ]
    assert back.previous == 3


def test_rollback_passes_over_a_version_that_is_gone(registry: Registry) -> None:
    """A damaged or retired version is no place to go back to."""
    for text in "abc":
        deploy(registry, text)
    registry.model_path(2).write_bytes(b"x")
    assert registry.rollback(who="t", why="t").champion == 1


def test_other_commits_keep_champion_line_up_and_baseline(registry: Registry) -> None:
    """A commit that is not about the champion changes only what it names."""
    deploy(registry, "a", mae=4.0)
    candidate = add(registry, "b", kind="fine_tune").number
    entries = (
        LineUpEntry(version=1, role="champion", entered_at=0.0),
        LineUpEntry(version=candidate, role="candidate", entered_at=1.0),
    )
    entered = registry.commit(
        "enter", champion=1, base=1, subject=candidate, who="t", why="t", line_up=lambda _: entries
    )
    assert entered.line_up == entries
    assert str(candidate) in entered.files
    settled = registry.commit("settle", champion=1, base=1, who="t", why="t")
    assert (settled.line_up, settled.baseline) == (entries, Baseline(mae=4.0))
    assert registry.version(candidate).stage == "staging"


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


def test_who_was_live_when(registry: Registry, clock: VirtualClock) -> None:
    """The commit in force at a moment is the newest not after it, also when the clock was put back between commits."""
    for text in "abc":
        deploy(registry, text)
        clock.advance(100.0)
    clock.set(1150.0)
    deploy(registry, "d")
    live = {at: commit.champion if (commit := registry.champion_at(at)) else None for at in (999.0, 1000.0, 1120.0)}
    assert live == {999.0: None, 1000.0: 1, 1120.0: 2}
    after = registry.champion_at(1150.0)
    assert after is not None
    assert after.champion == 4


def test_retention_keeps_what_serves_and_what_a_rollback_needs(registry: Registry) -> None:
    """Champion, base, previous, line-up and the rollback target with its base stay, whatever their age."""
    base = deploy(registry, "base")
    fine = add(registry, "fine", kind="fine_tune").number
    registry.commit("promote", champion=fine, base=base, who="t", why="t")
    for text in "abcde":
        add(registry, text)
    full = deploy(registry, "full")
    assert registry.retain(1) == [3, 4, 5, 6, 7]
    assert registry.versions() == [base, fine, full]
    assert registry.rollback(who="t", why="t").base == base


def test_what_was_found_whole_is_read_again_only_when_it_was_written(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the next rollbacks need is known without reading the models again; one that was damaged since is none of them."""
    for text in ("first", "second", "third", "fourth"):
        deploy(registry, text)
    assert registry.needed_versions(2) == {4, 3, 2}
    read: list[int] = []
    model = VersionStore.model

    def counted(self: VersionStore, number: int, expected: FileHashes) -> bytes:
        read.append(number)
        return model(self, number, expected)

    monkeypatch.setattr(VersionStore, "model", counted)
    assert registry.needed_versions(2) == {4, 3, 2}
    assert read == []
    registry.model_path(2).write_bytes(b"not the second")
    assert registry.needed_versions(2) == {4, 3, 1}
    assert read == [2, 1]
    target = registry.rollback_target()
    assert target is not None
    assert target.champion == 3
    assert read[2:] == [3]


def test_damage_is_found_named_and_set_aside(registry: Registry, tmp_path: Path) -> None:
    """A champion damaged on disk is refused, quarantined at the next start, and an earlier one serves."""
    for text in ("first", "second"):
        deploy(registry, text)
    registry.model_path(2).write_bytes(b"sec0nd")
    with pytest.raises(DamagedModelError, match="000002"):
        registry.model_bytes(2)
    assert any("version 2" in problem for problem in registry.verify())
    other = Registry(tmp_path)
    found = other.recover()
    assert any("000002" in what for what in found)
    assert other.champion().champion == 1
    assert other.champion().who == "recovery"
    assert other.model_bytes(1) == b"first"
    kept = list((tmp_path / "data/models/quarantine").glob("version-000002-*/model.cbm"))
    assert [path.read_bytes() for path in kept] == [b"sec0nd"]
    assert other.recover() == []
    assert deploy(other, "third") == 3


def test_a_damaged_commit_is_set_aside_and_keeps_its_number(registry: Registry, tmp_path: Path) -> None:
    """A flipped bit in the newest commit: the one before serves, and its number is not given away."""
    for text in ("first", "second"):
        deploy(registry, text)
    path = tmp_path / "data/models/commits/00000002.json"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    other = Registry(tmp_path)
    assert other.champion().champion == 1
    assert len(other.recover()) == 1
    assert deploy(other, "third") == 3
    assert [entry["number"] for entry in other.history()] == [1, 3]
    assert other.verify() == ["commit 2 is missing or damaged"]


def test_a_line_up_goes_on_without_a_damaged_member(registry: Registry, tmp_path: Path) -> None:
    """Recovery drops a damaged candidate from the line-up and leaves the champion alone."""
    deploy(registry, "a")
    candidate = add(registry, "b").number
    entries = (
        LineUpEntry(version=1, role="champion", entered_at=0.0),
        LineUpEntry(version=candidate, role="candidate", entered_at=1.0),
    )
    registry.commit("enter", champion=1, base=1, subject=candidate, who="t", why="t", line_up=lambda _: entries)
    registry.model_path(candidate).unlink()
    other = Registry(tmp_path)
    assert other.recover()
    assert other.champion().line_up == entries[:1]
    assert other.champion().action == "discard"


def test_a_newer_format_is_served_and_never_changed(registry: Registry, tmp_path: Path) -> None:
    """A commit of a newer release, with fields we do not know, still names the champion; every write says why not."""
    deploy(registry, "a")
    commits = tmp_path / "data/models/commits"
    body = json.loads((commits / "00000001.json").read_bytes())["commit"]
    body |= {"number": 2, "format": 7, "action": "teleport", "new_field": {"x": 1}}
    text = json.dumps(body).encode()
    (commits / "00000002.json").write_bytes(
        b'{"sha256":"' + formats.sha256_hex(text).encode() + b'","commit":' + text + b"}\n"
    )
    other = Registry(tmp_path)
    assert (other.champion().number, other.champion().champion) == (2, 1)
    assert other.model_bytes(1) == b"a"
    for call in (
        lambda: add(other, "b"),
        lambda: other.commit("deploy", champion=1, base=1, who="t", why="t"),
        lambda: other.rollback(who="t", why="t"),
        lambda: other.retain(1),
    ):
        with pytest.raises((NewerFormatError, NothingToRollBackError)):
            call()
    assert other.recover() == []
    assert any("newer release" in problem for problem in other.verify())


def test_a_read_only_registry_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    """Every write of a read-only registry is refused."""
    deploy(registry, "a")
    reader = Registry(tmp_path, read_only=True)
    with pytest.raises(RegistryError, match="read-only"):
        reader.rollback(who="t", why="t") if reader.rollback_target() else add(reader, "b")
    assert reader.recover() == []


def test_metadata_with_a_nan_is_refused_before_anything_is_written(registry: Registry) -> None:
    """A NaN names its place and leaves no version behind."""
    with pytest.raises(ValueError, match="metrics"):
        add(registry, "a", metrics={"mae": float("nan")})
    with pytest.raises(DamagedModelError):
        add(registry, "")
    assert registry.versions() == []


def test_a_model_over_the_cap_is_neither_written_nor_read(tmp_path: Path) -> None:
    """The size cap holds at both doors."""
    small = Registry(tmp_path, max_model_megabytes=1)
    with pytest.raises(ModelTooLargeError):
        add(small, "x" * ((1 << 20) + 1))
    large = Registry(tmp_path)
    number = deploy(large, "x" * ((1 << 20) + 1))
    with pytest.raises(ModelTooLargeError):
        small.model_bytes(number)


def test_history_tells_who_why_verdict_and_hashes(registry: Registry) -> None:
    """An entry of the history holds everything an auditor asks for."""
    number = add(registry, "a").number
    verdict = GateVerdict(verdict="forced", method="force")
    registry.commit("deploy", champion=number, base=number, who="ann", why="it is Friday", verdict=verdict)
    entry = registry.history()[-1]
    assert (entry["who"], entry["why"], entry["version"], entry["at"]) == (
        "ann",
        "it is Friday",
        number,
        "1970-01-01T00:16:40Z",
    )
    assert entry["verdict"]["verdict"] == "forced"
    assert entry["model_sha256"] == formats.sha256_hex(b"a")
    assert json.loads(json.dumps(entry)) == entry


def test_a_file_system_without_links_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where link is not permitted nothing is deployed, and the error says why and where to go."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UnsupportedFilesystemError, match=r"hard links fail .* local disk"):
        deploy(Registry(tmp_path), "a")


def test_a_missing_version_says_where_it_may_have_gone(registry: Registry) -> None:
    """Asking for a version that never was names the ways it could have gone."""
    deploy(registry, "a")
    with pytest.raises(RegistryError, match="no version 000009"):
        registry.model_bytes(9)
    registry.model_path(1).with_name("metadata.json").unlink()
    with pytest.raises(DamagedRegistryError, match="missing"):
        Registry(registry.door).version(1)


def test_a_version_that_is_needed_at_the_last_moment_is_not_removed(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that names an old version while retention hides it brings it back."""
    old = add(registry, "old").number
    for text in "abc":
        deploy(registry, text)
    retire = VersionStore.retire

    def raced(self: VersionStore, number: int) -> str:
        if number == old:
            Registry(registry.door).commit("deploy", champion=old, base=old, who="other", why="in between")
        return retire(self, number)

    monkeypatch.setattr(VersionStore, "retire", raced)
    assert old not in registry.retain(1)
    assert registry.champion().champion == old
    assert registry.model_bytes(old) == b"old"
    assert registry.verify() == []


def test_retention_that_was_killed_after_such_a_commit_is_undone_at_the_next_start(
    registry: Registry, tmp_path: Path
) -> None:
    """A hidden version that a commit names is restored by recovery; one that nobody names is removed."""
    old, unwanted = add(registry, "old").number, add(registry, "unwanted").number
    for text in "abc":
        deploy(registry, text)
    registry.commit("deploy", champion=old, base=old, who="other", why="in between")
    registry.store.retire(old)
    registry.store.retire(unwanted)
    other = Registry(tmp_path)
    assert other.recover() == []
    assert other.model_bytes(old) == b"old"
    assert unwanted not in other.versions()
    assert not list((tmp_path / "data/models/archive").glob(".tmp-*"))


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
