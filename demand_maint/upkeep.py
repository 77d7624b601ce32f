"""The one thread in which a runtime does what is periodic and may block: draining, looking for a new champion, the lock.

It runs whether or not a loop is there to see it, so that a blocked loop stops no draining and a follower takes over in time.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config
from demand_maint.core.events import MaintenanceEvent, StorageDegraded, StorageRecovered
from demand_maint.errors import UnsupportedFilesystemError
from demand_maint.log import get_logger

__all__ = ["Parts", "Upkeep"]

FOLLOWER_SECONDS: Final = 0.33
DRAIN_SECONDS: Final = 1.0

log = get_logger("upkeep")
_stopwatch = SystemClock().monotonic


class Parts(Protocol):
    """What a runtime looks after, assembled for one root; every method may block, none is called from a loop."""

    monitor: Any
    model: Any

    @property
    def serves(self) -> bool:
        """Whether there is a champion."""

    def try_lead(self) -> bool:
        """Try to become the one maintainer of the root; whoever succeeds has recovered it."""

    def drain(self) -> int:
        """Take finished records into the sums; rows matured."""

    def trouble(self) -> tuple[str | None, int]:
        """Tell what is wrong with the journal's disk, if anything, and how many records were lost to it so far."""

    def refresh(self) -> list[MaintenanceEvent]:
        """Follow the pointer to a new champion; what happened to it since the last call."""

    def holder(self) -> str:
        """Who maintains the root, in words."""

    def publish(self) -> None:
        """Write the serving state (weights, levels) where a new one is due."""

    def last_check_at(self) -> float | None:
        """When the last check was made, by any process; epoch seconds."""

    def begin(self, force: str | None) -> Any:
        """Assess and decide; a cycle generator."""

    def assessed(self) -> dict[str, Any]:
        """Health as the cycle that just began found it, as `HealthReport.as_dict` with details."""

    def perform(
        self,
        step: Any,
        on_progress: Callable[[int, int], None] | None = None,
        on_begin: Callable[[int | None], None] | None = None,
    ) -> Any:
        """Carry out one step of a cycle; ``on_begin(rows)`` when a training's child process starts, ``on_progress`` as it goes on."""

    def finish(self, result: Any) -> dict[str, Any]:
        """Keep the result of a cycle; the dict that users see."""

    def rollback(self) -> tuple[bool, str]:
        """Take the champion back."""

    def report(self, out: str | Path | None) -> Path:
        """Write the report page; its path."""

    def cancel(self, grace: float) -> None:
        """End trainings; no new one begins."""

    def close(self) -> None:
        """Write everything down and let go of the root."""


class Upkeep:
    """Runs the turns of one runtime on a daemon thread.

    Parameters
    ----------
    parts
        What is looked after.
    emit
        Takes events, from this thread.
    on_lead
        Called from this thread, once, when this process becomes the maintainer.
    """

    def __init__(
        self,
        parts: Parts,
        config: Config,
        clock: Clock,
        emit: Callable[[MaintenanceEvent], None],
        on_lead: Callable[[], None],
        on_swap: Callable[[], None],
    ) -> None:
        self.parts = parts
        self.leads = False
        self.turns = 0
        self.matured = 0
        self._failure: str | None = None
        self._journal_trouble: tuple[str, int] | None = None
        self._clock = clock
        self._emit = emit
        self._on_lead = on_lead
        self._on_swap = on_swap
        self._poll_seconds = config.serving.poll_seconds
        self._due: dict[str, float] = {}
        self._failing: dict[str, str] = {}
        self._wake = threading.Event()
        self._serving = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="demand-maint upkeep", daemon=True)

    def begin(self) -> None:
        """Take the first turn in the calling thread; a root that cannot be maintained at all is refused here."""
        try:
            self._try_lead()
        except UnsupportedFilesystemError:
            raise
        except Exception:  # a disk that is full or away just now: the turn below tells of it, later ones try again
            self.leads = False
        self.turn()

    def start(self) -> None:
        """Begin to take turns."""
        self._thread.start()

    def nudge(self) -> None:
        """Look for a new champion now; from any thread."""
        self._due["refresh"] = 0.0
        self._wake.set()

    def follow(self) -> bool:
        """Follow the pointer now, from any thread that may block; where the disk fails just then, the next turn does it."""
        self._due["refresh"] = 0.0
        return self._attempt("refresh", self.refresh_now)

    def stop(self) -> None:
        """Take a last turn, close the parts, end; from any thread, without waiting."""
        self._stopping = True
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether the thread has yet to end."""
        return self._thread.is_alive()

    @property
    def degraded(self) -> str | None:
        """What is wrong with the disk, or ``None``."""
        return self._failure or (self._journal_trouble and self._journal_trouble[0]) or None

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; False when it is still busy after `seconds`."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while not self._stopping:
            self.turn()
            self._wake.wait(DRAIN_SECONDS if self.leads else FOLLOWER_SECONDS)
            self._wake.clear()
        if self.leads:
            self._attempt("drain", self._drain)
        try:
            self.parts.close()
        except Exception:
            log.exception("closing failed")

    def turn(self) -> None:
        """Do everything that is due; whatever fails is named once and tried again at its next time."""
        self.turns += 1
        if not self.leads:
            self._attempt("lock", self._try_lead)
        else:
            self._attempt("drain", self._drain)
            self._attempt("publish", self._publish)
        self._attempt("storage", self._watch_storage)
        if self._is_due("refresh", self._poll_seconds):
            self._attempt("refresh", self.refresh_now)

    def _try_lead(self) -> None:
        if self.parts.try_lead():
            self.leads = True
            self._due["refresh"] = 0.0
            self._on_lead()

    def _drain(self) -> None:
        self.matured += self.parts.drain()

    def _publish(self) -> None:
        with self._serving:
            self.parts.publish()

    def refresh_now(self) -> None:
        """Follow the pointer and tell; from any thread that may block."""
        with self._serving:  # so that a change is told once
            events = self.parts.refresh()
            self._on_swap()
            for event in events:
                self._emit(event)

    def _watch_storage(self) -> None:
        reason, dropped = self.parts.trouble()
        if reason is not None and self._journal_trouble is None:
            self._journal_trouble = (reason, dropped)
            self._emit(StorageDegraded(at=self._clock.now(), reason=reason))
        elif reason is None and self._journal_trouble is not None:
            before, self._journal_trouble = self._journal_trouble[1], None
            self._emit(StorageRecovered(at=self._clock.now(), dropped=dropped - before))

    def _is_due(self, what: str, every: float) -> bool:
        now = _stopwatch()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + every
        return True

    def _attempt(self, what: str, act: Callable[[], None]) -> bool:
        """Do it and return whether it went well."""
        try:
            act()
        except Exception as error:
            reason = f"{what}: {type(error).__name__}: {error}"
            if self._failing.get(what) != reason:
                log.exception("upkeep failed", what=what)
            self._failing[what] = reason
            if isinstance(error, OSError) and self._failure is None:
                self._failure = reason
                self._emit(StorageDegraded(at=self._clock.now(), reason=reason))
            return False
        if self._failing.pop(what, None) is not None:
            log.info("upkeep recovered", what=what)
            if self._failure is not None and not self._failing:
                self._failure = None
                self._emit(StorageRecovered(at=self._clock.now(), dropped=0))
        return True
