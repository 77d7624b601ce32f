"""Some rows as they are or were, and batches put together."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.records import MaturedBatch

__all__ = ["RowState", "grown", "joined_batches"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RowState:
    """What some rows are, or were."""

    flags: NDArray[np.uint8]
    version: NDArray[np.uint16]
    predicted: Floats
    served: Floats
    actual: Floats
    naive: Floats
    observed: Floats
    extra: NDArray[np.int32] | None

    def take(self, chosen: NDArray[np.bool_]) -> "RowState":
        """Return some of them."""
        return RowState(
            self.flags[chosen],
            self.version[chosen],
            self.predicted[chosen],
            self.served[chosen],
            self.actual[chosen],
            self.naive[chosen],
            self.observed[chosen],
            None if self.extra is None else self.extra[chosen],
        )

    def differs(self, other: "RowState") -> NDArray[np.bool_]:
        """Which rows are no longer what they were, as far as any figure sees."""
        changed: NDArray[np.bool_] = (
            (self.predicted != other.predicted)
            | (self.served != other.served)
            | (self.actual != other.actual)
            | (self.version != other.version)
            | ~((self.naive == other.naive) | (np.isnan(self.naive) & np.isnan(other.naive)))
        )
        if self.extra is not None and other.extra is not None:
            changed |= self.extra != other.extra
        elif other.extra is not None:
            changed |= other.extra >= 0
        return changed


def grown(array: NDArray[Any], used: int, room: int) -> NDArray[Any]:
    """Return a copy of the first `used` values with room for more."""
    out = np.empty(room, dtype=array.dtype)
    out[:used] = array[:used]
    return out


def joined_batches(batches: list[MaturedBatch]) -> MaturedBatch | None:
    """Put batches together; ``None`` where there are no rows."""
    batches = [batch for batch in batches if len(batch)]
    if len(batches) < 2:
        return batches[0] if batches else None
    width = max(batch.members.shape[1] for batch in batches)
    members = [
        np.pad(batch.members, ((0, 0), (0, width - batch.members.shape[1])), constant_values=np.nan)
        for batch in batches
    ]
    return MaturedBatch(
        np.concatenate([batch.place for batch in batches]),
        np.concatenate([batch.slot for batch in batches]),
        np.concatenate([batch.version for batch in batches]),
        np.concatenate([batch.predicted for batch in batches]),
        np.concatenate([batch.served for batch in batches]),
        np.concatenate([batch.actual for batch in batches]),
        np.concatenate([batch.naive for batch in batches]),
        np.concatenate(members),
        np.concatenate([batch.snapshot for batch in batches]),
        np.concatenate([batch.observed_at for batch in batches]),
    )
