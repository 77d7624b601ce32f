"""A training job and its outcome: paths and numbers, so that nothing large crosses a process border."""

from typing import Any, Literal

from msgspec import Struct, field

__all__ = ["JobKind", "TrainingJob", "TrainingOutcome"]

JobKind = Literal["fine_tune", "full"]


class TrainingJob(Struct, frozen=True, kw_only=True):
    """One fit, done by one child process.

    Parameters
    ----------
    frame_path
        Parquet with `features` as columns beside ``place_id``, ``timestamp`` (epoch seconds, float64), ``actual`` and, where
        known, ``naive`` (the seasonal-naive forecast of the row).
    output_directory, name
        The child writes ``<name>.cbm`` and ``<name>_metadata.json`` there.
    base_model_path, base_sha256
        ``.cbm`` a fine-tune starts from; ``None`` for a full retrain. Where `base_sha256` (hex) is given, its bytes must have it.
    validation
        Share of the newest rows held back for the metrics, by time.
    rows
        Rows of the frame, for whoever is told that a training begins.
    train_until
        Rows at or after this epoch second are not trained on but measured (the gate's holdout); ``None`` trains on all.
    """

    kind: JobKind
    frame_path: str
    features: tuple[str, ...]
    output_directory: str
    name: str
    base_model_path: str | None = None
    base_sha256: str | None = None
    base: int | None = None
    parent: int | None = None
    loss: str = "RMSE"
    iterations: int = 100
    learning_rate: float = 0.03
    depth: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    validation: float = 0.1
    train_until: float | None = None
    seed: int = 0
    threads: int = 1
    nice: int = 19
    deadline_seconds: float = 3600.0
    memory_megabytes: int | None = None
    feature_builder: str = ""
    horizon_seconds: int | None = None
    zone: str = "UTC"
    rows: int | None = None
    created_at: float = 0.0


class TrainingOutcome(Struct, frozen=True, kw_only=True):
    """What came out of a job; `metrics` are out-of-sample (mae, rmse, naive_mae, rows)."""

    model_path: str
    metadata_path: str
    metrics: dict[str, float]
    rows: int
    trees: int
    cpu_seconds: float
    wall_seconds: float
