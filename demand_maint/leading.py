"""What counting leaves behind on disk: sealed segments, saved sums, exports. Only the maintainer of a root writes those."""

from collections.abc import Callable
from typing import Any, Final

from demand_maint._storage.door import Door
from demand_maint._storage.journal import Journal
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.monitor_exports import write_exports
from demand_maint._storage.observation_store import ObservationStore
from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.log import get_logger

__all__ = ["Leading"]

SAVE_SECONDS: Final = 60.0
EXPORT_SECONDS: Final = 600.0
_log = get_logger("monitor")


class Leading:
    """Drains a store, and with the maintainer's lock seals, saves, exports and lets go what is past retention.

    Parameters
    ----------
    lock
        The maintainer's, where the caller holds or will hold it; without one it is taken for the moment, when it is free.
    counted
        Called after rows were counted.
    health
        What the exports tell of the model.
    """

    def __init__(
        self,
        store: ObservationStore,
        door: Door,
        config: Config,
        clock: Clock,
        lock: MaintainerLock | None,
        *,
        counted: Callable[[], None],
        health: Callable[[], dict[str, Any]],
    ) -> None:
        self._store, self._door, self._config, self._clock = store, door, config, clock
        self._lock, self._counted, self._health = lock, counted, health
        self._exported_at: float | None = None
        self._synced_at = clock.monotonic()

    def sync_if_due(self, journal: Journal) -> None:
        """Make what was logged durable where the interval has passed; anybody may."""
        now = self._clock.monotonic()
        if now - self._synced_at >= self._config.monitor.fsync_seconds:
            self._synced_at = now
            try:
                journal.sync()
            except OSError as error:
                _log.warning("sync_failed", reason=str(error))

    def drain(self, *, gentle: bool, save: bool = False) -> int:
        """Count what was logged; return rows that matured. With `save` everything is written down now."""
        store, now = self._store, self._clock.now()
        lock, own = self._lock, False
        if lock is None and (save or store.has_new() or store.due(now, SAVE_SECONDS)):
            lock = MaintainerLock(self._door, who="monitor", clock=self._clock)
            own = self._taken(lock)
        try:
            lead = lock is not None and lock.held
            matured = store.drain(now, lead=lead, gentle=gentle)
            self._counted()
            if lead:
                self._write_down(now, save=save)
            return matured
        finally:
            if own and lock is not None:
                lock.release()

    @staticmethod
    def _taken(lock: MaintainerLock) -> bool:
        """Whether `lock` could be had; where the disk takes no lock file there is nothing to lead, only to count."""
        try:
            return lock.try_acquire()
        except OSError as error:
            _log.warning("lock_failed", reason=str(error))
            return False

    def _write_down(self, now: float, *, save: bool) -> None:
        store = self._store
        sealed = store.seal(now)
        if not sealed and store.unsaved and (save or store.due(now, SAVE_SECONDS)):
            store.save(now)
        if sealed or save:
            store.retain(now)
            self._export(now, force=save)

    def _export(self, now: float, *, force: bool) -> None:
        fresh = self._exported_at is not None and 0 <= now - self._exported_at < EXPORT_SECONDS
        if fresh and not force:
            return
        self._exported_at = now
        try:
            write_exports(self._door, self._store, self._health(), self._config, now)
        except OSError as error:
            _log.warning("exports_failed", reason=str(error))
