"""How a commit, a model's metadata and a snapshot look as bytes.

A commit is one JSON object with its checksum in front: ``{"sha256":"<64 hex>","commit":{...}}``. The checksum is over the very
bytes of the inner object, so a flipped bit is found before anything is believed. Metadata is plain JSON; its sha256 stands in
the commit. Reading is strict: no NaN, no duplicate keys, no deep nesting, nothing over the size cap.

Upgrading: `COMMIT_UPGRADES[n]` turns the builtins of a commit of format n into format n+1, and likewise for metadata. From 1
to 2 a baseline loses where the sequential test starts, which was measured otherwise: the first days of service tell it. A format
above ours is read as far as it can be and never written over.
"""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from demand_maint.core.versions import (
    COMMIT_FORMAT,
    METADATA_FORMAT,
    Commit,
    FileHashes,
    LineUpEntry,
    ModelMetadata,
)
from demand_maint.errors import DamagedRegistryError, NewerFormatError

__all__ = [
    "COMMIT_UPGRADES",
    "MAX_JSON_BYTES",
    "METADATA_UPGRADES",
    "decode_commit",
    "decode_metadata",
    "decode_sums",
    "encode_commit",
    "encode_metadata",
    "encode_sums",
    "parse_json",
    "sha256_hex",
]

MAX_JSON_BYTES: Final = 16 << 20
MAX_DEPTH: Final = 32
_HEAD: Final = b'{"sha256":"'
_MIDDLE: Final = b'","commit":'
_TAIL: Final = b"}\n"
_BODY_AT: Final = len(_HEAD) + 64 + len(_MIDDLE)

T = TypeVar("T")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


def _without_start(tree: dict[str, Any]) -> dict[str, Any]:
    """Take from a commit or metadata where the sequential test was to start."""
    baseline = tree.get("baseline")
    if isinstance(baseline, dict):
        tree = tree | {"baseline": baseline | {"log_centre": None, "log_scale": None, "log_days": 0}}
    return tree | {"format": 2}


COMMIT_UPGRADES: dict[int, Upgrade] = {1: _without_start}
METADATA_UPGRADES: dict[int, Upgrade] = {1: _without_start}


class _NewerCommit(Struct, frozen=True):
    """The part of a commit that every format has to keep, so that an older release can still serve."""

    number: int
    champion: int
    base: int
    at: float = 0.0
    previous: int | None = None
    who: str = ""
    why: str = ""
    files: dict[str, FileHashes] = {}
    format: int = COMMIT_FORMAT


def sha256_hex(data: bytes) -> str:
    """Return the sha256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def parse_json(data: bytes, what: str, limit: int = MAX_JSON_BYTES) -> Any:
    """Parse JSON strictly.

    Raises
    ------
    DamagedRegistryError
        Too large, not UTF-8, not JSON, NaN or infinity, a key twice in one object, or nested too deeply; `what` names the file.
    """
    if len(data) > limit:
        raise DamagedRegistryError(f"{what} has {len(data)} bytes, over the limit of {limit}.")
    try:
        tree = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise DamagedRegistryError(f"{what} is no valid JSON: {error}") from None
    if _depth(tree) > MAX_DEPTH:
        raise DamagedRegistryError(f"{what} is nested more than {MAX_DEPTH} deep.")
    return tree


def encode_commit(commit: Commit) -> bytes:
    """Bytes of a commit file."""
    body = msgspec.json.encode(_finite_builtins(commit))
    return _HEAD + sha256_hex(body).encode() + _MIDDLE + body + _TAIL


def decode_commit(data: bytes, what: str) -> Commit:
    """Commit of a file's bytes; one of a newer format has its `format` above ours and no line-up.

    Raises
    ------
    DamagedRegistryError
        These are not the bytes that were written.
    """
    body = data[_BODY_AT : -len(_TAIL)]
    frame = _HEAD + sha256_hex(body).encode() + _MIDDLE + body + _TAIL
    if len(data) <= _BODY_AT or frame != data:
        raise DamagedRegistryError(f"{what} is not what was written (checksum differs).")
    tree = parse_json(body, what)
    if isinstance(tree, dict) and isinstance(tree.get("format"), int) and tree["format"] > COMMIT_FORMAT:
        return _decode_newer(tree, what)
    return _convert(_upgraded(tree, COMMIT_UPGRADES, COMMIT_FORMAT), Commit, what)


def encode_metadata(metadata: ModelMetadata) -> bytes:
    """Bytes of a ``metadata.json``, readable by people."""
    return msgspec.json.format(msgspec.json.encode(_finite_builtins(metadata)), indent=2) + b"\n"


def decode_metadata(data: bytes, what: str) -> ModelMetadata:
    """Metadata of a version of ours.

    Raises
    ------
    DamagedRegistryError
        Malformed.
    NewerFormatError
        Written by a newer release in a way this one cannot read.
    """
    tree = parse_json(data, what)
    newer = isinstance(tree, dict) and isinstance(tree.get("format"), int) and tree["format"] > METADATA_FORMAT
    try:
        return _convert(_upgraded(tree, METADATA_UPGRADES, METADATA_FORMAT), ModelMetadata, what)
    except DamagedRegistryError as error:
        if newer:
            raise NewerFormatError(f"{what} has format {tree['format']}: {error} Upgrade demand-maint.") from None
        raise


def encode_sums(sums: dict[str, str]) -> bytes:
    """Bytes of a ``SHA256SUMS`` file, as `sha256sum -c` reads it."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def decode_sums(data: bytes, what: str) -> dict[str, str]:
    """File name to sha256 of a ``SHA256SUMS`` file."""
    sums: dict[str, str] = {}
    for line in data.decode("utf-8", errors="replace").splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64:
            raise DamagedRegistryError(f"{what} is damaged: {line[:80]!r} is no checksum line.")
        sums[name] = digest
    return sums


def _decode_newer(tree: dict[str, Any], what: str) -> Commit:
    core = _convert(tree, _NewerCommit, what)
    try:  # most of a newer commit is still ours
        line_up = msgspec.convert(tree.get("line_up", ()), tuple[LineUpEntry, ...])
    except msgspec.ValidationError:
        line_up = ()
    return Commit(
        number=core.number,
        action="deploy",
        at=core.at,
        champion=core.champion,
        base=core.base,
        previous=core.previous,
        who=core.who,
        why=core.why,
        files=core.files,
        line_up=line_up,
        format=core.format,
    )


def _upgraded(tree: Any, recipes: dict[int, Upgrade], newest: int) -> Any:
    if not isinstance(tree, dict):
        return tree
    number = tree.get("format", 1)
    while isinstance(number, int) and number < newest and number in recipes:
        tree = recipes[number](tree)
        number += 1
    return tree


def _convert(tree: Any, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise DamagedRegistryError(f"{what} does not have the shape it should: {error}") from None


def _finite_builtins(value: Any) -> Any:
    tree = msgspec.to_builtins(value)
    _check_finite(tree, "")
    return tree


def _check_finite(tree: Any, path: str) -> None:
    if isinstance(tree, float) and not math.isfinite(tree):
        raise ValueError(f"{path or 'value'} is {tree}; only finite numbers are kept. Leave it out or use None.")
    if isinstance(tree, dict):
        for key, inner in tree.items():
            _check_finite(inner, f"{path}.{key}")
    elif isinstance(tree, list | tuple):
        for at, inner in enumerate(tree):
            _check_finite(inner, f"{path}[{at}]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _depth(tree: Any) -> int:
    deepest, level = 0, [tree]
    while level and deepest <= MAX_DEPTH:
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        deepest += bool(level)
    return deepest
