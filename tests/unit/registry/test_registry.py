"""The registry: versions, commits, rollback, retention, and what it says of itself."""

import json
from pathlib import Path

import pytest

from demand_maint._storage import formats
from demand_maint._storage.registry import Registry
from demand_maint._storage.versions import VersionStore
from demand_maint.core.versions import (
    Baseline,
    GateVerdict,
    LineUpEntry,
)
from demand_maint.errors import (
    NoChampionError,
    NothingToRollBackError,
)
from demand_maint.testing import VirtualClock
from tests.unit.registry.deploying import add, deploy


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
