"""One maintenance cycle, written once for three drivers.

Rule 1: everything about the *order* of maintenance lives here; nothing here touches a file, a clock or a loop.
Rule 2: the generator yields a step and receives what came of it; it never asks who carries it out.
Rule 3: at most one training decision and at most one change of champion per cycle.
Rule 4: live truth speaks first. A regression is taken back and a proven candidate promoted before anything is trained.
Rule 5: a cycle always ends in a `CycleResult`; only the driver's own faults are exceptions.

`HybridModelManager` drives it blocking, `MaintenanceRuntime` in asyncio, the replay in virtual time.
"""

from collections.abc import Generator
from typing import Any, Literal

from msgspec import Struct, field

from demand_maint.core.jobs import JobKind, TrainingOutcome
from demand_maint.core.policy import Decision
from demand_maint.core.versions import GateVerdict

__all__ = [
    "STATUSES",
    "Agenda",
    "Cycle",
    "CycleResult",
    "Discard",
    "Enter",
    "Evaluate",
    "Failed",
    "Promote",
    "Promoted",
    "Rollback",
    "Settle",
    "Standing",
    "Step",
    "Train",
    "Vetoed",
    "maintenance_cycle",
]

# every status a cycle can end in, and what it means: the README and `--help` read this table
STATUSES: dict[str, str] = {
    "no_action": "no rule asked for anything",
    "blocked": "a rule asked for a training; a cooldown, the budget, a feed fault or missing rows forbade it",
    "advised": "a rule asked for a training; this tier only advises",
    "candidate": "a challenger was trained and entered the line-up; live truth will decide",
    "deployed": "a new champion serves",
    "rejected": "a challenger did not earn its place; the champion stays",
    "rolled_back": "a regression was taken back; an earlier champion serves",
    "vetoed": "a veto hook refused the promotion; the champion stays",
    "failed": "no challenger came out of the training; the champion stays",
    "running": "a training is under way; its outcome comes with a later result",
    "cancelled": "the process that trained was closing; the champion stays",
    "busy": "another process maintains this root",
}


class Standing(Struct, frozen=True, kw_only=True):
    """What live truth says of one member of the line-up.

    For the role ``candidate`` the verdict compares it with the champion; for ``previous`` it compares the champion on probation
    with its predecessor, so that ``worse`` means the champion has to go.
    """

    version: int
    role: Literal["candidate", "previous"]
    kind: JobKind
    verdict: GateVerdict
    expired: bool = False


class Agenda(Struct, frozen=True, kw_only=True):
    """All a cycle needs to know, assessed by its driver at `now` (epoch seconds).

    `live` tells whether predictions go through a `ModelHandle`, so that a line-up can judge; `holdout_since` is where the gate's
    holdout begins, ``None`` where too few days have their truth yet; `forced` is an operator's wish; `rollbacks_left` is what remains of
    the month's automatic rollbacks; `advise` decides and tells, and changes nothing.
    """

    now: float
    decision: Decision
    promotion: Literal["live", "gate", "metadata"]
    live: bool
    holdout_since: float | None = None
    forced: bool = False
    matured_days: int = 7
    standings: tuple[Standing, ...] = ()
    rollbacks_left: int = 3
    advise: bool = False


class Train(Struct, frozen=True, kw_only=True):
    """Fit a challenger; rows from `train_until` on are held out (``None`` trains on all). Answer: `TrainingOutcome` or `Failed`.

    Unless `measured`, the fit that only measures the newest rows is left out: live truth will tell.
    """

    kind: JobKind
    train_until: float | None = None
    measured: bool = True


class Evaluate(Struct, frozen=True, kw_only=True):
    """Compare a challenger with the champion by `method`. Answer: `GateVerdict`."""

    challenger: TrainingOutcome
    kind: JobKind
    method: Literal["gate", "metadata"]
    since: float | None = None


class Enter(Struct, frozen=True, kw_only=True):
    """Let a challenger into the line-up as candidate, in place of undecided ones of its kind. Answer: its version number."""

    challenger: TrainingOutcome
    kind: JobKind
    why: str
    replaces: tuple[int, ...] = ()


class Promote(Struct, frozen=True, kw_only=True):
    """Make a challenger, or a candidate that already has a version, champion. Answer: `Promoted` or `Vetoed`."""

    kind: JobKind
    verdict: GateVerdict
    why: str
    challenger: TrainingOutcome | None = None
    version: int | None = None


class Discard(Struct, frozen=True, kw_only=True):
    """Drop a challenger or a candidate. Answer: ``None``."""

    kind: JobKind
    verdict: GateVerdict
    challenger: TrainingOutcome | None = None
    version: int | None = None
    expired: bool = False


class Rollback(Struct, frozen=True, kw_only=True):
    """Take the champion back. Answer: the version that serves now."""

    verdict: GateVerdict


class Settle(Struct, frozen=True, kw_only=True):
    """The champion passed its probation: its predecessor leaves the line-up. Answer: ``None``."""

    version: int


class Failed(Struct, frozen=True, kw_only=True):
    """No challenger came out; `reason` as in `TrainingFailedError`."""

    reason: str
    detail: str


class Promoted(Struct, frozen=True, kw_only=True):
    """The version that serves now."""

    version: int


class Vetoed(Struct, frozen=True, kw_only=True):
    """A veto hook refused, and said why."""

    reason: str


Step = Train | Evaluate | Enter | Promote | Discard | Rollback | Settle


class CycleResult(Struct, frozen=True, kw_only=True):
    """What a cycle came to; `status` is a key of `STATUSES`."""

    status: str
    action: str
    rule: str
    reason: str
    verdict: GateVerdict | None = None
    version: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


Cycle = Generator[Step, Any, CycleResult]


def maintenance_cycle(agenda: Agenda) -> Cycle:
    """Yield the steps of one cycle; return what it came to."""
    settled = yield from _hear_live_truth(agenda)
    if settled is not None:
        return settled
    decision = agenda.decision
    kind = decision.action.kind
    if decision.blocked_by is not None:
        return _result(agenda, "advised" if decision.blocked_by == "advise" else "blocked")
    if kind is None:
        return _result(agenda, "no_action")
    if agenda.advise:
        return _result(agenda, "advised")
    return (yield from _train(agenda, kind))


def _hear_live_truth(agenda: Agenda) -> Cycle | Generator[Step, Any, CycleResult | None]:
    for standing in agenda.standings:
        if standing.role != "previous":
            continue
        if standing.verdict.verdict == "worse" and agenda.rollbacks_left > 0 and not agenda.advise:
            version = yield Rollback(verdict=standing.verdict)
            return _own_result("rolled_back", "probation", "live truth shows a regression", standing.verdict, version)
        if standing.verdict.verdict == "worse":
            return _own_result(
                "advised",
                "probation",
                "live truth shows a regression; roll back by hand",
                standing.verdict,
                standing.version,
            )
        if standing.expired:
            yield Settle(version=standing.version)
    for standing in agenda.standings:
        if standing.role != "candidate":
            continue
        verdict = standing.verdict
        if verdict.verdict == "not_worse" and not agenda.advise:
            return (
                yield from _promote(
                    Promote(
                        kind=standing.kind,
                        verdict=verdict,
                        version=standing.version,
                        why="line-up: proved itself on live truth",
                    )
                )
            )
        if verdict.verdict == "worse" or standing.expired:
            yield Discard(kind=standing.kind, verdict=verdict, version=standing.version, expired=standing.expired)
            why = "live truth shows it is worse" if verdict.verdict == "worse" else "undecided for too long"
            return _own_result("rejected", "line-up", why, verdict, standing.version)
    return None


def _train(agenda: Agenda, kind: JobKind) -> Cycle:
    live = agenda.promotion == "live" and agenda.live
    gated = agenda.promotion != "metadata" and not live
    if gated and agenda.holdout_since is None:
        if not agenda.forced:
            why = f"the champion needs {agenda.matured_days} days with truth before a challenger can be judged"
            return _result(agenda, "blocked", reason=f"{agenda.decision.reason}; held back: {why}")
        gated = False  # an operator's wish without live truth: the metadata are compared, and the verdict says so
    holdout = agenda.holdout_since if gated else None
    outcome = yield Train(kind=kind, train_until=holdout, measured=not (live and kind == "full"))
    if isinstance(outcome, Failed):
        return _result(agenda, "failed", reason=f"{agenda.decision.reason}; {outcome.reason}: {outcome.detail}")
    if live:
        version = yield Enter(challenger=outcome, kind=kind, why=_why(agenda), replaces=_replaced(agenda, kind))
        return _result(agenda, "candidate", version=version)
    verdict: GateVerdict = yield Evaluate(
        challenger=outcome, kind=kind, method="gate" if gated else "metadata", since=holdout
    )
    # metadata proves nothing, it only compares
    if verdict.verdict not in ({"not_worse"} if gated else {"not_worse", "unproven"}):
        yield Discard(kind=kind, verdict=verdict, challenger=outcome)
        return _result(agenda, "rejected", verdict=verdict)
    if gated:  # the one that was judged has not seen the newest days; the one that serves should
        outcome = yield Train(kind=kind)
        if isinstance(outcome, Failed):
            return _result(
                agenda,
                "failed",
                reason=f"{agenda.decision.reason}; {outcome.reason}: {outcome.detail}",
                verdict=verdict,
            )
    promoted = yield from _promote(Promote(kind=kind, verdict=verdict, challenger=outcome, why=_why(agenda)))
    return _result(agenda, promoted.status, reason=promoted.reason, verdict=verdict, version=promoted.version)


def _why(agenda: Agenda) -> str:
    return f"{agenda.decision.rule}: {agenda.decision.reason}"


def _promote(step: Promote) -> Cycle:
    rule, _, reason = step.why.partition(": ")
    answer = yield step
    if isinstance(answer, Vetoed):
        yield Discard(kind=step.kind, verdict=step.verdict, challenger=step.challenger, version=step.version)
        return _own_result("vetoed", rule, f"{reason}; vetoed: {answer.reason}", step.verdict, step.version)
    return _own_result("deployed", rule, reason, step.verdict, answer.version)


def _replaced(agenda: Agenda, kind: JobKind) -> tuple[int, ...]:
    """Give undecided candidates of this kind that had their days of truth; younger ones keep their chance."""
    candidates = [standing for standing in agenda.standings if standing.role == "candidate" and standing.kind == kind]
    return tuple(standing.version for standing in candidates if standing.verdict.days >= agenda.matured_days)


def _result(
    agenda: Agenda,
    status: str,
    *,
    reason: str | None = None,
    verdict: GateVerdict | None = None,
    version: int | None = None,
) -> CycleResult:
    decision = agenda.decision
    return CycleResult(
        status=status,
        action=decision.action.value,
        rule=decision.rule,
        reason=reason or decision.reason,
        verdict=verdict,
        version=version,
        evidence=decision.evidence,
    )


def _own_result(status: str, rule: str, reason: str, verdict: GateVerdict, version: int | None) -> CycleResult:
    action = {
        "deployed": "promote",
        "rolled_back": "rollback",
        "rejected": "discard",
        "vetoed": "discard",
        "advised": "none",
    }[status]
    return CycleResult(status=status, action=action, rule=rule, reason=reason, verdict=verdict, version=version)
