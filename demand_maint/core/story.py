"""What happened in a root, as the report tells it: sums, commits, decisions and serving snapshots in, a `Story` out."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.config import Config
from demand_maint.core.charts import number
from demand_maint.core.chronicle import (
    check_spans,
    commit_events,
    decision_events,
    deployment_rows,
    feed_spans,
    percent,
    reigns,
    upcoming,
)
from demand_maint.core.health import HealthReport
from demand_maint.core.ledger import LedgerFacts, MaintenanceLedger
from demand_maint.core.place_story import place_ratios
from demand_maint.core.report_data import FeatureDrift, Member, PlaceRow, Series, Story
from demand_maint.core.serving import ServingSnapshot
from demand_maint.core.versions import Baseline, Commit
from demand_maint.core.view import MetricsView

__all__ = ["StorySources", "tell_story"]

HOUR = 3600
DAY = 86400
MAX_BINS = 740  # more days than this are told in bins of several
USUAL_NOISE = 0.12
BAND_Z = 1.645
MIN_PLACE_ROWS = 12
USUAL_DAYS = 28
RECENT_PERIODS = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StorySources:
    """All a story is told from.

    Attributes
    ----------
    view
        Sums, places and grid; ``None`` where nothing was ever predicted.
    decisions
        Records of the decision journal, oldest first.
    snapshots
        Serving snapshots, oldest first, as many as are known.
    importances, psi
        Of the champion's features.
    since
        First moment that is told, epoch seconds; ``None`` from the first commit on.
    """

    name: str
    now: float
    config: Config
    view: MetricsView | None = None
    commits: Sequence[Commit] = ()
    decisions: Sequence[Mapping[str, Any]] = ()
    snapshots: Sequence[ServingSnapshot] = ()
    health: HealthReport | None = None
    ledger: MaintenanceLedger = field(default_factory=MaintenanceLedger)
    importances: Mapping[str, float] = field(default_factory=dict)
    psi: Mapping[str, float | None] = field(default_factory=dict)
    since: float | None = None


@dataclass(frozen=True, slots=True)
class _Bins:
    """Bins of `step` local days; `starts` in epoch seconds, `edges` in hours."""

    starts: Floats
    edges: NDArray[np.int64]
    step: int


def tell_story(sources: StorySources) -> Story:
    """Return the story of one root."""
    head = sources.commits[-1] if sources.commits else None
    facts = LedgerFacts.from_commits(sources.commits)
    bins = _bins(sources)
    told: dict[str, Any] = {}
    if bins is not None and sources.view is not None:
        told |= _errors(sources, bins)
        told |= _places(sources, bins)
        told |= _serving(sources, bins)
    events = [*commit_events(sources.commits), *decision_events(sources.decisions)]
    return Story(
        name=sources.name,
        status=sources.health.status if sources.health is not None else "insufficient_data",
        verdict=_verdict(sources, head),
        facts=_facts(sources, head, facts),
        events=tuple(sorted(events, key=lambda event: event.at)),
        checks=check_spans(sources.decisions, sources.now),
        feed=feed_spans(sources.decisions, sources.now),
        reigns=reigns(sources.commits, sources.now),
        deployments=deployment_rows(sources.commits),
        features=tuple(
            FeatureDrift(name=name, importance=importance, psi=sources.psi.get(name))
            for name, importance in sources.importances.items()
        ),
        upcoming=upcoming(sources.config, facts, sources.ledger, head, sources.now),
        **told,
    )


def _bins(sources: StorySources) -> _Bins | None:
    if sources.view is None:
        return None
    since = sources.since
    if since is None:
        since = sources.commits[0].at if sources.commits else None
    newest = sources.view.newest
    if since is None or newest is None or newest < since:
        return None
    grid = sources.view.grid
    first, last = (int(day) for day in grid.day([since, newest]))
    step = max(1, -(-(last + 1 - first) // MAX_BINS))
    days = np.arange(first, last + step + 1, step, dtype=np.int64)
    days = days[: int(np.searchsorted(days, last, side="right")) + 1]
    starts = grid.day_start(days)
    return _Bins(starts[:-1].astype(np.float64), starts.astype(np.int64) // HOUR, step)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    ratio: Floats = np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
    return ratio


def _series(values: Floats, digits: int = 4) -> Series:
    """Plain values with a few significant digits, ``None`` for missing ones."""
    return tuple(float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist())


def _baselines(commits: Sequence[Commit], starts: Floats) -> list[Baseline | None]:
    """Return the baseline in force in each bin."""
    out: list[Baseline | None] = []
    at = -1
    for start in starts.tolist():
        while at + 1 < len(commits) and commits[at + 1].at < start + DAY:
            at += 1
        out.append(commits[at].baseline if at >= 0 else None)
    return out


def _errors(sources: StorySources, bins: _Bins) -> dict[str, Any]:
    assert sources.view is not None
    sums = sources.view.sums.blocks(bins.edges)
    naive = _ratio(sums["naive_abs_error"], sums["naive_n"])
    expected, noise = np.full(len(naive), np.nan), np.full(len(naive), USUAL_NOISE)
    for index, baseline in enumerate(_baselines(sources.commits, bins.starts)):
        if baseline is None:
            continue
        adjusted = baseline.skill is not None and sources.config.policy.method == "difficulty_adjusted"
        expected[index] = baseline.skill * naive[index] if adjusted and baseline.skill is not None else baseline.mae
        noise[index] = baseline.log_scale if baseline.log_scale is not None else USUAL_NOISE
    expected = np.where(sums["n"] > 0, expected, np.nan)
    width = np.exp(BAND_Z * noise)
    return {
        "days": tuple(bins.starts.tolist()),
        "champion": _series(_ratio(sums["abs_error"], sums["n"])),
        "served": _series(_ratio(sums["served_abs_error"], sums["served_n"])),
        "naive": _series(naive),
        "expected": _series(expected),
        "low": _series(expected / width),
        "high": _series(expected * width),
    }


def _places(sources: StorySources, bins: _Bins) -> dict[str, Any]:
    assert sources.view is not None
    view = sources.view
    span = len(bins.starts) * bins.step
    grid = view.grid
    first = int(grid.day([bins.starts[0]])[0])
    period = _period_days(view, grid.day_start(np.array([first, first + span])), span)
    days = np.arange(first, first + span + period, period, dtype=np.int64)
    starts = grid.day_start(days)
    sums = view.sums.blocks_by_place(starts.astype(np.int64) // HOUR)
    baselines = _baselines(sources.commits, starts[:-1].astype(np.float64))
    skill = np.array([b.skill if b is not None and b.skill is not None else np.nan for b in baselines])
    enough = sums["naive_n"] >= MIN_PLACE_ROWS
    keep = max(1, _last_filled(enough) + 1)
    error, expected = sums["abs_error_naive"], sums["naive_abs_error"] * skill
    cells = [np.where(enough, values, np.nan)[:, :keep] for values in (error, expected)]
    ratios, late = place_ratios(cells[0], cells[1], max(USUAL_DAYS // period, RECENT_PERIODS), RECENT_PERIODS)
    recent = slice(max(0, keep - RECENT_PERIODS), keep)
    mae = _ratio(sums["abs_error"][:, recent].sum(1), sums["n"][:, recent].sum(1))
    notes = {str(place.place): place for place in sources.health.places} if sources.health is not None else {}
    rows = []
    for code, place in enumerate(view.places[: len(ratios)]):
        known = notes.get(str(place))
        note = f"drifting: {percent(known.degradation)}" if known is not None and known.drifting else ""
        rows.append(
            PlaceRow(
                place=str(place),
                ratios=_series(ratios[code], 3),
                mae=float(mae[code]) if np.isfinite(mae[code]) else None,
                ratio=float(late[code]) if np.isfinite(late[code]) else None,
                n=int(sums["n"][code].sum()),
                note=note,
            )
        )
    return {"places": tuple(rows), "periods": tuple(starts[:keep].astype(float).tolist()), "period_days": period}


def _period_days(view: MetricsView, edges: NDArray[np.int64], span: int) -> int:
    """Return how many days a cell of the map stands for: few enough cells to see, and rows enough in each to judge by."""
    rows = view.sums.blocks_by_place(edges // HOUR)["naive_n"].sum(axis=1)
    busy = float(np.median(rows)) / span if len(rows) else 0.0
    shortest = 1 if span <= 92 else 7 if span <= 800 else 28
    return next((days for days in (1, 7) if days >= shortest and busy * days >= MIN_PLACE_ROWS), 28)


def _last_filled(enough: NDArray[np.bool_]) -> int:
    filled = np.flatnonzero(enough.any(axis=0))
    return int(filled[-1]) if len(filled) else 0


def _serving(sources: StorySources, bins: _Bins) -> dict[str, Any]:
    """Weights by role and levels of the champion, as they were at the end of each bin."""
    if not sources.snapshots:
        return {}
    at = np.array([snapshot.at for snapshot in sources.snapshots])
    ends = bins.starts + bins.step * DAY
    picked = np.searchsorted(at, ends, side="left") - 1
    shares: dict[str, list[float]] = {}
    levels = np.full((3, len(ends)), np.nan)
    for index, position in enumerate(picked.tolist()):
        if position < 0:
            continue
        snapshot = sources.snapshots[position]
        roles = _roles(sources.commits, snapshot.at)
        rows = len(snapshot.places)
        weights = snapshot.weights[:rows].mean(axis=0) if rows else snapshot.weights[-1]
        for member, weight in zip(snapshot.members, weights.tolist(), strict=True):
            name = _member_name(member.version, roles, snapshot, calibrated=member.calibrated)
            share = shares.setdefault(name, [0.0] * len(ends))
            share[index] += weight
        own = snapshot.levels[:rows, 0] if rows else snapshot.levels[-1:, 0]
        if any(member.calibrated for member in snapshot.members):
            levels[:, index] = (float(snapshot.levels[-1, 0]), *np.quantile(own, (0.1, 0.9)).tolist())
    order = ("champion", "champion, level-calibrated", "candidate", "candidate, level-calibrated", "base", "base, level-calibrated", "previous champion", "previous champion, level-calibrated", "seasonal naive")  # fmt: skip
    nothing = picked < 0
    members = tuple(
        Member(
            name=name,
            weights=tuple(None if gone else round(w, 3) for gone, w in zip(nothing, shares[name], strict=True)),
        )
        for name in sorted(shares, key=lambda name: order.index(name) if name in order else len(order))
        if max(shares[name]) >= 0.0005
    )
    return {
        "members": members,
        "levels": _series(levels[0]),
        "levels_low": _series(levels[1]),
        "levels_high": _series(levels[2]),
    }


def _roles(commits: Sequence[Commit], at: float) -> dict[int, str]:
    """Role of each version in the line-up that was in force at a moment."""
    words = {"candidate": "candidate", "base": "base", "previous": "previous champion"}
    last = bisect_right(commits, at, key=lambda commit: commit.at)
    line_up = commits[last - 1].line_up if last else ()
    return {entry.version: words[entry.role] for entry in line_up if entry.role in words}


def _member_name(version: int, roles: Mapping[int, str], snapshot: ServingSnapshot, *, calibrated: bool) -> str:
    if version == 0:
        return "seasonal naive"
    name = "champion" if version == snapshot.champion else roles.get(version, "candidate")
    return f"{name}, level-calibrated" if calibrated else name


def _verdict(sources: StorySources, head: Commit | None) -> str:
    health = sources.health
    if head is None:
        return "No model has been deployed here yet; run `demand-maint init --history FILE`."
    if health is None or health.mae is None:
        return health.reason if health is not None and health.reason else "Too few predictions with truth to judge."
    days = f"the last {health.days:g} days"
    if health.degradation is None:
        return f"The champion's error is {number(health.mae)} over {days}."
    side = "above" if health.degradation >= 0 else "below"
    text = f"The champion's error is {abs(100 * health.degradation):.0f} % {side} what was to be expected over {days}."
    if health.pool_fault:
        text += f" The truth itself looks wrong: {health.pool_fault}."
    return text + (f" {health.reason}." if health.reason else "")


def _facts(sources: StorySources, head: Commit | None, facts: LedgerFacts) -> tuple[tuple[str, str, str], ...]:
    health = sources.health
    rows: list[tuple[str, str, str]] = []
    if health is not None and health.mae is not None:
        rows.append(
            (f"Error (MAE, {health.days:g} days)", number(health.mae), f"expected {number(health.baseline_mae)}")
        )
        if health.served_mae is not None:
            rows.append(("Served", number(health.served_mae), "what the collector was given"))
        if health.skill is not None and health.skill > 0:
            rows.append(("Seasonal naive", number(health.mae / health.skill), "the same slot one week before"))
        if health.coverage is not None:
            rows.append(("Coverage", f"{100 * health.coverage:.0f} %", "of the predictions have their truth"))
    if head is not None:
        days = (sources.now - facts.promoted_at) / DAY if facts.promoted_at is not None else 0.0
        rows.append(
            (
                "Champion",
                f"version {head.champion}",
                f"for {days:.0f} {'day' if round(days) == 1 else 'days'}, base {head.base}",
            )
        )
    return tuple(rows)
