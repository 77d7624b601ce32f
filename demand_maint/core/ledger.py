"""What maintenance has tried, and what the registry says was done: the memory behind the rules.

Dates and counts of deployed models are facts of the commits (`LedgerFacts`); attempts are kept in `MaintenanceLedger`, the
content of ``logs/model_manager_state.json``. Only facts are stored: cooldowns follow from them and from the policy of the
moment, so a changed setting holds at once. Format 1 is the first.
"""

from collections.abc import Iterable
from typing import Literal, Self

from msgspec import Struct, structs

from demand_maint.config import PolicyConfig
from demand_maint.core.versions import Commit

__all__ = [
    "LEDGER_FORMAT",
    "Attempt",
    "AttemptKind",
    "AttemptOutcome",
    "Checked",
    "DriftSeen",
    "LedgerEvent",
    "LedgerFacts",
    "MaintenanceLedger",
    "Settled",
    "Started",
]

LEDGER_FORMAT = 1
DAY = 86400.0
HOUR = 3600.0
WEEK = 7 * DAY
#: Attempts older than this, seconds, are forgotten.
MEMORY = 400 * DAY
#: The longest pause after repeated failures, seconds.
LONGEST_BACKOFF = 7 * DAY

AttemptKind = Literal["fine_tune", "full"]
AttemptOutcome = Literal["running", "entered", "accepted", "rejected", "failed", "cancelled", "expired"]

_FINAL = frozenset({"accepted", "rejected", "failed", "cancelled", "expired"})


class Attempt(Struct, frozen=True, kw_only=True):
    """One training, from its start to what became of its challenger.

    Parameters
    ----------
    at
        When it began, epoch seconds.
    settled_at
        When the last `outcome` was known.
    rule
        Name of the rule behind it, ``force`` for an operator's.
    newest_row
        Newest truth that was known when it began, epoch seconds.
    forced
        An operator asked for it; it is remembered, and it counts in the weekly budget.
    """

    at: float
    kind: AttemptKind
    outcome: AttemptOutcome = "running"
    rule: str = ""
    reason: str = ""
    settled_at: float | None = None
    newest_row: float | None = None
    forced: bool = False
    version: int | None = None


class Checked(Struct, frozen=True):
    """A check came to its end."""


class Started(Struct, frozen=True, kw_only=True):
    """A training begins."""

    kind: AttemptKind
    rule: str = ""
    newest_row: float | None = None
    forced: bool = False


class Settled(Struct, frozen=True, kw_only=True):
    """The newest attempt of `kind` that is still open, or of `version` where given, came to `outcome`."""

    kind: AttemptKind
    outcome: AttemptOutcome
    reason: str = ""
    version: int | None = None


class DriftSeen(Struct, frozen=True):
    """Whether this check found the champion drifting; the first ``False`` ends the episode."""

    drifting: bool


LedgerEvent = Checked | Started | Settled | DriftSeen


class MaintenanceLedger(Struct, frozen=True, kw_only=True):
    """Attempts and the last check; every change returns a new ledger.

    >>> ledger = MaintenanceLedger().after(Started(kind="fine_tune"), 100.0)
    >>> ledger.after(Settled(kind="fine_tune", outcome="rejected"), 160.0).attempts[-1].outcome
    'rejected'
    """

    attempts: tuple[Attempt, ...] = ()
    last_check_at: float | None = None
    drift_since: float | None = None
    format: int = LEDGER_FORMAT

    def after(self, event: LedgerEvent, at: float) -> Self:
        """Return the ledger after `event` at `at` (epoch seconds)."""
        match event:
            case Checked():
                return structs.replace(self, last_check_at=at)
            case DriftSeen(drifting):
                since = (self.drift_since if self.drift_since is not None else at) if drifting else None
                return self if since == self.drift_since else structs.replace(self, drift_since=since)
            case Started(kind=kind, rule=rule, newest_row=newest_row, forced=forced):
                attempt = Attempt(at=at, kind=kind, rule=rule, newest_row=newest_row, forced=forced)
                kept = tuple(old for old in self.attempts if old.at >= at - MEMORY)
                return structs.replace(self, attempts=(*kept, attempt))
            case Settled():
                return self._settled(event, at)

    def recovered(self, at: float) -> Self:
        """Return the ledger after a restart: an attempt that was running when the process died has failed."""
        attempts = tuple(
            structs.replace(a, outcome="failed", reason="interrupted", settled_at=at) if a.outcome == "running" else a
            for a in self.attempts
        )
        return self if attempts == self.attempts else structs.replace(self, attempts=attempts)

    @property
    def running(self) -> Attempt | None:
        """The training that is on its way now."""
        return next((a for a in reversed(self.attempts) if a.outcome == "running"), None)

    @property
    def failures(self) -> int:
        """Trainings that failed in a row, up to now."""
        count = 0
        for attempt in reversed(self.attempts):
            if attempt.outcome == "failed":
                count += 1
            elif attempt.outcome in {"entered", "accepted", "rejected", "expired"}:
                break
        return count

    def trainings_since(self, at: float) -> int:
        """Trainings begun at or after `at`; cancelled ones do not count."""
        return sum(1 for a in self.attempts if a.at >= at and a.outcome != "cancelled")

    def last(self, kind: AttemptKind | None = None, outcomes: Iterable[AttemptOutcome] | None = None) -> Attempt | None:
        """Return the newest attempt of that kind with one of those outcomes."""
        wanted = None if outcomes is None else frozenset(outcomes)
        return next(
            (
                a
                for a in reversed(self.attempts)
                if (kind is None or a.kind == kind) and (wanted is None or a.outcome in wanted)
            ),
            None,
        )

    def backoff_until(self, policy: PolicyConfig) -> float | None:
        """End of the pause after failures: the cooldown, doubled with every further failure, at most a week."""
        last = self.last(outcomes=("failed",))
        failures = self.failures
        if last is None or failures == 0 or policy.cooldown_hours == 0:
            return None
        pause = min(
            policy.cooldown_hours * HOUR * 2.0 ** min(failures - 1, 20),
            max(LONGEST_BACKOFF, policy.cooldown_hours * HOUR),
        )
        return (last.settled_at or last.at) + pause

    def cooldown_until(self, policy: PolicyConfig) -> float | None:
        """End of the pause after any training."""
        last = next((a for a in reversed(self.attempts) if a.outcome != "cancelled"), None)
        if last is None or policy.cooldown_hours == 0:
            return None
        return last.at + policy.cooldown_hours * HOUR

    def rejection_until(self, kind: AttemptKind, policy: PolicyConfig) -> float | None:
        """End of the pause after a challenger of `kind` was rejected; an accepted one of that kind since then ends it."""
        last = self.last(kind, ("rejected", "accepted"))
        if last is None or last.outcome == "accepted" or policy.rejection_cooldown_days == 0:
            return None
        return (last.settled_at or last.at) + policy.rejection_cooldown_days * DAY

    def fine_tunes_in_episode(self) -> int:
        """Fine-tunes begun since the drift of now was first seen; failed and cancelled ones do not count."""
        if self.drift_since is None:
            return 0
        return sum(
            1
            for a in self.attempts
            if a.kind == "fine_tune"
            and a.at >= self.drift_since
            and a.outcome not in {"failed", "cancelled", "running"}
        )

    def _settled(self, event: Settled, at: float) -> Self:
        attempts = list(self.attempts)
        for index in range(len(attempts) - 1, -1, -1):
            attempt = attempts[index]
            if event.version is not None and attempt.version is not None:
                matches = attempt.version == event.version
            else:
                matches = attempt.kind == event.kind and attempt.outcome not in _FINAL
            if matches:
                attempts[index] = structs.replace(
                    attempt,
                    outcome=event.outcome,
                    reason=event.reason,
                    settled_at=at,
                    version=event.version if event.version is not None else attempt.version,
                )
                return structs.replace(self, attempts=tuple(attempts))
        return self


class LedgerFacts(Struct, frozen=True, kw_only=True):
    """What the commits say about the champion's history; nothing here is lost with the ledger's file.

    Parameters
    ----------
    promoted_at
        Since when the champion serves, epoch seconds.
    last_full_retrain_at
        When the champion's base was trained: when it entered the line-up, else when it was first promoted.
    last_update_at
        The same of the newest model that was promoted, rollbacks not counted.
    last_rollback_at
        When a rollback last put an earlier champion back.
    fine_tunes
        Fine-tunes of that base that were promoted or entered the line-up.
    """

    champion: int | None = None
    base: int | None = None
    promoted_at: float | None = None
    last_full_retrain_at: float | None = None
    last_update_at: float | None = None
    last_rollback_at: float | None = None
    fine_tunes: int = 0

    @classmethod
    def from_commits(cls, commits: Iterable[Commit]) -> Self:
        """Read the facts out of `commits`, oldest first."""
        head: Commit | None = None
        promoted_at: float | None = None
        last_update_at: float | None = None
        last_rollback_at: float | None = None
        entered: dict[int, float] = {}
        tuned: set[int] = set()
        first_seen: dict[int, float] = {}
        for commit in commits:
            if commit.action == "enter" and commit.subject is not None:
                entered[commit.subject] = commit.at
                tuned |= {e.version for e in commit.line_up if e.version == commit.subject and e.kind == "fine_tune"}
            elif commit.action in {"init", "adopt", "deploy", "promote"}:
                promoted_at = commit.at
                last_update_at = entered.get(commit.champion, commit.at)
                first_seen.setdefault(commit.champion, last_update_at)
            elif commit.action == "rollback":
                promoted_at = last_rollback_at = commit.at
            if head is not None and commit.base != head.base:
                tuned.clear()
            elif commit.action in {"deploy", "promote"} and commit.champion != commit.base:
                tuned.add(commit.champion)
            head = commit
        if head is None:
            return cls()
        return cls(
            champion=head.champion,
            base=head.base,
            promoted_at=promoted_at,
            last_full_retrain_at=first_seen.get(head.base),
            last_update_at=last_update_at,
            last_rollback_at=last_rollback_at,
            fine_tunes=max(head.fine_tunes, len(tuned)),
        )
