"""Parts of a root that do nothing but remember, so that a runtime can be tested without models and files."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from demand_maint.clock import Clock
from demand_maint.config import Config, PolicyConfig, RuntimeConfig, ServingConfig
from demand_maint.core.cycle import CycleResult, Promote, Promoted, Rollback, Step, Train
from demand_maint.core.events import MaintenanceEvent, ModelDeployed
from demand_maint.core.jobs import TrainingOutcome
from demand_maint.core.versions import GateVerdict
from demand_maint.errors import TrainingCancelledError
from demand_maint.runtime import MaintenanceRuntime
from demand_maint.testing import VirtualClock

NOTHING = CycleResult(status="no_action", action="nothing", rule="none", reason="nothing to do")
VERDICT = GateVerdict(verdict="not_worse", method="gate")
OUTCOME = TrainingOutcome(
    model_path="m", metadata_path="j", metrics={"mae": 1.0}, rows=10, trees=5, cpu_seconds=0.5, wall_seconds=0.6
)


class FakeModel:
    """A model with a version."""

    def __init__(self) -> None:
        self.version = 1

    def predict(self, row: Any) -> Any:
        return (self.version, row)


class FakeMonitor:
    """A monitor that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def log(self, row: Any) -> None:
        self.rows.append(row)


class FakeRoot:
    """What all parts of one root share: who holds the lock, and the champion."""

    def __init__(self) -> None:
        self.holder: FakeParts | None = None
        self.champion = 1
        self.guard = threading.Lock()


class FakeParts:
    """Parts that carry out nothing; a test scripts the cycle and what a step does."""

    def __init__(self, root: FakeRoot, clock: Clock) -> None:
        self.root, self.clock = root, clock
        self.monitor, self.model = FakeMonitor(), FakeModel()
        self.script: Callable[[str | None], Generator[Step, Any, CycleResult]] = quiet
        self.act: Callable[[Step], Any] | None = None
        self.last: float | None = None
        self.calls: list[tuple[str, Any, str]] = []
        self.running = self.most_at_once = 0
        self.cancelled = threading.Event()
        self.closed = False
        self.serves = True
        self.health: dict[str, Any] = {}
        self.sick: tuple[str | None, int] = (None, 0)
        self.fail: dict[str, BaseException] = {}

    def note(self, what: str, value: Any = None) -> None:
        self.calls.append((what, value, threading.current_thread().name))
        error = self.fail.get(what)
        if error is not None:
            raise error

    def named(self, what: str) -> list[Any]:
        return [value for name, value, _ in self.calls if name == what]

    def try_lead(self) -> bool:
        self.note("try_lead")
        with self.root.guard:
            if self.root.holder is None:
                self.root.holder = self
        return self.root.holder is self

    def drain(self) -> int:
        self.note("drain")
        return 1

    def refresh(self) -> list[MaintenanceEvent]:
        self.note("refresh")
        old, self.model.version = self.model.version, self.root.champion
        if old == self.model.version:
            return []
        return [ModelDeployed(at=self.clock.now(), version=self.model.version, previous=old, who="t", why="")]

    def holder(self) -> str:
        return "pid 1"

    def publish(self) -> None:
        self.note("publish")

    def trouble(self) -> tuple[str | None, int]:
        return self.sick

    def last_check_at(self) -> float | None:
        return self.last

    def begin(self, force: str | None) -> Generator[Step, Any, CycleResult]:
        self.note("begin", force)
        return self._counted(force)

    def _counted(self, force: str | None) -> Generator[Step, Any, CycleResult]:
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            return (yield from self.script(force))
        finally:
            self.running -= 1

    def assessed(self) -> dict[str, Any]:
        return self.health

    def perform(
        self,
        step: Step,
        on_progress: Callable[[int, int], None] | None = None,
        on_begin: Callable[[int | None], None] | None = None,
    ) -> Any:
        self.note("perform", step)
        if isinstance(step, Train) and on_begin is not None:
            on_begin(OUTCOME.rows)
        if self.act is not None:
            return self.act(step)
        if isinstance(step, Train):
            if on_progress is not None:
                on_progress(1, 2)
                on_progress(2, 2)
            return OUTCOME
        if isinstance(step, Promote):
            self.root.champion += 1
            return Promoted(version=self.root.champion)
        if isinstance(step, Rollback):
            self.root.champion -= 1
            return self.root.champion
        return None

    def train_until_cancelled(self, step: Step) -> Any:
        """Do as a training child does that is asked to stop."""
        if self.cancelled.wait(20.0):
            raise TrainingCancelledError("asked to stop")
        return OUTCOME

    def finish(self, result: CycleResult) -> dict[str, Any]:
        self.note("finish", result)
        return {"status": result.status, "reason": result.reason, "version": result.version}

    def rollback(self) -> tuple[bool, str]:
        self.note("rollback")
        self.root.champion -= 1
        return True, "rolled back"

    def cancel(self, grace: float) -> None:
        self.note("cancel", grace)
        self.cancelled.set()

    def close(self) -> None:
        self.closed = True
        with self.root.guard:
            if self.root.holder is self:
                self.root.holder = None
        self.note("close")


def quiet(force: str | None) -> Generator[Step, Any, CycleResult]:
    """Nothing to do."""
    yield from ()
    return NOTHING


def training(force: str | None) -> Generator[Step, Any, CycleResult]:
    """Train and promote."""
    outcome = yield Train(kind="fine_tune")
    answer = yield Promote(kind="fine_tune", verdict=VERDICT, challenger=outcome, why="force: asked for")
    if not isinstance(answer, Promoted):
        return CycleResult(status="vetoed", action="fine_tune", rule="r", reason=answer.reason)
    return CycleResult(status="deployed", action="fine_tune", rule="r", reason="", version=answer.version)


class Stage:
    """Makes runtimes over fake parts and closes those a test leaves open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = VirtualClock()
        self.root = FakeRoot()
        self.parts: list[FakeParts] = []
        self.runtimes: list[MaintenanceRuntime] = []
        self.prepare: Callable[[FakeParts], None] = lambda parts: None
        self.config = Config(
            runtime=RuntimeConfig(grace_seconds=1.0, hook_timeout_seconds=1.0),
            serving=ServingConfig(poll_seconds=0.1),
            policy=PolicyConfig(),
        )
        self.training, self.quiet = training, quiet

    def assemble(self, root: Path, config: Config, clock: Clock) -> FakeParts:
        parts = FakeParts(self.root, clock)
        self.parts.append(parts)
        self.prepare(parts)
        return parts

    def attach(self, collector: Any = None, **settings: Any) -> MaintenanceRuntime:
        usual: dict[str, Any] = {"config": self.config, "clock": self.clock, "parts": self.assemble, "root": self.path}
        runtime = MaintenanceRuntime.attach(collector, **(usual | settings))
        if runtime not in self.runtimes:
            self.runtimes.append(runtime)
        return runtime

    async def open(self, collector: Any = None, **settings: Any) -> tuple[MaintenanceRuntime, FakeParts]:
        runtime = self.attach(collector, **settings)
        await runtime.start()
        await self.until(lambda: runtime.role == "leader" or self.root.holder is not self.parts[-1])
        return runtime, self.parts[-1]

    async def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        """Let the loop run until `condition` holds."""
        for _ in range(int(seconds / 0.005)):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it never came true")


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    """A stage, made where reading time zones may block."""
    return Stage(tmp_path)


@pytest.fixture
async def stage(made: Stage) -> AsyncIterator[Stage]:
    """A place for runtimes over fake parts."""
    yield made
    for runtime in made.runtimes:
        for parts in made.parts:
            parts.cancelled.set()
        await runtime.aclose()
