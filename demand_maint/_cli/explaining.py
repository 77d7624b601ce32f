"""``explain``: why a decision was taken, and how a served value came about."""

import argparse
from pathlib import Path
from typing import Any

from demand_maint._cli.answers import Answer, configuration, when
from demand_maint._storage.decisions import DecisionJournal
from demand_maint._storage.door import Door
from demand_maint.clock import SystemClock
from demand_maint.config import Config
from demand_maint.core.status_words import decision_lines, evidence_lines, iso
from demand_maint.errors import ConfigError, DataError

__all__ = ["explain"]


def explain(arguments: argparse.Namespace) -> Answer:
    """Tell the newest decision, the one in force at a time, or the value served at a place."""
    settings = configuration(arguments)
    at = when(arguments.at, settings, "--at")
    if arguments.place is not None:
        if at is None:
            raise ConfigError("--place needs the slot: --at 2013-01-31T08:00.")
        return _served(arguments, settings, at)
    newest: dict[str, Any] | None = None
    journal = DecisionJournal(Door(arguments.root))
    for entry in journal.read(until=None if at is None else at + 1e-6):
        if entry.get("type", "decision") == "decision":
            newest = entry
    if newest is None:
        raise DataError(
            f"No decision was taken in {Path(arguments.root).absolute()}{' before that' if at is not None else ''}. `demand-maint check` shows what would be decided now."
        )
    lines = [f"At {iso(newest['at'])} maintenance decided:", *decision_lines(newest)]
    lines += [f"rule        {newest['rule']}", "evidence"]
    lines += list(evidence_lines(newest.get("evidence") or {})) or ["  none"]
    return Answer(newest, "\n".join(lines))


def _served(arguments: argparse.Namespace, settings: Config, at: float) -> Answer:
    """Take a served value apart, from its journal row and the serving snapshot that the row names."""
    import numpy as np

    from demand_maint._storage.observation_frames import row_batch
    from demand_maint._storage.observation_store import ObservationStore
    from demand_maint.core.timegrid import TimeGrid

    grid = TimeGrid(settings.zone, settings.step_seconds)
    slot = int(grid.floor([at])[0])
    store = ObservationStore(Door(arguments.root), settings, grid)
    store.open()
    store.drain(SystemClock().now(), lead=False, gentle=False)
    batch = row_batch(store, slot, slot + 1)
    names = [store.places[code] for code in batch.place.tolist()]
    found = [row for row, name in enumerate(names) if str(name) == arguments.place]
    if not found:
        raise DataError(
            f"Nothing was predicted for place {arguments.place!r} and the slot {iso(slot)}. Known there: {_some(names)}."
        )
    row = found[-1]
    facts: dict[str, Any] = {
        "place": names[row],
        "slot": iso(slot),
        "version": int(batch.version[row]),
        "predicted": float(batch.predicted[row]),
        "served": float(batch.served[row]),
        "actual": float(batch.actual[row]),
        "snapshot": int(batch.snapshot[row]),
    }
    who = f"champion version {facts['version']}" if facts["version"] else "a model of unknown version"
    lines = [f"Slot {iso(slot)}: {who} predicted {facts['predicted']:.6g}."]
    if np.isfinite(facts["actual"]):
        lines.append(f"What really happened: {facts['actual']:.6g}.")
    if not facts["snapshot"]:
        lines.append(f"Served was {facts['served']:.6g}, the champion's own value; no line-up took part.")
        return Answer(facts, "\n".join(lines))
    told = _by_line_up(arguments.root, facts, batch.members[row])
    return Answer(facts, "\n".join([*lines, told]))


def _by_line_up(root: str, facts: dict[str, Any], raw: Any) -> str:
    from demand_maint._storage.serving_store import serving_store
    from demand_maint.core.serving import ServingSnapshot
    from demand_maint.core.serving import explain as take_apart

    payload = serving_store(Door(root)).load(facts["snapshot"])
    if payload is None:
        return f"Served was {facts['served']:.6g}, by serving snapshot {facts['snapshot']}, which is no longer kept."
    explanation = take_apart(ServingSnapshot.decode(payload), facts["place"], raw)
    facts["reproduced"] = explanation.served
    facts["exact"] = explanation.served == facts["served"]
    facts["shares"] = [
        {"member": share.member.name, "weight": share.weight, "value": share.value, "level": share.level}
        for share in explanation.shares
    ]
    return explanation.text


def _some(names: list[Any], limit: int = 8) -> str:
    distinct = list(dict.fromkeys(map(str, names)))
    shown = ", ".join(distinct[:limit])
    return (
        "nothing" if not distinct else shown if len(distinct) <= limit else f"{shown} and {len(distinct) - limit} more"
    )
