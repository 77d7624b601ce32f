"""What whole days say of the champion and of the truth, kept for as long as it is true."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from demand_maint.config import Config
from demand_maint.core.doubt import NO_DOUBT, Doubt, UsualHours, doubts, feed_window
from demand_maint.core.feed import FeedDays
from demand_maint.core.health import DailyState, DayMemory, daily_state
from demand_maint.core.live_metrics import LiveMetrics
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.view import DAY, HOUR, MetricsView, PlaceId
from demand_maint.judged import Judged

__all__ = ["WholeDays"]

#: Hours of a day on which clocks are put back, and some.
LONGEST_DAY = 26


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
        self._usual: tuple[Any, UsualHours | None] = (None, None)
        self._doubt: tuple[Any, Doubt | None] = (None, None)

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

    def doubt(
        self, view: MetricsView, metrics: LiveMetrics, judge: Judged, now: float, codes: Mapping[PlaceId, int]
    ) -> Doubt | None:
        """Return what of the truth is not to be counted, by what the feed showed; ``None`` where there is no truth."""
        if not self._config.policy.feed_fault_guard:
            return NO_DOUBT
        state = self.state(view, metrics, judge, now).feed
        newest, truth = view.newest, self._truth[1]
        if newest is None or truth is None or not len(truth):
            return None
        end = min(int(newest // HOUR), int(now // HOUR)) + 1
        asked = (end, view.feed.changes, state)  # a check asks again what was asked before the snapshot
        if self._doubt[0] == asked:
            return self._doubt[1]
        day = self._grid.day_of((end - 1) * HOUR)
        key = (day, len(truth.typical))
        before, usual = self._usual
        if usual is None or before != key:
            begin = int(self._grid.day_start(np.array([day]))[0]) // HOUR
            reach = feed_window(max(DAY // self._grid.step, 1))
            usual = UsualHours(view, begin - reach, begin + LONGEST_DAY, truth.typical)
            self._usual = (key, usual)
        self._doubt = (asked, doubts(view, usual, state, end, codes=codes))
        return self._doubt[1]

    def _truth_of_days(self, view: MetricsView, metrics: LiveMetrics, today: int, now: float) -> FeedDays:
        key = (metrics.past_truths, metrics.feed.places, today)
        before, truth = self._truth
        if truth is None or before != key:
            metrics.judged_before = float(self._grid.day_start(np.array([today]))[0])
            truth = FeedDays(view, now)
            self._truth = (key, truth)
        return truth
