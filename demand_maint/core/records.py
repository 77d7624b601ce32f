"""Observations, and the batches in which the drain hands them on."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["MaturedBatch"]


@dataclass(frozen=True, slots=True)
class MaturedBatch:
    """Rows whose truth has arrived, in one array per column (all of length n).

    Attributes
    ----------
    place
        Dense code of the place (the monitor's `places` list gives the id).
    slot
        Start of the row's slot, epoch seconds.
    version
        Champion version whose own prediction `predicted` is; 0 where no version was known.
    predicted
        The champion's own prediction.
    served
        What the collector was given (equals `predicted` for four-argument calls).
    actual
        The truth.
    naive
        Seasonal-naive forecast of the row, NaN where there is none.
    members
        (n, K) float32 raw predictions of the line-up's models, NaN where a model did not predict; K may be 0.
    snapshot
        Serving snapshot that names those K models, 0 for none.
    observed_at
        When the truth arrived, epoch seconds.
    """

    place: NDArray[np.uint32]
    slot: NDArray[np.int64]
    version: NDArray[np.uint16]
    predicted: NDArray[np.float64]
    served: NDArray[np.float64]
    actual: NDArray[np.float64]
    naive: NDArray[np.float64]
    members: NDArray[np.float32]
    snapshot: NDArray[np.uint32]
    observed_at: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, rows: NDArray[Any]) -> Self:
        """Only these rows, given as positions or as a mask."""
        return type(self)(*(getattr(self, column.name)[rows] for column in fields(self)))
