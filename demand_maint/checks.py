"""The one long-lived task that makes checks: when due, when asked to, never two at once."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from demand_maint.async_cycle import AsyncCycle
from demand_maint.clock import Clock
from demand_maint.core.due import DueWatch
from demand_maint.core.events import CheckCompleted
from demand_maint.errors import ClosedError, DemandMaintError, TrainingCancelledError
from demand_maint.hooks import HookBus
from demand_maint.log import get_logger

__all__ = ["Checks"]

LOOK_SECONDS: Final = 20.0

log = get_logger("checks")


class _Request:
    """Somebody asked for a check; all who asked for the same wait for one future."""

    def __init__(self, force: str | None) -> None:
        self.force = force
        self.outcome: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()


class Checks:
    """Waits for ticks and requests, and drives a cycle for each that is due.

    Parameters
    ----------
    following
        Wall time of the first due moment after a given one.
    on_checked
        Called after each check with the wall time of the next one.
    """

    def __init__(
        self,
        cycle: AsyncCycle,
        bus: HookBus,
        clock: Clock,
        following: Callable[[float], float],
        on_checked: Callable[[float], None],
    ) -> None:
        self.paused = False
        #: Whether `news` would return anything.
        self.stirring = False
        self.leads = False
        self.last: dict[str, Any] | None = None
        self.last_at: float | None = None
        self._cycle = cycle
        self._bus = bus
        self._clock = clock
        self._on_checked = on_checked
        self._due = DueWatch(following)
        self._wake = asyncio.Event()
        self._requests: deque[_Request] = deque()
        self._current: _Request | None = None
        self._since = 0.0
        self._news: dict[str, Any] | None = None
        self._stopping = False

    @property
    def next_at(self) -> float | None:
        """Wall time of the next check; ``None`` while paused or not the maintainer."""
        return self._due.next_at if self.leads and not self.paused else None

    @property
    def running(self) -> dict[str, Any] | None:
        """What is going on: ``status``, ``since``, ``force`` and the step being carried out."""
        if self._current is None:
            return None
        step = self._cycle.step
        return {
            "status": "running",
            "since": self._since,
            "force": self._current.force,
            "step": type(step).__name__ if step is not None else "Assess",
        }

    def news(self) -> dict[str, Any] | None:
        """Return an outcome nobody has been told of yet (once), else what is running, else nothing."""
        if self._news is None:
            return None if self._current is None else self.running
        news, self._news = self._news, None
        self.stirring = self._current is not None
        return news

    def lead(self, last_check_at: float | None) -> None:
        """Begin to make checks: this process maintains the root now."""
        self.leads = True
        self.last_at = last_check_at
        self._due.begin(now=self._clock.now(), monotonic=self._clock.monotonic(), last=last_check_at)
        self._on_checked(self._due.next_at)
        self.look()

    def look(self) -> None:
        """See now whether a check is due; from the loop."""
        self._wake.set()

    def request(self, force: str | None) -> "asyncio.Future[dict[str, Any]]":
        """Ask for a check; one that is under way or waiting and does the same is joined."""
        if self._stopping:
            raise ClosedError("This runtime is closing; no check begins any more.")
        for known in (self._current, *self._requests):
            if known is not None and known.force == force:
                return known.outcome
        request = _Request(force)
        self._requests.append(request)
        self.look()
        return request.outcome

    def stop(self) -> None:
        """Begin no more checks; the task ends with the one under way. Requests that wait are refused."""
        self._stopping = True
        while self._requests:
            outcome = self._requests.popleft().outcome
            if not outcome.done():
                outcome.set_exception(ClosedError("The runtime was closed before this check began."))
                outcome.exception()  # nobody has to look
        self.look()

    async def run(self) -> None:
        """Make checks until stopped."""
        while not self._stopping:
            self._wake.clear()
            request = self._next()
            if request is not None:
                await self._check(request)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()

    def _next(self) -> _Request | None:
        if self._requests:
            return self._requests.popleft()
        if not self.leads or self.paused:
            return None
        why = self._due.due(now=self._clock.now(), monotonic=self._clock.monotonic())
        return None if why is None else _Request(None)

    async def _check(self, request: _Request) -> None:
        self._current, self._since = request, self._clock.now()
        self.stirring = True
        try:
            result = await self._cycle.run(request.force)
        except asyncio.CancelledError:
            self._current = None
            request.outcome.cancel()
            raise
        except (TrainingCancelledError, ClosedError) as error:
            result = _broken("cancelled", error)
        except DemandMaintError as error:
            log.warning("check failed", force=request.force, reason=str(error))
            result = _broken("failed", error)
        except Exception as error:
            log.exception("check failed", force=request.force)
            result = _broken("failed", error)
        self._current = None
        now = self._clock.now()
        self._due.checked(now=now, monotonic=self._clock.monotonic())
        self.last = self._news = result
        self.last_at = now
        if not request.outcome.done():
            request.outcome.set_result(result)
        self._on_checked(self._due.next_at)
        self._bus.emit(CheckCompleted(at=now, result=result))


def _broken(status: str, error: Exception) -> dict[str, Any]:
    return {
        "status": status,
        "action": "none",
        "rule": "",
        "reason": f"{type(error).__name__}: {error}",
        "verdict": None,
        "version": None,
    }
