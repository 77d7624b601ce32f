"""Damaged and hostile files: every one refused and named, the process lives on, nothing outside the root is touched."""

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from registry_life import metadata, model_bytes, use_real_models

from demand_maint._storage.registry import Registry
from demand_maint._storage.versions import VersionStore
from demand_maint.config import Config, StorageConfig
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import DamagedModelError, ModelFileError, RegistryError


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Give a registry with one earlier and one serving version."""
    registry = Registry(tmp_path / "root")
    for identity in (1, 2):
        number = registry.add_version(model_bytes(identity), metadata(identity)).number
        registry.commit("deploy", champion=number, base=number, who="t", why="t")
    return registry


def test_every_flip_and_cut_of_a_served_model_is_found(registry: Registry) -> None:
    """2 000 random bit flips and every truncation: none is served."""
    chance = random.Random(4)
    path, good = registry.model_path(2), model_bytes(2)
    damaged = [good[:size] for size in range(len(good))] + [good + b"\0", good * 2]
    for _ in range(2_000):
        at, bit = chance.randrange(len(good)), chance.randrange(8)
        damaged.append(good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(DamagedModelError, match="000002"):
            registry.model_bytes(2)
    path.write_bytes(good)
    assert registry.model_bytes(2) == good


@pytest.mark.parametrize("shape", ["gone", "empty", "directory", "symlink", "fifo", "swapped", "huge"])
def test_whatever_stands_in_the_place_of_a_model_an_earlier_one_serves(
    registry: Registry, shape: str, tmp_path: Path
) -> None:
    """A missing, empty, foreign or oversized model file is refused, set aside at the next start, and named."""
    path = registry.model_path(2)
    path.unlink()
    if shape == "empty":
        path.touch()
    elif shape == "directory":
        path.mkdir()
    elif shape == "symlink":
        (tmp_path / "elsewhere").write_bytes(model_bytes(2))
        path.symlink_to(tmp_path / "elsewhere")
    elif shape == "fifo":
        os.mkfifo(path)
    elif shape == "swapped":
        path.write_bytes(model_bytes(1))
    elif shape == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises((ModelFileError, RegistryError)):
        registry.model_bytes(2)
    other = Registry(tmp_path / "root")
    found = other.recover()
    assert any("000002" in what for what in found)
    assert other.champion().champion == 1
    assert other.model_bytes(1) == model_bytes(1)
    assert len(list((tmp_path / "root/data/models/quarantine").iterdir())) == 1


def test_a_version_whose_metadata_point_outside_reads_and_writes_nothing_there(tmp_path: Path) -> None:
    """Paths, control characters and newlines inside metadata, names and reasons are text and stay text."""
    hostile = "../../../../escape\n\x1b[2J; rm -rf /\0"
    registry = Registry(tmp_path / "root")
    evil = metadata(1)
    evil.notes["path"] = hostile
    number = registry.add_version(model_bytes(1), evil).number
    registry.commit("deploy", champion=number, base=number, who=hostile, why=hostile)
    assert registry.version(number).metadata.notes["path"] == hostile
    deployer = ModelDeployer(tmp_path / "root", registry=registry, to_joblib=lambda data: data)
    deployer.export()
    assert deployer.history()[0]["why"] == hostile
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_links_inside_the_root_lead_nowhere(registry: Registry, tmp_path: Path) -> None:
    """A root whose archive, commits or logs were replaced by links is not read or written through them."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for rel in ("data/models/archive", "data/models/commits"):
        folder = tmp_path / "root" / rel
        folder.rename(tmp_path / "root/data/models/aside")
        folder.symlink_to(outside)
        fresh = Registry(tmp_path / "root")
        with pytest.raises((RegistryError, OSError)):
            fresh.commit("deploy", champion=1, base=1, who="t", why="t")
        with pytest.raises((RegistryError, OSError)):
            fresh.add_version(b"x", metadata(3))
            fresh.commit("deploy", champion=3, base=3, who="t", why="t")
        folder.unlink()
        (tmp_path / "root/data/models/aside").rename(folder)
    assert list(outside.iterdir()) == []


def test_a_disk_that_cannot_be_read_is_not_mistaken_for_damage(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An I/O error while verifying raises; nothing is quarantined because of it."""

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(VersionStore, "_read", fail)
    with pytest.raises(OSError, match="Input/output"):
        Registry(tmp_path / "root").recover()
    monkeypatch.undo()
    assert registry.versions() == [1, 2]


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with real model files and metadata beside each."""
    folder = tmp_path / "models"
    monkeypatch.setattr("registry_life._real_models", [])  # first, so that undoing leaves the list it found, empty
    use_real_models(folder)
    monkeypatch.setattr("registry_life._real_models", [])
    for path in folder.glob("*.cbm"):
        write_metadata(path, features=["a", "b"])
    return folder


def write_metadata(path: Path, **changes: Any) -> None:
    """Write the metadata of a model file."""
    text = json.dumps({"features": ["a", "b"], "loss": "RMSE", "metrics": {"mae": 1.0}, **changes})
    path.with_name(f"{path.stem}_metadata.json").write_text(text)


@pytest.mark.catboost
def test_foreign_files_are_looked_at_in_a_child(real: Path, tmp_path: Path, big: bool) -> None:
    """Good .cbm and .joblib files deploy; anything else is refused by name, and this process lives on."""
    import joblib
    from catboost import CatBoostRegressor

    deployer = ModelDeployer(tmp_path / "root", Config(storage=StorageConfig(max_model_megabytes=1)))
    first, second = real / "0.cbm", real / "1.cbm"
    assert deployer.deploy(first)[0]
    model = CatBoostRegressor().load_model(str(second))
    dump = real / "dump.joblib"
    joblib.dump(model, dump)
    write_metadata(dump)
    assert deployer.deploy(dump)[0]
    exported = joblib.load(tmp_path / "root/data/models/rf_model.joblib")
    assert exported.predict([[1.0, 2.0]]) == model.predict([[1.0, 2.0]])
    head = deployer.registry.champion()
    bad = real / "bad.cbm"
    write_metadata(bad)
    good = first.read_bytes()
    chance = random.Random(1)
    attempts: list[bytes] = [b"", good[:100], good[: len(good) // 2], b"CBM1" + os.urandom(500), b"\x80\x04K\x01."]
    for _ in range(100 if big else 2):
        at = chance.randrange(len(good))
        attempts.append(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
    stated = {"notes": {"model_sha256": hashlib.sha256(good).hexdigest()}, "kind": "full", "created_at": 0.0}
    write_metadata(bad, **stated)
    for data in attempts:
        bad.write_bytes(data)
        success, message = deployer.deploy(bad)
        assert not success, message
    write_metadata(bad)
    for data in attempts[:5]:
        bad.write_bytes(data)
        success, message = deployer.deploy(bad)
        assert not success, message
    bad.unlink()
    os.mkfifo(bad)
    assert not deployer.deploy(bad)[0]
    bad.unlink()
    bad.symlink_to(first)
    assert not deployer.deploy(bad)[0]
    bad.unlink()
    bad.mkdir()
    assert not deployer.deploy(bad)[0]
    bad.rmdir()
    bad.write_bytes(good + bytes(2 << 20))
    assert "over the limit" in deployer.deploy(bad)[1]
    assert deployer.registry.champion() == head
    assert deployer.registry.verify() == []
