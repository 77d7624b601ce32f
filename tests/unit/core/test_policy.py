"""The rules, their brakes, and the literal document."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from demand_maint.config import PolicyConfig
from demand_maint.core.drift import DriftState
from demand_maint.core.health import HealthReport
from demand_maint.core.ledger import (
    DAY,
    HOUR,
    AttemptOutcome,
    DriftSeen,
    LedgerFacts,
    MaintenanceLedger,
    Settled,
    Started,
)
from demand_maint.core.places import PlaceHealth
from demand_maint.core.policy import (
    BRAKES,
    LOCAL_DRIFT,
    RULES,
    Action,
    Candidate,
    Rule,
    Situation,
    decide,
    should_fine_tune,
    should_full_retrain,
)

NOW = 1000 * DAY
HEALTHY = HealthReport(status="healthy", mae=1.0, baseline_mae=1.0, degradation=0.0, n=500)
CRITICAL = HealthReport(
    status="critical",
    mae=1.4,
    baseline_mae=1.0,
    degradation=0.4,
    window_degradation=0.4,
    recent_degradation=0.4,
    n=500,
    healthy=False,
)
DEGRADED = structs.replace(
    CRITICAL, status="degraded", mae=1.2, degradation=0.2, window_degradation=0.2, recent_degradation=0.2
)
FRESH = LedgerFacts(
    champion=3, base=1, promoted_at=NOW - DAY, last_full_retrain_at=NOW - 10 * DAY, last_update_at=NOW - DAY
)


def situation(health: HealthReport = HEALTHY, policy: PolicyConfig | None = None, **changes: Any) -> Situation:
    """Return a situation in which nothing is due, with changes."""
    return structs.replace(Situation(health=health, now=NOW, policy=policy or PolicyConfig(), facts=FRESH), **changes)


def facts(**changes: Any) -> LedgerFacts:
    """Return facts of a fresh champion, with changes."""
    return structs.replace(FRESH, **changes)


@pytest.mark.parametrize(
    ("given_situation", "action", "rule"),
    [
        (situation(CRITICAL), Action.FULL_RETRAIN, "critical_drift"),
        (situation(facts=facts(last_full_retrain_at=NOW - 90 * DAY)), Action.FULL_RETRAIN, "full_retrain_due"),
        (situation(facts=facts(fine_tunes=5)), Action.FULL_RETRAIN, "many_fine_tunes"),
        (situation(DEGRADED), Action.FINE_TUNE, "moderate_drift"),
        (situation(facts=facts(last_update_at=NOW - 7 * DAY)), Action.FINE_TUNE, "fine_tune_due"),
        (situation(), Action.NOTHING, "none"),
        (
            situation(facts=facts(last_full_retrain_at=NOW - 89.9 * DAY, fine_tunes=4, last_update_at=NOW - 6.9 * DAY)),
            Action.NOTHING,
            "none",
        ),
    ],
)
@pytest.mark.parametrize("literal", [False, True])
def test_the_users_six_rules(given_situation: Situation, action: Action, rule: str, *, literal: bool) -> None:
    """The document's table: order, and `>=` for days and counts; the same in the literal policy."""
    policy = PolicyConfig.literal() if literal else PolicyConfig()
    decision = decide(structs.replace(given_situation, policy=policy))
    assert (decision.action, decision.rule) == (action, rule)
    assert decision.blocked_by is None


def test_first_match_wins() -> None:
    """Where everything holds, critical drift decides."""
    every = situation(CRITICAL, facts=facts(last_full_retrain_at=0.0, fine_tunes=9, last_update_at=0.0))
    assert decide(every).rule == "critical_drift"


@pytest.mark.parametrize(
    ("outcome", "days", "rule"),
    [
        ("expired", 40, "none"),
        ("expired", 46, "full_retrain_due"),
        ("rejected", 40, "none"),
        ("rejected", 46, "full_retrain_due"),
    ],
)
def test_a_full_retrain_that_did_not_win_counts_half_the_interval(
    outcome: AttemptOutcome, days: float, rule: str
) -> None:
    """Live truth that did not prefer a full retrain is not asked again at once; other rules are not held back."""
    began = NOW - days * DAY
    ledger = MaintenanceLedger().after(Started(kind="full", rule="full_retrain_due"), began)
    ledger = ledger.after(Settled(kind="full", outcome=outcome), began + 28 * DAY)
    old = facts(last_full_retrain_at=NOW - 130 * DAY)
    assert decide(situation(facts=old, ledger=ledger)).rule == rule
    assert decide(situation(CRITICAL, facts=old, ledger=ledger)).rule == "critical_drift"
    assert decide(situation(facts=structs.replace(old, fine_tunes=5), ledger=ledger)).rule != "none"
    literal = structs.replace(situation(facts=old, ledger=ledger), policy=PolicyConfig.literal())
    assert decide(literal).rule == "full_retrain_due"  # nothing is added to the user's rules there


@pytest.mark.parametrize(
    ("setting", "health", "changes"),
    [
        ("full_retrain_interval_days", HEALTHY, {"last_full_retrain_at": 0.0}),
        ("max_fine_tunes", HEALTHY, {"fine_tunes": 50}),
        ("fine_tune_interval_days", HEALTHY, {"last_update_at": 0.0}),
    ],
)
def test_each_limit_can_be_switched_off(setting: str, health: HealthReport, changes: dict[str, Any]) -> None:
    """A limit of None must switch its rule off."""
    policy = structs.replace(PolicyConfig(), **{setting: None})
    assert decide(situation(health, policy, facts=facts(**changes))).action is Action.NOTHING


def test_a_fine_tune_needs_the_last_day_to_agree() -> None:
    """A week that was bad and a day that is good again must not fine-tune."""
    assert decide(situation(structs.replace(DEGRADED, recent_degradation=0.02))).action is Action.NOTHING
    assert decide(situation(structs.replace(DEGRADED, recent_degradation=None))).action is Action.NOTHING


def ledger(kind: str, outcome: AttemptOutcome | None, at: float) -> MaintenanceLedger:
    """Return a ledger with one attempt."""
    book = MaintenanceLedger().after(Started(kind=kind), at)  # type: ignore[arg-type]
    return book if outcome is None else book.after(Settled(kind=kind, outcome=outcome), at)  # type: ignore[arg-type]


BRAKED: dict[str, Situation] = {
    "off": situation(CRITICAL, PolicyConfig(full_retrain="off", fine_tune="off")),
    "running": situation(CRITICAL, ledger=ledger("full", None, NOW - HOUR)),
    "feed_fault": situation(structs.replace(CRITICAL, pool_fault="no truth at all for 50 hours")),
    "backoff": situation(CRITICAL, ledger=ledger("full", "failed", NOW - HOUR)),
    "cooldown": situation(CRITICAL, ledger=ledger("full", "accepted", NOW - HOUR)),
    "weekly_budget": situation(
        CRITICAL, PolicyConfig(max_trainings_per_week=1), ledger=ledger("full", "accepted", NOW - 2 * DAY)
    ),
    "no_new_rows": situation(CRITICAL, new_rows=0),
    "rolled_back": situation(CRITICAL, facts=facts(last_rollback_at=NOW - HOUR)),
    "rejection_cooldown": situation(
        CRITICAL, PolicyConfig(fine_tune="off"), ledger=ledger("full", "rejected", NOW - 2 * DAY)
    ),
    "on_trial": situation(CRITICAL, candidates=(Candidate(kind="full", entered_at=NOW - 2 * DAY),)),
    "advise": situation(CRITICAL, PolicyConfig(full_retrain="advise")),
}


def test_every_brake_is_tested() -> None:
    """The table of brakes and the cases of this file must not drift apart."""
    assert {brake.name for brake in BRAKES} == set(BRAKED)


@pytest.mark.parametrize("name", list(BRAKED))
def test_a_brake_holds_and_says_so(name: str) -> None:
    """A held rule must do nothing, name the brake, keep what was proposed, and put the reason in words."""
    decision = decide(BRAKED[name])
    assert decision.action is Action.NOTHING
    assert decision.blocked_by == name
    assert decision.proposed is Action.FULL_RETRAIN
    assert "held back" in decision.reason


@pytest.mark.parametrize("name", [name for name in BRAKED if name not in {"running", "off", "advise"}])
def test_the_literal_policy_has_no_brakes(name: str) -> None:
    """The user's document trains whenever a rule holds."""
    assert decide(structs.replace(BRAKED[name], policy=PolicyConfig.literal())).action is Action.FULL_RETRAIN


def test_a_rejected_full_retrain_leaves_fine_tunes_their_turn() -> None:
    """A brake on one kind must not starve the other: drift still fine-tunes while full retrains are paused."""
    held = situation(CRITICAL, ledger=ledger("full", "rejected", NOW - 2 * DAY))
    decision = decide(held)
    assert (decision.action, decision.rule) == (Action.FINE_TUNE, "moderate_drift")


def test_two_fine_tunes_that_did_not_cure_escalate() -> None:
    """The third answer to one drift must be a full retrain."""
    book = MaintenanceLedger().after(DriftSeen(drifting=True), NOW - 20 * DAY)
    for day in (18, 9):
        book = book.after(Started(kind="fine_tune"), NOW - day * DAY)
        book = book.after(Settled(kind="fine_tune", outcome="accepted"), NOW - day * DAY)
    decision = decide(situation(DEGRADED, ledger=book))
    assert (decision.action, decision.rule) == (Action.FULL_RETRAIN, "escalation")
    assert decide(situation(DEGRADED, PolicyConfig.literal(), ledger=book)).rule == "moderate_drift"


def test_a_rejecting_gate_does_not_storm() -> None:
    """With every challenger rejected and drift forever, a year of 6-hourly checks must train about weekly, not 1 460 times."""
    book, trained = MaintenanceLedger(), 0
    for check in range(365 * 4):
        now = NOW + check * 6 * HOUR
        book = book.after(DriftSeen(drifting=True), now)
        decision = decide(Situation(health=CRITICAL, now=now, policy=PolicyConfig(), ledger=book, facts=FRESH))
        if decision.action is not Action.NOTHING:
            kind = decision.action.kind
            assert kind is not None
            trained += 1
            book = book.after(Started(kind=kind), now).after(Settled(kind=kind, outcome="rejected"), now)
    assert 40 <= trained <= 120


def test_custom_rules_come_first_where_they_are_put_first() -> None:
    """A user's own rule must be able to act, with its own words as the reason."""
    rule = Rule("hard_limit", Action.FULL_RETRAIN, lambda s: "MAE above 0.5" if (s.health.mae or 0) > 0.5 else None)
    decision = decide(situation(), (rule, *RULES))
    assert (decision.action, decision.rule, decision.reason) == (Action.FULL_RETRAIN, "hard_limit", "MAE above 0.5")


def test_local_drift_is_a_rule_one_can_add() -> None:
    """Places that drift must fine-tune only where the user adds that rule."""
    named = structs.replace(HEALTHY, places=(PlaceHealth(place=17, n=50, degradation=1.04, drifting=True),))
    assert decide(situation(named)).action is Action.NOTHING
    decision = decide(situation(named), (*RULES, LOCAL_DRIFT))
    assert decision.action is Action.FINE_TUNE
    assert "17 +104.0 %" in decision.reason


def test_should_tells_what_the_document_promises() -> None:
    """The two questions of the document answer with a bool and a reason, independently of each other."""
    both = situation(CRITICAL, facts=facts(last_update_at=0.0))
    assert should_full_retrain(both)[0]
    assert should_fine_tune(both)[0]
    held, reason = should_full_retrain(BRAKED["cooldown"])
    assert not held
    assert "less than 24 h ago" in reason
    assert should_full_retrain(situation()) == (False, "no action needed: degradation +0.0 %")


@given(
    st.sampled_from([HEALTHY, DEGRADED, CRITICAL]),
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(["fine_tune", "full"]),
            st.sampled_from(["failed", "rejected", "accepted", "entered"]),
            st.floats(0, 30),
        ),
        max_size=6,
    ),
    st.none() | st.integers(0, 5),
    st.integers(0, 9),
)
def test_every_decision_is_whole(
    health: HealthReport, literal: bool, attempts: list[tuple[Any, Any, float]], new_rows: int | None, fine_tunes: int
) -> None:
    """Every decision must be JSON, name a rule, and be nothing exactly where no rule matched or a brake held it."""
    book = MaintenanceLedger()
    for kind, outcome, ago in sorted(attempts, key=lambda a: -a[2]):
        at = NOW - ago * DAY
        book = book.after(Started(kind=kind), at).after(Settled(kind=kind, outcome=outcome), at)
    policy = PolicyConfig.literal() if literal else PolicyConfig()
    decision = decide(situation(health, policy, ledger=book, new_rows=new_rows, facts=facts(fine_tunes=fine_tunes)))
    record = json.loads(json.dumps(decision.as_record(NOW), allow_nan=False))
    assert record["rule"]
    assert (decision.action is Action.NOTHING) == (decision.blocked_by is not None or decision.rule == "none")
    if literal:
        assert decision.blocked_by is None
    assert decision.evidence["policy"] == policy.name


def test_evidence_holds_the_numbers() -> None:
    """Values, counts and the test's statistic must be in the evidence."""
    report = structs.replace(
        CRITICAL, drift=DriftState(retrain_alarm=True, statistic=8.5, retrain_threshold=6.9, days=40)
    )
    evidence = decide(situation(report)).evidence
    assert evidence["n"] == 500
    assert evidence["statistic"] == 8.5
    assert evidence["degradation"] == 0.4
    assert evidence["days_since_full_retrain"] == pytest.approx(10)
