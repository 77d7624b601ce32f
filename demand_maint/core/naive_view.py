"""Seasonal-naive forecasts for whoever predicts, while somebody else counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.observations import RowBuffer

__all__ = ["NaiveView"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class NaiveView:
    """What a buffer knew at one moment, readable from any thread without a lock.

    A drain makes a new view when it has finished; until then predictions are answered by the one before.

    Parameters
    ----------
    buffer
        Taken as it is now; what is added to it later is not seen.
    codes
        Dense code by place; it may grow.
    left_out
        By place code, ``(first, end)`` of slots whose truth is no forecast of anything, since the feed was broken.
    """

    __slots__ = ("_buffer", "_codes", "_left_out", "_shifted")

    def __init__(
        self, buffer: RowBuffer, codes: Mapping[Any, int], left_out: Mapping[int, tuple[tuple[int, int], ...]]
    ) -> None:
        self._buffer = buffer.frozen()
        self._codes = codes
        self._left_out = dict(left_out)
        # the places of a collection round share their slot: the last one, and the slots it is looked up at
        self._shifted: tuple[int, tuple[int, ...]] = (-1, ())

    def forecasts(self, place_ids: Sequence[Any], slots: Ints) -> Floats:
        """Forecasts (n,) for keys, NaN where there is none."""
        codes = self._codes
        if len(place_ids) == 1:  # `predict_overhead` pays for this branch: 5 us instead of 60
            code = codes.get(place_ids[0])
            return np.array((np.nan if code is None else self._one(code, int(slots[0])),))
        found = np.array([codes.get(place, -1) for place in place_ids], dtype=np.int64)
        out = np.full(len(found), np.nan)
        good = found >= 0
        if good.any():
            out[good] = self._buffer.naive(found[good].astype(np.uint32), np.asarray(slots, dtype=np.int64)[good])
            if self._left_out:
                for row in np.isin(found, list(self._left_out)).nonzero()[0].tolist():
                    out[row] = self._one(int(found[row]), int(slots[row]))
        return out

    def _one(self, code: int, slot: int) -> float:
        shifted = self._shifted
        if shifted[0] != slot:
            # one assignment of a whole tuple, so another thread never sees half of it
            self._shifted = shifted = (slot, self._buffer.seasons_before(slot))
        broken = self._left_out.get(code, ())
        for back in shifted[1]:
            if broken and any(first <= back < end for first, end in broken):
                continue
            value = self._buffer.truth_at(code, back)
            if value == value:  # noqa: PLR0124 - not NaN
                return value
        return float("nan")
