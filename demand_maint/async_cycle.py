"""The asynchronous driver of the maintenance cycle: the same steps as everywhere, carried out in a worker thread."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from demand_maint.clock import Clock
from demand_maint.core.cycle import Promote, Rollback, Step, Train, Vetoed
from demand_maint.core.events import TrainingProgress, TrainingStarted
from demand_maint.core.narrate import DriftNews, step_ended
from demand_maint.errors import ClosedError
from demand_maint.hooks import HookBus
from demand_maint.side_thread import SideThread
from demand_maint.upkeep import Parts

__all__ = ["AsyncCycle"]


class AsyncCycle:
    """Drives one cycle at a time; the loop only ever waits.

    Parameters
    ----------
    parts
        Carries steps out, blocking.
    thread
        Where it does so.
    bus
        Told of every step; its veto hooks are asked before a promotion.
    after_change
        Called in the thread after a step that may have changed the champion.
    """

    def __init__(
        self, parts: Parts, thread: SideThread, bus: HookBus, clock: Clock, after_change: Callable[[], object]
    ) -> None:
        self._parts = parts
        self._thread = thread
        self._bus = bus
        self._clock = clock
        self._after_change = after_change
        self._drift = DriftNews()
        #: the step being carried out, for the status
        self.step: Step | None = None

    async def run(self, force: str | None) -> dict[str, Any]:
        """Assess, decide and act; the dict that users see."""
        cycle = await self._thread.run(self._parts.begin, force)
        for event in self._drift.tell(await self._thread.run(self._parts.assessed), self._clock.now()):
            self._bus.emit(event)
        try:
            self.step, result = await self._thread.run(_advance, cycle, None)
            while self.step is not None:
                answer = await self._answer(self.step)
                self.step, result = await self._thread.run(_advance, cycle, answer)
            return dict(await self._thread.run(self._parts.finish, result))
        finally:
            self.step = None
            with suppress(ClosedError):  # in the thread: there the generator may still be running
                self._thread.run(cycle.close)

    async def _answer(self, step: Step) -> Any:
        if isinstance(step, Promote):
            reason = await self._bus.ask(step)
            if reason is not None:
                return Vetoed(reason=reason)
        answer = await self._thread.run(self._carry_out, step)
        for event in step_ended(step, answer, self._clock.now()):
            self._bus.emit(event)
        return answer

    def _carry_out(self, step: Step) -> Any:
        if isinstance(step, Train):
            answer = self._parts.perform(step, self._progress_of(step), self._begin_of(step))
        else:
            answer = self._parts.perform(step)
        if isinstance(step, Promote | Rollback):
            self._after_change()
        return answer

    def _begin_of(self, step: Train) -> Callable[[int | None], None]:
        def begin(rows: int | None) -> None:
            self._bus.emit(TrainingStarted(at=self._clock.now(), kind=step.kind, rows=rows))

        return begin

    def _progress_of(self, step: Train) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            self._bus.emit(TrainingProgress(at=self._clock.now(), kind=step.kind, done=done, total=total))

        return progress


def _advance(cycle: Any, answer: Any) -> tuple[Step | None, Any]:
    """Send an answer into the generator; its next step, or its result (StopIteration cannot cross a future)."""
    try:
        return cycle.send(answer), None
    except StopIteration as stop:
        return None, stop.value
