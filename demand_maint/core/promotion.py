"""Verdicts on models, from paired daily errors.

1. A verdict compares two models on the same rows, in blocks of one day; days, not rows, are the sample.
2. The figure is the relative difference of summed errors; positive means the challenger is worse.
3. Its standard error comes from the days' scatter, pulled towards a usual scatter while days are few, and widened by what
   neighbouring days share.
4. *Not worse* needs both: the difference is within the margin, and a difference of `HARM` margins is ruled out.
   *Worse* needs a difference above the margin, and zero ruled out. Anything else is inconclusive: noise never promotes.
5. A rollback needs a difference that is large (`REGRESSION`) and certain at all looks of the probation together: few looks, and
   most of the risk is taken at the one after four days, for a regression does its harm at once. How much days scatter is also
   read from the days before the promotion on which both models predicted; how alike neighbours are is assumed, because two
   weeks cannot tell it. `python -m benchmarks.verdict_trials` shows what that is worth beside what is possible at all.
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
    "PROBATION_LOOKS",
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
# when a probation is looked at, in days of labels, and how certain, in standard errors, a rollback has to be then
PROBATION_LOOKS = (
    (3, 3.0),
    (4, 2.04),
    (7, 2.75),
    (10, 2.75),
    (13, 2.75),
    (20, 2.95),
    (27, 2.95),
)
PROBATION_CORRELATION = 0.4  # of neighbouring days; real ones show 0.1 to 0.3
PROBATION_SCATTER_DAYS = 1.0  # takes the place of `SCATTER_DAYS`: a false rollback costs more than a day's wait
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
        Days that the scatter is known from, less the ratios estimated; in a probation what was known before counts as far as the
        days agree with it.
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


def paired_test(pairs: PairedDays) -> PairedTest | None:
    """Compare two models on paired days; ``None`` where nothing can be compared.

    The ratio estimator of survey sampling: residuals of each day from the overall ratio, so busy days weigh more.

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
    squares, free = float(residual @ residual), len(pairs) - 1
    variance = (squares + SCATTER_DAYS * USUAL_SCATTER**2) / (free + SCATTER_DAYS)
    correlation = _correlation(pairs.day, residual)
    inflation = (1.0 + correlation) / (1.0 - correlation)
    return _test(pairs, relative, variance * inflation, correlation, free + SCATTER_DAYS)


def probation_test(pairs: PairedDays, earlier: PairedDays) -> PairedTest | None:
    """Compare two models on the first days of a probation; ``None`` where nothing can be compared.

    Squares of the residuals of n days that hang together are worth n - `_shared(n)` days.

    Parameters
    ----------
    earlier
        Days before the promotion; they only tell how days scatter around their own ratio.
    """
    found = _around_ratio(pairs)
    if found is None:
        return None
    relative, residual = found
    days, prior = len(pairs), PROBATION_SCATTER_DAYS
    squares, free = float(residual @ residual), days - _shared(days)
    own = max(squares / free, 1e-200) if free > 0 else math.inf
    known, worth = prior * USUAL_SCATTER**2, prior
    freedom = free + prior * min(USUAL_SCATTER**2 / own, 1.0)
    before = _around_ratio(earlier)
    if before is not None and len(earlier) > 1:
        worth += len(earlier) - _shared(len(earlier))
        known += float(before[1] @ before[1])
        freedom += (worth - prior) * min(known / worth / own, 1.0)
    variance = (squares + known) / (free + worth)
    return _test(pairs, relative, variance * _shared(days), PROBATION_CORRELATION, freedom)


def certainty(test: PairedTest) -> float:
    """Return the difference in standard errors of a normal figure that is as rare, as if the scatter were known.

    Student's t made normal by Wallace, *Bounds on normal approximations to Student's and the chi-square distributions*, 1959.

    >>> pairs = PairedDays(np.arange(4), np.full(4, 10.0), np.array([11.0, 12.0, 13.0, 14.0]), np.full(4, 24.0))
    >>> nothing = PairedDays(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
    >>> test = probation_test(pairs, nothing)
    >>> round(test.relative / test.error, 2), round(certainty(test), 2)
    (2.95, 1.71)
    """
    t, freedom = test.relative / max(test.error, 1e-200), max(test.freedom, 0.5)
    squeezed = math.sqrt(freedom * math.log1p(min(t * t / freedom, 1e300)))
    return math.copysign((8 * freedom + 1) / (8 * freedom + 3) * squeezed, t)


def _test(pairs: PairedDays, relative: float, variance: float, correlation: float, freedom: float) -> PairedTest:
    """Put the figures together; `variance` is that of one day, widened by what days share."""
    rows = float(pairs.n.sum())
    return PairedTest(
        relative=relative,
        error=math.sqrt(variance / len(pairs)),
        correlation=correlation,
        freedom=freedom,
        champion_mae=float(pairs.champion.sum()) / rows,
        challenger_mae=float(pairs.challenger.sum()) / rows,
        days=len(pairs),
        n=int(rows),
    )


def _shared(days: int, correlation: float = PROBATION_CORRELATION) -> float:
    """Variance of the mean of neighbouring days over that of as many independent ones; correlation falls geometrically."""
    apart = 1.0 - correlation
    return (1.0 + correlation) / apart - 2.0 * correlation * (1.0 - correlation**days) / (days * apart**2)


def _around_ratio(pairs: PairedDays) -> tuple[float, NDArray[np.float64]] | None:
    """Relative difference of all days together, and how far each day is from it, in days of the champion's error."""
    total, other, days = float(pairs.champion.sum()), float(pairs.challenger.sum()), len(pairs)
    # an error that is next to nothing, in itself or beside the other's, is no measure for a ratio
    if days == 0 or not math.isfinite(total) or total <= max(other * 1e-12, 1e-200):
        return None
    relative = other / total - 1.0
    return relative, (pairs.challenger - pairs.champion * (1.0 + relative)) / (total / days)


def _correlation(day: NDArray[np.int64], residual: NDArray[np.float64]) -> float:
    """Lag-one correlation of neighbouring days, corrected for its small-sample bias and shrunk while days are few."""
    next_to = np.diff(day) == 1
    pairs, squares = int(next_to.sum()), float(residual @ residual)
    if pairs < 3 or squares <= 0:
        return USUAL_CORRELATION
    size = len(residual)
    raw = float((residual[1:] * residual[:-1])[next_to].sum()) / squares * size / pairs + 1.0 / size
    return min(max((raw * pairs + USUAL_CORRELATION * CORRELATION_DAYS) / (pairs + CORRELATION_DAYS), 0.0), 0.8)


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

    Between two of `PROBATION_LOOKS` the answer is that of the earlier one, on its days.

    Parameters
    ----------
    pairs
        The *previous* champion's errors as `champion`, the new one's as `challenger`; days before `since_day` only tell the scatter.
    since_day, today
        The promotion's local day and today's.
    """
    days = pairs.matured(since=since_day, before=today, coverage=policy.coverage)
    earlier = pairs.select(pairs.day < since_day if since_day is not None else np.zeros(len(pairs), dtype=bool))
    earlier = earlier.matured(coverage=policy.coverage)
    look, needed = next((step for step in reversed(PROBATION_LOOKS) if step[0] <= len(days)), (0, math.inf))
    test = probation_test(days.select(np.arange(len(days)) < look), earlier) if look else None
    if test is None:
        return _stated("inconclusive", ("too_few_days",), "live", paired_test(days))
    if test.relative > max(REGRESSION, policy.margin) and certainty(test) > needed:
        return _stated("worse", ("paired_daily", "probation"), "live", test)
    if len(days) >= policy.probation_days:
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
