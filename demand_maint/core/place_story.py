"""How each place did against what was to be expected of *it*: the cells of the report's heat map."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["place_ratios"]

#: Share of the usual cell's error below which there is too little demand to say anything.
_LEAST = 0.05

Floats = NDArray[np.float64]


def place_ratios(error: Floats, expected: Floats, first: int, recent: int) -> tuple[Floats, Floats]:
    """Return each place's error over what was to be expected of it, by period, and over the `recent` ones together.

    A place with little demand is harder, relative to last week's, than the places together. What is usual for a place is taken
    from its `first` periods; the places together stay as they are.

    Parameters
    ----------
    error, expected
        Sums of absolute errors and what the pool's skill lets expect, (P, T); NaN where a place has too few rows.

    Examples
    --------
    >>> expected = np.full((2, 6), 10.0)
    >>> ratios, late = place_ratios(expected * np.array([[0.5], [1.5]]), expected, first=4, recent=2)
    >>> ratios[:, -1].tolist(), late.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    there = np.isfinite(error) & np.isfinite(expected) & (expected > 0)
    if there.any():
        there &= expected >= _LEAST * expected[there].mean()
    error, expected = np.where(there, error, 0.0), np.where(there, expected, 0.0)
    early = there & (np.cumsum(there, axis=1) <= first)
    made, owed = (error * early).sum(axis=1), (expected * early).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = expected * (made / owed / (made.sum() / owed.sum()))[:, None]
        late = error[:, -recent:].sum(axis=1) / expected[:, -recent:].sum(axis=1)
        ratios = error / expected
    return np.where(there, ratios, np.nan), late
