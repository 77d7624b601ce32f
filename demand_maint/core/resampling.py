"""How far a ratio of sums over days may be off, by drawing the days again."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["ratio_interval"]

SAMPLES = 400
Floats = NDArray[np.float64]


def ratio_interval(top: Floats, bottom: Floats) -> tuple[float, float]:
    """Return the middle 90 % of ``sum(top) / sum(bottom) - 1`` over samples of days, the same samples every time.

    Parameters
    ----------
    top, bottom
        One value a day, (D,).

    Examples
    --------
    >>> ratio_interval(np.array([2.0, 2.0, 2.0]), np.array([1.0, 1.0, 1.0]))
    (1.0, 1.0)
    """
    picks = _picks(len(top))
    ratios = np.sort(top.take(picks).sum(axis=0) / bottom.take(picks).sum(axis=0) - 1)
    return _quantile(ratios, 0.05), _quantile(ratios, 0.95)


@lru_cache(maxsize=32)
def _picks(days: int) -> NDArray[np.int64]:
    """Return which days each sample has, one sample a column, as they are quicker to add up."""
    return np.ascontiguousarray(np.random.default_rng(days).integers(0, days, (SAMPLES, days)).T)


def _quantile(ordered: Floats, share: float) -> float:
    """Quantile of ascending values, interpolated as numpy does, which takes ten times as long for so few."""
    at = share * (len(ordered) - 1)
    low = int(at)
    below, above, part = float(ordered[low]), float(ordered[min(low + 1, len(ordered) - 1)]), at - low
    return below + (above - below) * part if part < 0.5 else above - (above - below) * (1 - part)
