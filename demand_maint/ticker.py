"""The only place that knows APScheduler: one job that says "look now", and when the next look is planned.

What it does not trust APScheduler with: late jobs (kept by ``misfire_grace_time=None``), exceptions in jobs (the job cannot
fail), a wall clock that is put back (`DueWatch` and the look every 20 s), and the host's job store (jobs live in one of our own,
in memory).
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from demand_maint.clock import SystemClock
from demand_maint.config import Config
from demand_maint.errors import ConfigError

__all__ = ["Ticker", "trigger_of"]

JOBSTORE: Final = "demand_maint"
YEAR: Final = 366 * 86400.0


class Ticker:
    """APScheduler's one job, which calls `tick` on the loop; rescheduled after every check.

    Parameters
    ----------
    trigger
        As `trigger_of` gives it.
    scheduler
        The host's (asyncio's or a threaded one), or ``None`` for one of our own.
    """

    def __init__(
        self,
        name: str,
        trigger: Any,
        tick: Callable[[], None],
        scheduler: BaseScheduler | None,
        on_loop: Callable[[Callable[[], None]], None],
    ) -> None:
        self._own = scheduler is None
        self._scheduler = scheduler or AsyncIOScheduler(timezone=UTC)
        self._name = name
        self._tick = tick
        self._trigger = trigger
        self._on_loop = on_loop
        self._job: Any = None
        # the scheduler reads the wall clock itself, so that what it is told is relative to that
        self._wall = SystemClock()

    def following(self, at: float) -> float:
        """Wall time of the first due moment after `at`."""
        if isinstance(self._trigger, IntervalTrigger):
            return at + float(self._trigger.interval_length)
        moment = datetime.fromtimestamp(at, UTC)
        following = self._trigger.get_next_fire_time(moment, moment)
        return at + YEAR if following is None else float(following.timestamp())

    def start(self) -> None:
        """Add the job; nothing fires before `aim`."""
        asynchronous = isinstance(self._scheduler, AsyncIOScheduler)
        with suppress(ValueError):  # a second runtime finds it there
            self._scheduler.add_jobstore(MemoryJobStore(), JOBSTORE)  # the host's may want to pickle its jobs
        self._job = self._scheduler.add_job(
            self._in_loop if asynchronous else self._from_thread,
            self._trigger,
            name=self._name,
            jobstore=JOBSTORE,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
            next_run_time=None,
        )
        if self._own:
            self._scheduler.start()

    def aim(self, seconds: float) -> None:
        """Fire `seconds` from now."""
        if self._job is not None:
            moment = datetime.fromtimestamp(self._wall.now(), UTC) + timedelta(seconds=min(seconds, YEAR))
            self._job.modify(next_run_time=moment)

    def pause(self) -> None:
        """Do not fire until aimed again."""
        if self._job is not None:
            self._job.pause()

    def stop(self) -> None:
        """Remove the job, and end a scheduler of our own."""
        if self._job is not None:
            with suppress(Exception):  # the host may have shut its scheduler down before us
                self._job.remove()
            self._job = None
            if self._own:
                self._scheduler.shutdown(wait=False)

    async def _in_loop(self) -> None:
        self._tick()

    def _from_thread(self) -> None:
        self._on_loop(self._tick)


def trigger_of(config: Config) -> Any:
    """Return the trigger of ``runtime.cron`` in the configured zone, else of ``runtime.interval_hours``."""
    if config.runtime.cron is None:
        return IntervalTrigger(seconds=max(int(config.runtime.interval_hours * 3600), 1), timezone=UTC)
    try:
        return CronTrigger.from_crontab(config.runtime.cron, timezone=ZoneInfo(config.zone))
    except ValueError as error:
        raise ConfigError(
            f"runtime.cron: {config.runtime.cron!r} is no crontab line ({error}). Write five fields, as in '0 2 * * 0'."
        ) from error
