"""What verdicts on models are worth: ``python -m benchmarks.verdict_trials [--full] [--json]``.

Streams of paired daily errors whose relative difference has a known mean, scatter and lag-one correlation, judged by the library's
own rules. Probation: how often an equal model is rolled back, and after how many days of labels one that is 25 % worse is (median;
- where most are not within two weeks), the previous champion known from nothing before or from eight days of candidacy. Beside it
what is possible at all: the first day on which the most powerful test of one look at 2 % finds such a model in half of the trials,
knowing scatter and correlation (`known`), or from the days at hand alone, right at every correlation tried (`own`). A test that
looks on several days has to share its 2 % among them.

Then how soon a model that is 25 % worse loses half of its weight (`weight_trials`), and the holdout gate and live promotion: how often
a challenger that is 5 % worse, or equal, is promoted.

The short tier takes 500 trials of each kind, ``--full`` 20 000 (ten minutes).
"""

import argparse
import json
import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.weight_trials import weights_lost
from demand_maint.config import PolicyConfig
from demand_maint.core.promotion import PROBATION_LOOKS, candidate_verdict, gate_verdict, probation_verdict
from demand_maint.core.sampling import PairedDays

__all__ = ["paired_stream", "probation_day", "promotions", "trials"]

POLICY = PolicyConfig()
DAY, DAYS, CANDIDACY = 86400.0, 14, 8
SCATTERS, CORRELATIONS = (0.04, 0.08, 0.10, 0.15, 0.30), (0.0, 0.3)
REGRESSION, RISK, RISK_Z = 0.25, 0.02, 2.054
Floats = NDArray[np.float64]


def paired_stream(
    rng: np.random.Generator,
    days: int,
    *,
    effect: float = 0.0,
    scatter: float = 0.04,
    correlation: float = 0.0,
    since: int = 0,
) -> PairedDays:
    """Daily errors of two models; from day `since` on their relative difference has mean `effect`, before it 0."""
    level = 100.0 * np.exp(rng.normal(0.0, 0.25, days))
    noise = rng.normal(size=days)
    for i in range(1, days):
        noise[i] = correlation * noise[i - 1] + math.sqrt(1 - correlation**2) * noise[i]
    shift = np.where(np.arange(days) >= since, effect, 0.0)
    return PairedDays(np.arange(days), level, level * (1.0 + shift + scatter * noise), np.full(days, 24.0))


def probation_day(pairs: PairedDays, since: int) -> float:
    """Days of labels after which the new champion is rolled back, infinite where it stays."""
    for days, _ in PROBATION_LOOKS:
        if days <= len(pairs) - since:
            verdict = probation_verdict(pairs, POLICY, since_day=since, today=since + days)
            if verdict.verdict == "worse":
                return days
    return math.inf


def promoted(pairs: PairedDays, *, live: bool) -> bool:
    """Whether gate or live truth makes the challenger champion."""
    if not live:
        return gate_verdict(pairs.select(pairs.day < POLICY.matured_days), POLICY).verdict == "not_worse"
    for today in range(POLICY.matured_days, len(pairs) + 1):
        verdict = candidate_verdict(pairs, POLICY, entered_at=0.0, now=today * DAY, today=today).verdict
        if verdict != "inconclusive":
            return verdict == "not_worse"
    return False


def known_bound(scatter: float, correlation: float) -> float:
    """First day on which a mean of known spread is `RISK_Z` spreads above zero in half of the trials."""
    for days in range(1, DAYS + 1):
        apart = np.arange(1, days)
        shared = 1.0 + 2.0 * float(((1.0 - apart / days) * correlation**apart).sum())
        if REGRESSION / scatter * math.sqrt(days / shared) >= RISK_Z:
            return days
    return math.inf


def own_bound(bad: list[PairedDays], since: int) -> float:
    """First day on which the difference over its own standard error is, in half of the bad, above what 2 % of the good reach."""
    needed = _critical(since)
    for days in range(2, DAYS + 1):
        if np.median([_own_ratio(pairs, since, days) for pairs in bad]) > needed[days - 2]:
            return days
    return math.inf


@cache
def _critical(since: int) -> list[float]:
    """Return what 2 % of equal models reach after 2, 3, ... days, at the worst correlation; how much days scatter does not matter to it."""
    rng = np.random.default_rng([2, since])
    good = [
        [paired_stream(rng, since + DAYS, correlation=correlation) for _ in range(5000)] for correlation in CORRELATIONS
    ]
    return [
        max(float(np.quantile([_own_ratio(pairs, since, days) for pairs in some], 1 - RISK)) for some in good)
        for days in range(2, DAYS + 1)
    ]


def _own_ratio(pairs: PairedDays, since: int, days: int) -> float:
    difference = (pairs.challenger / pairs.champion)[: since + days] - 1.0
    mine, before = difference[since:], difference[:since]
    squares = float(((mine - mine.mean()) ** 2).sum() + (((before - before.mean()) ** 2).sum() if since else 0.0))
    return float(mine.mean()) / math.sqrt(squares / (days - 1 + max(since - 1, 0)) / days)


def trials(count: int, scatter: float, correlation: float, candidacy: int, seed: int = 0) -> dict[str, float]:
    """Probations of equal and of worse models under one scatter and correlation."""
    rng = np.random.default_rng([seed, int(1000 * scatter), int(100 * correlation), candidacy])
    streams = [
        [
            paired_stream(
                rng, candidacy + DAYS, effect=effect, scatter=scatter, correlation=correlation, since=candidacy
            )
            for _ in range(count)
        ]
        for effect in (0.0, REGRESSION)
    ]
    days = [np.array([probation_day(pairs, candidacy) for pairs in some]) for some in streams]
    return {
        "scatter": scatter,
        "correlation": correlation,
        "candidacy": candidacy,
        "false_rollbacks": float(np.isfinite(days[0]).mean()),
        "median_days": float(np.median(days[1])),
        "within_4_days": float((days[1] <= 4).mean()),
        "known": known_bound(scatter, correlation),
        "own": own_bound(streams[1][:5000], candidacy),
    }


def promotions(count: int, scatter: float, *, live: bool) -> dict[str, Any]:
    """How often the worse and the equal are promoted."""
    rng = np.random.default_rng([1, int(1000 * scatter), live])
    shares = {
        name: float(np.mean([promoted(paired_stream(rng, 28, effect=effect, scatter=scatter), live=live) for _ in range(count)]))
        for name, effect in (("worse_promoted", 0.05), ("equal_promoted", 0.0))
    }  # fmt: skip
    return {"how": "live" if live else "gate", "scatter": scatter} | shares


def _days(days: float) -> str:
    return f"{days:.0f}" if math.isfinite(days) else "-"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="20 000 trials of each kind")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    count = 20_000 if arguments.full else 500
    found: dict[str, list[dict[str, Any]]] = {"probation": [], "weights": [], "promotion": []}
    report = (lambda _: None) if arguments.json else print
    report(f"{count} trials of each kind; +{REGRESSION:.0%} rolled back after so many days of labels (median)")
    report(" scatter  correlation  candidacy   equal rolled back   days   within 4   possible: known  own")
    for candidacy in (0, CANDIDACY):
        for scatter in SCATTERS:
            for correlation in CORRELATIONS:
                row = trials(count, scatter, correlation, candidacy)
                found["probation"].append(row)
                report(
                    f"{scatter:8.0%} {correlation:12.1f} {candidacy:10d} {row['false_rollbacks']:19.2%} {_days(row['median_days']):>6s}"
                    f" {row['within_4_days']:10.0%} {_days(row['known']):>17s} {_days(row['own']):>4s}"
                )
    report(
        "\n scatter   half of the weight lost after   within 1 day   within 2   of a +25 % regression deployed by force"
    )
    for scatter in SCATTERS:
        row = weights_lost(max(count // 40, 100), scatter)
        found["weights"].append(row)
        report(
            f"{scatter:8.0%} {_days(row['median_days']):>28s} d {row['within_1_day']:14.0%} {row['within_2_days']:10.0%}"
        )
    report("\n   how  scatter   5 % worse promoted   equal promoted")
    for live in (False, True):
        for scatter in SCATTERS:
            row = promotions(max(count // 4, 200), scatter, live=live)
            found["promotion"].append(row)
            report(f"{row['how']:>6s} {scatter:8.0%} {row['worse_promoted']:20.2%} {row['equal_promoted']:16.1%}")
    if arguments.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
