"""Did the inputs change? Population stability index per feature, told with the feature's importance.

An explanation, never a reason to train: inputs change with every season, and what counts is the error.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from demand_maint.core.view import Floats

__all__ = ["FeatureDrift", "feature_drift", "stability_index"]

#: Share that stands for an empty bin, so that the logarithm stays finite.
FLOOR = 1e-4
#: The customary reading: below 0.1 nothing, from 0.25 a real change.
NOTABLE = 0.1
LARGE = 0.25
LEAST_ROWS = 50


class FeatureDrift(Struct, frozen=True, kw_only=True):
    """One feature's change since training.

    Parameters
    ----------
    psi
        Population stability index; `None` where there is nothing to compare.
    importance
        Share of the model's decisions, per cent.
    missing
        Share of rows without a value now.
    """

    feature: str
    psi: float | None
    importance: float | None = None
    missing: float = 0.0

    @property
    def words(self) -> str:
        """The change in plain words."""
        weight = "" if self.importance is None else f", {self.importance:.0f} % of the model's importance"
        if self.psi is None:
            return f"{self.feature}: nothing to compare with{weight}"
        size = "as in training" if self.psi < NOTABLE else "somewhat changed" if self.psi < LARGE else "changed"
        return f"{self.feature}: {size} (PSI {self.psi:.2f}{weight})"


def stability_index(values: Floats, quantiles: Sequence[float]) -> float | None:
    """Return the population stability index of `values` (n,) against a reference given by its quantiles.

    Parameters
    ----------
    quantiles
        Minimum, inner quantiles at equal steps, maximum, ascending; equal neighbours are one bin with the share of all.

    Examples
    --------
    >>> same = stability_index(np.linspace(0, 1, 1000), np.linspace(0, 1, 11).tolist())
    >>> moved = stability_index(np.linspace(0.5, 1.5, 1000), np.linspace(0, 1, 11).tolist())
    >>> round(same, 2), moved > 1
    (0.0, True)
    """
    finite = values[np.isfinite(values)]
    if len(finite) < LEAST_ROWS or len(quantiles) < 3:
        return None
    points = np.asarray(quantiles, dtype=np.float64)
    inner = points[1:-1]
    inner = inner[inner < points[-1]]  # the maximum's own repetitions are the last bin
    if len(inner) == 0:  # a constant, or nearly: below it, at it, above it
        counts = np.array([(finite < points[-1]).sum(), (finite == points[-1]).sum(), (finite > points[-1]).sum()])
        return _index(counts / len(finite), np.array([0.0, 1.0, 0.0]))
    cuts, first = np.unique(inner, return_index=True)
    # the share below a repeated cut reaches to its last repetition; the value itself belongs to that bin
    last = np.append(first[1:], len(inner)) - 1
    below = (last + 1.0) / (len(points) - 1.0)
    reference = np.diff(np.concatenate([[0.0], below, [1.0]]))
    counts = np.bincount(np.searchsorted(cuts, finite, side="left"), minlength=len(cuts) + 1)
    return _index(counts / len(finite), reference)


def _index(found: Floats, expected: Floats) -> float:
    found, expected = np.maximum(found, FLOOR), np.maximum(expected, FLOOR)
    return float(((found - expected) * np.log(found / expected)).sum())


def feature_drift(
    columns: Mapping[str, Floats], quantiles: Mapping[str, Sequence[float]], importances: Mapping[str, float]
) -> tuple[FeatureDrift, ...]:
    """Return every feature's change, those first that change much and matter much.

    Parameters
    ----------
    columns
        Recent values by feature, (n,) each, NaN where missing.
    quantiles, importances
        As kept with the version (`ModelMetadata`).
    """
    found = []
    for feature, values in columns.items():
        missing = float(np.mean(~np.isfinite(values))) if len(values) else 0.0
        index = stability_index(values, quantiles.get(feature, ()))
        found.append(FeatureDrift(feature=feature, psi=index, importance=importances.get(feature), missing=missing))
    return tuple(
        sorted(found, key=lambda f: (-(f.psi or 0.0) * (f.importance if f.importance is not None else 1.0), f.feature))
    )
