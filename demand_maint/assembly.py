"""Puts the parts of one root together for a runtime: one monitor, one lock, one pool, one handle, shared by all."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demand_maint._storage.ledger_file import LedgerFile
from demand_maint._storage.lock import MaintainerLock
from demand_maint._storage.serving_store import serving_store
from demand_maint._training.pool import WorkerPool
from demand_maint._training.requests import WorkerJob
from demand_maint.clock import Clock
from demand_maint.config import Config
from demand_maint.core.cycle import Cycle, CycleResult, Failed, Step
from demand_maint.core.events import MaintenanceEvent, ModelDeployed, RolledBack
from demand_maint.core.jobs import TrainingJob
from demand_maint.core.versions import Commit
from demand_maint.deploy_model import ModelDeployer
from demand_maint.errors import TrainingCancelledError
from demand_maint.gather import gather_in_child
from demand_maint.log import get_logger
from demand_maint.model_handle import ModelHandle
from demand_maint.model_manager import HybridModelManager
from demand_maint.model_monitor import ModelMonitor
from demand_maint.report import write_report

__all__ = ["RootParts", "assemble"]

CLOSE_GRACE = 0.5
log = get_logger("runtime")


def assemble(root: Path, config: Config, clock: Clock) -> "RootParts":
    """Open `root` for a runtime; reads files."""
    return RootParts(root, config, clock)


class RootParts:
    """The real `demand_maint.upkeep.Parts`: everything of one root that a runtime looks after."""

    def __init__(self, root: Path, config: Config, clock: Clock) -> None:
        self._clock = clock
        self._cancelled = threading.Event()
        self._pool = WorkerPool(
            config.runtime.worker_slots, grace=config.runtime.grace_seconds, on_begin=self._training_begins
        )
        self._on_begin: Callable[[int | None], None] | None = None
        self._deployer = ModelDeployer(root, config, clock, pool=self._pool)
        self._registry = self._deployer.registry
        door = self._registry.door
        self._ledger_file = LedgerFile(door)
        self._lock = MaintainerLock(door, who="runtime", clock=clock)
        self.monitor = ModelMonitor(root, config, clock, lock=self._lock)
        try:
            self.model = ModelHandle(
                self._registry,
                config=config,
                clock=clock,
                journal=self.monitor.journal,
                snapshots=serving_store(door),
                naive=self.monitor.naive,
            )
            self._manager = HybridModelManager(
                root,
                config=config,
                clock=clock,
                monitor=self.monitor,
                pool=self._pool,
                lock=self._lock,
                gather=gather_in_child(root, config, clock, self._pool),
                who="runtime",
            )
        except BaseException:
            self.monitor.close()
            raise
        self.monitor.journal.open(self.monitor.places)
        self._told: int | None = None
        #: Whether there is a champion.
        self.serves = False

    def try_lead(self) -> bool:
        """Try the maintainer's lock; the one who gets it cleans up after the one before."""
        if not self._lock.try_acquire():
            return False
        for found in self._deployer.recover():
            log.warning("set aside while recovering", what=found)
        return True

    def holder(self) -> str:
        """Who maintains this root, in words."""
        return self._lock.holder()

    def drain(self) -> int:
        """Take finished records into the sums; rows matured."""
        return self.monitor.drain()

    def publish(self) -> None:
        """Seat newcomers in the line-up, and where that is due write a new serving snapshot."""
        if self.serves:
            self.monitor.watch_feed()
            self.model.publish(self.monitor.line_up, self.monitor.places)
            self._warm()

    def refresh(self) -> list[MaintenanceEvent]:
        """Follow the pointer; the changes of champion since the last call, by whomever they were made."""
        head = self._registry.head()
        if head is None:
            return []
        self.model.refresh()
        mixer = self.model.state.mixer
        if mixer is not None and not self._lock.held:
            self.monitor.heed(mixer.snapshot)
        self.serves = True
        self._warm()
        known, self._told = self._told, head.number
        if known is None or known == head.number or self.model.version != head.champion:
            return []
        return [event for commit in self._registry.commits() if commit.number > known for event in _change(commit)]

    def _warm(self) -> None:
        """Have the recent rows read before the first forecast asks for them, which may be on the host's loop."""
        if self.model.state.mixer is not None:
            self.monitor.warm()

    def trouble(self) -> tuple[str | None, int]:
        """Tell what is wrong with the journal's disk, and how many records were dropped so far."""
        return self.monitor.journal.degraded, self.monitor.journal.dropped

    def last_check_at(self) -> float | None:
        """When the last check was made, from the ledger."""
        return self._ledger_file.load().last_check_at

    def begin(self, force: str | None) -> Cycle:
        """Assess and decide."""
        return self._manager.begin(force)

    def assessed(self) -> dict[str, Any]:
        """Health as the cycle that just began found it."""
        health = self._manager.assessed
        return {} if health is None else health.as_dict(details=True)

    def perform(
        self,
        step: Step,
        on_progress: Callable[[int, int], None] | None = None,
        on_begin: Callable[[int | None], None] | None = None,
    ) -> Any:
        """Carry out one step; a training that was stopped because we close is no failed training."""
        self._on_begin = on_begin
        answer = self._manager.perform(step, on_progress)
        if isinstance(answer, Failed) and self._cancelled.is_set():  # a pool that was closed before the job began
            raise TrainingCancelledError("The runtime is closing; the training was stopped.")
        return answer

    def _training_begins(self, job: WorkerJob) -> None:
        if isinstance(job, TrainingJob) and self._on_begin is not None:
            self._on_begin(job.rows)

    def finish(self, result: CycleResult) -> dict[str, Any]:
        """Keep the result of a cycle."""
        return self._manager.finish(result)

    def update(self, force: str | None = None) -> dict[str, Any]:
        """Check and act, blocking until done."""
        return self._manager.update_model(force)  # type: ignore[arg-type]  # the manager refuses other words itself

    def rollback(self) -> tuple[bool, str]:
        """Take the champion back."""
        return self._manager.rollback("asked for through the runtime")

    def report(self, out: str | Path | None) -> Path:
        """Write the report page, ``logs/report.html`` where `out` is ``None``."""
        return write_report(self._manager.root, out, manager=self._manager)

    def cancel(self, grace: float) -> None:
        """Stop trainings, by force after `grace` seconds."""
        self._cancelled.set()
        self._pool.close(grace)

    def close(self) -> None:
        """Write everything down and let go of the root."""
        self._cancelled.set()
        try:
            self._pool.close(CLOSE_GRACE)
        finally:
            try:
                self._manager.close()
                self.monitor.close()
            finally:
                self._lock.release()


def _change(commit: Commit) -> list[MaintenanceEvent]:
    """Tell of a commit that made another version champion."""
    if commit.previous == commit.champion:
        return []
    match commit.action:
        case "rollback" if commit.previous is not None:
            return [
                RolledBack(
                    at=commit.at, version=commit.champion, previous=commit.previous, who=commit.who, why=commit.why
                )
            ]
        case "init" | "adopt" | "deploy" | "promote":
            return [
                ModelDeployed(
                    at=commit.at, version=commit.champion, previous=commit.previous, who=commit.who, why=commit.why
                )
            ]
    return []
