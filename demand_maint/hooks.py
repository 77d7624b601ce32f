"""Typed events to the callables that asked for them; no callable can harm another, the library or the host.

Every hook has a lane of its own: a bounded queue, one worker task, and for a plain function one daemon thread. Order is kept
per hook, and a hook is never called again while an earlier call of it is still running. What a hook may do wrong, and what
comes of it:

==========================================  ==================================================================
raises, SystemExit and CancelledError too   named in the log, `HookFailed` to the other hooks; its next event is delivered
runs longer than the timeout                the same, and it is cancelled (a thread cannot be: its lane waits)
swallows its cancellation                   the same; its lane waits until it returns, its queue drops the oldest
blocks the event loop (async only)          the same; at the third time it is switched off
is slower than the events                   the oldest are dropped and counted
==========================================  ==================================================================
"""

import asyncio
import random
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
import structlog  # noqa: F401  # loaded with this module, so that the first line logged imports nothing inside the host's loop
from msgspec import Struct

from demand_maint.clock import Clock, SystemClock
from demand_maint.core.events import HookFailed, MaintenanceEvent, TrainingProgress
from demand_maint.isolated_call import Callback, IsolatedCall, Outcome
from demand_maint.log import get_logger

__all__ = ["HookBus", "HookStatus", "log_events", "webhook"]

CallbackT = TypeVar("CallbackT", bound=Callback)

BLOCKING_SECONDS: Final = 0.1
STRIKES: Final = 3
CANCEL_SECONDS: Final = 1.0

log = get_logger("hooks")


class HookStatus(Struct, frozen=True, kw_only=True):
    """How one hook fares; `state` is ``idle``, ``running``, ``stuck`` (past its timeout) or ``off``."""

    name: str
    kinds: tuple[str, ...]
    state: str
    delivered: int
    failed: int
    dropped: int
    waiting: int


def _check_kinds(kinds: tuple[Any, ...]) -> None:
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, MaintenanceEvent)):
            raise TypeError(f"{kind!r} is no event class. Write @runtime.on(DriftDetected), or @runtime.on() for all.")


def _check_callable(callback: Any) -> None:
    if not callable(callback):
        raise TypeError(f"{callback!r} cannot be called. Give a function, or an object with __call__.")


class HookBus:
    """Delivers events; `emit` never waits and never raises.

    Parameters
    ----------
    timeout
        Seconds one call of a hook may take.
    queue
        Events that may wait for one hook; past that the oldest are dropped.

    Examples
    --------
    >>> import asyncio
    >>> from demand_maint.core.events import ModelDeployed
    >>> async def main():
    ...     bus = HookBus()
    ...     seen = []
    ...     bus.add(lambda event: seen.append(event.version), ModelDeployed)
    ...     bus.start()
    ...     bus.emit(ModelDeployed(at=0.0, version=7, previous=6, who="operator", why="better"))
    ...     await bus.drain()
    ...     await bus.aclose(1.0)
    ...     return seen
    >>> asyncio.run(main())
    [7]
    """

    def __init__(self, *, timeout: float = 30.0, queue: int = 256, clock: Clock | None = None) -> None:
        self.timeout = timeout
        self.limit = queue
        self._clock = clock or SystemClock()
        self._lanes: list[_Lane] = []
        self._vetoes: list[_Veto] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def on(self, *kinds: type[MaintenanceEvent], timeout: float | None = None) -> Callable[[CallbackT], CallbackT]:
        """Decorate a sync or async callable to be called with every event of `kinds` (all kinds where none is named)."""
        _check_kinds(kinds)

        def register(callback: CallbackT) -> CallbackT:
            self.add(callback, *kinds, timeout=timeout)
            return callback

        return register

    def add(self, callback: Callback, *kinds: type[MaintenanceEvent], timeout: float | None = None) -> Callback:
        """Register `callback`; the same callable twice is called once per event."""
        _check_kinds(kinds)
        _check_callable(callback)
        wanted = kinds or (MaintenanceEvent,)
        for lane in self._lanes:
            if lane.callback == callback:
                lane.kinds = tuple(dict.fromkeys((*lane.kinds, *wanted)))
                return callback
        self._lanes.append(_Lane(self, callback, wanted, timeout))
        return callback

    def remove(self, callback: Callback) -> bool:
        """Stop calling `callback`; False when it was not registered."""
        for lane in self._lanes:
            if lane.callback == callback:
                self._lanes.remove(lane)
                lane.stop()
                return True
        return False

    def add_veto(self, callback: Callback, *, timeout: float | None = None, on_failure: str = "refuse") -> Callback:
        """Register a callable that is asked before a promotion; it returns a reason to refuse, or nothing.

        Parameters
        ----------
        on_failure
            What a veto hook that raises or runs out of time means: ``"refuse"`` (the next check asks again) or ``"allow"``.
        """
        if on_failure not in {"refuse", "allow"}:
            raise ValueError(f"on_failure is 'refuse' or 'allow', not {on_failure!r}.")
        _check_callable(callback)
        self._vetoes.append(_Veto(self, callback, timeout, on_failure == "refuse"))
        return callback

    async def ask(self, proposal: Any) -> str | None:
        """Ask every veto hook at once; the reasons of those that refuse, or ``None``."""
        answers = await asyncio.gather(*(self._ask_one(veto, proposal) for veto in self._vetoes))
        return "; ".join(answer for answer in answers if answer) or None

    async def _ask_one(self, veto: "_Veto", proposal: Any) -> str | None:
        outcome = await veto.call(proposal)
        if outcome.failure is None:
            answer = outcome.value
            if answer is None or answer is True or answer == "":
                return None
            return f"{veto.name}: {'refused' if answer is False else answer}"
        self.failed(veto.name, type(proposal).__name__, outcome.failure)
        return f"{veto.name} could not be asked: {outcome.failure}" if veto.strict else None

    def start(self) -> None:
        """Bind to the running loop and deliver what was emitted before."""
        self._loop = asyncio.get_running_loop()
        for lane in self._lanes:
            lane.wake()

    def emit(self, event: MaintenanceEvent) -> None:
        """Queue `event` for every hook that asked for its kind; from any thread."""
        loop = self._loop
        if self._closed:
            return
        if loop is None or _is_running_here(loop):
            self._dispatch(event)
        else:
            with suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(self._dispatch, event)

    def _dispatch(self, event: MaintenanceEvent, but: str | None = None) -> None:
        for lane in list(self._lanes):
            if lane.name != but and isinstance(event, lane.kinds):
                lane.put(event)

    def failed(self, name: str, event: str, reason: str) -> None:
        """Name a hook that did wrong, in the log and to the other hooks."""
        log.error("hook failed", hook=name, failed_event=event, reason=reason)
        if event != HookFailed.__name__ and not self._closed:  # a failure to report a failure is only logged
            self._dispatch(HookFailed(at=self._clock.now(), hook=name, failed_event=event, reason=reason), but=name)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop hooks run on, once started."""
        return self._loop

    def status(self) -> list[HookStatus]:
        """How every hook fares."""
        return [lane.status() for lane in self._lanes]

    async def drain(self, seconds: float | None = None) -> bool:
        """Wait until every queued event was delivered; False when that takes longer than `seconds`."""
        workers = {lane.worker for lane in self._lanes if lane.worker is not None and not lane.worker.done()}
        while workers:
            _, late = await asyncio.wait(workers, timeout=seconds)
            if late:
                return False
            workers = {lane.worker for lane in self._lanes if lane.worker is not None and not lane.worker.done()}
        return True

    async def aclose(self, grace: float) -> None:
        """Deliver what is queued within `grace` seconds, then stop; idempotent."""
        if not self._closed and self._loop is not None:
            await self.drain(grace)
        self._closed = True
        for lane in self._lanes:
            lane.stop()
        for veto in self._vetoes:
            veto.stop()
        await asyncio.sleep(0)


class _Veto(IsolatedCall):
    """A callable that is asked before a promotion."""

    def __init__(self, bus: HookBus, callback: Callback, timeout: float | None, strict: bool) -> None:
        super().__init__(callback)
        self.strict = strict
        self._bus = bus
        self._timeout = timeout

    async def call(self, argument: Any) -> Outcome:
        """Return the answer, or a failure, within the timeout."""
        task = self.begin(argument)
        timeout = self._bus.timeout if self._timeout is None else self._timeout
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout)
        finally:
            task.cancel()
        return task.result() if done else Outcome(failure=f"gave no answer within {timeout:g} s")


class _Lane(IsolatedCall):
    """One hook: its queue and the task that empties it."""

    def __init__(
        self, bus: HookBus, callback: Callback, kinds: tuple[type[MaintenanceEvent], ...], timeout: float | None
    ) -> None:
        super().__init__(callback)
        self.kinds = kinds
        self.worker: asyncio.Task[None] | None = None
        self._bus = bus
        self._timeout = timeout
        self._waiting: deque[MaintenanceEvent] = deque()
        self._state = "idle"
        self._strikes = 0
        self._overflowing = False
        self._delivered = self._failed = self._dropped = 0

    @property
    def timeout(self) -> float:
        """Seconds one call may take."""
        return self._bus.timeout if self._timeout is None else self._timeout

    def put(self, event: MaintenanceEvent) -> None:
        """Queue an event; the newest progress of a training stands for the ones before it."""
        if self._state == "off":
            self._dropped += 1
            return
        newest = self._waiting[-1] if self._waiting else None
        if isinstance(event, TrainingProgress) and isinstance(newest, TrainingProgress) and newest.kind == event.kind:
            self._waiting[-1] = event
            return
        limit = self._bus.limit
        if len(self._waiting) >= limit:
            self._waiting.popleft()
            self._dropped += 1
            if not self._overflowing:
                self._overflowing = True
                reason = f"is slower than its events: more than {limit} wait, the oldest are dropped"
                self._bus.failed(self.name, type(event).__name__, reason)
        self._waiting.append(event)
        self.wake()

    def wake(self) -> None:
        """Make sure a worker empties the queue."""
        loop = self._bus.loop
        if loop is not None and self._waiting and (self.worker is None or self.worker.done()):
            self.worker = loop.create_task(self._work(), name=f"hook lane {self.name}")

    async def _work(self) -> None:
        while self._waiting and self._state != "off":
            event = self._waiting.popleft()
            if not self._waiting:
                self._overflowing = False
            self._state = "running"
            task = self.begin(event)
            try:
                await self._see_through(task, type(event).__name__)
            finally:
                task.cancel()
                if self._state != "off":
                    self._state = "idle"

    async def _see_through(self, task: "asyncio.Task[Outcome]", event: str) -> None:
        done, _ = await asyncio.wait({task}, timeout=self.timeout)
        if done:
            failure = task.result().failure
        else:
            failure = f"did not return within {self.timeout:g} s"
            self._state = "stuck"
            if self.is_async:
                task.cancel()
                done, _ = await asyncio.wait({task}, timeout=CANCEL_SECONDS)
                failure += "" if done else " and swallowed its cancellation; its later events wait"
            else:
                failure += "; its thread cannot be stopped, its later events wait"
        if self.blocked > BLOCKING_SECONDS:
            failure = self._strike(failure)
        if failure is None:
            self._delivered += 1
        else:
            self._failed += 1
            self._bus.failed(self.name, event, failure)
        if not done:
            await self._outlast(task)

    async def _outlast(self, task: "asyncio.Task[Outcome]") -> None:
        """Wait for a call that is past its time: the next one must not overtake it."""
        if not self.is_async:
            await asyncio.wait({task})
            return
        while not task.done():
            await asyncio.wait({task}, timeout=self.timeout)
            task.cancel()

    def _strike(self, failure: str | None) -> str:
        self._strikes += 1
        words = f"blocked the event loop for {self.blocked:.2f} s (make it a plain function: those get a thread)"
        if self._strikes >= STRIKES:
            self._state = "off"
            self._dropped += len(self._waiting)
            self._waiting.clear()
            words += f"; switched off after {STRIKES} times"
        return words if failure is None else f"{failure}; {words}"

    def stop(self) -> None:
        """End the worker and the thread; what still waits is dropped."""
        super().stop()
        self._dropped += len(self._waiting)
        self._waiting.clear()
        if self.worker is not None:
            self.worker.cancel()

    def status(self) -> HookStatus:
        """How this hook fares."""
        return HookStatus(
            name=self.name,
            kinds=tuple(kind.__name__ for kind in self.kinds),
            state=self._state,
            delivered=self._delivered,
            failed=self._failed,
            dropped=self._dropped,
            waiting=len(self._waiting),
        )


def _is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def log_events(level: str = "info") -> Callable[[MaintenanceEvent], None]:
    """Return a hook that writes each event as one structured log line of the logger ``demand_maint.events``.

    Parameters
    ----------
    level
        Method of the logger: ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``.
    """
    write = getattr(get_logger("events"), level)

    def log_event(event: MaintenanceEvent) -> None:
        fields = msgspec.to_builtins(event)
        write(fields.pop("event"), **fields)

    return log_event


def webhook(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    attempts: int = 3,
    pause: float = 1.0,
    body: Callable[[MaintenanceEvent], Any] | None = None,
) -> Callable[[MaintenanceEvent], None]:
    """Return a hook that posts each event as JSON to `url`, with the standard library, on the hook's own thread.

    Network errors, 429 and 5xx are tried again with doubling pauses; another answer past 299 fails at once. The address often is
    a secret, so that names and messages show its host only.

    Parameters
    ----------
    url
        ``http://`` or ``https://``.
    timeout
        Seconds one attempt may take.
    attempts, pause
        How often to try, and seconds before the second attempt; later pauses double, each shortened by up to a half at random.
    body
        Makes the JSON document of an event, as ``lambda event: {"text": str(event)}`` for a chat; the event's own fields by default.
    """
    host = urllib.parse.urlsplit(url)
    if host.scheme not in {"http", "https"} or not host.hostname:
        raise ValueError("A webhook needs an address that begins with http:// or https:// and names a host.")
    sent_headers = {"Content-Type": "application/json", "User-Agent": "demand-maint", **(headers or {})}

    def post(event: MaintenanceEvent) -> None:
        document = msgspec.json.encode(event if body is None else body(event))
        for attempt in range(1, attempts + 1):
            request = urllib.request.Request(url, document, sent_headers, method="POST")  # noqa: S310 - scheme checked
            try:
                with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310 - scheme checked
                    return
            except urllib.error.HTTPError as error:
                error.close()
                problem = f"answered {error.code}"
                lasting = error.code != 429 and error.code < 500
            except OSError as error:  # URLError, time-outs and resets are all of this kind
                problem, lasting = f"could not be reached: {getattr(error, 'reason', error)}", False
            if lasting or attempt == attempts:
                raise ConnectionError(f"{host.hostname} {problem} (attempt {attempt} of {attempts})")
            threading.Event().wait(pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))  # noqa: S311 - spread, no secret

    post.__qualname__ = f"webhook({host.hostname})"
    return post
