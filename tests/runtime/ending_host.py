"""A host process that is ended in a chosen way while its runtime is in a chosen phase; run by test_ending.py.

``ending_host.py ROOT PHASE WAY`` attaches, logs pairs without pause, and once the phase is under way ends. It prints one JSON line
``{"logged": n, "seconds": s}`` when its runtime has closed, or, where that is left to the interpreter, when it begins to end.
"""

import asyncio
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from demand_maint import MaintenanceRuntime
from demand_maint.core.cycle import Cycle, CycleResult, Evaluate, Promote, Step, Train
from demand_maint.core.jobs import TrainingOutcome
from demand_maint.core.versions import GateVerdict

spec = importlib.util.spec_from_file_location("real_root", Path(__file__).with_name("real_root.py"))
assert spec is not None
assert spec.loader is not None
real_root = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real_root)

NOTHING = CycleResult(status="no_action", action="nothing", rule="none", reason="")
VERDICT = GateVerdict(verdict="not_worse", method="gate")


def step_of(phase: str, root: Path) -> Step | None:
    """Return the step of a cycle that a phase consists of."""
    (model,) = (root / "data/models/finetuned").glob("*.cbm")
    staged = TrainingOutcome(
        model_path=str(model),
        metadata_path=str(model.with_name(f"{model.stem}_metadata.json")),
        metrics={},
        rows=1,
        trees=1,
        cpu_seconds=0.0,
        wall_seconds=0.0,
    )
    match phase:
        case "gather" | "fine-tune":
            return Train(kind="full")
        case "gate":
            return Evaluate(challenger=staged, kind="full", method="gate", since=time.time() - 7 * 86400.0)
        case "deploy":
            return Promote(kind="full", verdict=VERDICT, why="force: asked for", challenger=staged)
    return None


def _children() -> list[str]:
    """Command lines of this process's children, whichever thread started them."""
    found = [pid for table in Path("/proc/self/task").glob("*/children") for pid in table.read_text().split()]
    return [Path(f"/proc/{pid}/cmdline").read_text() for pid in found]


class Host:
    """Collects until it is told that the phase has begun."""

    def __init__(self, root: Path, phase: str) -> None:
        self.config = real_root.settings(serve="champion")
        self.runtime = MaintenanceRuntime.attach(root=root, config=self.config)
        self.phase, self.logged = phase, 0
        self.begun = threading.Event()
        self.step = step_of(phase, root)

    def _slowly(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Say that the phase has begun, and give the end time to come in the middle of it."""

        def slow(*arguments: Any) -> Any:
            self.begun.set()
            time.sleep(0.1)
            return call(*arguments)

        return slow

    def _one_step(self, _force: str | None) -> Cycle:
        def steps() -> Generator[Step, Any, CycleResult]:
            if self.step is not None:
                yield self.step
            return NOTHING

        return steps()

    async def live(self) -> None:
        """Log pairs until the phase is under way."""
        await self.runtime.start()
        for _ in range(4000):
            if self.runtime.role == "leader" and self.runtime.status()["last_result"] is not None:
                break
            await asyncio.sleep(0.005)
        now, parts = time.time(), self.runtime._parts
        self.runtime.pause()
        asked: Any = None
        for turn in range(2000):
            for place in range(3):
                self.runtime.monitor.log_prediction_vs_actual(place, now - 3600.0 * turn, 1.0, 2.0)
                self.logged += 1
            if turn == 20:
                if self.phase == "drain":
                    parts.drain = self._slowly(parts.drain)  # type: ignore[union-attr, method-assign]
                elif self.phase == "log":
                    self.begun.set()
                else:
                    parts.begin = self._one_step  # type: ignore[union-attr, method-assign]
                    parts.perform = self._slowly(parts.perform)  # type: ignore[union-attr, method-assign]
                    asked = asyncio.ensure_future(self.runtime.update_now("full-retrain"))
            if self.begun.is_set() and turn > 60:
                break
            await asyncio.sleep(0.005)
        assert self.begun.is_set()
        if asked is not None:
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())
            if self.phase in {"gather", "fine-tune"}:
                await self._worker("demand_maint.gather" if self.phase == "gather" else "demand_maint._training.worker")

    async def _worker(self, module: str) -> None:
        """Wait until a child that runs `module` is up."""
        for _ in range(4000):
            if any(module in line for line in _children()):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"no child runs {module}")

    def tell(self, began: float) -> None:
        """Print what was logged, and how long the end took."""
        sys.stdout.write(json.dumps({"logged": self.logged, "seconds": time.monotonic() - began}) + "\n")
        sys.stdout.flush()


async def main(host: Host, way: str) -> float:
    """Live, then end as told; return when that began."""
    if way == "aclose":
        await host.live()
        began = time.monotonic()
        await host.runtime.aclose()
        return began
    if way == "loop":
        await host.live()
        return time.monotonic()  # asyncio.run cancels what is left
    me, began = asyncio.current_task(), 0.0
    assert me is not None
    try:
        async with host.runtime:
            await host.live()
            began = time.monotonic()
            if way == "sigterm":
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                me.cancel()
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
    return began


def run(root: Path, phase: str, way: str) -> None:
    """Be the host."""
    host = Host(root, phase)
    if way == "exit":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(host.live())
        host.tell(time.monotonic())
        sys.exit(0)
    host.tell(asyncio.run(main(host, way)))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
