"""The rows a child trains on: read, checked for what no model can learn from, ordered and split by time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint.core.jobs import TrainingJob
from demand_maint.errors import InsufficientDataError, SchemaMismatchError, TargetError

__all__ = ["TrainingRows", "feature_rows", "read_rows"]

MIN_ROWS = 10
LARGEST_TARGET = 1e30
POSITIVE_LOSSES = ("Poisson", "Tweedie", "MSLE")
KEYS = frozenset({"place_id", "timestamp", "actual", "naive"})


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows in time order; those from `split` on are held back from the measured fit.

    Attributes
    ----------
    frame
        Keys and actuals; ``timestamp`` is there where the job's frame had it.
    matrix
        Features, (n, F) float32 in Fortran order.
    target
        Actuals, (n,).
    """

    frame: pl.DataFrame
    matrix: NDArray[np.float32]
    target: NDArray[np.float64]
    split: int

    def __len__(self) -> int:
        return len(self.target)

    def stamp(self, row: int) -> float | None:
        """Epoch second of a row, if known."""
        return float(self.frame["timestamp"][row]) if "timestamp" in self.frame.columns else None


def read_rows(job: TrainingJob) -> TrainingRows:
    """Read the job's frame and make sure that it can be trained on.

    Raises
    ------
    SchemaMismatchError, TargetError, InsufficientDataError
        It cannot.
    """
    frame = _read_frame(job)
    target = frame["actual"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    _check_target(target, job.loss, frame)
    stamps = frame["timestamp"].to_numpy() if "timestamp" in frame.columns else np.arange(len(frame), dtype=np.float64)
    if job.train_until is not None and "timestamp" not in frame.columns:
        raise SchemaMismatchError((*job.features, "timestamp"), job.features)
    split = _split(stamps, job)
    matrix = feature_rows(frame, job.features)
    return TrainingRows(frame.select(name for name in frame.columns if name in KEYS), matrix, target, split)


def _read_frame(job: TrainingJob) -> pl.DataFrame:
    frame = pl.read_parquet(job.frame_path, memory_map=False)
    if not {*job.features, "actual"} <= set(frame.columns):
        raise SchemaMismatchError(job.features, tuple(name for name in frame.columns if name not in KEYS))
    if len(frame) < MIN_ROWS:
        raise InsufficientDataError(len(frame), MIN_ROWS, "training")
    return frame.sort("timestamp", maintain_order=True) if "timestamp" in frame.columns else frame


def feature_rows(frame: pl.DataFrame, features: tuple[str, ...]) -> NDArray[np.float32]:
    """Return float32 rows in Fortran order, columns in the order of `features`, infinities as missing."""
    rows = np.empty((len(frame), len(features)), dtype=np.float32, order="F")
    with np.errstate(over="ignore"):
        for index, name in enumerate(features):
            column = frame[name]
            if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
                raise SchemaMismatchError(
                    features, (*features[:index], f"{name} ({column.dtype})", *features[index + 1 :])
                )
            # most have nothing to fill, and are not looked at as a query for it
            whole = column if column.dtype.is_float() and not column.has_nulls() else _filled(column)
            rows[:, index] = whole.to_numpy()
    rows[~np.isfinite(rows)] = np.nan
    return rows


def _filled(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64).fill_null(float("nan"))


def _check_target(target: NDArray[np.float64], loss: str, frame: pl.DataFrame) -> None:
    bad = ~np.isfinite(target) | (np.abs(target) > LARGEST_TARGET)
    if bad.any():
        raise TargetError(f"{_where(bad, frame, target)} Remove rows without a finite actual before training.")
    if loss.startswith(POSITIVE_LOSSES) and (target < 0).any():
        raise TargetError(f"{_where(target < 0, frame, target)} The loss {loss} needs actuals of zero or more.")
    if target.min() == target.max():
        raise TargetError(f"All {len(target)} actuals are {target[0]:g}; there is nothing to learn. Check the source.")


def _where(bad: NDArray[np.bool_], frame: pl.DataFrame, target: NDArray[np.float64]) -> str:
    first = int(np.flatnonzero(bad)[0])
    place = f"place {frame['place_id'][first]!r}, " if "place_id" in frame.columns else ""
    return f"{int(bad.sum())} of {len(bad)} actuals cannot be used, the first is {target[first]:g} ({place}row {first} by time)."


def _split(stamps: NDArray[Any], job: TrainingJob) -> int:
    """First row that is not trained on in the measured fit; rows of one moment stay on one side."""
    total = len(stamps)
    if job.train_until is not None:
        split = int(np.searchsorted(stamps, job.train_until, side="left"))
        if split < MIN_ROWS:
            raise InsufficientDataError(split, MIN_ROWS, "training before the holdout", "Collect longer.")
        return split
    if job.validation <= 0:
        return total
    wanted = max(1, round(total * (1 - job.validation)))
    split = int(np.searchsorted(stamps, stamps[min(wanted, total - 1)], side="left"))
    return split if split >= MIN_ROWS // 2 else min(wanted, total - 1)
