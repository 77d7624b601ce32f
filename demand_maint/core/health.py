"""How the champion is doing: figures a user understands, a test behind them, and who or what is to blame.

`assess` is two halves. `daily_state` looks at whole days (the sequential test, the places, the feed); it changes only when a
day ends or old rows are corrected, so whoever asks often keeps it. `window_health` adds the window's own figures from a few
sums and is cheap. All is recomputed from the hourly sums; nothing here remembers anything.
"""

from collections.abc import Callable

import numpy as np
from msgspec import Struct, structs

from demand_maint.config import Config, PolicyConfig
from demand_maint.core.baseline import FIRST_DAYS, first_days_baseline
from demand_maint.core.difficulty import DailySeries, SeriesMemory, daily_series
from demand_maint.core.drift import DegradationTest, Detector, DriftState, TestMemory, learn, run_detector, run_test
from demand_maint.core.feed import FeedDays, FeedState, feed_state
from demand_maint.core.health_report import HealthReport, Status, VersionHealth
from demand_maint.core.moments import age_words
from demand_maint.core.places import PlaceHealth, place_health
from demand_maint.core.resampling import ratio_interval
from demand_maint.core.sound import sound_blocks, sound_window
from demand_maint.core.versions import Baseline
from demand_maint.core.view import DAY, HOUR, MetricsView, local_days, whole_hours

__all__ = [
    "DailyState",
    "DayMemory",
    "HealthReport",
    "Status",
    "VersionHealth",
    "assess",
    "daily_state",
    "window_health",
]

#: Days the sequential test looks back.
TEST_DAYS = 400
#: Share of a window's rows that need a seasonal-naive forecast for the adjusted method.
NAIVE_SHARE = 0.5


class DailyState(Struct, frozen=True, kw_only=True):
    """What whole days say; keep it until a day ends or rows arrive for a past one.

    Parameters
    ----------
    baseline
        The one in force: the given one, else that of the champion's first days.
    baseline_days
        Days towards that first baseline where there is none yet.
    """

    drift: DriftState = DriftState()
    places: tuple[PlaceHealth, ...] = ()
    feed: FeedState = FeedState()
    baseline: Baseline | None = None
    baseline_days: int = 0


class DayMemory:
    """What judging some days came to, so that judging them and one more costs one day; it changes no result."""

    __slots__ = ("series", "test")

    def __init__(self) -> None:
        self.series = SeriesMemory()
        self.test = TestMemory()


class _Figures(Struct, frozen=True):
    """One window's sums, reduced to what is reported."""

    n: float
    mae: float | None
    expected: float | None
    degradation: float | None
    raw_degradation: float | None
    skill: float | None
    adjusted: bool
    note: str
    coverage: float | None
    served_mae: float | None


def assess(
    view: MetricsView,
    baseline: Baseline | None,
    now: float,
    config: Config,
    days: float = 7,
    champion: int | None = None,
    since: float | None = None,
    details: bool = False,
    *,
    daily: DailyState | None = None,
    detector: Callable[[], Detector] | None = None,
) -> HealthReport:
    """Judge the champion at `now`.

    Parameters
    ----------
    baseline
        The error it is expected to make; ``None`` takes its first 14 days.
    now
        Epoch seconds.
    days
        Length of the window that the figures are for; `status` and `needs_retrain` are always about the policy's window.
    champion
        Version whose own predictions are judged; ``None`` judges all rows.
    since
        When it was promoted, epoch seconds: nothing earlier is held against it.
    details
        Also the interval and the split by version.
    daily
        A `daily_state` that is still true.
    detector
        Makes the sequential test; the built-in one by default.
    """
    if daily is None:
        daily = daily_state(view, baseline, now, config, champion, since, detector=detector)
    return window_health(view, daily, now, config, days, champion, since, details=details)


def daily_state(
    view: MetricsView,
    baseline: Baseline | None,
    now: float,
    config: Config,
    champion: int | None = None,
    since: float | None = None,
    *,
    detector: Callable[[], Detector] | None = None,
    kept: DailyState | None = None,
    truth: FeedDays | None = None,
    memory: DayMemory | None = None,
) -> DailyState:
    """Look at the whole days up to `now`: the feed, the sequential test and the places.

    Parameters
    ----------
    kept
        One of the same day, champion and baseline since which no row of an earlier day has come: only the feed is looked at
        again, and all else where the feed's verdict on those days has changed.
    truth
        The truth of those days, where that is still what it was.
    memory
        Of days judged before.
    """
    policy = config.policy
    feed = feed_state(view, now, config.horizon_seconds, truth) if policy.feed_fault_guard else FeedState()
    if kept is not None and _of_whole_days(view, kept.feed.excluded, now) == _of_whole_days(view, feed.excluded, now):
        return structs.replace(kept, feed=feed)
    begin = now - TEST_DAYS * DAY
    have = 0
    if baseline is None:
        start = begin if since is None else max(since, begin)
        baseline, have = first_days_baseline(
            view, since=start, now=now, champion=champion, feed=feed, season=config.season_seconds
        )
    drift = DriftState()
    if _tested(policy):
        drift = _drift(view, baseline, now, config, champion, since, feed, detector, memory or DayMemory())
    places: tuple[PlaceHealth, ...] = ()
    if policy.method != "raw":
        places = place_health(view, now, champion, since, feed, policy.false_discovery_rate)
    return DailyState(drift=drift, places=places, feed=feed, baseline=baseline, baseline_days=have)


def _of_whole_days(
    view: MetricsView, stretches: tuple[tuple[int, int, int], ...], now: float
) -> list[tuple[int, int, int]]:
    """Return what of the stretches lies before the day that `now` falls into."""
    if not stretches:
        return []
    _, edges = local_days(view.grid, now - DAY, now)
    return [(place, first, min(end, int(edges[-1]))) for place, first, end in stretches if first < edges[-1]]


def _drift(
    view: MetricsView,
    baseline: Baseline | None,
    now: float,
    config: Config,
    champion: int | None,
    since: float | None,
    feed: FeedState,
    make: Callable[[], Detector] | None,
    memory: DayMemory,
) -> DriftState:
    """Run the sequential test over the whole days kept; earlier champions' days teach it the stream's noise."""
    policy = config.policy
    days, edges = local_days(view.grid, now - TEST_DAYS * DAY, now)
    first = 0
    if since is not None and champion is not None:
        first = int(np.searchsorted(edges[:-1] * HOUR, since, side="left"))
    adjusted = policy.method == "difficulty_adjusted"
    series = daily_series(
        view,
        edges,
        champion,
        min(first, len(days)),
        feed,
        adjusted=adjusted,
        horizon=config.horizon_seconds,
        season=config.season_seconds,
        memory=memory.series,
    )
    if config.holidays:
        # a listed holiday says nothing about the model: neither for nor against it
        listed = np.array(config.holidays, dtype="datetime64[D]").astype(np.int64)
        series.values[np.isin(days, listed)] = np.nan
    quiet = np.flatnonzero(~series.aside)
    aside = len(series.aside) - (int(quiet[-1]) + 1 if len(quiet) else 0)
    values, starts = series.values[first:], series.starts[first:]
    if make is not None:
        return structs.replace(run_detector(make(), values.tolist(), starts.tolist()), set_aside=aside)
    test = DegradationTest(policy.max_false_retrains_per_year, policy.max_false_warnings_per_month)
    test = learn(test, series.values[:first], memory.test)
    centre = _start(baseline, series)
    if baseline is not None and centre is not None:
        weight = float(min(max(baseline.log_days, 1), 60))
        if test.summary().centre is not None:
            test.rearm(centre, weight)
        else:
            test = DegradationTest(
                policy.max_false_retrains_per_year,
                policy.max_false_warnings_per_month,
                centre=centre,
                centre_days=weight,
                scale=baseline.log_scale,
                scale_days=min(weight, 28.0),
            )
    elif first > 0:
        test.recentre()
    return structs.replace(run_test(test, values, starts, memory.test), set_aside=aside)


def _start(baseline: Baseline | None, series: DailySeries) -> float | None:
    """Return where the test starts: the baseline's centre, less what own errors took from the reference days."""
    if baseline is None or baseline.log_centre is None or not series.adjusted:
        return None
    if baseline.since is None or baseline.until is None:
        return baseline.log_centre
    reference = (series.starts > baseline.since - DAY) & (series.starts < baseline.until) & np.isfinite(series.values)
    return baseline.log_centre - (float(series.share[reference].mean()) if reference.any() else 0.0)


def window_health(
    view: MetricsView,
    daily: DailyState,
    now: float,
    config: Config,
    days: float = 7,
    champion: int | None = None,
    since: float | None = None,
    *,
    details: bool = False,
) -> HealthReport:
    """Add the window's own figures to `daily`.

    Raises
    ------
    ValueError
        `days` is not above zero.
    """
    if not days > 0:
        raise ValueError(f"days={days} is no window. Give a number of days above zero, as 7.")
    policy = config.policy
    baseline = daily.baseline
    asked = _figures(view, daily, config, now, days, champion, since)
    decided = (
        asked if days == policy.window_days else _figures(view, daily, config, now, policy.window_days, champion, since)
    )
    recent = _figures(view, daily, config, now, 1, champion, since)
    newest = view.newest
    age = None if newest is None else now - newest
    status, reason = _status(decided, daily, policy, age)
    report = HealthReport(
        status=status,
        mae=asked.mae,
        baseline_mae=asked.expected,
        degradation=asked.degradation,
        needs_retrain=status in {"degraded", "critical"},
        healthy=status == "healthy",
        n=int(asked.n),
        raw_degradation=asked.raw_degradation,
        raw_baseline_mae=None if baseline is None else baseline.mae,
        skill=asked.skill,
        method="difficulty_adjusted" if asked.adjusted else "raw",
        reason=reason or asked.note,
        coverage=asked.coverage,
        window_degradation=decided.degradation,
        recent_degradation=recent.degradation,
        drift=daily.drift,
        places=daily.places,
        feed=daily.feed.by_place,
        feed_faults=daily.feed.faults,
        pool_fault=daily.feed.pool,
        served_mae=asked.served_mae,
        newest_age=age,
        days=days,
        champion=champion,
        baseline=baseline,
    )
    if not details:
        return report
    return structs.replace(
        report,
        interval=_interval(view, daily, config, now, days, champion, since),
        versions=_by_version(view, daily.feed, config, now, days),
    )


def _tested(policy: PolicyConfig) -> bool:
    """Whether a status needs the sequential test; the raw method is the user's document, which has thresholds only."""
    return policy.sequential_test and policy.method != "raw"


def _adjusts(policy: PolicyConfig, baseline: Baseline | None) -> bool:
    return policy.method == "difficulty_adjusted" and baseline is not None and baseline.skill is not None


def _figures(
    view: MetricsView,
    daily: DailyState,
    config: Config,
    now: float,
    days: float,
    champion: int | None,
    since: float | None,
) -> _Figures:
    start, end = whole_hours(now, days)
    if since is not None:
        start = min(max(start, int(since // HOUR)), end)
    sums = sound_window(view, start, end, champion, daily.feed, config.season_seconds)
    n, abs_error, naive_n = sums.n, sums.abs_error, sums.naive_n
    naive_error, own_error, predictions = sums.naive_abs_error, sums.abs_error_naive, sums.predictions
    served_n, served_error = sums.served_n, sums.served_abs_error
    coverage = min(n / predictions, 1.0) if predictions > 0 else None
    served = served_error / served_n if served_n > 0 else None
    if n <= 0:
        return _Figures(0.0, None, None, None, None, None, False, "", coverage, served)
    mae = abs_error / n
    skill = own_error / naive_error if naive_error > 0 else None
    baseline = daily.baseline
    if baseline is None:
        return _Figures(n, mae, None, None, None, skill, False, "", coverage, served)
    raw = mae / baseline.mae - 1 if baseline.mae > 0 else None
    note = _why_raw(config.policy, baseline, n, naive_n, naive_error, own_error)
    if note is not None or not baseline.skill or skill is None:
        return _Figures(n, mae, baseline.mae, raw, raw, skill, False, note or "", coverage, served)
    ratio = skill / baseline.skill
    return _Figures(n, mae, mae / ratio, ratio - 1, raw, skill, True, "", coverage, served)


def _why_raw(
    policy: PolicyConfig, baseline: Baseline, n: float, naive_n: float, naive_error: float, own_error: float
) -> str | None:
    if policy.method == "raw":
        return "raw by configuration"
    if baseline.skill is None:
        return "raw: the baseline has no seasonal-naive error to compare with"
    if naive_n < NAIVE_SHARE * n:
        return "raw: too few rows have a value one or two weeks before them"
    if naive_error <= 0 or own_error <= 0:
        return "raw: the seasonal-naive forecast makes no error here"
    return None


def _status(figures: _Figures, daily: DailyState, policy: PolicyConfig, age: float | None) -> tuple[Status, str]:
    if figures.n < policy.min_samples:
        newest = "no record yet" if age is None else f"the newest record is {age_words(age)}"
        return (
            "insufficient_data",
            f"{int(figures.n)} rows with truth in the last {policy.window_days} days, {policy.min_samples} needed; {newest}",
        )
    if daily.baseline is None or figures.degradation is None:
        return (
            "insufficient_data",
            f"no baseline yet: {daily.baseline_days} of the first {FIRST_DAYS} days of this model are known",
        )
    if daily.feed.pool is not None and policy.feed_fault_guard:
        return "insufficient_data", f"judgement is suspended, the truth itself looks wrong: {daily.feed.pool}"
    level, drift = figures.degradation, daily.drift
    critical = policy.critical_degradation is not None and level > policy.critical_degradation
    moderate = policy.suggest_degradation is not None and level > policy.suggest_degradation
    if critical and (drift.retrain_alarm or not _tested(policy)):
        return "critical", ""
    # while demand is like no other, a warning from before says nothing about the excess of these days
    warned = drift.warn_alarm and not drift.set_aside
    if (moderate or critical) and (warned or not _tested(policy)):
        unproven = "; the test of the retrain grade has not fired" if critical else ""
        return "degraded", unproven.removeprefix("; ")
    if moderate or critical:
        days = "day is set aside, its" if drift.set_aside == 1 else f"{drift.set_aside} days are set aside, their"
        aside = f"; the last {days} demand is like no other" if drift.set_aside else ""
        return "healthy", f"{100 * level:+.1f} % is not confirmed by the sequential test{aside}"
    return "healthy", ""


def _interval(
    view: MetricsView,
    daily: DailyState,
    config: Config,
    now: float,
    days: float,
    champion: int | None,
    since: float | None,
) -> tuple[float, float] | None:
    """90 % interval of the degradation by resampling whole days (blocks of 24 h) with a fixed seed."""
    baseline = daily.baseline
    start, end = whole_hours(now, days)
    if since is not None:
        start = min(max(start, int(since // HOUR)), end)
    edges = np.arange(end, start - 1, -24, dtype=np.int64)[::-1]
    if baseline is None or len(edges) < 4:
        return None
    blocks = sound_blocks(view, edges, champion, 0, daily.feed, config.season_seconds)
    adjusted = _adjusts(config.policy, baseline)
    top = blocks["abs_error_naive"] if adjusted else blocks["abs_error"]
    bottom = blocks["naive_abs_error"] * (baseline.skill or 1.0) if adjusted else blocks["n"] * baseline.mae
    filled = (top > 0) & (bottom > 0)
    top, bottom = top[filled], bottom[filled]
    if len(top) < 3:
        return None
    return ratio_interval(top, bottom)


def _by_version(
    view: MetricsView, feed: FeedState, config: Config, now: float, days: float
) -> tuple[VersionHealth, ...]:
    start, end = whole_hours(now, days)
    found = []
    for version in view.sums.versions(start, end):
        sums = sound_window(view, start, end, version, feed, config.season_seconds)
        found.append(VersionHealth(version=version, n=int(sums.n), mae=sums.abs_error / sums.n if sums.n > 0 else None))
    return tuple(found)
