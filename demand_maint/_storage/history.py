"""Commits as people read them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from demand_maint.core.versions import Commit

__all__ = ["describe", "history_line", "reign_began"]


def describe(commit: Commit) -> dict[str, Any]:
    """Return one commit as people read it."""
    files = commit.files.get(str(commit.champion))
    entry: dict[str, Any] = {
        "number": commit.number,
        "at": datetime.fromtimestamp(commit.at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "action": commit.action,
        "version": commit.champion,
        "base": commit.base,
        "previous": commit.previous,
        "who": commit.who,
        "why": commit.why,
        "verdict": json.loads(msgspec.json.encode(commit.verdict)) if commit.verdict else None,
        "model_sha256": files.model if files else None,
        "metadata_sha256": files.metadata if files else None,
        "baseline_mae": commit.baseline.mae if commit.baseline else None,
        "fine_tunes": commit.fine_tunes,
        "line_up": [entry.version for entry in commit.line_up],
    }
    if commit.subject is not None:
        entry["subject"] = commit.subject
    return entry


def history_line(entry: dict[str, Any]) -> str:
    """Return one entry of `Registry.history` on one line."""
    verdict = entry["verdict"]["verdict"] if entry["verdict"] else "-"
    said = " ".join(f"{entry['who']}: {entry['why']}".split())
    action = f"{entry['action']} {entry['subject']}" if "subject" in entry else entry["action"]  # as in "enter 7"
    return f"{entry['number']:>5}  {entry['at']}  {action:<10} version {entry['version']:<5} {verdict:<12} {said}"


def reign_began(commits: Sequence[Commit]) -> Commit:
    """Return the commit with which the newest champion came to power (`commits` oldest first, at least one)."""
    first = commits[-1]
    for commit in reversed(commits):
        if commit.champion != first.champion:
            break
        first = commit
    return first
