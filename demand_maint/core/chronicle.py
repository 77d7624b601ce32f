"""From commits and kept decisions to what the report marks on its time axis: events, stretches, table rows, what comes next."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from demand_maint.config import Config, PolicyConfig
from demand_maint.core.charts import number
from demand_maint.core.ledger import LedgerFacts, MaintenanceLedger
from demand_maint.core.report_data import DeploymentRow, EventKind, ReportEvent, Span, Upcoming
from demand_maint.core.versions import Commit, GateVerdict

__all__ = [
    "check_spans",
    "commit_events",
    "decision_events",
    "deployment_rows",
    "feed_spans",
    "reigns",
    "upcoming",
    "verdict_words",
]

DAY = 86400.0
CHAMPION_ACTIONS = frozenset({"init", "adopt", "deploy", "promote", "rollback"})
KINDS: Mapping[str, EventKind] = {
    "init": "deploy",
    "adopt": "deploy",
    "deploy": "deploy",
    "promote": "deploy",
    "rollback": "rollback",
    "enter": "enter",
    "discard": "reject",
    "expire": "reject",
}
TITLES = {
    "init": "Version {v}: the first champion",
    "adopt": "Version {v} adopted",
    "deploy": "Version {v} deployed",
    "promote": "Version {v} promoted",
    "rollback": "Rolled back to version {v}",
    "enter": "Version {v} entered the line-up",
    "discard": "Version {v} dropped",
    "expire": "Version {v} dropped: undecided for too long",
}
TRAININGS = {"fine_tune": "Fine-tune", "full_retrain": "Full retrain", "full": "Full retrain"}
TONES = {"healthy": "good", "degraded": "warn", "critical": "bad"}
VERDICTS = {
    "not_worse": "not worse",
    "worse": "worse",
    "inconclusive": "undecided",
    "unproven": "unproven",
    "forced": "forced",
}


def percent(value: float | None) -> str:
    """Share as signed per cent.

    >>> percent(-0.0312)
    '-3.1 %'
    """
    return "unknown" if value is None else f"{100 * value:+.1f} %"


def verdict_words(verdict: GateVerdict | None) -> str:
    """Say in one line what the evidence says of a challenger.

    >>> verdict_words(GateVerdict(verdict="not_worse", method="live", relative=-0.02, low=-0.03, high=-0.01, days=7))
    'not worse on live truth: -2.0 % (-3.0 % .. -1.0 %) over 7 days'
    """
    if verdict is None:
        return ""
    where = {"live": " on live truth", "gate": " on the holdout", "metadata": " by its metadata"}.get(
        verdict.method, ""
    )
    words = f"{VERDICTS.get(verdict.verdict, verdict.verdict)}{where}"
    if verdict.relative is not None:
        words += f": {percent(verdict.relative)}"
        if verdict.low is not None and verdict.high is not None:
            words += f" ({percent(verdict.low)} .. {percent(verdict.high)})"
        if verdict.days:
            words += f" over {verdict.days} days"
    elif verdict.reasons:
        words += f": {', '.join(verdict.reasons)}"
    return words


def commit_events(commits: Iterable[Commit]) -> list[ReportEvent]:
    """Return a mark for every commit that changed who serves or who stands in the line-up."""
    events = []
    for commit in commits:
        kind = KINDS.get(commit.action)
        if kind is None:
            continue
        about = commit.subject if commit.subject is not None else commit.champion
        detail = "\n".join(part for part in (commit.why, verdict_words(commit.verdict)) if part)
        events.append(ReportEvent(at=commit.at, kind=kind, title=TITLES[commit.action].format(v=about), detail=detail))
    return events


def deployment_rows(commits: Iterable[Commit]) -> tuple[DeploymentRow, ...]:
    """Return the deployment table: commits that set the champion or dropped a challenger."""
    return tuple(
        DeploymentRow(
            number=commit.number,
            at=commit.at,
            action=commit.action,
            version=commit.subject if commit.subject is not None else commit.champion,
            who=commit.who,
            why=commit.why,
            verdict=verdict_words(commit.verdict),
        )
        for commit in commits
        if commit.action in KINDS
    )


def reigns(commits: Sequence[Commit], now: float) -> tuple[Span, ...]:
    """Who was champion when."""
    changes = [commit for commit in commits if commit.action in CHAMPION_ACTIONS]
    spans: list[Span] = []
    for index, commit in enumerate(changes):
        until = changes[index + 1].at if index + 1 < len(changes) else max(now, commit.at)
        spans.append(
            Span(
                since=commit.at,
                until=until,
                tone="odd" if index % 2 else "even",
                title=f"Version {commit.champion}",
                detail="\n".join(part for part in (commit.why, verdict_words(commit.verdict)) if part),
                label=f"v{commit.champion}",
            )
        )
    return tuple(spans)


def decision_events(records: Iterable[Mapping[str, Any]]) -> list[ReportEvent]:
    """Return marks for trainings begun, trainings failed, challengers rejected by the gate, and the onset of drift."""
    events: list[ReportEvent] = []
    troubled = False
    for record in records:
        at = float(record["at"])
        if record.get("type") == "decision":
            evidence = record.get("evidence") or {}
            status = evidence.get("status")
            if status in {"degraded", "critical"} and not troubled:
                events.append(ReportEvent(at=at, kind="drift", title=f"Drift: {status}", detail=_drift_words(evidence)))
            troubled = status in {"degraded", "critical"} if status != "insufficient_data" else troubled
            if record.get("action") in TRAININGS:
                events.append(
                    ReportEvent(
                        at=at,
                        kind="train",
                        title=TRAININGS[record["action"]],
                        detail=f"{record.get('reason', '')}\n{_figures(evidence)}".strip(),
                    )
                )
        else:
            event = _outcome_event(at, record)
            if event is not None:
                events.append(event)
    return events


def _outcome_event(at: float, record: Mapping[str, Any]) -> ReportEvent | None:
    status = record.get("status")
    reason = str(record.get("reason", ""))
    kind = TRAININGS.get(str(record.get("action", "")), "Training")
    if status == "failed":
        return ReportEvent(at=at, kind="fail", title=f"{kind} failed", detail=reason)
    if status == "vetoed":
        return ReportEvent(at=at, kind="reject", title=f"{kind} vetoed", detail=reason)
    # a challenger that never got a version leaves no commit; one of the line-up does
    if status == "rejected" and record.get("version") is None:
        verdict = record.get("verdict")
        words = verdict_words(_verdict(verdict))
        return ReportEvent(at=at, kind="reject", title=f"{kind} rejected", detail=f"{reason}\n{words}".strip())
    return None


def _verdict(value: Any) -> GateVerdict | None:
    if isinstance(value, GateVerdict):
        return value
    if not isinstance(value, Mapping):
        return None
    known = {name: value[name] for name in GateVerdict.__struct_fields__ if name in value}
    return GateVerdict(**known)


def _drift_words(evidence: Mapping[str, Any]) -> str:
    lines = [_figures(evidence)]
    places = evidence.get("places") or []
    if places:
        named = ", ".join(f"{place.get('place')} {percent(place.get('degradation'))}" for place in places[:5])
        lines.append(f"places that got worse: {named}")
    if evidence.get("health_reason"):
        lines.append(str(evidence["health_reason"]))
    return "\n".join(line for line in lines if line)


def _figures(evidence: Mapping[str, Any]) -> str:
    if evidence.get("mae") is None:
        return ""
    return (
        f"error {number(evidence['mae'])}, expected {number(evidence.get('baseline_mae'))} "
        f"({percent(evidence.get('degradation'))}), {evidence.get('n', 0)} rows"
    )


def check_spans(records: Sequence[Mapping[str, Any]], now: float) -> tuple[Span, ...]:
    """Return consecutive checks of one status as one stretch, and say in it what was decided."""
    checks = [record for record in records if record.get("type") == "decision"]
    spans: list[Span] = []
    start = 0
    for index in range(1, len(checks) + 1):
        if index < len(checks) and _state(checks[index]) == _state(checks[start]):
            continue
        group = checks[start:index]
        until = float(checks[index]["at"]) if index < len(checks) else max(now, float(group[-1]["at"]))
        spans.append(_check_span(group, until))
        start = index
    return tuple(spans)


def _state(record: Mapping[str, Any]) -> str:
    return str((record.get("evidence") or {}).get("status", "insufficient_data"))


def _check_span(group: Sequence[Mapping[str, Any]], until: float) -> Span:
    status = _state(group[0])
    worst = [record["evidence"].get("degradation") for record in group if record.get("evidence")]
    known = [value for value in worst if value is not None]
    lines = []
    if known:
        lines.append(f"error against what was expected: {percent(min(known))} .. {percent(max(known))}")
    decided: dict[str, int] = {}
    for record in group:
        what = TRAININGS.get(str(record.get("action")), "")
        if not what:
            blocked = record.get("blocked_by")
            proposed = TRAININGS.get(str(record.get("proposed")), "Training")
            what = f"{proposed} held back: {str(blocked).replace('_', ' ')}" if blocked else "nothing to do"
        decided[what] = decided.get(what, 0) + 1
    lines.extend(f"{count} x {what}" for what, count in sorted(decided.items(), key=lambda item: -item[1]))
    if status != "healthy":
        lines.append(str((group[-1].get("evidence") or {}).get("health_reason", "")))
    return Span(
        since=float(group[0]["at"]),
        until=until,
        tone=TONES.get(status, "quiet"),  # type: ignore[arg-type]  # the table holds tones
        title=f"{len(group)} checks: {status.replace('_', ' ')}",
        detail="\n".join(line for line in lines if line),
    )


def feed_spans(records: Sequence[Mapping[str, Any]], now: float) -> tuple[Span, ...]:
    """Return how long each place's feed was suspected, from the evidence of the checks."""
    open_since: dict[tuple[str, str], float] = {}
    spans: list[Span] = []
    last = now
    for record in records:
        if record.get("type") != "decision":
            continue
        at = float(record["at"])
        evidence = record.get("evidence") or {}
        faults = {(str(place), str(kind)) for place, kind in (evidence.get("feed") or {}).items()}
        over = [known for known in open_since if known not in faults]
        spans.extend(_feed_span(fault, open_since.pop(fault), at) for fault in over)
        for fault in faults:
            open_since.setdefault(fault, at)
        last = at
    spans.extend(_feed_span(fault, since, max(now, last)) for fault, since in open_since.items())
    return tuple(sorted(spans, key=lambda span: span.since))


def _feed_span(fault: tuple[str, str], since: float, until: float) -> Span:
    place, kind = fault
    return Span(
        since=since,
        until=until,
        tone="fault",
        title=f"{place}: {kind}",
        detail="Its truth looks wrong; it is not judged, trained on or weighed meanwhile.",
    )


def upcoming(
    config: Config, facts: LedgerFacts, ledger: MaintenanceLedger, head: Commit | None, now: float
) -> tuple[Upcoming, ...]:
    """Return what comes next, and when, as far as the calendar and not the data decides."""
    policy = config.policy
    last = ledger.last_check_at if ledger.last_check_at is not None else now
    rows = [
        Upcoming(
            what="Next check",
            at=max(last + config.runtime.interval_hours * 3600, now),
            why=f"every {config.runtime.interval_hours:g} hours, by cron or inside the collector",
        )
    ]
    rows += _trainings(policy, facts, ledger, now)
    for entry in head.line_up if head is not None else ():
        if entry.role == "candidate":
            rows.append(
                Upcoming(
                    what=f"Verdict on version {entry.version}",
                    at=entry.entered_at + (policy.matured_days + 1) * DAY,
                    why=f"at the earliest, after {policy.matured_days} days of live truth; dropped after {policy.candidate_expiry_days:g} days undecided",
                )
            )
        elif entry.role == "previous" and policy.probation_days:
            rows.append(
                Upcoming(
                    what=f"End of version {head.champion if head else ''}'s probation",
                    at=entry.until if entry.until is not None else entry.entered_at + policy.probation_days * DAY,
                    why=f"until then a regression against version {entry.version} is rolled back by itself",
                )
            )
    return tuple(sorted(rows, key=lambda row: row.at if row.at is not None else float("inf")))


def _trainings(policy: PolicyConfig, facts: LedgerFacts, ledger: MaintenanceLedger, now: float) -> list[Upcoming]:
    rows = []
    entered = ledger.last(outcomes=("entered",))
    updates = [at for at in (facts.last_update_at, entered.at if entered is not None else None) if at is not None]
    if policy.fine_tune_interval_days is not None and policy.fine_tune != "off" and updates:
        due = max(updates) + policy.fine_tune_interval_days * DAY
        rows.append(
            Upcoming(
                what="Fine-tune",
                at=max(due, now),
                why=f"{policy.fine_tune_interval_days:g} days after the last update, or earlier on moderate drift",
            )
        )
    if (
        policy.full_retrain_interval_days is not None
        and policy.full_retrain != "off"
        and facts.last_full_retrain_at is not None
    ):
        due = facts.last_full_retrain_at + policy.full_retrain_interval_days * DAY
        left = None if policy.max_fine_tunes is None else max(policy.max_fine_tunes - facts.fine_tunes, 0)
        also = "" if left is None else f", or after {left} more fine-tunes"
        rows.append(
            Upcoming(
                what="Full retrain",
                at=max(due, now),
                why=f"{policy.full_retrain_interval_days:g} days after the last one{also}, or at once on critical drift",
            )
        )
    until = ledger.cooldown_until(policy)
    if until is not None and until > now:
        rows.append(Upcoming(what="Cooldown ends", at=until, why="no training begins before"))
    return rows
