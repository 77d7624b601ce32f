"""Verdicts on models, from paired daily errors.

1. A verdict compares two models on the same rows, in blocks of one day; days, not rows, are the sample.
2. The figure is the relative difference of summed errors; positive means the challenger is worse.
3. Its standard error comes from the days' scatter, pulled towards a usual scatter while days are few, and widened by what
   neighbouring days share.
4. *Not worse* needs both: the difference is within the margin, and a difference of `HARM` margins is ruled out.
   *Worse* needs a difference above the margin, and zero ruled out. Anything else is inconclusive: noise never promotes.
5. A rollback needs a difference that is large (`REGRESSION`) and certain at every look of the probation together. How much days
   scatter, and how alike neighbours are, is also read from the days before the promotion on which both models predicted.
"""

import math
from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from demand_maint.config import PolicyConfig
from demand_maint.core.sampling import PairedDays
from demand_maint.core.versions import GateVerdict

__all__ = [
    "PairedTest",
    "candidate_verdict",
    "gate_verdict",
    "metadata_verdict",
    "paired_test",
    "probation_verdict",
    "rollback_allowed",
]

HARM = 2.5  # margins; 5 % at the default margin of 2 %
USUAL_SCATTER = 0.04  # daily paired differences of two versions of one model, on the streams measured
SCATTER_DAYS = 3.0  # how many days the usual scatter counts
USUAL_CORRELATION = 0.2  # of neighbouring days, until the data say otherwise
CORRELATION_DAYS = 8.0
NOT_WORSE_Z = 1.95
WORSE_Z = 1.6
LIVE_Z = 0.5  # a live test looks every day, so it asks for this much more before it promotes
REGRESSION = 0.06
PROBATION_Z = 3.5  # at fourteen looks; times 1 + PROBATION_GUESS / freedom, because a scatter of few days is a guess
PROBATION_GUESS = 3.7
PROBATION_CORRELATION = 0.4  # takes the place of `USUAL_CORRELATION`: a false rollback costs more than a day's wait
PROBATION_DAYS = 3
MONTH = 30 * 86400.0


class PairedTest(Struct, frozen=True, kw_only=True):
    """The relative difference of two models' errors and how sure it is.

    Parameters
    ----------
    relative
        Sum of the challenger's errors over the champion's, minus 1.
    error
        Standard error of `relative`.
    correlation
        Estimated lag-one correlation of neighbouring days, never negative.
    freedom
        Days that the scatter is known from, less the ratios estimated; the usual scatter counts as far as the days agree with it.
    days, n
        Size of the sample.
    """

    relative: float
    error: float
    correlation: float
    freedom: float
    champion_mae: float
    challenger_mae: float
    days: int
    n: int


def paired_test(
    pairs: PairedDays, *, earlier: PairedDays | None = None, usual_correlation: float = USUAL_CORRELATION
) -> PairedTest | None:
    """Compare two models on paired days; ``None`` where nothing can be compared.

    The ratio estimator of survey sampling: residuals of each day from the overall ratio, so busy days weigh more.

    Parameters
    ----------
    earlier
        Days before those compared; they only tell how days scatter around their own ratio.
    usual_correlation
        Of neighbouring days, until the data say otherwise.

    Examples
    --------
    >>> days = np.arange(4)
    >>> test = paired_test(PairedDays(days, np.full(4, 10.0), np.array([11.0, 12.0, 11.0, 12.0]), np.full(4, 24.0)))
    >>> round(test.relative, 3), test.days
    (0.15, 4)
    """
    found = _around_ratio(pairs)
    if found is None:
        return None
    relative, residual = found
    day, parts = pairs.day, 1
    before = _around_ratio(earlier) if earlier is not None and len(earlier) > 1 else None
    if earlier is not None and before is not None:
        residual, day, parts = np.concatenate([before[1], residual]), np.concatenate([earlier.day, day]), 2
    squares, free = float(residual @ residual), max(len(residual) - parts, 0)
    variance = (squares + SCATTER_DAYS * USUAL_SCATTER**2) / (free + SCATTER_DAYS)
    correlation = _correlation(day, residual, parts, usual_correlation)
    inflation = (1.0 + correlation) / (1.0 - correlation)
    days, rows = len(pairs), float(pairs.n.sum())
    return PairedTest(
        relative=relative,
        error=math.sqrt(variance * inflation / days),
        correlation=correlation,
        freedom=free + SCATTER_DAYS * min(USUAL_SCATTER**2 * free / max(squares, 1e-200), 1.0),
        champion_mae=float(pairs.champion.sum()) / rows,
        challenger_mae=float(pairs.challenger.sum()) / rows,
        days=days,
        n=int(rows),
    )


def _around_ratio(pairs: PairedDays) -> tuple[float, NDArray[np.float64]] | None:
    """Relative difference of all days together, and how far each day is from it, in days of the champion's error."""
    total, other, days = float(pairs.champion.sum()), float(pairs.challenger.sum()), len(pairs)
    # an error that is next to nothing, in itself or beside the other's, is no measure for a ratio
    if days == 0 or not math.isfinite(total) or total <= max(other * 1e-12, 1e-200):
        return None
    relative = other / total - 1.0
    return relative, (pairs.challenger - pairs.champion * (1.0 + relative)) / (total / days)


def _correlation(day: NDArray[np.int64], residual: NDArray[np.float64], parts: int, usual: float) -> float:
    """Lag-one correlation of neighbouring days, corrected for its small-sample bias and shrunk while days are few."""
    next_to = np.diff(day) == 1
    pairs, squares = int(next_to.sum()), float(residual @ residual)
    if pairs < 3 or squares <= 0:
        return usual
    size = len(residual)
    raw = float((residual[1:] * residual[:-1])[next_to].sum()) / squares * size / pairs + parts / size
    return min(max((raw * pairs + usual * CORRELATION_DAYS) / (pairs + CORRELATION_DAYS), 0.0), 0.8)


def gate_verdict(pairs: PairedDays, policy: PolicyConfig, *, reference: float | None = None) -> GateVerdict:
    """Judge a challenger once, on a holdout neither model was trained on.

    Parameters
    ----------
    pairs
        Errors on the holdout's days: the champion's *logged* predictions, the challenger's own.
    reference
        Relative difference on a reference set that both models should still know (positive = challenger worse), where there
        is one: guards against forgetting.
    """
    verdict, reasons, test = _judge(pairs.matured(coverage=policy.coverage), policy, extra=0.0)
    if verdict == "not_worse" and reference is not None and reference > HARM * policy.margin:
        verdict, reasons = "worse", (*reasons, "reference_worse")
    return _stated(verdict, reasons, "gate", test)


def candidate_verdict(
    pairs: PairedDays,
    policy: PolicyConfig,
    *,
    entered_at: float,
    now: float,
    entered_day: int | None = None,
    today: int | None = None,
) -> GateVerdict:
    """Judge a candidate of the line-up on the live truth so far; meant to be asked again every day.

    Parameters
    ----------
    pairs
        Errors of champion and candidate on rows both predicted.
    entered_at, now
        Epoch seconds; `policy.candidate_expiry_days` after entering, undecided means ``expired``.
    entered_day, today
        Local days; rows before the first day after entering and those of a day that is not over do not count.
    """
    verdict, reasons, test = _judge(
        pairs.matured(since=entered_day, before=today, coverage=policy.coverage), policy, extra=LIVE_Z
    )
    if verdict == "inconclusive" and now - entered_at >= policy.candidate_expiry_days * 86400:
        reasons = (*reasons, "expired")
    return _stated(verdict, reasons, "live", test)


def probation_verdict(
    pairs: PairedDays, policy: PolicyConfig, *, since_day: int | None = None, today: int | None = None
) -> GateVerdict:
    """Judge a new champion against the previous one: ``worse`` means roll back.

    Parameters
    ----------
    pairs
        The *previous* champion's errors as `champion`, the new one's as `challenger`; days before `since_day` only tell the scatter.
    since_day, today
        The promotion's local day and today's.
    """
    days = pairs.matured(since=since_day, before=today, coverage=policy.coverage)
    earlier = pairs.matured(before=since_day, coverage=policy.coverage) if since_day is not None else None
    test = paired_test(days, earlier=earlier, usual_correlation=PROBATION_CORRELATION)
    if test is None or test.days < PROBATION_DAYS:
        return _stated("inconclusive", ("too_few_days",), "live", test)
    certain = PROBATION_Z * (1.0 + PROBATION_GUESS / test.freedom) * test.error
    if test.relative > max(REGRESSION, policy.margin) and test.relative > certain:
        return _stated("worse", ("paired_daily", "probation"), "live", test)
    if test.days >= policy.probation_days:
        return _stated("not_worse", ("probation_over",), "live", test)
    return _stated("inconclusive", ("on_probation",), "live", test)


def metadata_verdict(champion: float | None, challenger: float | None, policy: PolicyConfig) -> GateVerdict:
    """Compare the errors two models' metadata claim, as an operator's deploy without live truth does."""
    usable = [mae for mae in (champion, challenger) if mae is not None and math.isfinite(mae) and mae >= 0]
    if champion is None or challenger is None or len(usable) < 2:
        return GateVerdict(
            verdict="unproven",
            reasons=("no_metrics",),
            method="metadata",
            champion_mae=champion,
            challenger_mae=challenger,
        )
    relative = challenger / champion - 1.0 if champion > 0 else (0.0 if challenger == 0 else math.inf)
    worse = relative > policy.margin
    return GateVerdict(
        verdict="worse" if worse else "unproven",
        reasons=("metadata_worse",) if worse else ("metadata_only",),
        method="metadata",
        champion_mae=champion,
        challenger_mae=challenger,
        relative=relative if math.isfinite(relative) else None,
    )


def rollback_allowed(rollbacks_at: Iterable[float], now: float, policy: PolicyConfig) -> bool:
    """Whether the month's budget of automatic rollbacks has room; without room the verdict is only advice."""
    return sum(1 for at in rollbacks_at if now - MONTH < at <= now) < policy.max_rollbacks_per_month


def _judge(pairs: PairedDays, policy: PolicyConfig, *, extra: float) -> tuple[str, tuple[str, ...], PairedTest | None]:
    test = paired_test(pairs)
    if test is None or test.days < policy.matured_days:
        return "inconclusive", ("too_few_days",), test
    harm = HARM * policy.margin
    if test.relative <= policy.margin and test.relative + (NOT_WORSE_Z + extra) * test.error <= harm:
        return "not_worse", ("paired_daily",), test
    if test.relative > policy.margin and test.relative > WORSE_Z * test.error:
        return "worse", ("paired_daily",), test
    return "inconclusive", ("paired_daily", "noise"), test


def _stated(verdict: str, reasons: tuple[str, ...], method: str, test: PairedTest | None) -> GateVerdict:
    if test is None:
        return GateVerdict(verdict=verdict, reasons=reasons, method=method)  # type: ignore[arg-type]
    return GateVerdict(
        verdict=verdict,  # type: ignore[arg-type]  # literals all the way, lost in the tuple
        reasons=reasons,
        method=method,  # type: ignore[arg-type]
        champion_mae=test.champion_mae,
        challenger_mae=test.challenger_mae,
        relative=test.relative,
        low=test.relative - NOT_WORSE_Z * test.error,
        high=test.relative + NOT_WORSE_Z * test.error,
        days=test.days,
        n=test.n,
    )
