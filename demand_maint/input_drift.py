"""How far the champion's inputs have moved since it was trained, looked at once a day by whoever asks for details."""

from collections.abc import Callable

import polars as pl

from demand_maint._storage.registry import Registry
from demand_maint.core.health import HealthReport
from demand_maint.core.psi import LEAST_ROWS, FeatureDrift, feature_drift
from demand_maint.core.versions import ModelMetadata
from demand_maint.errors import DemandMaintError
from demand_maint.log import get_logger

__all__ = ["InputDrift", "changes"]

DAY = 86400
#: Rows in the window beyond which a question about health does not read them all; the HTML page does.
MOST_ROWS = 500_000
_log = get_logger("monitor")


def changes(rows: pl.DataFrame, champion: ModelMetadata) -> tuple[FeatureDrift, ...]:
    """Compare the features of recent rows with those the champion was trained on."""
    columns = {name: rows[name].to_numpy() for name in champion.features if name in rows.columns}
    return feature_drift(columns, champion.quantiles, champion.importances)


class InputDrift:
    """The changes of the inputs as of today, kept until the day or the champion is another.

    Parameters
    ----------
    rows
        Returns training rows of the last so many days, at least so many.
    """

    def __init__(self, registry: Registry, rows: Callable[[float, int], pl.DataFrame]) -> None:
        self._registry, self._rows = registry, rows
        self._known: tuple[tuple[int, int, float], tuple[FeatureDrift, ...]] | None = None

    def __call__(self, health: HealthReport, now: float) -> tuple[FeatureDrift, ...]:
        """Return the changes over the report's window, none where nothing tells the features."""
        if health.champion is None or not LEAST_ROWS <= health.n <= MOST_ROWS:
            return ()
        key = (health.champion, int(now // DAY), health.days)
        if self._known is None or self._known[0] != key:
            self._known = (key, self._look(health.champion, health.days))
        return self._known[1]

    def _look(self, champion: int, days: float) -> tuple[FeatureDrift, ...]:
        try:
            return changes(self._rows(days, LEAST_ROWS), self._registry.version(champion).metadata)
        except DemandMaintError:  # too few rows, or nothing tells their features
            return ()
        except Exception as error:  # somebody's builder: health must be told all the same
            _log.warning("inputs_unknown", reason=str(error))
            return ()
