"""What to do about a model, as a table of rules.

1. Rules are data: `RULES`, first match wins, in the order of the user's document. Code, tests, the report and the command
   line read this one table.
2. A rule says what it saw, in words with numbers, or ``None``.
3. What keeps a rule from acting (`BRAKES`) is a table too. A brake names itself in `Decision.blocked_by`; the literal policy
   has none, because every brake can be switched off by its setting.
4. A brake that holds one *kind* of training only lets the rules below have their turn; any other ends the search.
5. Every decision, "nothing" included, carries the evidence it was made on.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct, field, structs

from demand_maint.config import PolicyConfig
from demand_maint.core.health import HealthReport
from demand_maint.core.ledger import DAY, WEEK, AttemptKind, LedgerFacts, MaintenanceLedger
from demand_maint.core.moments import stamp

__all__ = [
    "BRAKES",
    "FINE_TUNE_RULES",
    "FULL_RETRAIN_RULES",
    "LOCAL_DRIFT",
    "RULES",
    "Action",
    "Brake",
    "Candidate",
    "Decision",
    "Rule",
    "Situation",
    "decide",
    "should_fine_tune",
    "should_full_retrain",
]


class Action(StrEnum):
    """What maintenance may do."""

    NOTHING = "nothing"
    FINE_TUNE = "fine_tune"
    FULL_RETRAIN = "full_retrain"

    @property
    def kind(self) -> AttemptKind | None:
        """Name of that training in jobs and in the ledger."""
        match self:
            case Action.FINE_TUNE:
                return "fine_tune"
            case Action.FULL_RETRAIN:
                return "full"
            case Action.NOTHING:
                return None


class Candidate(Struct, frozen=True, kw_only=True):
    """A challenger that is earning its place in the line-up (`entered_at` in epoch seconds)."""

    kind: AttemptKind
    entered_at: float
    version: int | None = None


class Situation(Struct, frozen=True, kw_only=True):
    """Everything a decision depends on.

    Parameters
    ----------
    new_rows
        Rows of truth that arrived since the last training began; ``None`` where that is unknown.
    candidates
        Challengers in the line-up.
    """

    health: HealthReport
    now: float
    policy: PolicyConfig
    ledger: MaintenanceLedger = MaintenanceLedger()
    facts: LedgerFacts = LedgerFacts()
    new_rows: int | None = None
    candidates: tuple[Candidate, ...] = ()


class Rule(Struct, frozen=True):
    """One row of the table.

    Parameters
    ----------
    name
        What the decision journal calls it.
    action
        What it asks for.
    holds
        Returns the reason in words where the rule applies, else ``None``.
    text
        The rule in one line, for tables.

    Examples
    --------
    A rule of one's own, before all others: retrain when the served error passes a hard limit.

    >>> LIMIT = Rule(
    ...     "hard_limit",
    ...     Action.FULL_RETRAIN,
    ...     lambda s: f"MAE {s.health.mae:.1f} > 50" if (s.health.mae or 0) > 50 else None,
    ... )
    >>> rules = (LIMIT, *RULES)
    """

    name: str
    action: Action
    holds: Callable[[Situation], str | None]
    text: str = ""


class Brake(Struct, frozen=True):
    """Something that keeps a matched rule from acting.

    Parameters
    ----------
    holds
        Returns the reason in words where the brake is on for that action, else ``None``.
    of_kind
        It holds that kind of training only, so that the rules below still have their turn.
    """

    name: str
    holds: Callable[[Situation, Action], str | None]
    of_kind: bool = False


class Decision(Struct, frozen=True, kw_only=True):
    """What to do now, and why.

    Parameters
    ----------
    action
        What to do; `NOTHING` where no rule matched or a brake held the one that did.
    proposed
        What the rule asked for.
    blocked_by
        Name of the brake that held it.
    evidence
        Plain numbers and words, ready for JSON.
    """

    action: Action
    rule: str
    reason: str
    proposed: Action = Action.NOTHING
    blocked_by: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_record(self, at: float) -> dict[str, Any]:
        """Return the line of the decision journal."""
        return {
            "type": "decision",
            "at": at,
            "action": str(self.action),
            "proposed": str(self.proposed),
            "rule": self.rule,
            "reason": self.reason,
            "blocked_by": self.blocked_by,
            "evidence": self.evidence,
        }


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:+.1f} %"


def _critical_drift(s: Situation) -> str | None:
    if s.health.status != "critical":
        return None
    return (
        f"critical drift: the error is {_percent(s.health.degradation)} against what was to be expected "
        f"(limit {_percent(s.policy.critical_degradation)})"
    )


def _escalation(s: Situation) -> str | None:
    limit = s.policy.escalate_after_fine_tunes
    tried = s.ledger.fine_tunes_in_episode()
    if limit is None or s.health.status not in {"degraded", "critical"} or tried < limit:
        return None
    return f"{tried} fine-tunes did not cure the drift seen since {stamp(s.ledger.drift_since)}"


def _days_since(s: Situation, at: float | None) -> float | None:
    return None if at is None else (s.now - at) / DAY


UNPROVEN = 0.5  # part of the interval that a full retrain counts which did not win on live truth


def _full_retrain_due(s: Situation) -> str | None:
    days, limit = _days_since(s, s.facts.last_full_retrain_at), s.policy.full_retrain_interval_days
    if limit is None or days is None or days < limit:
        return None
    tried = s.ledger.last("full", ("accepted", "rejected", "expired"))
    waits = s.policy.rejection_cooldown_days > 0 and tried is not None and tried.outcome != "accepted"
    if waits and tried is not None and s.now - tried.at < limit * UNPROVEN * DAY:
        return None  # on nearly the same rows the next one will not fare better at once
    return f"{days:.0f} days since the last full retrain (limit {limit:g})"


def _many_fine_tunes(s: Situation) -> str | None:
    limit = s.policy.max_fine_tunes
    if limit is None or s.facts.fine_tunes < limit:
        return None
    return f"{s.facts.fine_tunes} fine-tunes since the last full retrain (limit {limit})"


def _moderate_drift(s: Situation) -> str | None:
    if s.health.status not in {"degraded", "critical"}:
        return None
    limit = s.policy.suggest_degradation
    if s.policy.sequential_test and s.policy.method != "raw" and limit is not None:
        recent = s.health.recent_degradation
        if recent is None or recent <= limit:
            return None
    return (
        f"moderate drift: the error is {_percent(s.health.degradation)} against what was to be expected "
        f"(limit {_percent(limit)})"
    )


def _fine_tune_due(s: Situation) -> str | None:
    limit = s.policy.fine_tune_interval_days
    entered = s.ledger.last(outcomes=("entered",))
    known = [at for at in (s.facts.last_update_at, entered.at if entered else None) if at is not None]
    days = _days_since(s, max(known, default=None))
    if limit is None or days is None or days < limit:
        return None
    return f"{days:.1f} days since the last update (limit {limit:g})"


def _local_drift(s: Situation) -> str | None:
    named = [place for place in s.health.places if place.drifting]
    if not named:
        return None
    shown = ", ".join(f"{place.place} {_percent(place.degradation)}" for place in named[:3])
    return f"{len(named)} places got worse while the pool stands at {_percent(s.health.degradation)}: {shown}"


#: The user's six rules (the sixth is that none matched), and the escalation that belongs to the first.
RULES: tuple[Rule, ...] = (
    Rule("critical_drift", Action.FULL_RETRAIN, _critical_drift, "Critical drift (> 25 %)"),
    Rule("escalation", Action.FULL_RETRAIN, _escalation, "Two fine-tunes did not cure the drift"),
    Rule("full_retrain_due", Action.FULL_RETRAIN, _full_retrain_due, "90 days or more since the last full retrain"),
    Rule("many_fine_tunes", Action.FULL_RETRAIN, _many_fine_tunes, "5 or more fine-tunes since the last full retrain"),
    Rule("moderate_drift", Action.FINE_TUNE, _moderate_drift, "Moderate drift (> 15 %)"),
    Rule("fine_tune_due", Action.FINE_TUNE, _fine_tune_due, "7 days or more since the last update"),
)
FULL_RETRAIN_RULES: tuple[Rule, ...] = tuple(rule for rule in RULES if rule.action is Action.FULL_RETRAIN)
FINE_TUNE_RULES: tuple[Rule, ...] = tuple(rule for rule in RULES if rule.action is Action.FINE_TUNE)
#: Not in `RULES`: fine-tune when single places drift. Local drift is named in every report; whether it trains is a choice.
LOCAL_DRIFT = Rule("local_drift", Action.FINE_TUNE, _local_drift, "Single places drift (false-discovery control)")


def _running(s: Situation, action: Action) -> str | None:
    attempt = s.ledger.running
    return None if attempt is None or action is Action.NOTHING else f"a training runs since {stamp(attempt.at)}"


def _feed_fault(s: Situation, action: Action) -> str | None:
    if not s.policy.feed_fault_guard or s.health.pool_fault is None or action is Action.NOTHING:
        return None
    return f"the truth itself looks wrong: {s.health.pool_fault}"


def _backoff(s: Situation, action: Action) -> str | None:
    until = s.ledger.backoff_until(s.policy)
    if until is None or s.now >= until or action is Action.NOTHING:
        return None
    return f"{s.ledger.failures} trainings in a row failed; the next try is at {stamp(until)}"


def _cooldown(s: Situation, action: Action) -> str | None:
    until = s.ledger.cooldown_until(s.policy)
    if until is None or s.now >= until or action is Action.NOTHING:
        return None
    return f"the last training is less than {s.policy.cooldown_hours:g} h ago; the next may begin at {stamp(until)}"


def _weekly_budget(s: Situation, action: Action) -> str | None:
    limit = s.policy.max_trainings_per_week
    used = s.ledger.trainings_since(s.now - WEEK)
    if limit is None or used < limit or action is Action.NOTHING:
        return None
    return f"{used} trainings in the last 7 days (at most {limit})"


def _no_new_rows(s: Situation, action: Action) -> str | None:
    if not s.policy.require_new_rows or s.new_rows is None or s.new_rows > 0 or action is Action.NOTHING:
        return None
    return "no new truth since the last training: the same rows would give the same model"


def _rejection(s: Situation, action: Action) -> str | None:
    kind = action.kind
    until = None if kind is None else s.ledger.rejection_until(kind, s.policy)
    if until is None or s.now >= until:
        return None
    return f"the last challenger of this kind was rejected; the next may be trained at {stamp(until)}"


def _rolled_back(s: Situation, action: Action) -> str | None:
    at = s.facts.last_rollback_at
    if at is None or action is Action.NOTHING or s.policy.rejection_cooldown_days == 0:
        return None
    until = at + s.policy.rejection_cooldown_days * DAY
    if s.now >= until or (s.facts.last_update_at is not None and s.facts.last_update_at > at):
        return None
    return f"a model was rolled back at {stamp(at)}; the same recipe is not tried again before {stamp(until)}"


def _on_trial(s: Situation, action: Action) -> str | None:
    if s.policy.promotion != "live" or action is Action.NOTHING:
        return None
    for candidate in s.candidates:
        if candidate.kind not in {action.kind, "full"}:
            continue
        if s.now < candidate.entered_at + _trial_days(s, candidate.kind, action) * DAY:
            return f"a challenger that entered at {stamp(candidate.entered_at)} is still earning its place"
    return None


def _trial_days(s: Situation, kind: AttemptKind, action: Action) -> float:
    """How long a candidate keeps others waiting: a fine-tune no longer than the schedule asks, a full retrain until it is decided.

    A new critical drift may mean that a full candidate was trained on what is gone: then its days of truth are enough.
    """
    days = s.policy.matured_days + 2.0
    if kind == "fine_tune":
        return min(days, s.policy.fine_tune_interval_days or days)
    if action is Action.FINE_TUNE or s.health.status == "critical":
        return days
    return s.policy.candidate_expiry_days


def _tier_off(s: Situation, action: Action) -> str | None:
    settings = {Action.FINE_TUNE: s.policy.fine_tune, Action.FULL_RETRAIN: s.policy.full_retrain}
    return "this tier is switched off" if settings.get(action) == "off" else None


def _tier_advises(s: Situation, action: Action) -> str | None:
    settings = {Action.FINE_TUNE: s.policy.fine_tune, Action.FULL_RETRAIN: s.policy.full_retrain}
    return "this tier only advises; an operator has to start it" if settings.get(action) == "advise" else None


#: What keeps a matched rule from acting, tried in this order.
BRAKES: tuple[Brake, ...] = (
    Brake("off", _tier_off, of_kind=True),
    Brake("running", _running),
    Brake("feed_fault", _feed_fault),
    Brake("backoff", _backoff),
    Brake("cooldown", _cooldown),
    Brake("weekly_budget", _weekly_budget),
    Brake("no_new_rows", _no_new_rows),
    Brake("rolled_back", _rolled_back),
    Brake("rejection_cooldown", _rejection, of_kind=True),
    Brake("on_trial", _on_trial, of_kind=True),
    Brake("advise", _tier_advises),
)


def decide(situation: Situation, rules: Sequence[Rule] = RULES) -> Decision:
    """Return what to do now: the first of `rules` that holds and that no brake holds."""
    evidence = _evidence(situation)
    held: Decision | None = None
    for rule in rules:
        reason = rule.holds(situation)
        if reason is None:
            continue
        brake, why = _brake(situation, rule.action)
        if brake is None:
            return Decision(action=rule.action, proposed=rule.action, rule=rule.name, reason=reason, evidence=evidence)
        decision = Decision(
            action=Action.NOTHING,
            proposed=rule.action,
            rule=rule.name,
            reason=f"{reason}; held back: {why}",
            blocked_by=brake.name,
            evidence=evidence,
        )
        held = held or decision
        if not brake.of_kind:
            break
    if held is not None:
        return held
    return Decision(action=Action.NOTHING, rule="none", reason=_why_nothing(situation), evidence=evidence)


def should_full_retrain(situation: Situation, rules: Sequence[Rule] = RULES) -> tuple[bool, str]:
    """Whether a full retrain should begin now, and why or why not."""
    return _should(situation, rules, Action.FULL_RETRAIN)


def should_fine_tune(situation: Situation, rules: Sequence[Rule] = RULES) -> tuple[bool, str]:
    """Whether a fine-tune should begin now, and why or why not; the rules of the full retrain are not looked at."""
    return _should(situation, rules, Action.FINE_TUNE)


def _should(situation: Situation, rules: Sequence[Rule], action: Action) -> tuple[bool, str]:
    decision = decide(situation, [rule for rule in rules if rule.action is action])
    return decision.action is action, decision.reason


def _brake(situation: Situation, action: Action) -> tuple[Brake | None, str]:
    for brake in BRAKES:
        why = brake.holds(situation, action)
        if why is not None:
            return brake, why
    return None, ""


def _why_nothing(situation: Situation) -> str:
    health = situation.health
    if health.status == "insufficient_data":
        return f"no action needed: {health.reason or 'too little data to judge'}"
    return f"no action needed: degradation {_percent(health.degradation)}" + (
        f" ({health.reason})" if health.reason else ""
    )


def _evidence(s: Situation) -> dict[str, Any]:
    until = s.ledger.cooldown_until(s.policy)
    return s.health.evidence() | {
        "policy": s.policy.name,
        "days_since_full_retrain": _days_since(s, s.facts.last_full_retrain_at),
        "days_since_update": _days_since(s, s.facts.last_update_at),
        "fine_tunes": s.facts.fine_tunes,
        "new_rows": s.new_rows,
        "champion": s.facts.champion,
        "cooldown_until": until if until is not None and until > s.now else None,
        "trainings_this_week": s.ledger.trainings_since(s.now - WEEK),
        "failures": s.ledger.failures,
        "candidates": [structs.asdict(candidate) for candidate in s.candidates],
    }
