"""What a model version is, and the commit that makes one champion.

Formats carry an integer version. A reader of format N upgrades N-1 by the recipe in `_storage.formats`, and serves an unknown
newer one read-only. In format 1 a baseline's `log_centre` and `log_scale` were of whole errors, since 2 of what was fresh in them.
"""

from typing import Any, Literal

from msgspec import Struct, field

__all__ = [
    "COMMIT_FORMAT",
    "METADATA_FORMAT",
    "Baseline",
    "Commit",
    "CommitAction",
    "FileHashes",
    "GateVerdict",
    "LineUpEntry",
    "ModelMetadata",
    "ModelVersion",
]

COMMIT_FORMAT = 2
METADATA_FORMAT = 2


class Baseline(Struct, frozen=True, kw_only=True):
    """The error this champion is expected to make.

    Parameters
    ----------
    mae
        Mean absolute error over the reference rows, in units of demand.
    skill
        `mae` divided by the seasonal-naive error of the same rows; ``None`` where too few rows had a reference.
    naive_mae
        That seasonal-naive error.
    log_scale
        Robust standard deviation of the same daily figure as `log_centre`; ``None`` until known.
    log_centre, log_days
        Mean of `core.difficulty.log_error_against` over the reference days, and how many they were: where the sequential test
        starts from; ``None`` lets the first days of service tell.
    n, days
        Rows and days behind the figures.
    since, until
        Period of the reference rows, epoch seconds.
    source
        Where they came from.
    """

    mae: float
    skill: float | None = None
    naive_mae: float | None = None
    log_scale: float | None = None
    log_centre: float | None = None
    log_days: int = 0
    n: int = 0
    days: int = 0
    since: float | None = None
    until: float | None = None
    source: Literal["holdout", "first_days", "out_of_sample", "refreshed", "metadata"] = "holdout"


class ModelMetadata(Struct, frozen=True, kw_only=True):
    """``metadata.json`` beside a model: everything needed to serve it, judge it and train on from it."""

    features: tuple[str, ...]
    loss: str
    kind: Literal["full", "fine_tune", "adopted", "foreign"]
    created_at: float
    params: dict[str, Any] = field(default_factory=dict)
    trees: int = 0
    rows: int = 0
    trained_since: float | None = None
    trained_until: float | None = None
    # version numbers; the base of a full retrain is itself and stays None here
    parent: int | None = None
    base: int | None = None
    # out-of-sample figures of the training: mae, rmse, naive_mae, ...
    metrics: dict[str, float] = field(default_factory=dict)
    baseline: Baseline | None = None
    # by feature: importance in per cent, and the quantiles input drift is measured against
    importances: dict[str, float] = field(default_factory=dict)
    quantiles: dict[str, list[float]] = field(default_factory=dict)
    # per place out-of-sample sums a new model's calibration starts from: {place: [actual, predicted, days]}
    levels: dict[str, list[float]] = field(default_factory=dict)
    feature_builder: str = ""
    horizon_seconds: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    format: int = METADATA_FORMAT


class FileHashes(Struct, frozen=True):
    """sha256 (hex) of the two files of a version directory."""

    model: str
    metadata: str


class ModelVersion(Struct, frozen=True, kw_only=True):
    """One immutable version: its number, what it is, and where its bytes are."""

    number: int
    metadata: ModelMetadata
    hashes: FileHashes
    stage: Literal["staging", "production", "archive"] = "archive"


class LineUpEntry(Struct, frozen=True, kw_only=True):
    """A version in the line-up, and why it is there (`until` is epoch seconds)."""

    version: int
    role: Literal["champion", "base", "candidate", "previous"]
    entered_at: float
    kind: Literal["full", "fine_tune"] = "full"
    until: float | None = None


class GateVerdict(Struct, frozen=True, kw_only=True):
    """What the evidence says of a challenger.

    Parameters
    ----------
    verdict
        ``not_worse`` promotes, ``worse`` discards, ``inconclusive`` waits or discards by the policy.
    reasons
        Codes for programs, as ``paired_daily``, ``coverage_low``, ``reference_worse``, ``forced``.
    champion_mae, challenger_mae
        Errors over the same rows.
    relative
        Mean relative difference (negative = the challenger is better) and its interval `low` .. `high`.
    """

    verdict: Literal["not_worse", "worse", "inconclusive", "unproven", "forced"]
    reasons: tuple[str, ...] = ()
    method: Literal["live", "gate", "metadata", "force", "none"] = "none"
    champion_mae: float | None = None
    challenger_mae: float | None = None
    relative: float | None = None
    low: float | None = None
    high: float | None = None
    days: int = 0
    n: int = 0


CommitAction = Literal[
    "init", "adopt", "deploy", "promote", "rollback", "enter", "discard", "expire", "settle", "rebaseline"
]


class Commit(Struct, frozen=True, kw_only=True):
    """One file of ``data/models/commits``: pointer, history and audit in one.

    `champion` and `base` are version numbers. `files` holds the hashes of every version that this commit needs.
    ``init``, ``adopt``, ``deploy``, ``promote`` and ``rollback`` set the champion; the others keep it and change the line-up or baseline.
    `subject` is the version a commit is about where that is not the champion: the candidate that entered or was discarded.
    """

    number: int
    action: CommitAction
    at: float
    champion: int
    base: int
    previous: int | None = None
    subject: int | None = None
    line_up: tuple[LineUpEntry, ...] = ()
    baseline: Baseline | None = None
    fine_tunes: int = 0
    who: str = ""
    why: str = ""
    verdict: GateVerdict | None = None
    files: dict[str, FileHashes] = field(default_factory=dict)
    rolled_back: tuple[int, ...] = ()
    format: int = COMMIT_FORMAT
