"""A daemon thread of our own that runs one call after another, awaited from any event loop.

The default executor is not used: it belongs to the host, a call that never returns uses up one of its places, and the
interpreter waits for it at exit.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from demand_maint.errors import ClosedError
from demand_maint.log import get_logger

__all__ = ["SideThread", "outlast"]

log = get_logger("runtime")
_Call = tuple[Callable[..., Any], tuple[Any, ...], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class SideThread:
    """Runs calls in their order on one daemon thread, which starts with the first call and ends when there is nothing to do.

    Parameters
    ----------
    name
        Name of the thread, as debuggers and `threading.enumerate` show it.
    idle_seconds
        How long the thread waits for a next call before it ends.
    """

    def __init__(self, name: str, *, idle_seconds: float = 10.0) -> None:
        self.name = name
        self._idle_seconds = idle_seconds
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the thread exists just now."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def run(self, function: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        """Queue a call; the future of the running loop gets its value or its exception.

        Cancelling the future forgets the call's outcome; a call that has begun is not interrupted.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._guard:
            if self._closed:
                raise ClosedError(f"The thread {self.name!r} has been closed; start a new runtime.")
            self._calls.put((function, arguments, loop, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self._thread.start()
        return future

    def close(self) -> None:
        """Take no more calls; the thread ends after those that are queued."""
        with self._guard:
            self._closed = True
            if self._thread is not None:
                self._calls.put(None)

    def join(self, seconds: float) -> bool:
        """Wait for the thread to end; False when it is still busy after `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def _work(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=self._idle_seconds)
            except queue.Empty:
                with self._guard:
                    if self._calls.empty():
                        self._thread = None
                        return
                continue
            if call is None:
                return
            function, arguments, loop, future = call
            if not future.cancelled():
                value, error = _outcome(function, arguments)
                with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                    loop.call_soon_threadsafe(_settle, future, value, error)
            del call, function, arguments, future


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    try:
        return function(*arguments), None
    except Exception as error:
        if isinstance(error, StopIteration):  # a future refuses it
            return None, RuntimeError(f"{getattr(function, '__qualname__', function)} raised {error!r}")
        return None, error
    except BaseException as error:  # SystemExit in a future would end the host's loop
        wrapped = RuntimeError(f"{getattr(function, '__qualname__', function)} raised {error!r}")
        wrapped.__cause__ = error
        return None, wrapped


def _settle(future: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


async def outlast(task: "asyncio.Future[Any]", seconds: float | None = None, *, cancel: bool = False) -> bool:
    """Wait for `task` to end, at most `seconds`, whatever happens to us meanwhile; whether somebody cancelled us.

    Failures of the task are logged, not raised: the next stage of the shutdown has to come.
    """
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + max(seconds, 0.0)
    cancelled = False
    while not task.done():
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            break
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            cancelled = True
    if cancel and not task.done():
        task.cancel()
        await asyncio.sleep(0)
    if task.done() and not task.cancelled() and task.exception() is not None:
        log.error("a stage of the shutdown failed", error=repr(task.exception()))
    return cancelled
