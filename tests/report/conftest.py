"""A made-up year of fifty places: everything the report page can show, in one value."""

import math
import random

import pytest

from demand_maint.core.report_data import (
    DeploymentRow,
    EventKind,
    FeatureDrift,
    Member,
    PlaceRow,
    PolicyRow,
    ReportData,
    ReportEvent,
    Span,
    Story,
    Upcoming,
)

DAY = 86400.0
START = 1_356_998_400.0  # 2013-01-01


def make_story(name: str = "default", days: int = 365, places: int = 50, seed: int = 1) -> Story:
    """A year in which the model drifts in spring, a deploy goes wrong in summer and a feed breaks in autumn."""
    rng = random.Random(seed)
    naive = [80 + 25 * math.sin(i / 58) + rng.gauss(0, 9) for i in range(days)]
    drift = [1 + (0.35 if 90 < i < 118 else 0.0) for i in range(days)]
    champion = [n * 0.8 * d + rng.gauss(0, 4) for n, d in zip(naive, drift, strict=True)]
    served = [c * rng.uniform(0.88, 0.97) for c in champion]
    at = [START + i * DAY for i in range(days)]
    events = []
    for week in range(days // 7):
        when = at[week * 7] + 6 * 3600
        events.append(
            ReportEvent(
                at=when,
                kind="train",
                title="Fine-tune",
                detail="7 days since the last update; 100 trees on 36 000 rows",
            )
        )
        kind: EventKind = "reject" if week % 4 == 3 else "deploy"
        title = "Fine-tune dropped" if kind == "reject" else f"Version {week + 2} deployed"
        events.append(
            ReportEvent(
                at=when + 8 * DAY,
                kind=kind,
                title=title,
                detail="live truth over 7 days: error 1.8 % below the champion's (-3.1 .. -0.4 %)",
            )
        )
        events.append(ReportEvent(at=when + 3600, kind="enter", title=f"Version {week + 2} entered the line-up"))
    events.append(
        ReportEvent(at=at[97], kind="drift", title="Drift: error 31 % above expected", detail="worst: Place 17 +104 %")
    )
    events.append(
        ReportEvent(
            at=at[201],
            kind="rollback",
            title="Rolled back to version 27",
            detail="version 28 was 25 % worse over 4 days",
        )
    )
    checks = [Span(since=at[0], until=at[91], tone="good", title="364 checks, nothing to do", detail="healthy")]
    checks += [
        Span(since=at[91], until=at[98], tone="warn", title="28 checks: degraded", detail="waiting for the test")
    ]
    checks += [Span(since=at[98], until=at[104], tone="bad", title="24 checks: critical", detail="cooldown")]
    checks += [Span(since=at[104], until=at[-1], tone="good", title="1 044 checks, nothing to do", detail="healthy")]
    share = [0.5 + 0.3 * math.sin(i / 20) for i in range(days)]
    parts = {
        "champion": [0.6 * s for s in share],
        "champion, level-calibrated": [0.4 * s for s in share],
        "candidate": [0.5 * (1 - s) for s in share],
        "candidate, level-calibrated": [0.3 * (1 - s) for s in share],
        "seasonal naive": [0.2 * (1 - s) for s in share],
    }
    members = tuple(Member(name=label, weights=tuple(round(w, 3) for w in part)) for label, part in parts.items())
    weeks = days // 7 + 1
    rows = []
    for place in range(places):
        bad = 2.0 if place == 17 else 1.35 if place == 5 else 1.0
        ratios = tuple(round(math.exp(rng.gauss(0, 0.13)) * (bad if w > weeks - 8 else 1.0), 2) for w in range(weeks))
        rows.append(
            PlaceRow(
                place=f"Place {place}" if place != 5 else "Embarcadero at Folsom & Main <west>",
                ratios=ratios,
                mae=rng.uniform(5, 40),
                ratio=sum(ratios[-4:]) / 4,
                n=8760,
            )
        )
    return Story(
        name=name,
        days=tuple(at),
        champion=tuple(round(v, 2) for v in champion),
        served=tuple(round(v, 2) for v in served),
        naive=tuple(round(v, 2) for v in naive),
        expected=tuple(round(n * 0.8, 2) for n in naive),
        low=tuple(round(n * 0.68, 2) for n in naive),
        high=tuple(round(n * 0.94, 2) for n in naive),
        status="healthy",
        verdict="The champion's error is 3 % below what was expected of it over the last 7 days.",
        facts=(
            ("Error (MAE, 7 days)", "62.4", "expected 64.3"),
            ("Served", "58.9", "line-up of 5"),
            ("Seasonal naive", "80.1", "same place and hour, a week before"),
            ("Coverage", "97 %", "of the predictions have their truth"),
            ("Champion", "51", "since 24 Dec 2013"),
        ),
        events=tuple(events),
        checks=tuple(checks),
        reigns=tuple(
            Span(
                since=at[w * 28],
                until=at[min(w * 28 + 28, days - 1)],
                tone="odd" if w % 2 else "even",
                title=f"Version {w * 4 + 1}",
                label=f"v{w * 4 + 1}",
            )
            for w in range(days // 28)
        ),
        feed=(
            Span(
                since=at[280],
                until=at[288],
                tone="fault",
                title="Place 31: constant",
                detail="192 equal values in a row",
            ),
        ),
        members=members,
        levels=tuple(1 + 0.1 * math.sin(i / 30) for i in range(days)),
        levels_low=tuple(0.93 + 0.1 * math.sin(i / 30) for i in range(days)),
        levels_high=tuple(1.08 + 0.1 * math.sin(i / 30) for i in range(days)),
        periods=tuple(START + i * 7 * DAY for i in range(weeks)),
        places=tuple(rows),
        features=tuple(
            FeatureDrift(name=f"lag_{24 * (i + 1)}h", importance=40 / (i + 1), psi=rng.uniform(0, 0.4))
            for i in range(20)
        ),
        deployments=tuple(
            DeploymentRow(
                number=n + 1,
                at=at[n * 5],
                action=("init", "promote", "enter", "discard", "rollback")[n % 5],
                version=n,
                who="maintainer",
                why="7 days since the last update",
                verdict="not worse: -1.8 % (-3.1 .. -0.4 %) over 7 days",
            )
            for n in range(60)
        ),
        upcoming=(
            Upcoming(what="Next check", at=at[-1] + 6 * 3600, why="every 6 hours"),
            Upcoming(what="Fine-tune", at=at[-1] + 3 * DAY, why="7 days after the last update"),
            Upcoming(what="Full retrain", at=at[-1] + 40 * DAY, why="90 days after the last one, or on drift"),
        ),
    )


@pytest.fixture(scope="session")
def live_report() -> ReportData:
    """One root's page."""
    return ReportData(
        title="Maintenance report", generated_at=START + 365 * DAY, source="/srv/demand", stories=(make_story(),)
    )


@pytest.fixture(scope="session")
def replay_report() -> ReportData:
    """A replay's page: three policies with their stories, and two more that are only compared."""
    stories = tuple(make_story(name, seed=i) for i, name in enumerate(("default", "full-28d", "frozen")))
    figures = {
        "default": (77.1, 12.0),
        "full-28d": (80.2, 31.0),
        "frozen": (119.0, 0.0),
        "full-7d": (78.9, 120.0),
        "naive": (92.0, 0.0),
    }
    policies = tuple(
        PolicyRow(
            name=name,
            mae=mae,
            mase=mae / 92,
            bias=-3.0,
            training_cpu_seconds=cpu,
            fine_tunes=int(cpu),
            full_retrains=4,
            rejected=2,
            rolling=tuple(mae + 5 * math.sin(i / 30) for i in range(365)),
        )
        for name, (mae, cpu) in figures.items()
    )
    return ReportData(
        title="Policy replay",
        generated_at=START + 365 * DAY,
        source="bikes.parquet, 1 place, hourly",
        stories=stories,
        policies=policies,
        policy_days=stories[0].days,
    )
