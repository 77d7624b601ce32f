"""What whole days say of the champion and of the truth, kept for as long as it is true."""

from typing import Any

import numpy as np

from demand_maint.config import Config
from demand_maint.core.feed import FeedDays
from demand_maint.core.health import DailyState, DayMemory, daily_state
from demand_maint.core.live_metrics import LiveMetrics
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.view import MetricsView
from demand_maint.judged import Judged

__all__ = ["WholeDays"]


class WholeDays:
    """Judges the days before today once, and again when one of their rows changes.

    Parameters
    ----------
    config, grid
        Of the root.
    """

    def __init__(self, config: Config, grid: TimeGrid) -> None:
        self._config, self._grid = config, grid
        self._memory = DayMemory()
        self._truth: tuple[Any, FeedDays | None] = (None, None)
        self._judged: tuple[Any, Any, DailyState | None] = (None, None, None)

    def state(self, view: MetricsView, metrics: LiveMetrics, judge: Judged, now: float) -> DailyState:
        """Return what the whole days before `now` say; `metrics` tells which of them have changed."""
        today = self._grid.day_of(now)
        key = (metrics.past_changes, metrics.past_truths, today, judge)
        # the feed is looked at hourly, since one that breaks during the day has to be named by the next check
        looked = (int(now // 3600), metrics.feed.places)
        before, at, kept = self._judged
        if before != key:
            kept = None
        if kept is None or at != looked:
            kept = daily_state(
                view,
                judge.baseline,
                now,
                self._config,
                judge.champion,
                judge.since,
                kept=kept,
                truth=self._truth_of_days(view, metrics, today, now),
                memory=self._memory,
            )
            self._judged = (key, looked, kept)
        return kept

    def _truth_of_days(self, view: MetricsView, metrics: LiveMetrics, today: int, now: float) -> FeedDays:
        key = (metrics.past_truths, metrics.feed.places, today)
        before, truth = self._truth
        if truth is None or before != key:
            metrics.judged_before = float(self._grid.day_start(np.array([today]))[0])
            truth = FeedDays(view, now)
            self._truth = (key, truth)
        return truth
