"""What others read: the champion as ``rf_model.joblib``, its metadata, and the history.

All of it is derived from the commits, rewritten from them, and never read back to decide anything. A crash between a commit and
its exports leaves old exports; `refresh` sees that and writes them again.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from demand_maint._storage.formats import MAX_JSON_BYTES, parse_json, sha256_hex
from demand_maint._storage.layout import EXPORT_HISTORY, EXPORT_METADATA, EXPORT_MODEL
from demand_maint._storage.registry import Registry
from demand_maint.core.versions import Commit
from demand_maint.errors import DamagedRegistryError, PathError

__all__ = ["Exports"]

Converter = Callable[[bytes], bytes]


class Exports:
    """Exports of one registry.

    Parameters
    ----------
    registry
        The truth.
    to_joblib
        Turns the bytes of a ``.cbm`` into those of a joblib dump.
    """

    __slots__ = ("_door", "_registry", "_to_joblib")

    def __init__(self, registry: Registry, to_joblib: Converter) -> None:
        self._registry = registry
        self._door = registry.door
        self._to_joblib = to_joblib

    def stale(self) -> list[str]:
        """Paths of the exports that do not show the newest commit."""
        head = self._registry.head()
        if head is None:
            return []
        stale: list[str] = []
        shown = self._read(EXPORT_METADATA)
        facts = shown if isinstance(shown, dict) else {}
        model = head.files[str(head.champion)].model if str(head.champion) in head.files else None
        if (facts.get("version"), facts.get("model_sha256")) != (head.champion, model):
            stale += [EXPORT_MODEL, EXPORT_METADATA]
        elif not self._is_file_of(EXPORT_MODEL, facts.get("joblib_bytes")):
            stale.append(EXPORT_MODEL)
        history = self._read(EXPORT_HISTORY)
        newest = history[-1] if isinstance(history, list) and history else None
        if not isinstance(newest, dict) or newest.get("number") != head.number:
            stale.append(EXPORT_HISTORY)
        return stale

    def refresh(self, *, everything: bool = False) -> list[str]:
        """Write the exports that are stale (or all of them); tell which."""
        head = self._registry.head()
        if head is None:
            return []
        wanted = [EXPORT_MODEL, EXPORT_METADATA, EXPORT_HISTORY] if everything else self.stale()
        if EXPORT_HISTORY in wanted:
            text = json.dumps(self._registry.history(), indent=2).encode() + b"\n"
            self._door.replace(EXPORT_HISTORY, text)
        if EXPORT_MODEL in wanted:
            self._write_model(head)
            wanted = [*dict.fromkeys([*wanted, EXPORT_METADATA])]
        return wanted

    def _write_model(self, head: Commit) -> None:
        version = self._registry.version(head.champion)
        dump = self._to_joblib(self._registry.model_bytes(head.champion))
        facts: dict[str, Any] = {
            "version": head.champion,
            "commit": head.number,
            "base_version": head.base,
            "model_sha256": version.hashes.model,
            "joblib_sha256": sha256_hex(dump),
            "joblib_bytes": len(dump),
            **json.loads(msgspec.json.encode(version.metadata)),
        }
        self._door.replace(EXPORT_MODEL, dump)
        # the metadata say which model lies beside them, so they come last
        self._door.replace(EXPORT_METADATA, json.dumps(facts, indent=2).encode() + b"\n")

    def _read(self, rel: str) -> Any:
        try:
            return parse_json(self._door.read_bytes(rel, MAX_JSON_BYTES), rel)
        except (OSError, PathError, DamagedRegistryError):
            return None

    def _is_file_of(self, rel: str, size: Any) -> bool:
        try:
            return not self._door.is_dir(rel) and self._door.entry(rel).st_size == size
        except OSError:
            return False
