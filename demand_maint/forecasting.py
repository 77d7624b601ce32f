"""From observations to logged predictions: rows that came along, or rows of a feature builder one horizon ahead."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.stamps import stamp_reader
from demand_maint.config import Config
from demand_maint.core.timegrid import TimeGrid
from demand_maint.errors import SchemaMismatchError
from demand_maint.features import FeatureBuilder, LiveFeatureBuilder
from demand_maint.log import get_logger
from demand_maint.sources import Observation

__all__ = ["Forecaster"]

DAY = 86400.0
PRIMING_DAYS = 70.0

log = get_logger("collector")


class Forecaster:
    """Logs actuals and predicts: one call of the model a round, so that a round is never answered by two champions.

    An observation that brings its feature row is predicted at its own slot. For the others the builder makes the row of the
    slot one horizon ahead, from what has been observed so far.

    Parameters
    ----------
    builder
        Makes rows; a `LiveFeatureBuilder` keeps up with the present, any other is given the recent truth each round.
    """

    def __init__(self, builder: FeatureBuilder, config: Config) -> None:
        self._builder = builder
        self._grid = TimeGrid(config.zone, config.step_seconds)
        self._horizon = config.horizon_seconds
        self._read = stamp_reader(config.zone)
        self._primed = False

    def take(self, observations: Sequence[Observation], *, monitor: Any, model: Any, now: float) -> dict[str, Any]:
        """Take one round in; ``predicted``, ``predictions`` by place, ``failed``, ``problem`` and ``version`` for the result.

        What is wrong with one observation costs that place its prediction, never another one, and never the truth of a place.

        Parameters
        ----------
        monitor
            Where actuals are logged; ``None`` logs nothing.
        model
            Predicts, and journals what it predicts.
        now
            Epoch seconds.
        """
        self._prime(monitor, now)
        observations, failed = self._with_times(observations)
        given = [seen for seen in observations if seen.features is not None]
        bare = [seen for seen in observations if seen.features is None]
        predictions: dict[Any, float] = {}
        problems: list[str] = []
        try:
            predictions |= self._predict_given(given, model, failed) if given else {}
        except Exception as error:  # a builder of one's own may raise anything
            problems.append(str(error))
        if monitor is not None:
            for seen in observations:
                monitor.log_actual(seen.place_id, seen.timestamp, seen.actual)
        try:
            predictions |= self._predict_ahead(bare, monitor, model, now) if bare else {}
        except Exception as error:
            problems.append(str(error))
        problem = problems[0] if problems else None
        if problem is not None:
            log.warning("nothing predicted", reason=problem)
        version = None if problem is not None and not predictions else getattr(model, "version", None)
        return {
            "predicted": len(predictions),
            "predictions": predictions,
            "failed": failed,
            "problem": problem,
            "version": version,
        }

    def _with_times(self, observations: Sequence[Observation]) -> tuple[list[Observation], dict[Any, str]]:
        """Return observations whose time can be read, and by place what is wrong with the others."""
        good, failed = [], {}
        for seen in observations:
            try:
                self._read(seen.timestamp)
                good.append(seen)
            except (TypeError, ValueError, OverflowError) as error:
                failed[seen.place_id] = str(error)
        return good, failed

    def _prime(self, monitor: Any, now: float) -> None:
        """Let a live builder see the recent truth once, so that it need not start from nothing."""
        if self._primed:
            return
        self._primed = True
        observe_many = getattr(self._builder, "observe_many", None)
        if monitor is not None and observe_many is not None:
            observe_many(monitor.truth(now - PRIMING_DAYS * DAY))

    def _predict_given(self, given: Sequence[Observation], model: Any, failed: dict[Any, str]) -> dict[Any, float]:
        """Predict from rows that came along; where that fails for one of several places, for each alone."""
        try:
            return self._predict_rows(given, model)
        except (SchemaMismatchError, ValueError, TypeError):
            if len(given) == 1:
                raise
        predictions: dict[Any, float] = {}
        for seen in given:
            try:
                predictions |= self._predict_rows([seen], model)
            except (SchemaMismatchError, ValueError, TypeError) as error:
                failed[seen.place_id] = str(error)
        return predictions

    def _predict_rows(self, given: Sequence[Observation], model: Any) -> dict[Any, float]:
        rows = [seen.features for seen in given]
        features = rows if isinstance(rows[0], dict) else np.asarray(rows, dtype=np.float32)
        places = [seen.place_id for seen in given]
        served = model.predict(features, places, [self._read(seen.timestamp) for seen in given])
        return dict(zip(places, served.tolist(), strict=True))

    def _predict_ahead(self, bare: Sequence[Observation], monitor: Any, model: Any, now: float) -> dict[Any, float]:
        places = [seen.place_id for seen in bare]
        slots = self._grid.floor([self._read(seen.timestamp) for seen in bare])
        ahead = self._grid.floor(slots + self._horizon).astype(np.float64)
        builder = self._builder
        if isinstance(builder, LiveFeatureBuilder):
            for seen, slot in zip(bare, slots.tolist(), strict=True):
                builder.observe(seen.place_id, slot, seen.actual)
            rows = builder.rows(places, ahead.tolist())
        else:
            rows = self._built(places, ahead, monitor, now)
        served = model.predict(rows, places, ahead, schema=builder.names)
        return dict(zip(places, served.tolist(), strict=True))

    def _built(self, places: list[Any], ahead: NDArray[np.float64], monitor: Any, now: float) -> NDArray[np.float32]:
        if monitor is None:
            raise ValueError(
                "This feature builder works from logged truth. Use enable_monitoring=True, or give it observe() and rows()."
            )
        keys = pl.DataFrame({"place_id": places, "timestamp": ahead})
        frame = self._builder.build(monitor.truth(now - PRIMING_DAYS * DAY), keys)
        return frame.select(self._builder.names).to_numpy().astype(np.float32)
