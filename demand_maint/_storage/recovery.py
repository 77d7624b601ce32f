"""What a start does after anything: sweep, verify, set aside; and the same look without touching."""

from typing import TYPE_CHECKING

from demand_maint._storage.commits import earlier_champions
from demand_maint._storage.layout import (
    ARCHIVE,
    COMMITS,
    DECISIONS,
    LOGS,
    MODELS,
    QUARANTINE,
    STAGING,
    STATE,
    retired_number,
    version_dir,
)
from demand_maint.core.versions import COMMIT_FORMAT
from demand_maint.errors import LostRaceError, RegistryError
from demand_maint.log import get_logger

if TYPE_CHECKING:
    from demand_maint._storage.registry import Registry

__all__ = ["recover", "verify"]

_WHO = "recovery"
_log = get_logger("registry")


def recover(registry: "Registry") -> list[str]:
    """Bring a root back into order; see `Registry.recover`."""
    found = registry.log.set_damaged_aside()
    if registry.door.exists(COMMITS):
        registry.door.sync_dir(COMMITS)  # what is seen now is what everything after is built on
    _sweep(registry)
    found += _set_damaged_versions_aside(registry)
    for what in found:
        _log.error("set aside at start", what=what)
    return found


def verify(registry: "Registry") -> list[str]:
    """Everything that is wrong, in words; see `Registry.verify`."""
    log, door = registry.log, registry.door
    problems = [f"commit {number} is missing or damaged" for number in log.missing()]
    head = log.head()
    needed = registry.needed_versions()
    for number in sorted(needed | set(registry.versions())):
        try:
            fault = registry.store.fault(number, registry.committed_hashes(number))
        except RegistryError as error:
            fault = str(error)
        if fault is not None and (number in needed or door.exists(version_dir(number))):
            problems.append(f"version {number}: {fault}")
    if head is not None and head.format > COMMIT_FORMAT:
        problems.append(f"commit {head.number} was written by a newer release; the registry is read-only here")
    problems += [f"set aside earlier: {QUARANTINE}/{name}" for name in door.listdir(QUARANTINE)]
    return problems


def _sweep(registry: "Registry") -> None:
    door, store = registry.door, registry.store
    for name in door.listdir(ARCHIVE):
        number = retired_number(name)
        if number is None or door.exists(version_dir(number)) or number not in registry.needed_versions():
            continue
        store.restore(f"{ARCHIVE}/{name}", number)  # retention was cut short after a commit had named it
    states = [f"{STATE}/{name}" for name in door.listdir(STATE)]
    for rel in (".", "data", MODELS, ARCHIVE, COMMITS, QUARANTINE, STAGING, LOGS, DECISIONS, STATE, *states):
        if door.is_dir(rel):
            door.sweep(rel)


def _set_damaged_versions_aside(registry: "Registry") -> list[str]:
    head = registry.log.head()
    if head is None:
        return []
    found: list[str] = []
    damaged: set[int] = set()
    for number in sorted(registry.needed_versions()):
        try:
            fault = registry.store.fault(number, registry.committed_hashes(number))
        except RegistryError as error:
            if number in {head.champion, *(entry.version for entry in head.line_up)}:
                found.append(f"version {number} is gone: {error}")
                damaged.add(number)
            continue
        if fault is not None:
            found.append(f"{fault} Moved to {registry.store.quarantine(number)}.")
            damaged.add(number)
    if damaged:
        try:
            found += _serve_without(registry, damaged)
        except LostRaceError:  # another start is at it too, or somebody deployed: theirs stands
            _log.info("another process committed during recovery")
    return found


def _serve_without(registry: "Registry", damaged: set[int]) -> list[str]:
    """Commit what still stands: an earlier champion, or a line-up without the damaged members."""
    head = registry.champion()
    if head.champion in damaged:
        target = next((c for c in earlier_champions(registry.commits()) if registry.whole(c.champion)), None)
        if target is None:
            return [f"version {head.champion} served and is damaged, and nothing earlier is whole. Deploy a model."]
        commit = registry.rollback(who=_WHO, why=f"version {head.champion} is damaged on disk")
        return [f"version {commit.champion} serves again in its place (commit {commit.number})."]
    if not damaged & {entry.version for entry in head.line_up}:
        return []
    base = head.champion if head.base in damaged else head.base
    registry.commit(
        "discard",
        champion=head.champion,
        base=base,
        who=_WHO,
        why=f"damaged on disk: {sorted(damaged)}",
        line_up=lambda before: tuple(entry for entry in before.line_up if entry.version not in damaged),
        expect=head.number,
    )
    return []
