"""What the monitor knows while it runs: sums, the recent rows, counters, and whoever follows every matured row."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.hour_table import HOUR, Cells
from demand_maint.core.metrics import HourlySums
from demand_maint.core.observations import Events, Outcome, RowBuffer
from demand_maint.core.ordinary import days_ahead, reach
from demand_maint.core.records import MaturedBatch
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.view import DAY

__all__ = ["LiveMetrics", "RetractingTracker", "Tracker"]


class Tracker(Protocol):
    """Follows matured rows; what it encodes is saved together with the sums, so that it sees every row exactly once."""

    def update(self, batch: MaturedBatch) -> None:
        """Take rows in."""

    def encode(self) -> bytes:
        """State to save."""

    def restore(self, data: bytes) -> None:
        """Go on from saved state."""


@runtime_checkable
class RetractingTracker(Protocol):
    """A tracker that wants to know of rows that are restated: what they were, before `update` brings what they are."""

    def retract(self, batch: MaturedBatch) -> None:
        """Take rows back."""


class LiveMetrics:
    """Sums and rows that change together.

    Parameters
    ----------
    grid, season_seconds, horizon_seconds
        As in the configuration.
    """

    def __init__(self, grid: TimeGrid, season_seconds: int, horizon_seconds: int) -> None:
        self.grid = grid
        self._season = season_seconds
        self._horizon = horizon_seconds
        self.sums = HourlySums()
        self.feed = FeedSums()
        self.counts: Counter[str] = Counter()
        self.trackers: dict[str, Tracker] = {}
        # newest slot of any event, and of one whose truth is known
        self.newest_slot: float | None = None
        self.newest: float | None = None
        # when the first event was observed
        self.began: float | None = None
        self._known_until = np.inf
        self.generation = 0
        # what came before this moment has been judged; what changes it afterwards is counted, in the errors and in the truth
        self.judged_before: float | None = None
        self.past_changes = 0
        self.past_truths = 0

    def new_buffer(self) -> RowBuffer:
        """Return an empty buffer of this grid."""
        return RowBuffer(self.grid, self._season, self._horizon, self.began or 0.0)

    def take(self, buffer: RowBuffer, events: Events) -> int:
        """Let events into the buffer and what they change into everything else; return rows that matured."""
        if len(events):
            newest = float(events.newest_slot)
            self.newest_slot = newest if self.newest_slot is None else max(self.newest_slot, newest)
            # nothing has a truth before it happened: whatever its stamp says, nothing newer is known
            self._known_until = float(events.observed_at[-1]) + DAY
            if self.began is None:
                self.began = buffer.began = float(events.observed_at[0])
        return sum(self.apply(buffer.ingest(part)) for part in events.stretches())

    def apply(self, outcome: Outcome) -> int:
        """Bring an outcome into sums, feed, counters and trackers."""
        self.generation += 1
        for name, number in outcome.counts.items():
            if number:
                self.counts[name] += number
        if outcome.unpredicted is not None:
            self.sums.count_predictions(*outcome.unpredicted, -1.0)
        # rows that are the same arrays share their cells
        cells, truths, added = None, outcome.truths, outcome.added
        if truths is not None and added is not None and truths.place is added.place:
            cells = Cells(added.place, added.slot, outcome.rhythm)
        if not outcome.all_new:
            self._count_predictions(outcome)
        self._apply_feed(outcome, cells)
        if outcome.retracted is not None:
            self.sums.retract(outcome.retracted)
            self.past_changes += self._is_past(outcome.retracted.slot)
            for tracker in self.trackers.values():
                if isinstance(tracker, RetractingTracker):
                    tracker.retract(outcome.retracted)
        if added is None:
            return 0
        self.sums.add(added, cells, predicted=outcome.all_new and outcome.predicted is not None)
        self.past_changes += self._is_past(added.slot)
        for tracker in self.trackers.values():
            tracker.update(added)
        return len(added)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Facts and arrays for saving; trackers apart."""
        sums, arrays = self.sums.parts()
        feed, feed_arrays = self.feed.parts()
        facts = {
            "sums": sums,
            "feed": feed,
            "counts": dict(self.counts),
            "newest": self.newest,
            "newest_slot": self.newest_slot,
            "began": self.began,
        }
        return facts, {f"sums.{k}": v for k, v in arrays.items()} | {f"feed.{k}": v for k, v in feed_arrays.items()}

    def load(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        self.sums.load(facts["sums"], _part(arrays, "sums."))
        self.feed.load(facts["feed"], _part(arrays, "feed."))
        self.counts = Counter(facts["counts"])
        self.newest, self.newest_slot, self.began = facts["newest"], facts["newest_slot"], facts["began"]
        self.generation += 1
        self.past_changes += 1
        self.past_truths += 1

    def compact(self, before: float) -> None:
        """Merge hours of local days that ended before `before` into one, at the hour in which the day began.

        Those are kept longer by which the ordinary forecast has to look back further than a day ahead.
        """
        lag = days_ahead(self._horizon)
        day = self.grid.day(np.array([before])) - (reach(lag) - reach(1))
        edge = int(self.grid.day_start(day)[0]) // HOUR
        self.sums.settle_own(self.feed, int(day[0]), self.grid, lag)
        hours = self.sums.hours_before(edge)
        if len(hours):
            self.sums.gather(hours, self._day_hours(hours), self.grid)
        hours = self.feed.hours_before(edge)
        if len(hours):
            self.feed.gather(self._day_hours(hours))

    def _day_hours(self, hours: NDArray[np.int64]) -> NDArray[np.int64]:
        """Hour in which the local day of each hour began."""
        return np.minimum(self.grid.day_start(self.grid.day_of_hours(hours)) // HOUR, hours)

    def _count_predictions(self, outcome: Outcome) -> None:
        """Count predictions in the errors and in the truth; mostly they are the same rows, which share their cells."""
        predicted, expected = outcome.predicted, outcome.expected
        cells = None
        if predicted is not None:
            shared = expected is not None and expected[0] is predicted[0]
            cells = Cells(*expected) if shared and expected is not None else None
            self.sums.count_predictions(*predicted, cells=cells)
        if expected is not None:
            self.feed.count("expected", *expected, cells)
            self.past_truths += self._is_past(expected[1])

    def _apply_feed(self, outcome: Outcome, cells: Cells | None) -> None:
        if outcome.truths is not None:
            truths = outcome.truths
            slot = truths.slot if outcome.rhythm is None else outcome.rhythm.one_each(truths.slot)
            newest = min(float(slot.max()), self._known_until)
            self.newest = newest if self.newest is None else max(self.newest, newest)
            both = outcome.all_new and outcome.expected is not None
            self.feed.add(truths.place, truths.slot, truths.actual, truths.late, cells, expected=both)
            self.past_truths += self._is_past(truths.slot)
        if outcome.restated is not None:
            restated = outcome.restated
            self.feed.restate(restated.place, restated.slot, restated.before, restated.actual)
            self.past_truths += self._is_past(restated.slot)
        if outcome.repeated is not None:
            self.feed.count("duplicates", *outcome.repeated)
            self.past_truths += self._is_past(outcome.repeated[1])
        if outcome.invalid is not None:
            self.feed.count("invalid", *outcome.invalid)
            self.past_truths += self._is_past(outcome.invalid[1])

    def _is_past(self, slot: NDArray[np.int64]) -> bool:
        """Whether some rows are of days that were judged already, so that whoever judges whole days judges these again."""
        return self.judged_before is not None and int(slot.min()) < self.judged_before


def _part(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
