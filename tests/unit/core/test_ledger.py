"""The memory of maintenance: attempts, pauses, and what the commits say."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from demand_maint.config import PolicyConfig
from demand_maint.core.ledger import (
    DAY,
    HOUR,
    AttemptKind,
    AttemptOutcome,
    Checked,
    DriftSeen,
    LedgerEvent,
    LedgerFacts,
    MaintenanceLedger,
    Settled,
    Started,
)
from demand_maint.core.versions import Commit, CommitAction, LineUpEntry

POLICY = PolicyConfig()
LITERAL = PolicyConfig.literal()


def after(*events: tuple[LedgerEvent, float]) -> MaintenanceLedger:
    """Return the ledger after those events."""
    ledger = MaintenanceLedger()
    for event, at in events:
        ledger = ledger.after(event, at)
    return ledger


def commit(number: int, action: CommitAction, at: float, champion: int, base: int, fine_tunes: int = 0) -> Commit:
    """Return one commit."""
    return Commit(number=number, action=action, at=at, champion=champion, base=base, fine_tunes=fine_tunes)


def test_a_training_starts_a_cooldown_and_a_rejection_a_longer_one() -> None:
    """After a rejected fine-tune: 24 h for anything, 7 days for another fine-tune, nothing more for a full retrain."""
    ledger = after((Started(kind="fine_tune"), 0.0), (Settled(kind="fine_tune", outcome="rejected"), 600.0))
    assert ledger.cooldown_until(POLICY) == 24 * HOUR
    assert ledger.rejection_until("fine_tune", POLICY) == 600.0 + 7 * DAY
    assert ledger.rejection_until("full", POLICY) is None


def test_an_accepted_challenger_ends_the_rejection_pause() -> None:
    """Once a model of that kind was accepted, an earlier rejection must not hold the next one back."""
    ledger = after(
        (Started(kind="full"), 0.0),
        (Settled(kind="full", outcome="rejected"), 1.0),
        (Started(kind="full"), 2 * DAY),
        (Settled(kind="full", outcome="accepted"), 2 * DAY + 1),
    )
    assert ledger.rejection_until("full", POLICY) is None


def test_failures_back_off_twice_as_long_each_time_up_to_a_week() -> None:
    """The pause must double from the cooldown and stop growing at seven days."""
    ledger, at, pauses = MaintenanceLedger(), 0.0, []
    for _ in range(6):
        ledger = ledger.after(Started(kind="full"), at).after(Settled(kind="full", outcome="failed"), at)
        until = ledger.backoff_until(POLICY)
        assert until is not None
        pauses.append((until - at) / DAY)
        at = until
    assert pauses == [1, 2, 4, 7, 7, 7]
    assert ledger.after(Started(kind="full"), at).after(Settled(kind="full", outcome="entered"), at).failures == 0


def test_a_cancelled_training_costs_nothing() -> None:
    """A shutdown in the middle of a training must start no pause and use no budget."""
    ledger = after((Started(kind="full"), 5.0), (Settled(kind="full", outcome="cancelled"), 6.0))
    assert ledger.cooldown_until(POLICY) is None
    assert ledger.trainings_since(0.0) == 0
    assert ledger.failures == 0


def test_a_training_that_ran_when_the_process_died_has_failed() -> None:
    """After a crash the running attempt must count as failed, once."""
    ledger = after((Started(kind="full"), 5.0))
    assert ledger.running is not None
    recovered = ledger.recovered(100.0)
    assert recovered.running is None
    assert recovered.attempts[-1].reason == "interrupted"
    assert recovered.recovered(200.0) == recovered


def test_fine_tunes_are_counted_within_one_drift() -> None:
    """Only fine-tunes since the drift was first seen count towards escalation, and a healthy check ends the episode."""
    ledger = after(
        (Started(kind="fine_tune"), 0.0),
        (Settled(kind="fine_tune", outcome="accepted"), 1.0),
        (DriftSeen(drifting=True), DAY),
        (DriftSeen(drifting=True), 2 * DAY),
        (Started(kind="fine_tune"), 2 * DAY),
        (Settled(kind="fine_tune", outcome="entered"), 2 * DAY + 1),
    )
    assert ledger.drift_since == DAY
    assert ledger.fine_tunes_in_episode() == 1
    assert ledger.after(DriftSeen(drifting=False), 3 * DAY).fine_tunes_in_episode() == 0


def test_a_candidate_is_settled_by_its_version_days_later() -> None:
    """A verdict on a version must reach the attempt that made it, even after a newer attempt of the same kind."""
    ledger = after(
        (Started(kind="fine_tune"), 0.0),
        (Settled(kind="fine_tune", outcome="entered", version=7), 1.0),
        (Started(kind="fine_tune"), DAY),
        (Settled(kind="fine_tune", outcome="entered", version=8), DAY + 1),
        (Settled(kind="fine_tune", outcome="rejected", version=7), 2 * DAY),
    )
    assert [(a.version, a.outcome) for a in ledger.attempts] == [(7, "rejected"), (8, "entered")]


def test_the_literal_policy_has_no_pauses() -> None:
    """Nothing in the ledger may hold the user's literal document back."""
    ledger = after(
        (Started(kind="full"), 0.0), (Settled(kind="full", outcome="failed"), 1.0), (Started(kind="full"), 2.0)
    )
    ledger = ledger.after(Settled(kind="full", outcome="rejected"), 3.0)
    assert ledger.cooldown_until(LITERAL) is None
    assert ledger.backoff_until(LITERAL) is None
    assert ledger.rejection_until("full", LITERAL) is None


EVENTS = st.one_of(
    st.just(Checked()),
    st.builds(DriftSeen, drifting=st.booleans()),
    st.builds(Started, kind=st.sampled_from(["fine_tune", "full"])),
    st.builds(
        Settled,
        kind=st.sampled_from(["fine_tune", "full"]),
        outcome=st.sampled_from(["entered", "accepted", "rejected", "failed", "cancelled", "expired"]),
        version=st.none() | st.integers(1, 3),
    ),
)


@given(st.lists(EVENTS, max_size=40))
def test_any_history_keeps_its_promises(events: list[LedgerEvent]) -> None:
    """Whatever happens: JSON keeps the ledger whole, attempts only grow, final outcomes stay, and it never changes in place."""
    ledger = MaintenanceLedger()
    for number, event in enumerate(events):
        before = msgspec.json.encode(ledger)
        following = ledger.after(event, number * HOUR)
        assert msgspec.json.encode(ledger) == before
        assert len(following.attempts) >= len(ledger.attempts)
        assert following.failures <= len(following.attempts)
        ledger = following
    assert msgspec.json.decode(msgspec.json.encode(ledger), type=MaintenanceLedger) == ledger


def test_facts_follow_the_commits() -> None:
    """Promotion, base, counts and rollback must be read from the commits alone."""
    commits = [
        commit(1, "init", 0.0, 1, 1),
        commit(2, "promote", 8 * DAY, 2, 1, 1),
        commit(3, "enter", 9 * DAY, 2, 1, 1),
        commit(4, "promote", 40 * DAY, 4, 4),
        commit(5, "promote", 47 * DAY, 5, 4, 1),
    ]
    facts = LedgerFacts.from_commits(commits)
    assert facts == LedgerFacts(
        champion=5, base=4, promoted_at=47 * DAY, last_full_retrain_at=40 * DAY, last_update_at=47 * DAY, fine_tunes=1
    )
    back = LedgerFacts.from_commits([*commits, commit(6, "rollback", 48 * DAY, 2, 1, 1)])
    assert back.champion == 2
    assert back.last_full_retrain_at == 0.0
    assert back.last_rollback_at == back.promoted_at == 48 * DAY
    assert back.last_update_at == 47 * DAY
    assert LedgerFacts.from_commits([]) == LedgerFacts()


def test_a_model_dates_from_its_training_and_counts_once() -> None:
    """A candidate counts when it enters; promoting it later neither counts it again nor makes it younger."""
    candidate = LineUpEntry(version=2, role="candidate", entered_at=7 * DAY, kind="fine_tune")
    commits = [
        commit(1, "init", 0.0, 1, 1),
        structs.replace(commit(2, "enter", 7 * DAY, 1, 1), subject=2, line_up=(candidate,)),
        commit(3, "promote", 16 * DAY, 2, 1, 1),
    ]
    entered, promoted = LedgerFacts.from_commits(commits[:2]), LedgerFacts.from_commits(commits)
    assert (entered.fine_tunes, entered.last_update_at) == (1, 0.0)
    assert (promoted.fine_tunes, promoted.last_update_at, promoted.promoted_at) == (1, 7 * DAY, 16 * DAY)
    renewed = LedgerFacts.from_commits([*commits, commit(4, "promote", 20 * DAY, 3, 3)])
    assert renewed.fine_tunes == 0


@pytest.mark.parametrize("outcome", ["entered", "accepted", "rejected", "expired"])
@pytest.mark.parametrize("kind", ["fine_tune", "full"])
def test_trainings_count_in_the_week(kind: AttemptKind, outcome: AttemptOutcome) -> None:
    """Every training that ran counts in the weekly budget, whatever came of it."""
    ledger = after((Started(kind=kind), 10.0), (Settled(kind=kind, outcome=outcome), 11.0))
    assert ledger.trainings_since(10.0) == 1
    assert ledger.trainings_since(10.5) == 0
