"""What the report page shows, as plain values: no paths, no models, nothing live.

Days are epoch seconds of the local midnight they begin at. Series hold one value a day, ``None`` where there is none.
"""

from typing import Literal

from msgspec import Struct

__all__ = [
    "DeploymentRow",
    "EventKind",
    "FeatureDrift",
    "Member",
    "PlaceRow",
    "PolicyRow",
    "ReportData",
    "ReportEvent",
    "Span",
    "Story",
    "Upcoming",
]

Series = tuple[float | None, ...]
EventKind = Literal["train", "deploy", "rollback", "reject", "enter", "drift", "feed", "fail"]


class ReportEvent(Struct, frozen=True, kw_only=True):
    """Something that happened at one moment, told in one line and explained in a few."""

    at: float
    kind: EventKind
    title: str
    detail: str = ""


class Span(Struct, frozen=True, kw_only=True):
    """A stretch of time in one state: checks that agreed, a champion's reign, a feed fault.

    `tone` picks the colour: ``good``, ``warn``, ``bad``, ``quiet``, ``fault``, ``even``, ``odd``; `label` is written into it where it is wide enough.
    """

    since: float
    until: float
    tone: Literal["good", "warn", "bad", "quiet", "fault", "even", "odd"]
    title: str
    detail: str = ""
    label: str = ""


class Member(Struct, frozen=True, kw_only=True):
    """A forecaster of the line-up and its share of the served value, day by day (0 .. 1)."""

    name: str
    weights: Series


class PlaceRow(Struct, frozen=True, kw_only=True):
    """A place's error relative to what was expected of it, per period of the heat map (1 = as expected)."""

    place: str
    ratios: Series
    mae: float | None = None
    ratio: float | None = None
    n: int = 0
    note: str = ""


class FeatureDrift(Struct, frozen=True, kw_only=True):
    """How far a feature has moved from the training data (PSI), and how much the champion leans on it (per cent)."""

    name: str
    importance: float
    psi: float | None


class DeploymentRow(Struct, frozen=True, kw_only=True):
    """One commit of the registry in the words of the table."""

    number: int
    at: float
    action: str
    version: int
    who: str
    why: str
    verdict: str = ""


class Upcoming(Struct, frozen=True, kw_only=True):
    """What will happen next; `at` is ``None`` where it depends on the data."""

    what: str
    at: float | None
    why: str = ""


class Story(Struct, frozen=True, kw_only=True):
    """One maintained root: what it saw, did and served.

    `expected` is the error a model as good as the baseline would have made that day (baseline skill times naive error), `low`
    and `high` the band of its ordinary day-to-day noise. `levels` is the pooled calibration factor, `levels_low` and
    `levels_high` its 10 % and 90 % quantiles over places. `periods` are the heat map's columns.
    """

    name: str
    days: tuple[float, ...] = ()
    champion: Series = ()
    served: Series = ()
    naive: Series = ()
    expected: Series = ()
    low: Series = ()
    high: Series = ()
    status: str = "insufficient_data"
    verdict: str = ""
    facts: tuple[tuple[str, str, str], ...] = ()
    events: tuple[ReportEvent, ...] = ()
    checks: tuple[Span, ...] = ()
    reigns: tuple[Span, ...] = ()
    feed: tuple[Span, ...] = ()
    members: tuple[Member, ...] = ()
    levels: Series = ()
    levels_low: Series = ()
    levels_high: Series = ()
    periods: tuple[float, ...] = ()
    period_days: int = 7
    places: tuple[PlaceRow, ...] = ()
    features: tuple[FeatureDrift, ...] = ()
    deployments: tuple[DeploymentRow, ...] = ()
    upcoming: tuple[Upcoming, ...] = ()


class PolicyRow(Struct, frozen=True, kw_only=True):
    """One policy of a replay in the comparison; `rolling` is its 28-day MAE over the days of the first story."""

    name: str
    mae: float | None
    mase: float | None
    bias: float | None
    training_cpu_seconds: float
    fine_tunes: int = 0
    full_retrains: int = 0
    rejected: int = 0
    rollbacks: int = 0
    false_alarms: int = 0
    rolling: Series = ()
    note: str = ""


class ReportData(Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    title: str
    generated_at: float
    zone: str = "UTC"
    source: str = ""
    stories: tuple[Story, ...] = ()
    policies: tuple[PolicyRow, ...] = ()
    policy_days: tuple[float, ...] = ()
    reference: str = "frozen"
