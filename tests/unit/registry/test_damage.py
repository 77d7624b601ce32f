"""The registry on damaged, foreign and unfit files: nothing is lost, and all is said."""

import json
import os
from pathlib import Path

import pytest

from demand_maint._storage import formats
from demand_maint._storage.registry import Registry
from demand_maint._storage.versions import VersionStore
from demand_maint.core.versions import (
    FileHashes,
    LineUpEntry,
)
from demand_maint.errors import (
    DamagedModelError,
    DamagedRegistryError,
    ModelTooLargeError,
    NewerFormatError,
    NothingToRollBackError,
    RegistryError,
    UnsupportedFilesystemError,
)
from tests.unit.registry.deploying import add, deploy


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
