"""Maintenance inside the host's event loop: attach, ticks, the asynchronous driver of the cycle, shutdown.

What runs where:

- the loop: one long-lived task that waits for ticks and drives the cycle; hooks; nothing that blocks;
- the upkeep thread: draining, following the champion, the lock (`demand_maint.upkeep`);
- a worker thread while a cycle runs: assessing, gate, deploy, and waiting for the training child;
- children: trainings.

APScheduler's job only sets an event (`demand_maint.ticker` says why). Whether a check is due is decided by `DueWatch` on two
clocks, and looked at every 20 s besides.
"""

import asyncio
import atexit
import os
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog  # noqa: F401  # loaded with this module, so that the first line logged imports nothing inside the host's loop
from msgspec import to_builtins

from demand_maint.async_cycle import AsyncCycle
from demand_maint.attachment import Attachment, attachment_of, check_attachable, mark, unmark
from demand_maint.checks import Checks
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config, RuntimeConfig, load_config
from demand_maint.core.events import MaintenanceEvent
from demand_maint.errors import AttachError, ClosedError, MaintainerBusyError
from demand_maint.hooks import HookBus
from demand_maint.log import get_logger
from demand_maint.side_thread import SideThread, outlast
from demand_maint.ticker import Ticker, trigger_of
from demand_maint.upkeep import Parts, Upkeep

__all__ = ["MaintenanceRuntime"]

CLOSING_SECONDS: Final = 0.7
FORCED: Final = ("fine-tune", "full-retrain")

CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])
log = get_logger("runtime")


class MaintenanceRuntime:
    """Keeps the model of one root healthy for as long as it is open.

    Parameters
    ----------
    collector
        What it is attached to; ``None`` where the host calls `monitor`, `model` and `maintenance` itself.
    root
        Folder of ``demand_maint.toml``, ``data`` and ``logs``.
    config
        A `Config`, a mapping of settings over the file, or nothing for the file alone.
    scheduler
        An APScheduler 3 scheduler of the host to tick by; our own `AsyncIOScheduler` by default.
    parts
        Assembles what is looked after; the real thing by default.

    Examples
    --------
    ::

        async with MaintenanceRuntime.attach(collector, root=".") as runtime:

            @runtime.on(DriftDetected)
            async def page_someone(event): ...

            await collector.run()
    """

    def __init__(
        self,
        collector: Any = None,
        *,
        root: str | Path = ".",
        config: Config | dict[str, Any] | None = None,
        clock: Clock | None = None,
        scheduler: Any = None,
        parts: Callable[[Path, Config, Clock], Parts] | None = None,
    ) -> None:
        self.root = Path(root).absolute()  # resolve() would read the disk, and this may be a loop
        self.config = config if isinstance(config, Config) else None
        self.clock = clock or SystemClock()
        self.hooks = HookBus(clock=self.clock)
        self._overrides = config if isinstance(config, dict) else None
        self._collector = collector
        self._scheduler = scheduler
        self._assemble = parts or _assemble
        self._worker = SideThread(f"demand-maint worker {self.root.name}")
        self._errands = SideThread(f"demand-maint errands {self.root.name}")
        self._entered = 0
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._parts: Parts | None = None
        self._upkeep: Upkeep | None = None
        self._checks: Checks | None = None
        self._ticker: Ticker | None = None
        self._attachment: Attachment | None = None
        self._live: asyncio.Task[None] | None = None
        self._at_exit: Callable[[], None] | None = None

    @classmethod
    def attach(cls, collector: Any = None, *, root: str | Path = ".", **settings: Any) -> Self:
        """Take hold of `collector`; enter the returned runtime, or await its `start`. Attaching again returns the same runtime.

        Raises
        ------
        AttachError
            The object is of no kind that can be attached to, or another root's runtime holds it.
        """
        if collector is None:
            return cls(root=root, **settings)
        holder = attachment_of(collector)
        if isinstance(holder, cls) and not holder.closed:
            if holder.root != Path(root).absolute():
                raise AttachError(
                    f"This {type(collector).__name__} is attached to {holder.root} already. Close that runtime first, or use a collector per root."
                )
            return holder
        check_attachable(collector)
        runtime = cls(collector, root=root, **settings)
        mark(collector, runtime)
        return runtime

    # what a host uses

    @property
    def monitor(self) -> Any:
        """The `ModelMonitor` of this root."""
        return self._open_parts().monitor

    @property
    def model(self) -> Any:
        """The `ModelHandle` to predict with; it says so where nothing has been deployed."""
        return self._open_parts().model

    @property
    def serves(self) -> bool:
        """Whether there is a champion to predict with."""
        return self._parts is not None and self._parts.serves

    @property
    def role(self) -> str:
        """``"leader"`` maintains, ``"follower"`` predicts, logs and waits, ``"closed"`` does nothing."""
        if self._parts is None or self.closed or self._checks is None:
            return "closed"
        return "leader" if self._checks.leads else "follower"

    @property
    def _grace(self) -> float:
        return RuntimeConfig().grace_seconds if self.config is None else self.config.runtime.grace_seconds

    @property
    def closed(self) -> bool:
        """Whether `aclose` was called."""
        return self._closing is not None

    def on(self, *kinds: type[MaintenanceEvent], timeout: float | None = None) -> Callable[[CallbackT], CallbackT]:
        """Decorate a sync or async callable to be called with events of `kinds` (all where none is named)."""
        return self.hooks.on(*kinds, timeout=timeout)

    def veto(
        self, callback: Callable[..., Any] | None = None, *, timeout: float | None = None, on_failure: str = "refuse"
    ) -> Any:
        """Decorate a callable that is asked before a promotion; a returned text refuses, and lands in the history.

        It is given the `demand_maint.core.cycle.Promote` step: kind, verdict, challenger or version.
        """

        def register(asked: CallbackT) -> CallbackT:
            self.hooks.add_veto(asked, timeout=timeout, on_failure=on_failure)
            return asked

        return register if callback is None else register(callback)

    def maintenance(self) -> dict[str, Any] | None:
        """News for a collection's result: an outcome nobody has seen yet, ``{"status": "running", ...}``, or nothing."""
        return None if self._checks is None else self._checks.news()

    async def check_now(self) -> dict[str, Any]:
        """Check, and act on what is found; the result dict of `HybridModelManager.update_model`. A running check is joined."""
        return await self._ask(None)

    async def update_now(self, kind: str) -> dict[str, Any]:
        """Train now, whatever the rules say: ``"fine-tune"`` or ``"full-retrain"``."""
        if kind not in FORCED:
            raise ValueError(f"update_now takes 'fine-tune' or 'full-retrain', not {kind!r}. For a check: check_now().")
        return await self._ask(kind)

    async def rollback(self) -> tuple[bool, str]:
        """Take the champion back; needs no maintainer, and does not wait for a training.

        Predictions follow before it returns, or, where the disk fails right then, with the next poll, and the text says so.
        """
        parts, upkeep = self._open_parts(), self._upkeep
        done, message = await self._errands.run(parts.rollback)
        if upkeep is not None and not await self._errands.run(upkeep.follow) and done:
            message += " It could not be read back just now; predictions follow as soon as it can."
        return done, message

    async def report(self, out: str | Path | None = None) -> Path:
        """Write the page that shows this root, ``logs/report.html`` unless told otherwise; return its path."""
        parts = self._open_parts()
        page: Path = await self._errands.run(lambda: parts.report(out))
        return page

    def pause(self) -> None:
        """Make no checks by itself until `resume`; `check_now` still works."""
        if self._checks is not None and self._ticker is not None:
            self._checks.paused = True
            self._ticker.pause()

    def resume(self) -> None:
        """Make checks again; an overdue one at once."""
        checks = self._checks
        if checks is not None:
            checks.paused = False
            if checks.next_at is not None:
                self._aim(checks.next_at)
            checks.look()

    def status(self) -> dict[str, Any]:
        """How things are, from memory; times are epoch seconds."""
        checks, upkeep = self._checks, self._upkeep
        return {
            "root": str(self.root),
            "role": self.role,
            "mode": None if self.config is None else self.config.runtime.mode,
            "tiers": {}
            if self.config is None
            else {"fine_tune": self.config.policy.fine_tune, "full_retrain": self.config.policy.full_retrain},
            "paused": checks is not None and checks.paused,
            "version": self._parts.model.version if self._parts is not None and self._parts.serves else None,
            "running": None if checks is None else checks.running,
            "next_check_at": None if checks is None else checks.next_at,
            "last_check_at": None if checks is None else checks.last_at,
            "last_result": None if checks is None else checks.last,
            "rows_matured": 0 if upkeep is None else upkeep.matured,
            "storage": "ok" if upkeep is None or upkeep.degraded is None else upkeep.degraded,
            "hooks": [to_builtins(hook) for hook in self.hooks.status()],
        }

    async def _ask(self, force: str | None) -> dict[str, Any]:
        parts, checks = self._open_parts(), self._checks
        if checks is None or not checks.leads:
            raise MaintainerBusyError(await self._errands.run(parts.holder))
        return await asyncio.shield(checks.request(force))

    def _open_parts(self) -> Parts:
        if self._parts is None or self.closed:
            state = "has been closed" if self.closed else "has not been started"
            raise ClosedError(f"This runtime {state}. Use `async with MaintenanceRuntime.attach(...) as runtime:`.")
        return self._parts

    # beginning

    async def start(self) -> Self:
        """Open the root and begin; idempotent. Returns with monitor and model in place."""
        if self.closed:
            raise ClosedError("This runtime has been closed. Attach again for a new one.")
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start(), name="demand-maint start")
        await asyncio.shield(self._starting)
        return self

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        config, trigger = await self._errands.run(self._read_config)
        self.config = config
        self.hooks.timeout, self.hooks.limit = config.runtime.hook_timeout_seconds, config.runtime.hook_queue
        self._parts = await self._errands.run(self._assemble, self.root, config, self.clock)
        try:
            self._upkeep = Upkeep(self._parts, config, self.clock, self.hooks.emit, self._on_lead, self._on_swap)
            self._ticker = Ticker(f"demand-maint {self.root.name}", trigger, self._look, self._scheduler, self._on_loop)
            cycle = AsyncCycle(self._parts, self._worker, self.hooks, self.clock, self._upkeep.follow)
            self._checks = Checks(cycle, self.hooks, self.clock, self._ticker.following, self._aim)
            self.hooks.start()
            self._ticker.start()
            await self._errands.run(self._upkeep.begin)
            if self._collector is not None:
                self._attachment = Attachment(self._collector, self, self._checks)
        except BaseException:
            if self._ticker is not None:
                self._ticker.stop()
            await self._errands.run(self._parts.close)
            self._parts = None
            if self._collector is not None:
                unmark(self._collector)
            raise
        self._upkeep.start()
        self._live = self._loop.create_task(self._run(), name="demand-maint checks")
        self._at_exit = _closer_at_exit(self)

    def _read_config(self) -> tuple[Config, Any]:
        config = self.config or load_config(self.root, self._overrides)
        return config, trigger_of(config)

    def _on_lead(self) -> None:
        assert self._parts is not None
        last = self._parts.last_check_at()
        self._on_loop(lambda: self._lead(last))

    def _lead(self, last_check_at: float | None) -> None:
        if self._checks is not None and not self.closed:
            log.info("maintaining", root=str(self.root))
            self._checks.lead(last_check_at)

    def _on_swap(self) -> None:
        if self._attachment is not None:
            self._on_loop(self._attachment.give_model)

    def _on_loop(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(act)

    def _look(self) -> None:
        if self._checks is not None:
            self._checks.look()

    def _aim(self, next_at: float) -> None:
        if self._ticker is not None and self._checks is not None and not self._checks.paused and not self.closed:
            self._ticker.aim(max(next_at - self.clock.now(), 0.0))

    async def _run(self) -> None:
        assert self._checks is not None
        try:
            await self._checks.run()
        except asyncio.CancelledError:
            if not self.closed:  # the host's loop is being torn down without aclose()
                self._closing = asyncio.current_task()
                await self._shut_down()
            raise

    # ending

    async def aclose(self) -> None:
        """End within the grace period and a second: cancel trainings, write everything down, restore the collector; idempotent."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._shut_down(), name="demand-maint close")
        if self._closing is not asyncio.current_task() and await outlast(self._closing):
            raise asyncio.CancelledError

    async def _shut_down(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace
        if self._starting is not None and not self._starting.done():
            await outlast(self._starting, deadline - loop.time())
        self._let_go()
        parts, upkeep, checks = self._parts, self._upkeep, self._checks
        if parts is not None and checks is not None and upkeep is not None and self._live is not None:
            checks.stop()
            if checks.running:
                stopping = self._errands.run(parts.cancel, max(deadline - loop.time() - CLOSING_SECONDS, 0.1))
                await outlast(stopping, deadline - loop.time())
            if self._live is not asyncio.current_task():
                await outlast(self._live, max(deadline - loop.time(), 0.1), cancel=True)
            upkeep.stop()
            ended = self._errands.run(upkeep.join, max(deadline - loop.time(), CLOSING_SECONDS))
            await outlast(ended, max(deadline - loop.time(), CLOSING_SECONDS) + 0.1)
            if upkeep.alive:
                log.error("upkeep did not end in time", root=str(self.root), seconds=self._grace)
        await outlast(
            loop.create_task(self.hooks.aclose(max(deadline - loop.time(), 0.1))), max(deadline - loop.time(), 0.2)
        )
        self._worker.close()
        self._errands.close()
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)

    def _let_go(self) -> None:
        if self._ticker is not None:
            self._ticker.stop()
        if self._attachment is not None and not self._attachment.detach():
            log.warning(
                "another wrapper stands around ours: left in place, doing nothing", method="collect_for_all_venues"
            )
        if self._collector is not None:
            unmark(self._collector)

    async def __aenter__(self) -> Self:
        self._entered += 1
        try:
            return await self.start()
        except BaseException:
            self._entered -= 1
            if not self._entered:
                await self.aclose()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if self._entered <= 0:
            await self.aclose()

    @asynccontextmanager
    async def lifespan(self, _app: Any = None) -> AsyncGenerator[None, None]:
        """Open for the life of a Starlette or FastAPI app: ``FastAPI(lifespan=runtime.lifespan)``.

        The lifespan of a *mounted* sub-app does not run; give it to the outermost app.
        """
        async with self:
            yield

    def _close_blocking(self) -> None:
        if self._parts is not None and self._upkeep is not None and self._upkeep.alive:
            with suppress(Exception):
                self._parts.cancel(0.5)
            self._upkeep.stop()
            self._upkeep.join(self._grace)

    def __del__(self) -> None:
        if getattr(self, "_live", None) is not None and not self.closed:
            warnings.warn(
                f"{self.root}: a MaintenanceRuntime was never closed. Use `async with`, or await aclose().",
                ResourceWarning,
                stacklevel=1,
            )


def _assemble(root: Path, config: Config, clock: Clock) -> Parts:
    from demand_maint.assembly import assemble  # noqa: PLC0415 - takes a second, so that it is not done on a loop

    return assemble(root, config, clock)


def _closer_at_exit(runtime: MaintenanceRuntime) -> Callable[[], None]:
    """Register what an interpreter that ends without aclose() still has to do: end children, write everything down."""
    reference, process = weakref.ref(runtime), os.getpid()

    def close() -> None:
        forgotten = reference()
        if forgotten is None or os.getpid() != process:
            return
        forgotten._close_blocking()  # noqa: SLF001 - this module's own class

    atexit.register(close)
    return close
