"""A collector that looks after its model by itself, for programs without a `MaintenanceRuntime`."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from demand_maint.assembly import RootParts
from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.core.due import DueWatch
from demand_maint.errors import ClosedError, DemandMaintError, MaintainerBusyError
from demand_maint.log import get_logger
from demand_maint.side_thread import SideThread

__all__ = ["OwnMaintenance"]

HOUR = 3600.0

log = get_logger("collector")


class OwnMaintenance:
    """Opens the parts of a root when they are needed first, follows the champion, and checks when the interval has passed.

    Parameters
    ----------
    settings
        Gives the configuration.
    interval_hours
        Hours between checks; ``None`` takes the configuration's.
    """

    def __init__(
        self,
        root: Path,
        settings: Callable[[], Config],
        clock: Clock,
        assemble: Callable[[Path, Config, Clock], RootParts],
        interval_hours: float | None,
    ) -> None:
        self._root, self._settings, self._clock, self._assemble = root, settings, clock, assemble
        self._interval = interval_hours
        self._thread = SideThread("demand-maint maintainer")
        self._parts: RootParts | None = None
        self._due: DueWatch | None = None
        self._update: asyncio.Future[dict[str, Any]] | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether the root has been opened and not let go."""
        return self._parts is not None

    def open(self) -> RootParts:
        """Return the parts, opened now where they were not; blocks."""
        if self._closed:
            raise ClosedError("This collector has been closed. Make a new one.")
        if self._parts is None:
            self._parts = self._assemble(self._root, self._settings(), self._clock)
            self.follow()
        return self._parts

    def follow(self) -> None:
        """Serve the newest champion; one that cannot be loaded leaves the one in force, and the handle has told of it."""
        with suppress(DemandMaintError, OSError):
            self.open().refresh()

    def keep_up(self) -> None:
        """Drain and publish as the maintainer does; failures are tried again after the next collection."""
        try:
            parts = self.open()
            if parts.try_lead():
                parts.drain()
                parts.publish()
        except (DemandMaintError, OSError) as error:
            log.warning("upkeep failed", reason=str(error))

    async def step(self, *, wait: bool) -> dict[str, Any] | None:
        """Begin a check that is due; its outcome once it is there, ``{"status": "running"}`` until then, else ``None``."""
        if self._update is None and self._is_due():
            self._update = self._thread.run(self.check, None)
        if self._update is None:
            return None
        if wait:
            await asyncio.wait({self._update})
        if not self._update.done():
            return {"status": "running"}
        outcome, self._update = self._update, None
        return outcome.result()

    def check(self, force: str | None) -> dict[str, Any]:
        """Check and act; blocks, never raises."""
        try:
            parts = self.open()
            if not parts.try_lead():
                raise MaintainerBusyError(parts.holder())
            result = parts.update(force)
            self.follow()
        except MaintainerBusyError as error:
            result = {"status": "busy", "reason": str(error)}
        except Exception as error:
            log.warning("maintenance failed", reason=repr(error))
            result = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        if self._due is not None:
            self._due.checked(now=self._clock.now(), monotonic=self._clock.monotonic())
        return result

    def let_go(self) -> RootParts | None:
        """Hand the parts over for closing; the next use opens new ones."""
        parts, self._parts = self._parts, None
        return parts

    def close(self) -> None:
        """Write everything down and let go of the root; idempotent. Blocks."""
        self._closed = True
        parts = self.let_go()
        if parts is not None:
            parts.close()
        self._thread.close()

    def _is_due(self) -> bool:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if self._due is None:
            interval = self._interval if self._interval is not None else self._settings().runtime.interval_hours
            self._due = DueWatch(lambda at: at + interval * HOUR)
            self._due.begin(now=now, monotonic=monotonic, last=self.open().last_check_at())
        return self._due.due(now=now, monotonic=monotonic) is not None
