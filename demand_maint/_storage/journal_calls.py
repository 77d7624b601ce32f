"""The three calls of the hot path, as users see them, and their strict variants."""

from typing import Any, Protocol

import numpy as np

from demand_maint._storage.journal_rows import number_of
from demand_maint._storage.stamps import shown
from demand_maint.errors import RecordError

__all__ = ["LogActual", "LogPair", "LogPrediction", "introduce", "strict_calls"]


class LogPair(Protocol):
    """Record a prediction and what really happened."""

    def __call__(self, place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        """Record both; what is no place, time or number is counted (`ModelMonitor.counts`), raised only with ``strict=True``.

        Parameters
        ----------
        place_id
            int or str.
        timestamp
            Of the predicted moment: datetime, ISO text or seconds since 1970; naive ones are in the configured zone.
        predicted, actual
            In units of demand.
        """


class LogPrediction(Protocol):
    """Record a prediction whose truth comes later."""

    def __call__(self, place_id: Any, timestamp: Any, predicted: Any, features: Any = None) -> None:
        """Record it, with the feature row it was made from where given (tuple, list, float32 array or mapping)."""


class LogActual(Protocol):
    """Record what really happened."""

    def __call__(self, place_id: Any, timestamp: Any, actual: Any) -> None:
        """Record it; it meets its prediction by place and slot."""


def introduce(log: Any, log_prediction: Any, log_actual: Any) -> None:
    """Give the closures their public names and the words above: for `help`, for editors, and for who calls them wrongly."""
    for call, name, kind in (
        (log, "log_prediction_vs_actual", LogPair),
        (log_prediction, "log_prediction", LogPrediction),
        (log_actual, "log_actual", LogActual),
    ):
        call.__name__, call.__qualname__, call.__doc__ = name, f"ModelMonitor.{name}", kind.__call__.__doc__


def strict_calls(
    log: LogPair, log_prediction: LogPrediction, log_actual: LogActual
) -> tuple[LogPair, LogPrediction, LogActual]:
    """Return the calls with a check before each that raises `RecordError` for what is no number of demand."""

    def strict_log(place_id: Any, timestamp: Any, predicted: Any, actual: Any) -> None:
        _check("predicted", predicted)
        _check("actual", actual)
        log(place_id, timestamp, predicted, actual)

    def strict_prediction(place_id: Any, timestamp: Any, predicted: Any, features: Any = None) -> None:
        _check("predicted", predicted)
        log_prediction(place_id, timestamp, predicted, features)

    def strict_actual(place_id: Any, timestamp: Any, actual: Any) -> None:
        _check("actual", actual)
        log_actual(place_id, timestamp, actual)

    return strict_log, strict_prediction, strict_actual


def _check(name: str, value: Any) -> None:
    if not np.isfinite(number_of(value)):
        raise RecordError(
            f"{name}={shown(value)} is no number of demand. Log only finite numbers, or drop strict=True."
        )
