"""The scorecard's small tier: what was promised of the detectors holds, and beats what a user would pick instead."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.detector_costs import costs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def card(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The small tier; with ``--big`` the full one, real streams included."""
    big = bool(request.config.getoption("--big"))
    command = [sys.executable, "-m", "benchmarks.detector_scorecard", "--json", *(["--full"] if big else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("kind", "delay", "share"), [("synthetic 500 rows", 7, 0.95), ("synthetic 30 rows", 18, 0.8)])
def test_false_alarms_are_rare_and_shifts_found_soon(
    card: dict[str, Any], kind: str, delay: float, share: float
) -> None:
    """At most two false retrain-grade alarms a year (1.2 in the full tier), and +30 % found within days."""
    ours = card["streams"][kind]["ours, retrain"]
    assert ours["false_a_year"] <= 2.0
    assert ours["+30 %"][0] <= delay
    assert ours["+30 %"][1] >= share


@pytest.mark.parametrize("kind", ["synthetic 500 rows", "synthetic 30 rows"])
@pytest.mark.parametrize("other", ["raw 7 d > 15 %", "raw 7 d > 25 %", "River ADWIN, raw", "River Page-Hinkley, raw"])
def test_it_beats_every_row_it_is_compared_with(card: dict[str, Any], kind: str, other: str) -> None:
    """Every other detector must either raise far more false alarms or find fewer shifts of 30 % within 30 days."""
    rows = card["streams"][kind]
    ours, theirs = rows["ours, retrain"], rows[other]
    assert theirs["false_a_year"] > 3 * ours["false_a_year"] or theirs["+30 %"][1] < ours["+30 %"][1]


@pytest.mark.parametrize("kind", ["synthetic 500 rows", "synthetic 30 rows"])
def test_it_beats_rivals_tuned_to_the_same_false_alarms(card: dict[str, Any], kind: str) -> None:
    """A rival whose threshold was moved until it keeps the budget must find fewer +30 % within 30 days, or as many later."""
    rows = card["streams"][kind]
    tuned = [row for name, row in rows.items() if "tuned" in name and not name.startswith("ours")]
    delay, share = rows["ours, retrain"]["+30 %"]
    assert len(tuned) == 4
    assert all((-row["+30 %"][1], row["+30 %"][0]) > (-share, delay) for row in tuned)


def test_a_doubled_place_is_named(card: dict[str, Any]) -> None:
    """One place of twenty must be named within days, with few false names."""
    places = card["places"]
    assert places["median days until the doubled place is named"] <= 4
    assert places["false-discovery rate"] <= 0.1


def test_broken_feeds_train_nothing_and_are_named(card: dict[str, Any]) -> None:
    """Every injected feed fault must be named while it lasts, train nothing, and leave by itself."""
    feeds = card["feeds"]
    assert feeds["trainings"] == 0
    assert feeds["named as feed faults"] == feeds["faults injected"]
    assert feeds["judged again by themselves a week after the fault"] == feeds["faults injected"]


def test_clock_changes_and_unusual_weeks_train_nothing(card: dict[str, Any]) -> None:
    """A change of the clocks, holiday weeks and busy ones, listed or not, must train nothing; a change that stays must."""
    weeks = card["weeks"]
    for name in [name for name in weeks if name.startswith("runs without")]:
        quiet, runs = (int(part) for part in weeks[name].split(" of "))
        assert quiet >= 0.75 * runs, name
    assert weeks["median days until a training, demand falls by 40 % and stays"] <= 14


def test_costs_can_be_measured() -> None:
    """The table of costs must name an update of the detector and a check over places."""
    rows = costs(places=3, days=40)
    assert [row["what"] for row in rows[:2]] == ["detector update", "check over 3 places x 7 days"]
    assert all(row["us"] > 0 for row in rows)
