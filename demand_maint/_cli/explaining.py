"""``explain``: why a decision was taken, and how a served value came about."""

import argparse
from typing import Any

from demand_maint._cli.answers import Answer, configuration, when
from demand_maint._cli.looking import decision_lines, evidence_lines, stamp
from demand_maint._storage.decisions import DecisionJournal
from demand_maint._storage.door import Door
from demand_maint.errors import ConfigError, DataError

__all__ = ["explain"]


def explain(arguments: argparse.Namespace) -> Answer:
    """Tell the newest decision, the one in force at a time, or the value served at a place."""
    settings = configuration(arguments)
    at = when(arguments.at, settings, "--at")
    if arguments.place is not None:
        if at is None:
            raise ConfigError("--place needs the slot: --at 2013-01-31T08:00.")
        return _served(arguments, at)
    newest: dict[str, Any] | None = None
    journal = DecisionJournal(Door(arguments.root))
    for entry in journal.read(until=None if at is None else at + 1e-6):
        if entry.get("type", "decision") == "decision":
            newest = entry
    if newest is None:
        raise DataError(
            f"No decision was taken in {arguments.root}{' before that' if at is not None else ''}. `demand-maint check` shows what would be decided now."
        )
    lines = [f"At {stamp(newest['at'])} maintenance decided:", *decision_lines(newest)]
    lines += [f"rule        {newest['rule']}", "evidence"]
    lines += list(evidence_lines(newest.get("evidence") or {})) or ["  none"]
    return Answer(newest, "\n".join(lines))


def _served(arguments: argparse.Namespace, at: float) -> Answer:
    raise DataError("Not yet.")
