"""Who sits in the line-up after each change of it; commits carry the result."""

import math

from demand_maint.core.jobs import JobKind
from demand_maint.core.versions import Commit, LineUpEntry

__all__ = ["after_discard", "after_enter", "after_promotion", "after_settling", "first_line_up", "versions_of"]

DAY = 86400.0


def first_line_up(version: int, at: float) -> tuple[LineUpEntry, ...]:
    """Return the line-up of a root with one model."""
    return (LineUpEntry(version=version, role="champion", entered_at=at),)


def after_enter(
    head: Commit, version: int, kind: JobKind, at: float, replaces: tuple[int, ...] = ()
) -> tuple[LineUpEntry, ...]:
    """Return the line-up with one more candidate, and without those it `replaces`."""
    stays = tuple(entry for entry in head.line_up if entry.role != "candidate" or entry.version not in replaces)
    return (*stays, LineUpEntry(version=version, role="candidate", entered_at=at, kind=kind))


def after_discard(head: Commit, version: int) -> tuple[LineUpEntry, ...]:
    """Return the line-up without that candidate."""
    return tuple(entry for entry in head.line_up if entry.role != "candidate" or entry.version != version)


def after_settling(head: Commit) -> tuple[LineUpEntry, ...]:
    """Return the line-up without the previous champion: probation is over."""
    return tuple(entry for entry in head.line_up if entry.role != "previous")


def after_promotion(head: Commit, version: int, base: int, at: float, probation_days: float) -> tuple[LineUpEntry, ...]:
    """Return the line-up under a new champion: its base where that is another, the previous champion on call, the other candidates.

    A full retrain, one that is its own base, ends the candidacy of fine-tunes: they continue a base that serves no longer.
    """
    full = base == version
    seats = [LineUpEntry(version=version, role="champion", entered_at=at, kind="full" if full else "fine_tune")]
    if probation_days > 0 and head.champion != version:
        until = at + probation_days * DAY
        seats.append(LineUpEntry(version=head.champion, role="previous", entered_at=at, until=until))
    if base not in {version, head.champion} or (not full and probation_days == 0):
        seats.append(LineUpEntry(version=base, role="base", entered_at=at))
    seats += [
        entry
        for entry in head.line_up
        if entry.role == "candidate" and entry.version not in {version, base} and (not full or entry.kind == "full")
    ]
    return tuple(seats)


def versions_of(commit: Commit, now: float = -math.inf) -> tuple[int, ...]:
    """Versions that predict every row at `now`: the champion first, the newest candidates, the previous champion, the base.

    Who comes late in this order is the first to lose a seat where there are too many.

    >>> from demand_maint.core.versions import Commit
    >>> versions_of(Commit(number=1, action="init", at=0.0, champion=3, base=1))
    (3, 1)
    """
    order = ("champion", "candidate", "previous", "base")
    seated = [entry for entry in commit.line_up if entry.until is None or entry.until > now]
    seated.sort(key=lambda entry: (order.index(entry.role), -entry.entered_at))
    return tuple(dict.fromkeys((commit.champion, *(entry.version for entry in seated), commit.base)))
