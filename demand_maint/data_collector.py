"""RealTimeDataCollector: asks every venue what is new, predicts, logs, and has the model maintained.

One implementation, asynchronous; the plain `RealTimeDataCollector.collect_for_all_venues` runs it on a loop of its own.

::

    python -m demand_maint.data_collector [--auto-maintain] [--force-maintenance] [--maintenance-interval HOURS]
"""

import argparse
import asyncio
import json
import sys
import warnings
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from demand_maint._storage.stamps import shown
from demand_maint.argument_types import count, positive
from demand_maint.assembly import RootParts, assemble
from demand_maint.attachment import Maintenance
from demand_maint.clock import Clock, SystemClock
from demand_maint.config import Config, load_config
from demand_maint.errors import ClosedError, ConfigError, DemandMaintError
from demand_maint.exit_codes import DONE, EPILOG, INTERRUPTED, STATUS_CODES, exit_code, sentence
from demand_maint.features import FeatureBuilder, load_builder
from demand_maint.forecasting import Forecaster
from demand_maint.log import get_logger
from demand_maint.own_maintenance import OwnMaintenance
from demand_maint.runtime import MaintenanceRuntime
from demand_maint.side_thread import SideThread
from demand_maint.sources import Observation, Source, load_source, observations_of, place_of
from demand_maint.standard_output import ready_output
from demand_maint.venue_calls import VenueCalls

__all__ = ["RealTimeDataCollector", "main"]

NO_SOURCE = (
    "There is nothing to collect from. Pass source=..., or set `source` in demand_maint.toml "
    "to 'module:function', a CSV or Parquet file, or an address."
)

log = get_logger("collector")


class RealTimeDataCollector:
    """Collects demand from many venues, predicts with the champion, and keeps it healthy if asked to.

    A collection never fails because of a venue, a prediction or maintenance: each tells of its failure in the result.

    Parameters
    ----------
    source
        Called with each venue (`demand_maint.sources` says what it may return); ``source`` of the configuration by default.
    features
        A `FeatureBuilder`; the configuration's by default. Rows that come with an observation win over it.
    root
        Folder of the project.
    enable_monitoring
        Log predictions and actuals.
    auto_maintain
        After a collection, check whether the model needs an update once the interval has passed. `MaintenanceRuntime.attach`
        does that better in an asyncio program, and takes it over from here.
    maintenance_check_interval_hours
        Hours between checks.
    concurrency, venue_timeout
        Venues asked at once, and seconds each may take.

    Examples
    --------
    ::

        collector = RealTimeDataCollector(source=fetch_venue, auto_maintain=True)
        result = collector.collect_for_all_venues([1, 2])
        print(result["collected"], result["maintenance"])
    """

    def __init__(
        self,
        source: Source | None = None,
        features: FeatureBuilder | None = None,
        root: str | Path = ".",
        enable_monitoring: bool = True,
        auto_maintain: bool = False,
        maintenance_check_interval_hours: float | None = None,
        *,
        config: Config | None = None,
        clock: Clock | None = None,
        concurrency: int = 16,
        venue_timeout: float = 10.0,
        parts: Callable[[Path, Config, Clock], RootParts] = assemble,
    ) -> None:
        self.root = Path(root).absolute()
        self.enable_monitoring = enable_monitoring
        self.auto_maintain = auto_maintain
        self.clock: Clock = clock or getattr(source, "clock", None) or SystemClock()
        self._config = config
        self._source = source
        self._features = features
        self._limits = {"concurrency": concurrency, "timeout": venue_timeout}
        self._work = SideThread("demand-maint collector")
        self._own = OwnMaintenance(self.root, self._settings, self.clock, parts, maintenance_check_interval_hours)
        self._calls: VenueCalls | None = None
        self._forecaster: Forecaster | None = None
        self._attached: Maintenance | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def monitor(self) -> Any:
        """The `ModelMonitor` records go to; opened at first use."""
        return self._attached.monitor if self._attached is not None else self._own.open().monitor

    @property
    def model(self) -> Any:
        """The `ModelHandle` predictions come from; opened at first use."""
        return self._attached.model if self._attached is not None else self._own.open().model

    # collecting

    def collect_for_all_venues(self, venues: Sequence[Any]) -> dict[str, Any]:
        """Collect once from every venue, from plain code; a check that is due runs before this returns.

        Returns
        -------
        dict
            ``at``; ``venues``, ``collected`` and ``predicted`` (counts); ``predictions`` by place; ``failed`` (place to reason);
            ``problem`` (why nothing was predicted, or ``None``); ``version`` of the champion; ``maintenance`` (the result of
            `HybridModelManager.update_model`, ``{"status": "running"}``, or ``None``).
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._run(self._collect(venues, wait=True))
        raise RuntimeError(
            "collect_for_all_venues was called on an event loop, which it would block. Use `await acollect_for_all_venues(venues)`."
        )

    async def acollect_for_all_venues(self, venues: Sequence[Any]) -> dict[str, Any]:
        """Collect once from every venue; never waits for training: its status is ``running``, and the outcome comes with a later result."""
        return await self._collect(venues, wait=False)

    def force_maintenance(self, force: str | None = None) -> dict[str, Any]:
        """Check now, and act on what is found; ``"fine-tune"`` or ``"full-retrain"`` trains whatever the rules say. Blocks."""
        return self._own.check(force)

    async def _collect(self, venues: Sequence[Any], *, wait: bool) -> dict[str, Any]:
        if self._closed:
            raise ClosedError("This collector has been closed. Make a new one.")
        calls = await self._work.run(self._prepare)
        now = self.clock.now()
        keyed, failed = _keyed(venues)
        answers, silent = await calls.ask(list(keyed.items()))
        failed |= silent
        observations: list[Observation] = []
        for key, answer in answers.items():
            try:
                observations += observations_of(answer, keyed[key], now)
            except (TypeError, ValueError, KeyError) as error:
                failed[key] = str(error)
        result: dict[str, Any] = {"at": now, "venues": len(venues), "collected": len(observations), "failed": failed}
        told = await self._work.run(self._digest, observations)
        failed |= told.pop("failed")
        result |= told
        for place, reason in failed.items():
            log.warning("venue failed", venue=place, reason=reason)
        result["maintenance"] = await self._maintenance(wait=wait)
        return result

    def _prepare(self) -> VenueCalls:
        """Open what is not open yet, look for a new champion, and let a replay go on; blocks."""
        if self._calls is None:
            source = self._source or load_source(self._settings(), self.root)
            if source is None:
                raise ConfigError(NO_SOURCE)
            self._source = source
            self._calls = VenueCalls(source, **self._limits)  # type: ignore[arg-type]  # an int and a float, as named above
        begin_round = getattr(self._source, "begin_round", None)
        if begin_round is not None:
            begin_round()
        if self._attached is None:
            self._own.follow()
        return self._calls

    def _digest(self, observations: list[Observation]) -> dict[str, Any]:
        if self._forecaster is None:
            config = self._settings()
            builder = self._features or load_builder(config, self.root)
            self._forecaster = Forecaster(builder, config)
        monitor = self.monitor if self.enable_monitoring else None
        told = self._forecaster.take(observations, monitor=monitor, model=self.model, now=self.clock.now())
        if self._attached is None and self.auto_maintain:
            self._own.keep_up()
        return told

    async def _maintenance(self, *, wait: bool) -> dict[str, Any] | None:
        if self._attached is not None:
            return self._attached.maintenance()
        return await self._own.step(wait=wait) if self.auto_maintain else None

    # attached to a runtime

    def maintenance_attached(self, maintenance: Maintenance) -> None:
        """Use the runtime's monitor and model, and leave checks to it."""
        parts, self._attached = self._own.let_go(), maintenance
        if parts is not None:
            self._work.run(parts.close)

    def maintenance_detached(self) -> None:
        """Go on alone."""
        self._attached = None

    # inside

    def _settings(self) -> Config:
        if self._config is None:
            self._config = load_config(self.root)
        return self._config

    def _run(self, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """Run on a loop of our own that stays, so that sessions a source keeps go on living; no signal handler is touched."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        task = self._loop.create_task(work)
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    self._loop.run_until_complete(task)
            raise

    # ending

    def close(self) -> None:
        """Write everything down and let go of the root; idempotent. Blocks."""
        if self._closed:
            return
        self._closed = True
        self._own.close()
        for thread in (self._calls, self._work):
            if thread is not None:
                thread.close()
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    async def aclose(self) -> None:
        """Do as `close`, off the loop."""
        thread = SideThread("demand-maint collector close")
        await thread.run(self.close)
        thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_own", None) is not None and self._own.is_open:
            warnings.warn("A RealTimeDataCollector was never closed. Use `with`, or call close().", ResourceWarning, 1)


def _keyed(venues: Sequence[Any]) -> tuple[dict[Any, Any], dict[Any, str]]:
    keyed: dict[Any, Any] = {}
    failed: dict[Any, str] = {}
    for venue in venues:
        try:
            keyed[place_of(venue)] = venue
        except TypeError as error:
            failed[shown(venue)] = str(error)
    return keyed, failed


async def _live(collector: RealTimeDataCollector, arguments: argparse.Namespace, venues: Sequence[Any]) -> int:
    """Collect in real time, every so many seconds; maintenance runs beside it and is never waited for."""
    config = collector._settings()  # noqa: SLF001 - this module's own class
    every = arguments.every if arguments.every is not None else float(config.step_seconds)
    settings = msgspec.structs.replace(
        config, runtime=msgspec.structs.replace(config.runtime, interval_hours=arguments.maintenance_interval)
    )
    runtime = (
        MaintenanceRuntime.attach(collector, root=arguments.root, config=settings) if arguments.auto_maintain else None
    )
    loop = asyncio.get_running_loop()
    if runtime is not None:
        await runtime.start()
    try:
        rounds = 0
        while True:
            began = loop.time()
            _tell(arguments, await collector.acollect_for_all_venues(venues))
            rounds += 1
            if arguments.rounds is not None and rounds >= arguments.rounds:
                return 0
            await asyncio.sleep(max(every - (loop.time() - began), 0.0))
    finally:
        if runtime is not None:
            await runtime.aclose()


def _replay(collector: RealTimeDataCollector, arguments: argparse.Namespace, venues: Sequence[Any]) -> int:
    """Collect from a file, one moment a round, as fast as it goes; checks come when the file's time says so."""
    rounds = 0
    while collector._source.rounds_left and (arguments.rounds is None or rounds < arguments.rounds):  # type: ignore[union-attr] # noqa: SLF001 - a replay, as the caller saw
        _tell(arguments, collector.collect_for_all_venues(venues))
        rounds += 1
    return 0


def _tell(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    if arguments.json:
        sys.stdout.write(json.dumps(result, default=str) + "\n")
        return
    maintenance = result.get("maintenance")
    words = f"collected {result['collected']} from {result['venues']} venues, predicted {result['predicted']}"
    if result["failed"]:
        words += f", failed: {', '.join(map(str, result['failed']))}"
    if result["problem"]:
        words += f", nothing predicted: {result['problem']}"
    if maintenance:
        words += f"; maintenance: {maintenance['status']} {maintenance.get('reason', '')}".rstrip()
    sys.stdout.write(words + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Collect from the command line; exit codes as those of ``demand-maint``."""
    ready_output()
    parser = argparse.ArgumentParser(
        prog="python -m demand_maint.data_collector",
        description="Collect demand, log it, keep the model healthy.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--auto-maintain", action="store_true", help="check the model's health now and then, and update it"
    )
    parser.add_argument("--force-maintenance", action="store_true", help="check now, act on what is found, and end")
    parser.add_argument(
        "--maintenance-interval", type=positive, default=6.0, metavar="HOURS", help="hours between checks (6)"
    )
    parser.add_argument("--no-monitoring", action="store_true", help="log nothing")
    parser.add_argument("--root", default=".", help="folder of the project (default: here)")
    parser.add_argument(
        "--venue",
        action="append",
        default=[],
        dest="venues",
        metavar="ID",
        help="a venue; repeatable (default: all of the source)",
    )
    parser.add_argument(
        "--every", type=positive, metavar="SECONDS", help="time between collections (default: the step)"
    )
    parser.add_argument("--rounds", type=count, metavar="N", help="end after N collections")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args(argv)
    try:
        return _main(arguments)
    except (DemandMaintError, OSError) as error:
        said = sentence(error)
        if arguments.json:
            sys.stdout.write(json.dumps({"error": said, "kind": type(error).__name__}) + "\n")
        else:
            sys.stderr.write(f"Failed: {said}\n")
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def _main(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.root, environment=True)
    source = load_source(config, arguments.root)
    if source is None and not arguments.force_maintenance:
        raise ConfigError(NO_SOURCE)
    replayed = hasattr(source, "begin_round")
    with RealTimeDataCollector(
        source,
        root=arguments.root,
        enable_monitoring=not arguments.no_monitoring,
        auto_maintain=arguments.auto_maintain and replayed,
        maintenance_check_interval_hours=arguments.maintenance_interval,
        config=config,
    ) as collector:
        if arguments.force_maintenance:
            result = collector.force_maintenance()
            if arguments.json:
                sys.stdout.write(json.dumps(result, default=str) + "\n")
            else:
                sys.stdout.write(f"maintenance: {result['status']} {result.get('reason', '')}".rstrip() + "\n")
            return STATUS_CODES.get(str(result["status"]), DONE)
        venues = [_venue(text) for text in arguments.venues] or list(getattr(source, "venues", ()))
        if not venues:
            raise ConfigError(
                "No venue to collect from. Name some with --venue, or give the source a `venues` attribute."
            )
        if replayed:
            return _replay(collector, arguments, venues)
        return asyncio.run(_live(collector, arguments, venues))


def _venue(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


if __name__ == "__main__":
    sys.exit(main())
