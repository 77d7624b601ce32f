"""Asks a source about many venues at once: bounded, each with a deadline, each failing for itself."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from demand_maint.isolated_call import described
from demand_maint.side_thread import SideThread

__all__ = ["VenueCalls"]


class VenueCalls:
    """Calls `source` for every venue; a plain function on daemon threads, a coroutine function as tasks.

    A venue whose last call has not come back yet is not called again: it fails until that call ends, so that a source that
    hangs costs one thread or task per venue and no more.

    Parameters
    ----------
    concurrency
        Calls under way at once.
    timeout
        Seconds one call may take.
    """

    def __init__(self, source: Callable[[Any], Any], *, concurrency: int = 16, timeout: float = 10.0) -> None:
        self.timeout = timeout
        self._source = source
        self._concurrency = concurrency
        self._is_async = inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(
            getattr(source, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        )
        self._idle: list[SideThread] = []
        self._made = 0
        self._hanging: dict[Any, asyncio.Future[Any]] = {}

    async def ask(self, venues: Sequence[tuple[Any, Any]]) -> tuple[dict[Any, Any], dict[Any, str]]:
        """Return answers by key, and failures in words by key, of `venues` given as (key, venue)."""
        turn = asyncio.Semaphore(self._concurrency)
        answers: dict[Any, Any] = {}
        failures: dict[Any, str] = {}

        async def one(key: Any, venue: Any) -> None:
            async with turn:
                try:
                    answers[key] = await self._call(key, venue)
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    failures[key] = described(error)

        async with asyncio.TaskGroup() as group:
            for key, venue in venues:
                group.create_task(one(key, venue))
        return answers, failures

    def close(self) -> None:
        """Let idle threads end."""
        while self._idle:
            self._idle.pop().close()

    async def _call(self, key: Any, venue: Any) -> Any:
        hanging = self._hanging.get(key)
        if hanging is not None:
            if not hanging.done() and hanging.get_loop() is asyncio.get_running_loop():
                raise TimeoutError("an earlier call has not come back yet")
            del self._hanging[key]
        return await (self._as_task(key, venue) if self._is_async else self._on_thread(key, venue))

    async def _as_task(self, key: Any, venue: Any) -> Any:
        return await self._in_time(key, asyncio.ensure_future(_contained(self._source(venue))))

    async def _on_thread(self, key: Any, venue: Any) -> Any:
        if self._idle:
            thread = self._idle.pop()
        else:
            self._made += 1
            thread = SideThread(f"demand-maint source {self._made}")
        future = thread.run(self._source, venue)
        try:
            answer = await self._in_time(key, future)
        finally:
            if future.done() and not future.cancelled():
                self._idle.append(thread)
            else:
                thread.close()  # it ends when its call does
        return (
            await self._in_time(key, asyncio.ensure_future(_contained(answer)))
            if inspect.isawaitable(answer)
            else answer
        )

    async def _in_time(self, key: Any, future: "asyncio.Future[Any]") -> Any:
        try:
            done, _ = await asyncio.wait({future}, timeout=self.timeout)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if done:
            return future.result()
        if self._is_async:
            future.cancel()
        self._hanging[key] = future
        raise TimeoutError(f"no answer within {self.timeout:g} s")


async def _contained(awaitable: Any) -> Any:
    """Await somebody's coroutine so that it cannot end the loop or pass for a cancellation of ours."""
    try:
        return await awaitable
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("the source cancelled itself") from None
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"the source raised {described(error)}") from error
