"""Verdicts: paired daily errors in, one of not_worse, worse, inconclusive out."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from demand_maint.config import PolicyConfig
from demand_maint.core.promotion import (
    PROBATION_LOOKS,
    candidate_verdict,
    gate_verdict,
    metadata_verdict,
    paired_test,
    probation_verdict,
    rollback_allowed,
)
from demand_maint.core.sampling import PairedDays

POLICY = PolicyConfig()
DAY = 86400.0


def stream(
    rng: np.random.Generator, days: int, *, effect: float = 0.0, scatter: float = 0.04, correlation: float = 0.0
) -> PairedDays:
    """Daily errors of two models whose relative daily difference has mean `effect` and that scatter and lag-one correlation."""
    level = 100.0 * np.exp(rng.normal(0.0, 0.25, days))
    noise = np.empty(days)
    noise[0] = rng.normal()
    for i in range(1, days):
        noise[i] = correlation * noise[i - 1] + np.sqrt(1 - correlation**2) * rng.normal()
    return PairedDays(np.arange(days), level, level * (1.0 + effect + scatter * noise), np.full(days, 24.0))


def live_outcome(pairs: PairedDays, policy: PolicyConfig = POLICY) -> tuple[str, int]:
    """Ask every day, as the maintainer does; the first word and the day it came."""
    for today in range(1, len(pairs) + 1):
        verdict = candidate_verdict(pairs, policy, entered_at=0.0, now=today * DAY, today=today)
        if verdict.verdict != "inconclusive":
            return verdict.verdict, today
        if "expired" in verdict.reasons:
            return "expired", today
    return "inconclusive", len(pairs)


def probation_outcome(pairs: PairedDays, policy: PolicyConfig = POLICY, since: int = 0) -> tuple[str, int]:
    """Ask at every look of a probation that began on day `since` and at its end; the first word and the day it came."""
    looks = [since + days for days, _ in PROBATION_LOOKS if since + days < len(pairs)]
    for today in (*looks, len(pairs)):
        verdict = probation_verdict(pairs, policy, since_day=since, today=today)
        if verdict.verdict != "inconclusive":
            return verdict.verdict, today - since
    return "inconclusive", len(pairs) - since


def share(outcomes: Sequence[str], word: str) -> float:
    """How often `word` came."""
    return sum(outcome == word for outcome in outcomes) / len(outcomes)


@pytest.fixture
def trials(big: bool) -> int:
    """200 in CI; enough for two digits behind --big."""
    return 20_000 if big else 200


@pytest.fixture
def probations(big: bool) -> int:
    """A probation is judged at few looks, so CI has the time for more of them."""
    return 20_000 if big else 1000


def test_the_gate_discards_a_five_per_cent_worse_challenger(trials: int) -> None:
    """A challenger that is truly 5 % worse is promoted in at most 2 % of trials at a daily scatter of 4 %."""
    rng = np.random.default_rng(7)
    outcomes = [gate_verdict(stream(rng, 7, effect=0.05), POLICY).verdict for _ in range(trials)]
    assert share(outcomes, "not_worse") <= 0.02


def test_the_gate_promotes_an_equal_challenger(trials: int) -> None:
    """A challenger that is as good is promoted in at least 80 % of trials at a daily scatter of 4 %."""
    rng = np.random.default_rng(8)
    outcomes = [gate_verdict(stream(rng, 7), POLICY).verdict for _ in range(trials)]
    assert share(outcomes, "not_worse") >= 0.80


def test_live_truth_discards_a_five_per_cent_worse_candidate(trials: int) -> None:
    """Asked every day for four weeks, a 5 % worse candidate is promoted in at most 2 % of trials."""
    rng = np.random.default_rng(9)
    outcomes = [live_outcome(stream(rng, 28, effect=0.05))[0] for _ in range(trials)]
    assert share(outcomes, "not_worse") <= 0.02


def test_live_truth_promotes_an_equal_candidate(trials: int) -> None:
    """Asked every day for four weeks, an equal candidate is promoted in at least 80 % of trials."""
    rng = np.random.default_rng(10)
    outcomes = [live_outcome(stream(rng, 28))[0] for _ in range(trials)]
    assert share(outcomes, "not_worse") >= 0.80


@pytest.mark.parametrize(("correlation", "allowed"), [(0.3, 0.06), (0.5, 0.1)])
def test_correlated_days_do_not_promote_the_worse(trials: int, correlation: float, allowed: float) -> None:
    """Where neighbouring days share their luck, few 5 % worse candidates pass: 4 % at a correlation of 0.3, 7 % at 0.5 (20 000 trials)."""
    rng = np.random.default_rng(11)
    gate = [gate_verdict(stream(rng, 7, effect=0.05, correlation=correlation), POLICY).verdict for _ in range(trials)]
    live = [live_outcome(stream(rng, 28, effect=0.05, correlation=correlation))[0] for _ in range(trials)]
    assert share(gate, "not_worse") <= allowed
    assert share(live, "not_worse") <= allowed


def test_noise_is_inconclusive(trials: int) -> None:
    """At a daily scatter of 15 % a week of truth mostly says nothing, and rarely promotes what is 5 % worse."""
    rng = np.random.default_rng(12)
    equal = [gate_verdict(stream(rng, 7, scatter=0.15), POLICY).verdict for _ in range(trials)]
    worse = [gate_verdict(stream(rng, 7, scatter=0.15, effect=0.05), POLICY).verdict for _ in range(trials)]
    assert share(equal, "inconclusive") >= 0.6
    assert share(worse, "not_worse") <= 0.1


@pytest.mark.parametrize("candidacy", [0, 8])
@pytest.mark.parametrize(
    ("scatter", "correlation"),
    [(0.04, 0.0), (0.04, 0.5), (0.08, 0.3), (0.1, 0.3), (0.15, 0.0), (0.15, 0.3), (0.3, 0.0), (0.3, 0.3)],
)
def test_a_good_deploy_is_not_rolled_back(probations: int, scatter: float, correlation: float, candidacy: int) -> None:
    """An equal model survives its probation in at least 98 % of deploys, noisy and correlated streams included."""
    rng = np.random.default_rng(13)
    outcomes = []
    for _ in range(probations):
        pairs = stream(rng, 14 + candidacy, scatter=scatter, correlation=correlation)
        outcomes.append(probation_outcome(pairs, since=candidacy)[0])
    assert share(outcomes, "worse") <= 0.02


def test_the_days_before_a_promotion_only_tell_the_scatter() -> None:
    """Bad days as a candidate do not count against a champion, but wild ones make a rollback wait."""
    calm = np.full(8, 100.0)
    wild = 100.0 * np.array([0.4, 1.6, 0.5, 1.5, 0.4, 1.6, 0.5, 1.5])
    verdicts = {}
    for name, before in (("calm", calm), ("bad", 1.5 * calm), ("wild", wild)):
        pairs = PairedDays(
            np.arange(12), np.full(12, 100.0), np.concatenate([before, [128.0, 122.0, 126.0, 124.0]]), np.full(12, 24.0)
        )
        verdicts[name] = probation_verdict(pairs, POLICY, since_day=8, today=12)
    assert verdicts["calm"].verdict == verdicts["bad"].verdict == "worse"
    assert verdicts["wild"].verdict == "inconclusive"
    assert {verdict.relative for verdict in verdicts.values()} == {0.25}
    assert verdicts["wild"].days == 4


@pytest.mark.parametrize("candidacy", [0, 8])
@pytest.mark.parametrize("correlation", [0.0, 0.3])
@pytest.mark.parametrize("scatter", [0.04, 0.08, 0.1])
def test_a_regression_is_rolled_back_within_four_days(
    probations: int, scatter: float, correlation: float, candidacy: int
) -> None:
    """A model that is 25 % worse is rolled back after at most four days of labels in the median."""
    rng, outcomes = np.random.default_rng(14), []
    for _ in range(probations):
        pairs = stream(rng, 14 + candidacy, scatter=scatter, correlation=correlation)
        worse = np.where(pairs.day >= candidacy, 1.25, 1.0)
        pairs = PairedDays(pairs.day, pairs.champion, pairs.challenger + pairs.champion * (worse - 1.0), pairs.n)
        outcomes.append(probation_outcome(pairs, since=candidacy))
    assert np.median([day if word == "worse" else 99 for word, day in outcomes]) <= 4


def test_between_two_looks_nothing_is_looked_at() -> None:
    """Bad days after a look count at the next one, not before; what a look found stays found until then."""
    quiet, bad = np.full(4, 101.0), np.full(3, 200.0)
    pairs = PairedDays(np.arange(7), np.full(7, 100.0), np.concatenate([quiet, bad]), np.full(7, 24.0))
    verdicts = [probation_verdict(pairs, POLICY, since_day=0, today=today) for today in range(4, 8)]
    assert [(verdict.verdict, verdict.days) for verdict in verdicts[:3]] == [("inconclusive", 4)] * 3
    assert (verdicts[3].verdict, verdicts[3].days) == ("inconclusive", 7)
    first_bad = PairedDays(pairs.day, pairs.champion, np.concatenate([quiet + 30.0, quiet[:3]]), pairs.n)
    assert [probation_verdict(first_bad, POLICY, since_day=0, today=today).verdict for today in range(4, 7)] == [
        "worse"
    ] * 3


def test_a_hard_week_rolls_nothing_back() -> None:
    """Both models' errors trebling together is no regression."""
    rng = np.random.default_rng(15)
    pairs = stream(rng, 14)
    hard = PairedDays(pairs.day, pairs.champion * 3, pairs.challenger * 3, pairs.n)
    assert probation_outcome(hard) == probation_outcome(pairs)
    assert probation_outcome(hard)[0] == "not_worse"


def test_too_few_days_are_no_verdict() -> None:
    """Six days are too few whatever they show."""
    verdict = gate_verdict(stream(np.random.default_rng(1), 6, effect=-0.5), POLICY)
    assert (verdict.verdict, verdict.reasons) == ("inconclusive", ("too_few_days",))


def test_an_undecided_candidate_expires() -> None:
    """After 28 days without a decision the verdict says so."""
    pairs = stream(np.random.default_rng(3), 28, effect=0.01, scatter=0.5)
    verdict = candidate_verdict(pairs, POLICY, entered_at=0.0, now=28 * DAY)
    assert verdict.verdict == "inconclusive"
    assert "expired" in verdict.reasons


def test_days_before_entering_and_today_do_not_count() -> None:
    """Only whole days after entering are judged."""
    pairs = stream(np.random.default_rng(3), 20)
    verdict = candidate_verdict(pairs, POLICY, entered_at=0.0, now=20 * DAY, entered_day=5, today=15)
    assert verdict.days == 10


def test_forgetting_the_reference_set_is_worse() -> None:
    """A challenger that wins the holdout and loses the reference set is discarded."""
    pairs = stream(np.random.default_rng(4), 7, effect=-0.1)
    assert gate_verdict(pairs, POLICY).verdict == "not_worse"
    verdict = gate_verdict(pairs, POLICY, reference=0.4)
    assert (verdict.verdict, verdict.reasons[-1]) == ("worse", "reference_worse")


def test_nothing_to_compare_is_no_test() -> None:
    """Without days, or without a single error, there is no figure and no warning."""
    empty = np.zeros(0)
    assert paired_test(PairedDays(np.zeros(0, dtype=np.int64), empty, empty, empty)) is None
    assert paired_test(PairedDays(np.arange(9), np.zeros(9), np.ones(9), np.ones(9))) is None
    assert gate_verdict(PairedDays(np.arange(9), np.zeros(9), np.ones(9), np.ones(9)), POLICY).verdict == "inconclusive"


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 10_000)), min_size=1, max_size=40))
@example([(2.2250738585e-313, 1.0, 1)])
def test_any_errors_give_finite_figures(days: list[tuple[float, float, int]]) -> None:
    """Whatever the errors are, a verdict's figures are finite or absent."""
    champion, challenger, n = (np.array(column, dtype=np.float64) for column in zip(*days, strict=True))
    pairs = PairedDays(np.arange(len(days)), champion, challenger, n)
    for verdict in (gate_verdict(pairs, POLICY), *(probation_verdict(pairs, POLICY, since_day=day) for day in (0, 8))):
        for figure in (verdict.relative, verdict.low, verdict.high, verdict.champion_mae, verdict.challenger_mae):
            assert figure is None or np.isfinite(figure)


@given(st.floats(0.1, 10.0), st.integers(0, 1000))
def test_units_do_not_matter(factor: float, seed: int) -> None:
    """Measuring demand in other units changes no verdict."""
    pairs = stream(np.random.default_rng(seed), 10, effect=0.02)
    scaled = PairedDays(pairs.day, pairs.champion * factor, pairs.challenger * factor, pairs.n)
    one, two = paired_test(pairs), paired_test(scaled)
    assert one is not None
    assert two is not None
    assert two.relative == pytest.approx(one.relative)
    assert two.error == pytest.approx(one.error)


@pytest.mark.parametrize(
    ("champion", "challenger", "word"),
    [
        (10.0, 10.1, "unproven"),
        (10.0, 10.3, "worse"),
        (10.0, 9.0, "unproven"),
        (None, 9.0, "unproven"),
        (10.0, float("nan"), "unproven"),
        (0.0, 1.0, "worse"),
    ],
)
def test_metadata_only_claims(champion: float | None, challenger: float | None, word: str) -> None:
    """An operator's deploy compares what the two metadata claim: clearly worse is refused, the rest recorded as unproven."""
    assert metadata_verdict(champion, challenger, POLICY).verdict == word


def test_the_rollback_budget_is_three_a_month() -> None:
    """The fourth automatic rollback within thirty days is only advice."""
    now = 100 * DAY
    assert rollback_allowed([now - DAY, now - 2 * DAY], now, POLICY)
    assert not rollback_allowed([now - DAY, now - 2 * DAY, now - 29 * DAY], now, POLICY)
    assert rollback_allowed([now - DAY, now - 2 * DAY, now - 31 * DAY], now, POLICY)
