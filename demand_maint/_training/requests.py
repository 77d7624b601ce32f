"""What a worker child can be asked besides a `TrainingJob`, and what it answers: paths and numbers, as JSON."""

from typing import Any

import msgspec
from msgspec import Struct, field

from demand_maint.core.jobs import TrainingJob, TrainingOutcome

__all__ = [
    "EvaluateJob",
    "Evaluation",
    "GatherJob",
    "InspectJob",
    "Limits",
    "ModelInspection",
    "Request",
    "WorkerAnswer",
    "WorkerJob",
    "decode_answer",
    "limits_of",
    "module_of",
    "task_of",
]


class InspectJob(Struct, frozen=True, kw_only=True, tag="inspect", tag_field="task"):
    """Open a model file of unknown origin, and write its canonical ``.cbm`` as ``<output_directory>/<name>.cbm``.

    Parameters
    ----------
    sha256
        Digest the file was written with, where that is known.
    rows
        Sample rows (float, in the order of `features`) it has to answer with finite numbers; made up where empty.
    """

    path: str
    output_directory: str
    name: str
    features: tuple[str, ...] = ()
    loss: str | None = None
    sha256: str | None = None
    rows: list[list[float]] = field(default_factory=list)
    limit_bytes: int = 512 << 20
    deadline_seconds: float = 120.0
    memory_megabytes: int | None = 4096
    threads: int = 1
    nice: int = 0


class ModelInspection(Struct, frozen=True, kw_only=True):
    """A foreign model, as a child found it; `cbm_path` holds the bytes whose digest is `sha256`."""

    features: tuple[str, ...]
    trees: int
    loss: str
    dimension: int
    params: dict[str, Any]
    own_metadata: dict[str, str]
    sample_predictions: list[float]
    cbm_path: str
    sha256: str
    size: int


class EvaluateJob(Struct, frozen=True, kw_only=True, tag="evaluate", tag_field="task"):
    """Predict every row of a Parquet frame; the answer is a Parquet file of its key columns and ``predicted``."""

    model_path: str
    frame_path: str
    output_directory: str
    name: str
    sha256: str | None = None
    deadline_seconds: float = 600.0
    memory_megabytes: int | None = None
    threads: int = 1
    nice: int = 19


class Evaluation(Struct, frozen=True, kw_only=True):
    """Per-row predictions in `predictions_path`; `metrics` where the frame had actuals."""

    predictions_path: str
    rows: int
    metrics: dict[str, float]


class GatherJob(Struct, frozen=True, kw_only=True, tag="gather", tag_field="task"):
    """Gather the rows of a training and write them down; the answer is the `TrainingJob` that fits them.

    Parameters
    ----------
    config, step
        The root's `Config` and the cycle's `Train`, as builtin values.
    now
        Epoch second as of which rows are gathered.
    """

    root: str
    config: dict[str, Any]
    step: dict[str, Any]
    now: float
    output_directory: str
    deadline_seconds: float = 3600.0
    memory_megabytes: int | None = None
    threads: int = 1
    nice: int = 19


WorkerJob = TrainingJob | InspectJob | EvaluateJob | GatherJob
WorkerAnswer = TrainingOutcome | ModelInspection | Evaluation | TrainingJob


class Limits(Struct, frozen=True, kw_only=True):
    """What a child may take: seconds of wall time, megabytes of resident memory, threads; `hard_memory` caps its address space too."""

    deadline_seconds: float = 3600.0
    memory_megabytes: int | None = None
    hard_memory: bool = False
    threads: int = 1
    nice: int = 19


class Request(Struct, frozen=True, kw_only=True):
    """The first line a child reads."""

    task: str
    job: dict[str, Any]
    limits: Limits
    progress_seconds: float = 0.25


def limits_of(job: WorkerJob) -> Limits:
    """Limits that a job carries with it."""
    return Limits(
        deadline_seconds=job.deadline_seconds,
        memory_megabytes=job.memory_megabytes,
        hard_memory=isinstance(job, InspectJob),
        threads=job.threads,
        nice=job.nice,
    )


_ANSWERS: dict[str, type[TrainingOutcome] | type[ModelInspection] | type[Evaluation] | type[TrainingJob]] = {
    "train": TrainingOutcome,
    "inspect": ModelInspection,
    "evaluate": Evaluation,
    "gather": TrainingJob,
}
_TASKS: dict[type[WorkerJob], str] = {
    TrainingJob: "train",
    InspectJob: "inspect",
    EvaluateJob: "evaluate",
    GatherJob: "gather",
}
# what stands above the worker in the package has an entry of its own
_MODULES = {"gather": "demand_maint.gather"}


def task_of(job: WorkerJob) -> str:
    """Name of the worker's task for `job`."""
    return _TASKS[type(job)]


def module_of(task: str) -> str:
    """Return the module whose ``__main__`` serves `task`."""
    return _MODULES.get(task, "demand_maint._training.worker")


def decode_answer(task: str, answer: Any) -> WorkerAnswer:
    """Turn the builtin values of a child's answer into their class; raises `msgspec.ValidationError` on anything else."""
    return msgspec.convert(answer, _ANSWERS[task])
