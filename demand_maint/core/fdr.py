"""Which of many findings to believe, so that few of those believed are false, whatever depends on what."""

import numpy as np

from demand_maint.core.view import Floats

__all__ = ["adjusted_p_values", "normal_tail"]


def adjusted_p_values(p_values: Floats) -> Floats:
    """Return the smallest false-discovery rate at which each of `p_values` (n,) is still believed.

    The step-up procedure of Benjamini and Yekutieli; it holds under any dependence, and places of one city depend on each other.

    Examples
    --------
    >>> adjusted_p_values(np.array([0.0001, 0.2, 0.9])).round(4).tolist()
    [0.0006, 0.55, 1.0]

    References
    ----------
    Y. Benjamini and D. Yekutieli, The control of the false discovery rate in multiple testing under dependency, Annals of
    Statistics 29 (2001).
    """
    count = len(p_values)
    if count == 0:
        return p_values
    order = np.argsort(p_values)
    ranks = np.arange(1, count + 1)
    scaled = p_values[order] * count * (1.0 / ranks).sum() / ranks
    least = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(least, 1.0)
    return adjusted


def normal_tail(z: Floats) -> Floats:
    """Probability that a standard normal exceeds `z`, to about 7 digits (Abramowitz and Stegun 26.2.17).

    >>> normal_tail(np.array([0.0, 1.6449])).round(4).tolist()
    [0.5, 0.05]
    """
    distance = np.abs(z)
    t = 1.0 / (1.0 + 0.2316419 * distance)
    series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * distance * distance) / np.sqrt(2.0 * np.pi) * series
    result: Floats = np.where(z >= 0, tail, 1.0 - tail)
    return result
