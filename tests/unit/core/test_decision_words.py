"""Decisions in plain words, input drift, false discovery, baselines."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from demand_maint.core.baseline import (
    baseline_from_errors,
    refreshed_baseline,
)
from demand_maint.core.difficulty import usual_and_spread
from demand_maint.core.explain import explain, explain_record
from demand_maint.core.fdr import adjusted_p_values, normal_tail
from demand_maint.core.places import place_test
from demand_maint.core.policy import BRAKES
from demand_maint.core.psi import feature_drift, stability_index
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline

DAY = 86400.0
RECORD: dict[str, Any] = {
    "type": "decision",
    "at": 1_700_000_000.0,
    "action": "nothing",
    "proposed": "full_retrain",
    "rule": "critical_drift",
    "reason": "critical drift: ...",
    "blocked_by": "cooldown",
    "evidence": {
        "status": "critical",
        "mae": 3.2,
        "baseline_mae": 2.0,
        "degradation": 0.6,
        "raw_degradation": 1.1,
        "recent_degradation": 0.5,
        "method": "difficulty_adjusted",
        "n": 672,
        "statistic": 9.1,
        "retrain_threshold": 6.9,
        "retrain_alarm": True,
        "warn_alarm": True,
        "drift_since": 1_699_500_000.0,
        "places": [{"place": 17, "degradation": 1.04}],
        "feed": {"3": "constant"},
        "fine_tunes": 2,
        "days_since_full_retrain": 40.0,
        "days_since_update": 3.0,
    },
}


def test_a_held_decision_is_told_with_everything_it_rests_on() -> None:
    """The story must hold the brake, both readings of the error, the test, the places, the feed and the schedule."""
    told = explain([RECORD])
    for words in (
        "a full retrain was called for, but held back because the last training was too recent",
        "its error was 3.2 where 2 was to be expected (+60.0 %)",
        "Against the fixed baseline it would read +110.0 %",
        "The sequential test is in alarm: 9.1 of 6.9; the change seems to have begun on 2023-11-09",
        "17 (+104.0 %)",
        "3 (constant)",
        "The last full retrain was 40 days ago, the last update 3.0 days ago, 2 fine-tunes",
        "Rule: Critical drift (> 25 %) -> a full retrain.",
    ):
        assert words in told


def test_the_decision_in_force_at_a_time_is_told_with_what_came_of_it() -> None:
    """`at` must choose the last decision before it, and results up to the next decision belong to it."""
    second = RECORD | {"at": RECORD["at"] + 10, "action": "full_retrain", "blocked_by": None}
    result = {
        "type": "result",
        "at": RECORD["at"] + 20,
        "status": "rejected",
        "version": 5,
        "verdict": {"verdict": "worse", "relative": 0.04, "reasons": ["paired_daily"]},
    }
    records = [result, second, RECORD]
    assert "held back" in explain(records, RECORD["at"] + 5)
    later = explain(records)
    assert "a full retrain was decided" in later
    assert "it came to 'rejected' (version 5)" in later
    assert "'worse', +4.0 % against the champion [paired_daily]" in later
    assert "No decision had been made" in explain(records, RECORD["at"] - 1)
    assert "No decision has been made yet" in explain([])


@pytest.mark.parametrize("name", [brake.name for brake in BRAKES])
def test_every_brake_has_its_words(name: str) -> None:
    """No brake may be told by its program name."""
    assert f"because {name}" not in explain_record(RECORD | {"blocked_by": name})


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@example(record={"type": None, "at": 253402300800.0}, evidence={})
@given(
    st.dictionaries(st.sampled_from([*RECORD, "verdict", "status"]), JSON),
    st.dictionaries(st.sampled_from(list(RECORD["evidence"])), JSON),
)
def test_strange_records_are_told_as_far_as_they_go(record: dict[str, Any], evidence: dict[str, Any]) -> None:
    """A record of a newer release, or a damaged one, must never raise."""
    assert explain_record(record | {"evidence": evidence})
    assert explain([record | {"at": 1.0}, record])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_adjusted_p_values_are_an_order_preserving_bound(values: list[float]) -> None:
    """Adjustment must keep the order, never lower a p-value, and stay within 0 and 1."""
    p = np.array(values)
    adjusted = adjusted_p_values(p)
    assert (adjusted >= np.minimum(p, 1.0) - 1e-12).all()
    assert (adjusted <= 1.0).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-12).all()


def test_false_discoveries_stay_rare_among_dependent_places() -> None:
    """With a common shock in all tests, at most 10 % of the names may be false on average."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        z = 0.7 * rng.normal() + 0.7 * rng.normal(size=20)
        z[:4] += 4.0
        named = np.flatnonzero(adjusted_p_values(normal_tail(z)) <= 0.1)
        shares.append(float((named >= 4).mean()) if len(named) else 0.0)
    assert np.mean(shares) <= 0.1


def test_a_shared_storm_names_nobody() -> None:
    """When every place's error triples together, no single place may be named."""
    rng = np.random.default_rng(1)
    error, naive = np.exp(rng.normal(0, 0.2, (20, 42))), np.exp(rng.normal(0, 0.2, (20, 42)))
    error[:, -5:] *= 3.0
    assert not (place_test(error, naive, 14).p_values <= 0.1).any()


def test_places_without_enough_past_are_not_judged() -> None:
    """A place with under a week of reference has no p-value, and two places are the least to compare."""
    error = np.exp(np.random.default_rng(2).normal(0, 0.2, (5, 42)))
    error[0, :25] = np.nan
    test = place_test(error, np.ones_like(error), 14)
    assert np.isnan(test.p_values[0])
    assert np.isfinite(test.p_values[1:]).all()
    assert np.isnan(place_test(error[:1], error[:1], 14).p_values).all()


def test_input_drift_is_small_for_the_same_and_large_for_other_inputs() -> None:
    """PSI must be near 0 for the same distribution and above 0.25 for one moved by a standard deviation."""
    rng = np.random.default_rng(3)
    quantiles = np.quantile(rng.normal(size=20_000), np.linspace(0, 1, 11)).tolist()
    same, moved = stability_index(rng.normal(size=5000), quantiles), stability_index(rng.normal(1, 1, 5000), quantiles)
    assert same is not None
    assert moved is not None
    assert same < 0.02
    assert moved > 0.5


def test_input_drift_copes_with_features_of_few_values() -> None:
    """A flag of two values, and one that is mostly zero, must show no drift against themselves."""
    rng = np.random.default_rng(4)
    for values in (
        rng.integers(0, 2, 4000).astype(float),
        np.where(rng.random(4000) < 0.95, 0.0, 1.0),
        np.full(4000, 3.0),
    ):
        index = stability_index(values, np.quantile(values, np.linspace(0, 1, 11)).tolist())
        assert index is not None
        assert index < 0.1


def test_features_that_changed_and_matter_come_first() -> None:
    """The order must weigh the change by the feature's importance, and say both in words."""
    rng = np.random.default_rng(5)
    quantiles = np.quantile(rng.normal(size=5000), np.linspace(0, 1, 11)).tolist()
    columns = {
        "lag": rng.normal(1, 1, 1000),
        "noise": rng.normal(1, 1, 1000),
        "hour": rng.normal(size=1000),
        "new": np.full(10, np.nan),
    }
    found = feature_drift(
        columns, dict.fromkeys(("lag", "noise", "hour"), quantiles), {"lag": 60.0, "noise": 1.0, "hour": 30.0}
    )
    assert found[0].feature == "lag"
    assert "changed (PSI" in found[0].words
    assert "60 % of the model's importance" in found[0].words
    last = next(f for f in found if f.feature == "new")
    assert (last.psi, last.missing) == (None, 1.0)
    assert "nothing to compare" in last.words


GRID = TimeGrid("UTC", 3600)


def rows(days: int, error: float, naive: float) -> tuple[Any, ...]:
    """Return hourly out-of-sample rows of that many days."""
    stamps = np.arange(days * 24) * 3600.0
    swing = np.repeat(np.exp(np.random.default_rng(6).normal(0, 0.1, days)), 24)
    return stamps, np.full(days * 24, error) * swing, np.full(days * 24, naive), np.full(days * 24, 20.0), GRID


def test_a_baseline_of_rows_holds_error_skill_and_noise() -> None:
    """MAE, skill, days and the start of the sequential test must come out of the holdout's rows."""
    baseline = baseline_from_errors(*rows(14, 2.0, 4.0), places=np.zeros(14 * 24))
    assert baseline is not None
    assert baseline.mae == pytest.approx(2.0, rel=0.1)
    assert baseline.skill == pytest.approx(0.5, rel=0.1)
    assert baseline.log_scale == pytest.approx(0.1, rel=0.8)
    assert (baseline.days, baseline.log_days) == (14, 14)
    assert baseline.log_centre is not None
    stamps, own, naive, actual, grid = rows(14, 2.0, 4.0)
    without = baseline_from_errors(stamps, own, np.full_like(naive, np.nan), actual, grid)
    assert without is not None
    assert without.skill is None
    assert baseline_from_errors(stamps, np.full_like(own, np.nan), naive, actual, grid) is None


def test_one_odd_day_does_not_widen_the_noise() -> None:
    """The noise estimate must shrug at a single day of ten times the error."""
    errors = np.exp(np.random.default_rng(7).normal(0, 0.1, 30))
    odd = errors.copy()
    odd[10] *= 10
    usual, spread = usual_and_spread(np.log(errors))
    assert usual_and_spread(np.log(odd)) == pytest.approx((usual, spread), abs=0.02)


def test_a_baseline_is_refreshed_only_from_weeks_in_control_and_by_little() -> None:
    """One day of alarm forbids it; otherwise the skill moves by at most 5 %."""
    days = {
        name: np.full(28, value)
        for name, value in {
            "n": 24.0,
            "abs_error": 72.0,
            "naive_n": 24.0,
            "naive_abs_error": 96.0,
            "abs_error_naive": 72.0,
            "abs_actual": 480.0,
        }.items()
    }
    old = Baseline(mae=2.0, skill=0.5, naive_mae=4.0)
    control = np.ones(28, dtype=bool)
    fresh = refreshed_baseline(old, days, control, since=0.0, until=28 * DAY)
    assert fresh is not None
    assert fresh.skill == pytest.approx(0.525)
    assert fresh.source == "refreshed"
    control[3] = False
    assert refreshed_baseline(old, days, control, since=0.0, until=28 * DAY) is None
