"""Commit and metadata bytes are read strictly."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand_maint._storage import formats
from demand_maint.core.versions import METADATA_FORMAT, Baseline, Commit, FileHashes, ModelMetadata
from demand_maint.errors import DamagedRegistryError, NewerFormatError

COMMIT = Commit(
    number=3, action="deploy", at=1.5, champion=2, base=1, who="a", why="b\n", files={"2": FileHashes("m", "n")}
)
METADATA = ModelMetadata(features=("a", "b"), loss="RMSE", kind="full", created_at=0.0)


def test_a_commit_survives_its_bytes() -> None:
    """What is encoded is decoded, and the file is one JSON object that people can read."""
    data = formats.encode_commit(COMMIT)
    assert formats.decode_commit(data, "commit") == COMMIT
    assert json.loads(data)["commit"]["champion"] == 2


def test_every_flip_and_every_cut_of_a_commit_is_found() -> None:
    """No single-bit flip and no truncation of a commit is believed."""
    data = formats.encode_commit(COMMIT)
    bad = [data[:size] for size in range(len(data))]
    bad += [data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)]
    bad += [data + b" ", b" " + data, b""]
    for changed in bad:
        with pytest.raises(DamagedRegistryError):
            formats.decode_commit(changed, "commit")


@pytest.mark.parametrize(
    "text",
    [
        b'{"features": ["a"',
        b'{"features": ["a"], "loss": NaN}',
        b'{"features": ["a"], "loss": 1e999}',
        b'{"features": ["a"], "features": ["b"]}',
        b"[" * 100_000,
        b"[" * 40 + b"]" * 40,
        b'{"a":' * 200_000,
        b"\xff\xfe",
        b"",
        b"[]",
        b"null",
        b'{"features": "a", "loss": "RMSE", "kind": "full", "created_at": 0}',
        b'{"features": ["a"], "loss": "RMSE", "kind": "bogus", "created_at": 0}',
    ],
)
def test_malformed_metadata_is_refused_by_name(text: bytes) -> None:
    """Truncated, NaN, overflowing, duplicate, deep, foreign or misshapen JSON gives one typed error that names the file."""
    with pytest.raises(DamagedRegistryError, match=r"metadata\.json"):
        formats.decode_metadata(text, "metadata.json")


def test_metadata_of_a_newer_release_is_read_as_far_as_it_can_be() -> None:
    """Unknown fields of a newer format are passed over; a changed shape is named as newer, not as damaged."""
    tree = msgspec.to_builtins(METADATA) | {"format": 9, "surprise": 1}
    assert formats.decode_metadata(json.dumps(tree).encode(), "m").features == ("a", "b")
    tree["features"] = {"a": 1}
    with pytest.raises(NewerFormatError, match="format 9"):
        formats.decode_metadata(json.dumps(tree).encode(), "m")


def test_an_older_format_goes_through_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe keyed by the old format number turns old builtins into new ones before they are checked."""
    monkeypatch.setitem(formats.COMMIT_UPGRADES, 0, lambda tree: {**tree, "base": tree["champion"], "format": 1})
    body = json.dumps({"number": 1, "action": "deploy", "at": 0.0, "champion": 4, "format": 0}).encode()
    data = b'{"sha256":"' + formats.sha256_hex(body).encode() + b'","commit":' + body + b"}\n"
    assert formats.decode_commit(data, "c").base == 4


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_typed_error(data: bytes) -> None:
    """Whatever the bytes, reading them raises nothing but the typed error."""
    for read in (formats.decode_commit, formats.decode_metadata, formats.decode_sums):
        with contextlib.suppress(DamagedRegistryError, NewerFormatError):
            assert read(data, "file") is not None


def test_a_baseline_of_format_1_does_not_say_where_the_test_starts() -> None:
    """Its centre and scale were measured otherwise: they must be dropped, and all else kept."""
    tree = msgspec.to_builtins(METADATA) | {
        "baseline": {"mae": 2.0, "skill": 0.5, "log_centre": -0.1, "log_scale": 0.2, "log_days": 20},
        "format": 1,
    }
    found = formats.decode_metadata(json.dumps(tree).encode(), "m")
    assert found.baseline == Baseline(mae=2.0, skill=0.5)
    assert found.format == METADATA_FORMAT
    commit = {"number": 1, "action": "deploy", "at": 0.0, "champion": 4, "base": 4} | {
        "baseline": tree["baseline"],
        "format": 1,
    }
    body = json.dumps(commit).encode()
    data = b'{"sha256":"' + formats.sha256_hex(body).encode() + b'","commit":' + body + b"}\n"
    assert formats.decode_commit(data, "c").baseline == Baseline(mae=2.0, skill=0.5)
