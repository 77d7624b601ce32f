"""The order of maintenance, as pure steps."""

from typing import Any

import pytest

from demand_maint.core.cycle import (
    STATUSES,
    Agenda,
    CycleResult,
    Discard,
    Enter,
    Evaluate,
    Failed,
    Promote,
    Promoted,
    Rollback,
    Settle,
    Standing,
    Step,
    Train,
    Vetoed,
    maintenance_cycle,
)
from demand_maint.core.jobs import TrainingOutcome
from demand_maint.core.policy import Action, Decision
from demand_maint.core.versions import GateVerdict

NOW = 1_700_000_000.0
HOLDOUT = NOW - 8 * 86400.0
OUTCOME = TrainingOutcome(
    model_path="m", metadata_path="j", metrics={}, rows=1, trees=1, cpu_seconds=0.0, wall_seconds=0.0
)
BETTER = GateVerdict(verdict="not_worse")
WORSE = GateVerdict(verdict="worse")
UNSURE = GateVerdict(verdict="inconclusive")
NOTHING = Decision(action=Action.NOTHING, rule="none", reason="all is well")
FINE_TUNE = Decision(action=Action.FINE_TUNE, proposed=Action.FINE_TUNE, rule="fine_tune_due", reason="7 days")
FULL = Decision(action=Action.FULL_RETRAIN, proposed=Action.FULL_RETRAIN, rule="critical_drift", reason="drift")


def agenda(decision: Decision = FINE_TUNE, **changes: Any) -> Agenda:
    """Return an agenda with the gate, unless told otherwise."""
    settings: dict[str, Any] = {
        "now": NOW,
        "decision": decision,
        "promotion": "gate",
        "live": False,
        "holdout_since": HOLDOUT,
    }
    return Agenda(**(settings | changes))


def drive(the_agenda: Agenda, answers: dict[type, Any]) -> tuple[list[Step], CycleResult]:
    """Play a cycle through with one answer per class of step (a list is used up in order)."""
    cycle = maintenance_cycle(the_agenda)
    steps: list[Step] = []
    answer: Any = None
    while True:
        try:
            step = cycle.send(answer)
        except StopIteration as stop:
            result: CycleResult = stop.value
            assert result.status in STATUSES
            return steps, result
        steps.append(step)
        answer = answers.get(type(step))
        if isinstance(answer, list):
            answer = answer.pop(0)


def standing(role: Any, verdict: GateVerdict, *, expired: bool = False, version: int = 5) -> Standing:
    """Return a member of the line-up with that verdict."""
    return Standing(version=version, role=role, kind="fine_tune", verdict=verdict, expired=expired)


def test_nothing_to_do_takes_no_step() -> None:
    """Without a rule that holds, nothing is done."""
    steps, result = drive(agenda(NOTHING), {})
    assert (steps, result.status, result.action) == ([], "no_action", "nothing")


@pytest.mark.parametrize(("brake", "status"), [("cooldown", "blocked"), ("advise", "advised")])
def test_a_brake_takes_no_step(brake: str, status: str) -> None:
    """A decision that is held back ends the cycle and says how."""
    held = Decision(
        action=Action.NOTHING, proposed=Action.FINE_TUNE, rule="fine_tune_due", reason="held", blocked_by=brake
    )
    steps, result = drive(agenda(held), {})
    assert (steps, result.status) == ([], status)


def test_advise_mode_changes_nothing() -> None:
    """Where only advice is wanted, a rule that holds trains nothing and rolls nothing back."""
    steps, result = drive(agenda(FULL, advise=True, standings=(standing("previous", WORSE),)), {})
    assert (steps, result.status) == ([], "advised")


def test_the_gate_judges_a_challenger_that_has_not_seen_the_holdout() -> None:
    """Behind the gate: train without the newest days, compare, refit on all, promote."""
    steps, result = drive(agenda(), {Train: OUTCOME, Evaluate: BETTER, Promote: Promoted(version=9)})
    assert [type(step) for step in steps] == [Train, Evaluate, Train, Promote]
    first, _, second, _ = steps
    assert isinstance(first, Train)
    assert isinstance(second, Train)
    assert (first.train_until, second.train_until) == (HOLDOUT, None)
    assert (result.status, result.version, result.rule) == ("deployed", 9, "fine_tune_due")


@pytest.mark.parametrize("verdict", [WORSE, UNSURE])
def test_the_gate_discards_what_is_not_shown_to_be_as_good(verdict: GateVerdict) -> None:
    """Worse or undecided at the gate: the champion stays."""
    steps, result = drive(agenda(FULL), {Train: OUTCOME, Evaluate: verdict})
    assert [type(step) for step in steps] == [Train, Evaluate, Discard]
    assert (result.status, result.verdict) == ("rejected", verdict)


def test_live_promotion_enters_the_line_up() -> None:
    """Where predictions go through a handle, a challenger is trained once on everything and enters."""
    steps, result = drive(agenda(promotion="live", live=True), {Train: OUTCOME, Enter: 7})
    assert [type(step) for step in steps] == [Train, Enter]
    assert (result.status, result.version) == ("candidate", 7)


def test_live_promotion_without_a_line_up_uses_the_gate() -> None:
    """A root that is not served through a handle falls back to the gate."""
    steps, _ = drive(agenda(promotion="live", live=False), {Train: OUTCOME, Evaluate: WORSE})
    assert isinstance(steps[1], Evaluate)
    assert steps[1].method == "gate"


def test_metadata_promotion_trains_once() -> None:
    """The user's document trains on everything and compares what the metadata say."""
    steps, result = drive(
        agenda(promotion="metadata"), {Train: OUTCOME, Evaluate: BETTER, Promote: Promoted(version=2)}
    )
    assert [type(step) for step in steps] == [Train, Evaluate, Promote]
    assert result.status == "deployed"


def test_a_failed_training_ends_the_cycle() -> None:
    """No challenger, no step after it, and the reason is told."""
    steps, result = drive(agenda(), {Train: Failed(reason="deadline", detail="took too long.")})
    assert ([type(step) for step in steps], result.status) == ([Train], "failed")
    assert "deadline" in result.reason


def test_a_failed_refit_deploys_nothing() -> None:
    """A challenger that passed the gate but could not be refitted is not deployed."""
    steps, result = drive(agenda(), {Train: [OUTCOME, Failed(reason="killed", detail="signal 9.")], Evaluate: BETTER})
    assert (type(steps[-1]), result.status) == (Train, "failed")


def test_a_regression_is_taken_back_before_anything_else() -> None:
    """Probation speaks first: the rollback happens, and nothing is trained in the same cycle."""
    steps, result = drive(
        agenda(FULL, standings=(standing("candidate", BETTER), standing("previous", WORSE))), {Rollback: 1}
    )
    assert ([type(step) for step in steps], result.status, result.version) == ([Rollback], "rolled_back", 1)


def test_without_rollbacks_left_a_regression_is_only_told() -> None:
    """When the month's rollbacks are used up, the operator is advised."""
    steps, result = drive(agenda(FULL, standings=(standing("previous", WORSE),), rollbacks_left=0), {})
    assert (steps, result.status) == ([], "advised")


def test_a_proven_candidate_is_promoted_before_training() -> None:
    """A candidate that proved itself becomes champion, and nothing is trained in the same cycle."""
    steps, result = drive(agenda(FULL, standings=(standing("candidate", BETTER),)), {Promote: Promoted(version=5)})
    assert ([type(step) for step in steps], result.status, result.version) == ([Promote], "deployed", 5)


@pytest.mark.parametrize(("verdict", "expired"), [(WORSE, False), (UNSURE, True)])
def test_a_candidate_that_failed_or_expired_leaves(verdict: GateVerdict, expired: bool) -> None:
    """Worse or undecided for too long: the candidate leaves the line-up."""
    steps, result = drive(agenda(NOTHING, standings=(standing("candidate", verdict, expired=expired),)), {})
    assert ([type(step) for step in steps], result.status) == ([Discard], "rejected")


def test_the_end_of_a_probation_does_not_stop_the_cycle() -> None:
    """A settled champion is noted, and the decision is carried out in the same cycle."""
    steps, result = drive(
        agenda(promotion="live", live=True, standings=(standing("previous", UNSURE, expired=True),)),
        {Train: OUTCOME, Enter: 7},
    )
    assert ([type(step) for step in steps], result.status) == ([Settle, Train, Enter], "candidate")


def test_a_veto_keeps_the_champion() -> None:
    """A vetoed promotion is discarded, with the reason in the result."""
    steps, result = drive(
        agenda(NOTHING, standings=(standing("candidate", BETTER),)),
        {Promote: Vetoed(reason="sale week"), Discard: None},
    )
    assert ([type(step) for step in steps], result.status) == ([Promote, Discard], "vetoed")
    assert "sale week" in result.reason


def test_only_candidates_that_had_their_days_are_replaced() -> None:
    """A newer challenger replaces undecided ones of its kind with enough days of truth, and no younger one."""
    old = Standing(version=3, role="candidate", kind="fine_tune", verdict=GateVerdict(verdict="inconclusive", days=8))
    young = Standing(version=4, role="candidate", kind="fine_tune", verdict=GateVerdict(verdict="inconclusive", days=2))
    other = Standing(version=5, role="candidate", kind="full", verdict=GateVerdict(verdict="inconclusive", days=9))
    steps, _ = drive(agenda(promotion="live", live=True, standings=(old, young, other)), {Train: OUTCOME, Enter: 7})
    assert isinstance(steps[1], Enter)
    assert steps[1].replaces == (3,)


def test_without_a_holdout_nothing_is_trained() -> None:
    """A champion too young to be compared with keeps its place, and no CPU is spent."""
    steps, result = drive(agenda(holdout_since=None), {})
    assert (steps, result.status) == ([], "blocked")
    assert "7 days" in result.reason


def test_an_operator_may_train_without_a_holdout() -> None:
    """Forced without live truth: the metadata are compared instead."""
    steps, result = drive(
        agenda(FULL, holdout_since=None, forced=True),
        {Train: OUTCOME, Evaluate: GateVerdict(verdict="unproven"), Promote: Promoted(version=2)},
    )
    assert [type(step) for step in steps] == [Train, Evaluate, Promote]
    assert isinstance(steps[1], Evaluate)
    assert (steps[1].method, result.status) == ("metadata", "deployed")
