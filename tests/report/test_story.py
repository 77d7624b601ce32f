"""From sums, commits and decisions to what the report tells."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from demand_maint.config import Config
from demand_maint.core.chronicle import (
    check_spans,
    commit_events,
    decision_events,
    feed_spans,
    reigns,
    upcoming,
    verdict_words,
)
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.health import HealthReport
from demand_maint.core.ledger import LedgerFacts, MaintenanceLedger, Started
from demand_maint.core.metrics import HourlySums
from demand_maint.core.place_story import place_ratios
from demand_maint.core.records import MaturedBatch
from demand_maint.core.serving import Member, ServingSnapshot
from demand_maint.core.story import StorySources, tell_story
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline, Commit, GateVerdict, LineUpEntry
from demand_maint.core.view import PlaceId

DAY = 86400.0
START = 1_356_998_400.0  # 2013-01-01T00Z


@dataclass
class View:
    sums: HourlySums
    feed: FeedSums
    places: list[PlaceId]
    grid: TimeGrid
    newest: float | None


def year(days: int = 60, places: int = 3, zone: str = "UTC", every: float = 3600.0) -> View:
    """Sums of a model with error 8 where the naive has 10, and one place that doubles in the last two weeks."""
    slots = np.arange(START, START + days * DAY, every)
    slot, place = np.repeat(slots, places), np.tile(np.arange(places, dtype=np.uint32), len(slots))
    n = len(slot)
    bad = (place == 1) & (slot >= START + (days - 14) * DAY)
    predicted = np.where(bad, 116.0, 108.0)
    sums = HourlySums()
    sums.add(
        MaturedBatch(
            place=place,
            slot=slot.astype(np.int64),
            version=np.where(slot < START + days / 2 * DAY, 1, 2).astype(np.uint16),
            predicted=predicted,
            served=np.full(n, 106.0),
            actual=np.full(n, 100.0),
            naive=np.full(n, 110.0),
            members=np.empty((n, 0), dtype=np.float32),
            snapshot=np.zeros(n, dtype=np.uint32),
            observed_at=slot + 7200.0,
        )
    )
    ids: list[PlaceId] = ["a", "b", 3]
    return View(sums, FeedSums(), ids[:places], TimeGrid(zone, 3600), float(slots[-1]))


BASELINE = Baseline(mae=8.0, skill=0.8, naive_mae=10.0, log_scale=0.1)
COMMITS = (
    Commit(number=1, action="init", at=START, champion=1, base=1, baseline=BASELINE, who="test"),
    Commit(
        number=2,
        action="enter",
        at=START + 20 * DAY,
        champion=1,
        base=1,
        subject=2,
        baseline=BASELINE,
        line_up=(LineUpEntry(version=2, role="candidate", entered_at=START + 20 * DAY),),
    ),
    Commit(
        number=3,
        action="promote",
        at=START + 30 * DAY,
        champion=2,
        base=1,
        baseline=BASELINE,
        why="proved itself",
        verdict=GateVerdict(verdict="not_worse", method="live", relative=-0.02, low=-0.03, high=-0.01, days=7),
        line_up=(LineUpEntry(version=1, role="previous", entered_at=START + 30 * DAY, until=START + 44 * DAY),),
    ),
)


def decision(at: float, status: str = "healthy", **more: Any) -> dict[str, Any]:
    """Return one line of the decision journal."""
    evidence = {"status": status, "mae": 8.0, "baseline_mae": 8.0, "degradation": 0.01, "n": 168} | more.pop(
        "evidence", {}
    )
    return {
        "type": "decision",
        "at": at,
        "action": "nothing",
        "rule": "none",
        "reason": "",
        "evidence": evidence,
    } | more


def test_a_story_tells_the_errors_of_each_day() -> None:
    """Champion, served, naive and expected error of a day are the sums of that day, whoever was champion."""
    story = tell_story(StorySources(name="r", now=START + 60 * DAY, config=Config(), view=year(), commits=COMMITS))
    assert len(story.days) == 60
    assert story.champion[0] == 8.0
    assert story.served[-1] == 6.0
    assert story.naive[5] == 10.0
    assert story.expected[5] == 8.0
    assert story.low[5] is not None
    assert story.low[5] < 8.0 < (story.high[5] or 0.0)


def test_a_place_that_doubled_is_the_worst() -> None:
    """The heat map holds every place, and the ratio of the one that doubled says so."""
    story = tell_story(StorySources(name="r", now=START + 60 * DAY, config=Config(), view=year(), commits=COMMITS))
    worst = max(story.places, key=lambda row: row.ratio or 0.0)
    assert worst.place == "b"
    assert worst.ratio == pytest.approx(2.0, abs=0.01)
    assert {row.place for row in story.places} == {"a", "b", "3"}
    assert story.periods[0] == START


def test_a_long_history_is_told_in_bins() -> None:
    """Three years are told in at most 740 bins that cover every day once."""
    story = tell_story(
        StorySources(name="r", now=START + 1100 * DAY, config=Config(), view=year(1100, 1), commits=COMMITS)
    )
    assert 500 < len(story.days) <= 740
    assert story.days[1] - story.days[0] == 2 * DAY


def test_weights_are_told_by_role() -> None:
    """Members are named by the role they stand in, and their shares of each day sum to one."""
    members = (Member(1), Member(1, calibrated=True), Member(2), Member(0))
    weights = np.tile(np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32), (4, 1))
    levels = np.tile(np.array([1.1, 1.0, 1.0], dtype=np.float32), (4, 1))
    snapshot = ServingSnapshot(1, START + 10 * DAY, (1, 2, 0), members, ("a", "b", 3), weights, levels)
    story = tell_story(
        StorySources(
            name="r",
            now=START + 60 * DAY,
            config=Config(),
            view=year(),
            commits=COMMITS[:2],
            snapshots=(snapshot,),
        )
    )
    assert [member.name for member in story.members] == [
        "champion",
        "champion, level-calibrated",
        "candidate",
        "seasonal naive",
    ]
    assert story.members[0].weights[5] is None
    assert sum(member.weights[20] or 0.0 for member in story.members) == pytest.approx(1.0)
    assert story.levels[20] == pytest.approx(1.1)


def test_an_empty_root_has_a_story() -> None:
    """Without data or commits the story says so and does not fail."""
    story = tell_story(StorySources(name="r", now=START, config=Config()))
    assert story.days == ()
    assert "No model" in story.verdict
    assert story.upcoming[0].what == "Next check"


def test_commits_become_marks_and_reigns() -> None:
    """Every commit that changed something is a mark with its verdict; reigns meet without a gap."""
    events = commit_events(COMMITS)
    assert [event.kind for event in events] == ["deploy", "enter", "deploy"]
    assert events[1].title == "Version 2 entered the line-up"
    assert "not worse on live truth: -2.0 %" in events[2].detail
    spans = reigns(COMMITS, START + 60 * DAY)
    assert [span.label for span in spans] == ["v1", "v2"]
    assert spans[0].until == spans[1].since == START + 30 * DAY


def test_checks_of_one_status_are_one_stretch() -> None:
    """Checks are told in stretches of equal status, each with what was decided in it."""
    records = [decision(START + i * 21600.0) for i in range(4)]
    records += [
        decision(START + i * 21600.0, "degraded", proposed="fine_tune", blocked_by="cooldown") for i in range(4, 6)
    ]
    spans = check_spans(records, START + 2 * DAY)
    assert [(span.tone, span.title) for span in spans] == [
        ("good", "4 checks: healthy"),
        ("warn", "2 checks: degraded"),
    ]
    assert "4 x nothing to do" in spans[0].detail
    assert "2 x Fine-tune held back: cooldown" in spans[1].detail
    assert spans[0].until == spans[1].since


def test_drift_and_trainings_are_marked_once() -> None:
    """The onset of drift is one mark, however many checks see it; trainings and failures are marks of their own."""
    records = [
        decision(START),
        decision(START + 1, "degraded", evidence={"degradation": 0.2, "places": [{"place": "b", "degradation": 1.04}]}),
        decision(START + 2, "critical", action="full_retrain", reason="critical drift"),
        {"type": "outcome", "at": START + 3, "status": "failed", "action": "full_retrain", "reason": "killed"},
        {
            "type": "outcome",
            "at": START + 4,
            "status": "rejected",
            "action": "fine_tune",
            "reason": "gate",
            "version": None,
        },
        decision(START + 5),
        decision(START + 6, "degraded"),
    ]
    events = decision_events(records)
    assert [event.kind for event in events] == ["drift", "train", "fail", "reject", "drift"]
    assert "b +104.0 %" in events[0].detail


def test_feed_faults_begin_and_end() -> None:
    """A fault lasts from the first check that names it to the first that does not, or to now."""
    records = [
        decision(START, evidence={"feed": {"a": "constant"}}),
        decision(START + 100, evidence={"feed": {"a": "constant", "b": "unit"}}),
        decision(START + 200, evidence={"feed": {"b": "unit"}}),
    ]
    spans = feed_spans(records, START + 300)
    assert [(span.title, span.since - START, span.until - START) for span in spans] == [
        ("a: constant", 0, 200),
        ("b: unit", 100, 300),
    ]


def test_what_comes_next_follows_the_policy() -> None:
    """Check, fine-tune, full retrain, verdicts and the end of probation are named with their dates, in order."""
    facts = LedgerFacts.from_commits(COMMITS)
    ledger = MaintenanceLedger(last_check_at=START + 31 * DAY).after(Started(kind="fine_tune"), START + 31 * DAY)
    rows = upcoming(Config(), facts, ledger, COMMITS[-1], START + 31 * DAY)
    due = {row.what: ((row.at or 0.0) - START) / DAY for row in rows}
    assert due["Next check"] == 31.25
    assert due["Cooldown ends"] == 32
    assert due["Fine-tune"] == 31, "version 2 dates from its training on day 20, so it is due at once"
    assert due["Full retrain"] == 90
    assert due["End of version 2's probation"] == 44
    assert list(due.values()) == sorted(due.values())


def test_verdicts_read_as_sentences() -> None:
    """A verdict names its method, its figures and its days; without figures its reasons."""
    assert verdict_words(None) == ""
    assert (
        verdict_words(GateVerdict(verdict="unproven", method="metadata", reasons=("no_metrics",)))
        == "unproven by its metadata: no_metrics"
    )


def test_health_is_told_in_a_sentence() -> None:
    """The verdict says how far from the expected error the champion is, and the facts hold the figures."""
    health = HealthReport(status="degraded", mae=9.6, baseline_mae=8.0, degradation=0.2, skill=0.96, served_mae=7.0)
    story = tell_story(StorySources(name="r", now=START, config=Config(), commits=COMMITS, health=health))
    assert "20 % above what was to be expected" in story.verdict
    assert {label: value for label, value, _ in story.facts}["Seasonal naive"] == "10.0"


def test_a_place_that_was_always_hard_does_not_stand_out() -> None:
    """What is usual for a place is its own: only one that has become worse than it was is among the worst."""
    expected = np.full((3, 12), 10.0)
    error = expected * np.array([[0.5], [2.0], [0.5]])
    error[2, 8:] *= 1.5
    ratios, late = place_ratios(error, expected, first=4, recent=4)
    assert np.allclose(ratios[:2], 1.0, atol=0.05)
    assert np.argmax(late) == 2
    assert late[2] == pytest.approx(1.5, abs=0.05)


def test_a_place_with_next_to_no_demand_does_not_stand_out() -> None:
    """Many times the error of nearly nothing is nearly nothing: no cell tells of it, nor one with too few rows."""
    expected = np.full((3, 12), 10.0)
    expected[1], expected[2, 6:] = 0.01, 0.0
    error = np.full((3, 12), 10.0)
    error[1], error[2, 6:], error[0, 5] = 0.05, 0.05, np.nan
    ratios, late = place_ratios(error, expected, first=4, recent=4)
    assert np.isfinite(ratios).sum(axis=1).tolist() == [11, 0, 6]
    assert np.isfinite(late).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("every", "days", "period"), [(DAY, 365, 28), (3600.0, 365, 7), (3600.0, 30, 1), (DAY, 30, 28)]
)
def test_a_cell_of_the_map_holds_enough_rows_to_judge_by(every: float, days: int, period: int) -> None:
    """Daily demand is told by four weeks, hourly by the week, a month of it by the day."""
    story = tell_story(
        StorySources(
            name="r",
            now=START + days * DAY,
            config=Config(),
            view=year(days, every=every),
            commits=COMMITS,
            since=START,
        )
    )
    assert story.period_days == period
