"""Who sits in the line-up."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from demand_maint.core.jobs import JobKind
from demand_maint.core.roster import (
    after_discard,
    after_enter,
    after_promotion,
    after_settling,
    first_line_up,
    versions_of,
)
from demand_maint.core.versions import Commit

START = Commit(number=1, action="init", at=0.0, champion=1, base=1, line_up=first_line_up(1, 0.0))
DAY = 86400.0


def roles(commit: Commit) -> dict[int, str]:
    """Role by version."""
    return {entry.version: entry.role for entry in commit.line_up}


def promoted(head: Commit, version: int, kind: JobKind, at: float = DAY) -> Commit:
    """Return the commit after a promotion."""
    base = version if kind == "full" else head.base
    return structs.replace(head, champion=version, base=base, line_up=after_promotion(head, version, base, at, 14))


def test_a_candidate_enters_beside_the_champion() -> None:
    """Entering adds one candidate and keeps everybody else."""
    entered = structs.replace(START, line_up=after_enter(START, 2, "fine_tune", DAY))
    assert roles(entered) == {1: "champion", 2: "candidate"}


def test_a_newer_candidate_replaces_those_that_had_their_chance() -> None:
    """Only the candidates named are replaced."""
    one = structs.replace(START, line_up=after_enter(START, 2, "fine_tune", DAY))
    two = structs.replace(one, line_up=after_enter(one, 3, "fine_tune", 2 * DAY))
    three = structs.replace(two, line_up=after_enter(two, 4, "fine_tune", 3 * DAY, replaces=(2,)))
    assert roles(three) == {1: "champion", 3: "candidate", 4: "candidate"}


def test_a_promoted_fine_tune_leaves_its_base_on_call() -> None:
    """The champion that was its own base stays in the line-up, on call for the probation."""
    after = promoted(START, 2, "fine_tune")
    assert roles(after) == {2: "champion", 1: "previous"}
    assert after.line_up[1].until == 15 * DAY


def test_a_promoted_full_retrain_ends_fine_tune_candidacies() -> None:
    """Candidates that continue the old base leave when a new base is promoted."""
    waiting = structs.replace(START, line_up=after_enter(START, 2, "fine_tune", DAY))
    waiting = structs.replace(waiting, line_up=after_enter(waiting, 3, "full", DAY))
    assert roles(promoted(waiting, 3, "full")) == {3: "champion", 1: "previous"}


def test_settling_lets_the_previous_champion_go() -> None:
    """After the probation nobody is on call."""
    after = promoted(START, 2, "full")
    assert roles(structs.replace(after, line_up=after_settling(after))) == {2: "champion"}


def test_a_discarded_candidate_leaves() -> None:
    """Discarding takes exactly that candidate away."""
    entered = structs.replace(START, line_up=after_enter(START, 2, "full", DAY))
    assert after_discard(entered, 2) == START.line_up


@given(st.lists(st.tuples(st.sampled_from(["enter", "promote", "discard", "settle"]), st.booleans()), max_size=25))
def test_champion_and_base_always_predict(changes: list[tuple[str, bool]]) -> None:
    """Whatever happens, the champion comes first, its base predicts, and no version sits twice."""
    commit, number = START, 1
    for change, full in changes:
        kind: JobKind = "full" if full else "fine_tune"
        candidates = [entry for entry in commit.line_up if entry.role == "candidate"]
        if change == "enter":
            number += 1
            commit = structs.replace(commit, line_up=after_enter(commit, number, kind, number * DAY))
        elif change == "promote" and candidates:
            commit = promoted(commit, candidates[0].version, candidates[0].kind, number * DAY)
        elif change == "discard" and candidates:
            commit = structs.replace(commit, line_up=after_discard(commit, candidates[0].version))
        elif change == "settle":
            commit = structs.replace(commit, line_up=after_settling(commit))
        versions = versions_of(commit)
        assert versions[0] == commit.champion
        assert commit.base in versions
        assert len({entry.version for entry in commit.line_up}) == len(commit.line_up)
