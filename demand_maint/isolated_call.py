"""One call of somebody else's callable that can neither raise, nor block a thread we need, nor end the loop.

An async callable runs as a task of the host's loop, each of its steps timed; a plain one runs on a daemon thread of its own.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from demand_maint.clock import SystemClock
from demand_maint.side_thread import SideThread

__all__ = ["IsolatedCall", "Outcome", "StepTimer", "described"]

Callback = Callable[[Any], Any]

_stopwatch = SystemClock().monotonic


class Outcome:
    """What came of one call: a value, or a failure in words."""

    __slots__ = ("failure", "value")

    def __init__(self, value: Any = None, failure: str | None = None) -> None:
        self.value = value
        self.failure = failure


class StepTimer:
    """Drives an awaitable and notes its longest step, so that whoever blocks the loop can be named."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._inner: Any = awaitable.__await__()
        self.longest = 0.0

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._timed()

    def _timed(self) -> Generator[Any, Any, Any]:
        inner = self._inner
        send, argument = getattr(inner, "send", None), None
        advance: Callable[..., Any] = send if send is not None else lambda _: next(inner)
        while True:
            began = _stopwatch()
            try:
                step = advance(argument)
            except StopIteration as stop:
                return stop.value
            finally:
                self.longest = max(self.longest, _stopwatch() - began)
            advance, argument = send if send is not None else (lambda _: next(inner)), None
            try:
                argument = yield step
            except GeneratorExit:
                if hasattr(inner, "close"):
                    inner.close()
                raise
            except BaseException as error:
                if not hasattr(inner, "throw"):
                    raise
                advance, argument = inner.throw, error


class IsolatedCall:
    """One callable with its thread, called so that nothing it does gets out."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.name = _name_of(callback)
        self.blocked = 0.0
        self._thread: SideThread | None = None
        self.is_async = inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(
            getattr(callback, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        )

    def begin(self, argument: Any) -> "asyncio.Task[Outcome]":
        """Start the call; the task never raises."""
        return asyncio.get_running_loop().create_task(self._guarded(argument), name=f"hook {self.name}")

    async def _guarded(self, argument: Any) -> Outcome:
        self.blocked = 0.0
        timer: StepTimer | None = None
        try:
            if self.is_async:
                answer = self.callback(argument)
            else:
                self._thread = self._thread or SideThread(f"demand-maint hook {self.name}")
                answer = await self._thread.run(self.callback, argument)
            if inspect.isawaitable(answer):
                timer = StepTimer(answer)
                answer = await timer
            return Outcome(answer)
        except (GeneratorExit, KeyboardInterrupt):  # the latter is the operator's, not the hook's
            raise
        except BaseException as error:  # SystemExit in a task would end the host's loop
            return Outcome(failure=f"raised {described(error)}")
        finally:
            if timer is not None:
                self.blocked = timer.longest

    def stop(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._thread.close()


def _name_of(callback: Any) -> str:
    inner = getattr(callback, "func", callback)  # functools.partial
    name = getattr(inner, "__qualname__", None) or repr(inner)
    return name.replace("<locals>.", "")


def described(error: BaseException) -> str:
    """Return an exception as "Kind: what it says"."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
