"""ModelMonitor: records predictions and what really happened, and says how the model is doing.

::

    monitor = ModelMonitor()
    monitor.log_prediction_vs_actual(place_id=123, timestamp="2025-01-24T12:00:00", predicted=42.5, actual=38.0)
    monitor.get_model_health(days=7)
"""

import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._storage.journal import JOURNAL, Journal, LogActual, LogPair, LogPrediction
from demand_maint._storage.journal_keeper import JournalKeeper
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.monitor_exports import export_frame
from demand_maint._storage.observation_frames import record_frame, truth_frame
from demand_maint._storage.observation_store import DAY, ObservationStore
from demand_maint._storage.registry import Registry
from demand_maint._storage.sealed import HISTORY, SEALED
from demand_maint._storage.serving_store import newest_serving, serving_store
from demand_maint._storage.tabular import many_columns
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config, load_config
from demand_maint.core.baseline import due_refresh
from demand_maint.core.feed_sums import FeedSums
from demand_maint.core.health import HealthReport, window_health
from demand_maint.core.lineup import LineUp
from demand_maint.core.live_metrics import Tracker
from demand_maint.core.metrics import HourlySums
from demand_maint.core.naive_view import NaiveView
from demand_maint.core.records import MaturedBatch
from demand_maint.core.serving import ServingSnapshot
from demand_maint.core.timegrid import TimeGrid
from demand_maint.core.versions import Baseline
from demand_maint.errors import ClosedError, InsufficientDataError
from demand_maint.input_drift import InputDrift
from demand_maint.judged import RegistryJudged
from demand_maint.leading import Leading
from demand_maint.naive_answers import NaiveAnswers
from demand_maint.record_counts import journal_state, record_counts, refused_words
from demand_maint.recorded_rows import Wanted, training_rows
from demand_maint.whole_days import WholeDays

__all__ = ["NO_LOG", "ModelMonitor"]

NO_LOG = "No predictions log found in {root}. Run data collection with enable_monitoring=True, or log predictions and actuals."


class ModelMonitor:
    """The journal, rolling metrics and training data of one root.

    Parameters
    ----------
    root
        Folder of the project; nothing is made there before the first record.
    config
        A `Config`, a mapping of overrides, or ``None`` for ``demand_maint.toml``.
    clock
        Time; the system's by default.
    lock
        The maintainer's lock where the caller holds or will hold it; without one the monitor takes it for the moments in which
        it seals, when it is free.
    strict
        Raise `RecordError` for values that are no observation, instead of counting them.
    background
        Keep a thread that prepares segments, makes records durable and drains; by default where `clock` is the system's. It
        starts with the first record.

    Attributes
    ----------
    log_prediction_vs_actual, log_prediction, log_actual
        The hot path; see `demand_maint._storage.journal` for what survives what.
    places
        Place ids by dense code.
    line_up
        Follows every matured row for calibration and weights.
    """

    log_prediction_vs_actual: LogPair
    log_prediction: LogPrediction
    log_actual: LogActual

    def __init__(
        self,
        root: str | Path = ".",
        config: Config | Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        *,
        lock: MaintainerLock | None = None,
        strict: bool = False,
        background: bool | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        self.config = config if isinstance(config, Config) else load_config(root, dict(config) if config else None)
        self.clock = clock or SystemClock()
        self.grid = TimeGrid(self.config.zone, self.config.step_seconds)
        self._door = Door(root)
        self._state = threading.RLock()
        self._store = ObservationStore(self._door, self.config, self.grid, self._own_writer, self._recall)
        self._answers = NaiveAnswers(self._store, lambda: self.line_up.left_out)
        self._leading = Leading(
            self._store,
            self._door,
            self.config,
            self.clock,
            lock,
            counted=self._answers.renew,
            health=self.get_model_health,
        )
        self.journal = Journal(self._door, self.config.monitor, zone=self.config.zone, clock=self.clock, strict=strict)
        self.log_prediction_vs_actual = self.journal.log
        self.log_prediction = self.journal.log_prediction
        self.log_actual = self.journal.log_actual
        registry = Registry(self._door, clock=self.clock, read_only=True)
        self._judged = RegistryJudged(registry)
        self._inputs = InputDrift(registry, self.get_training_data)
        self._whole_days = WholeDays(self.config, self.grid)
        self._reports: dict[Any, HealthReport] = {}
        self._closed = False
        wanted = isinstance(self.clock, SystemClock) if background is None else background
        self._keeper = JournalKeeper(self.journal, self.drain, self.config.monitor.fsync_seconds) if wanted else None
        self.line_up = LineUp(self.grid, self.config.serving, calibrate=self.config.policy.calibrate)
        self._trackers: dict[str, Tracker] = {"line_up": self.line_up}

    # what judging sees

    @property
    def places(self) -> list[int | str]:
        """Place ids by dense code."""
        return self._opened().places

    @property
    def sums(self) -> HourlySums:
        """Hourly sums of the errors."""
        return self._opened().metrics.sums

    @property
    def feed(self) -> FeedSums:
        """Hourly sums of the truth."""
        return self._opened().metrics.feed

    @property
    def newest(self) -> float | None:
        """Slot of the newest actual, epoch seconds."""
        return self._opened().metrics.newest

    # recording

    def log_many(self, frame: pl.DataFrame | Mapping[str, Any], features: Sequence[str] = ()) -> int:
        """Record many rows at once; return how many were taken.

        Parameters
        ----------
        frame
            Columns ``place_id``, ``timestamp`` and ``predicted``, ``actual`` or both; a null is a value not known.
        features
            Columns of `frame` to keep as feature rows; with them only ``predicted`` is kept, actuals follow as such.
        """
        if self._closed:
            raise ClosedError("This monitor was closed. Make a new one.")
        return many_columns(self.journal, frame, features)

    def import_history(self, frame: pl.DataFrame) -> None:
        """Keep demand from before monitoring began, for full retrains: place_id, timestamp (epoch seconds), actual."""
        with self._state:
            store = self._opened()
            store.sealed.import_history(frame)
            store.use_reference(store.buffer)
            self._answers.renew(changed=True)

    # rolling

    def drain(self, *, gentle: bool | None = None) -> int:
        """Count what was logged by anybody in this root; return rows that matured.

        With the maintainer's lock, also seal finished segments, save the sums, write the exports and let go what is past
        retention. In a thread other than the main one it gives way to the event loop between chunks; where the clock is
        moved by hand, no loop waits.
        """
        if gentle is None:
            in_thread = threading.current_thread() is not threading.main_thread()
            gentle = in_thread and isinstance(self.clock, SystemClock)
        self.journal.maintain()
        self._leading.sync_if_due(self.journal)
        with self._state:
            self._opened()
            return self._leading.drain(gentle=gentle)

    def add_tracker(self, name: str, tracker: Tracker) -> None:
        """Let `tracker` follow every row that matures; its state is saved with the sums and restored here."""
        with self._state:
            self._trackers[name] = tracker
            self._opened()
            self._answers.renew()

    def flush(self) -> None:
        """Hand what was logged to the disk: durably with ``durability="power"`` or where the interval has passed."""
        if self.config.monitor.durability == "power":
            self.journal.sync()
        else:
            self._leading.sync_if_due(self.journal)

    def save(self) -> None:
        """Save the sums now, where the lock can be had."""
        with self._state:
            self._opened()
            self._leading.drain(gentle=False, save=True)

    # answers

    def get_model_health(self, days: float = 7, *, details: bool = False) -> dict[str, Any]:
        """How the champion's own predictions did over the last `days`.

        Parameters
        ----------
        days
            Window of the figures, above zero, in whole hours that end with the current one; `status` and `needs_retrain` are
            always the decision over ``policy.window_days``.
        details
            Add intervals, places, feed states, changes of the inputs, counters and storage.

        Returns
        -------
        dict
            status, mae, baseline_mae, degradation, needs_retrain, healthy, n; undefined figures are ``None``. Where there is more
            to say also reason, and newest_age, that of the newest truth in seconds.
        """
        health = self.report(days, details=details)
        if details:
            health = msgspec.structs.replace(health, inputs=self._inputs(health, self.clock.now()))
        found = health.as_dict(details=details)
        if found["status"] == "insufficient_data":
            if not self.has_log():
                found["reason"] = NO_LOG.format(root=self.root)
            found["reason"] += refused_words(self.journal)
        if details:
            found |= {"counts": self.counts(), "storage": self.storage()}
        return found

    def report(self, days: float = 7, *, details: bool = False) -> HealthReport:
        """Return health as a typed report."""
        with self._state:
            store = self._opened()
            self._count_new()
            now, judge = self.clock.now(), self._judged()
            key = (store.metrics.generation, int(now // 3600), days, details, judge)
            found = self._reports.get(key)
            if found is None:
                daily = self._whole_days.state(self, store.metrics, judge, now)
                found = window_health(self, daily, now, self.config, days, judge.champion, judge.since, details=details)
                if len(self._reports) > 16 or any(other[0] != key[0] for other in self._reports):
                    self._reports.clear()
                self._reports[key] = found
            age = None if store.metrics.newest is None else now - store.metrics.newest
            return msgspec.structs.replace(found, newest_age=age)

    def due_baseline(self) -> Baseline | None:
        """Return the baseline of the champion's first days, or refreshed from four calm weeks; ``None`` where none is due."""
        with self._state:
            store, judge, now = self._opened(), self._judged(), self.clock.now()
            daily = self._whole_days.state(self, store.metrics, judge, now)
            if judge.baseline is None:
                return daily.baseline
            return due_refresh(
                self,
                judge.baseline,
                daily.drift.calm_days,
                daily.feed.excluded,
                now=now,
                champion=judge.champion,
                since=judge.since,
            )

    def counts(self) -> dict[str, int]:
        """Tell what became of the records: replaced, duplicate, corrected, orphan, unmatched, invalid, refused and dropped ones."""
        with self._state:
            self._opened()
            self._count_new()
            return record_counts(self._store, self.journal, self.clock.now())

    def storage(self) -> dict[str, Any]:
        """How the journal does."""
        return journal_state(self._store, self.journal)

    def has_log(self) -> bool:
        """Whether anything was ever logged in this root."""
        if self.journal.writer is not None or self.journal.held or self._opened().metrics.counts["records"]:
            return True
        return bool(self._door.listdir(JOURNAL)) or bool(self._door.listdir(SEALED))

    def records(self, start: float | None = None, end: float | None = None) -> pl.DataFrame:
        """Predictions with `start` <= slot < `end` (epoch seconds): own and served value, truth, naive forecast."""
        with self._state:
            self._opened()
            self._count_new()
            return record_frame(self._store, start, end)

    def truth(self, start: float | None = None, end: float | None = None) -> pl.DataFrame:
        """Known demand as place_id, timestamp (slot, epoch seconds), actual; imported history included."""
        with self._state:
            self._opened()
            self._count_new()
            return truth_frame(self._store, start, end)

    def naive(self, place_ids: Sequence[Any], slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seasonal-naive forecasts for keys as of the last finished drain, NaN where there is none.

        Waits for nobody, except where the recent rows were never read; `warm` reads them.
        """
        view = self._answers.view
        return (self.warm() if view is None else view).forecasts(place_ids, slots)

    def warm(self) -> NaiveView:
        """Read the recent rows where that was not done yet, so that `naive` does not have to; may block."""
        with self._state:
            if self._answers.view is None:
                self._opened().buffer  # noqa: B018 - reads them
                self._answers.renew(changed=True)
            assert self._answers.view is not None
            return self._answers.view

    def heed(self, snapshot: ServingSnapshot) -> None:
        """Forecast nothing from truth that the maintainer's snapshot leaves out; for a process that follows."""
        with self._state:
            self._answers.heed(snapshot)

    def get_training_data(
        self, days: float = 30, min_samples: int = 100, *, max_rows: int | None = None
    ) -> pl.DataFrame:
        """Rows of the last `days` with truth: place_id, timestamp, the model's features (Float32) and actual.

        Feature rows that were logged win; rows without them are built where the builder makes the same features. More than `max_rows`
        are thinned out evenly.

        Raises
        ------
        InsufficientDataError
            Fewer than `min_samples` rows.
        MissingFeaturesError
            Neither logged features nor a builder tell the features.
        """
        with self._state:
            store = self._opened()
            self._count_new()
            now = self.clock.now()
            if not self.has_log() and not self._door.listdir(HISTORY):
                raise InsufficientDataError(0, min_samples, remedy=NO_LOG.format(root=self.root))
            judge, guard = self._judged(), self.config.policy.feed_fault_guard
            excluded = self._whole_days.state(self, store.metrics, judge, now).feed.excluded if guard else ()
            wanted = Wanted(now - days * DAY, now + DAY, judge.features, excluded, min_samples, max_rows)
            return training_rows(store, wanted, self.config, self.root)

    def watch_feed(self, *, always: bool = False) -> None:
        """Leave what is broken, or may turn out to be, out of calibration and weights; where these are due, or `always`."""
        with self._state:
            store, now = self._opened(), self.clock.now()
            if not (always or self.line_up.due(now)):
                return
            doubt = self._whole_days.doubt(self, store.metrics, self._judged(), now, store.drain_reader.known_codes)
            if doubt is not None and self.line_up.suspend(doubt, self._known_rows):
                self._answers.renew(changed=True)

    def verify(self) -> list[str]:
        """Check every sealed file and every drained block; what is damaged is set aside and named."""
        with self._state:
            self._opened()
            return self._store.sealed.verify() + self._store.drain_reader.verify()

    def export(
        self,
        target: str | Path | IO[bytes],
        *,
        since: float | None = None,
        until: float | None = None,
        kind: str = "csv",
    ) -> int:
        """Write records to a path or an open binary file as ``csv`` or ``parquet``; return how many."""
        return export_frame(self.records(since, until), Path(target) if isinstance(target, str) else target, kind)

    # end

    def close(self) -> None:
        """Make everything durable, save where the lock can be had; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._keeper is not None:
            self._keeper.stop()
        self.journal.close()
        with self._state:
            if self.has_log():
                self._leading.drain(gentle=False, save=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self.journal.writer is not None:
            warnings.warn("A ModelMonitor was not closed; use it as a context manager.", ResourceWarning, stacklevel=2)

    # inside

    def _recall(self) -> None:
        self.line_up.recall(newest_serving(serving_store(self._door)))

    def _own_writer(self) -> str | None:
        return None if self.journal.closed else self.journal.writer

    def _opened(self) -> ObservationStore:
        """Return the store with its saved sums taken over and every tracker in its place."""
        store = self._store
        if not store.opened or len(store.metrics.trackers) < len(self._trackers):
            with self._state:
                store.open(self._trackers)
                for name in self._trackers.keys() - store.metrics.trackers.keys():
                    store.add_tracker(name, self._trackers[name])
        return store

    def _count_new(self) -> None:
        """Count what was logged, in memory; nothing is written."""
        store = self._store
        if store.has_new():
            store.drain(self.clock.now(), lead=False, gentle=False)
            self._answers.renew()

    def _known_rows(self, start: int, end: int) -> MaturedBatch:
        return self._store.buffer.rows(start, end)
